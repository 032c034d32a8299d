"""Work through a Ray cluster: a node killed half-way changes no number; what goes wrong is told in one line."""

from __future__ import annotations

import importlib.util
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evalkit.sweeps.executors import Lost, run_jobs
from evalkit.sweeps.results import read_rows
from q2d2.errors import UserError
from tests.checkpointed_work import INTERVAL, STEPS
from tests.command import evalkit
from tests.executor_driver import ROOT, Driver, alive, attempts, wait_for, work
from tests.small_sweep import SHORT, run_trials_here, values, write_sweep

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head of one core; RAY_ADDRESS names it."""
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="ray") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # workers import this package of tests
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TMPDIR", folder)  # where Ray notes the address, into a folder that it does not make
        (Path(folder) / "ray").mkdir()
        head = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False, "temp_dir": folder}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
        cluster.shutdown()


@needs_ray
@pytest.mark.slow
class TestRay:
    def test_a_node_killed_half_way_changes_no_number(self, cluster: Any, tmp_path: Path) -> None:
        here, there = tmp_path / "here", tmp_path / "there"
        here.mkdir()
        there.mkdir()
        expected = dict(run_jobs(work("count", here, 0.0), range(8), workers=2))
        node = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
        cluster.wait_for_nodes()

        def half_way() -> bool:
            found = in_hand_of(node, there)
            finished = sum(steps_of(there, item) == STEPS for item in range(8))
            return found is not None and finished >= 3 and INTERVAL < steps_of(there, found) < 2 * INTERVAL

        def kill_in_an_interval() -> None:
            wait_for(half_way, "it was never half-way")
            cluster.remove_node(node, allow_graceful=False)

        killer = threading.Thread(target=kill_in_an_interval, daemon=True)
        killer.start()
        results = dict(run_jobs(work("count", there, 0.1), range(8), executor="ray"))
        killer.join()

        assert results == expected
        for item in range(8):
            computed = Counter((there / f"{item}.steps").read_text().splitlines())
            assert set(computed) == set((here / f"{item}.steps").read_text().splitlines())
            assert computed.total() - STEPS <= INTERVAL * (attempts(there, item) - 1)
        assert sum(attempts(there, item) for item in range(8)) == 9, "one item was in hand on the node"

    @pytest.mark.timeout(600)
    def test_a_sweep_with_a_node_killed_half_way_equals_a_local_one(
        self, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow = SHORT | {"train.steps": 18, "train.checkpoint_every": 3}
        path = write_sweep(tmp_path, set=slow, seeds=[0, 1])
        out, local = tmp_path / "ray", tmp_path / "local"
        node = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
        cluster.wait_for_nodes()

        def half_way() -> bool:
            finished = len(list(out.glob("trials/*/result.json")))
            begun = [path.parents[2] for path in out.glob("trials/*/checkpoints/*/state.pt")]
            return finished >= 1 and sum(not (trial / "result.json").exists() for trial in begun) == 2

        def kill() -> None:
            wait_for(half_way, "it was never half-way", seconds=500)
            cluster.remove_node(node, allow_graceful=False)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        outcome = evalkit("sweep", path, "--out", out, "--executor", "ray", "--device", "cpu", width=200)
        killer.join()
        assert outcome.status == 0, outcome
        assert outcome.out.count("done in") == 4
        run_trials_here(monkeypatch)
        assert evalkit("sweep", path, "--out", local, "--device", "cpu").status == 0
        pd.testing.assert_frame_equal(values(out), values(local))
        weights = [sorted(read_rows(folder).trials["checkpoint_sha256"]) for folder in (out, local)]
        assert weights[0] == weights[1]

    def test_an_item_that_kills_its_worker_is_given_up(self, cluster: Any, tmp_path: Path) -> None:
        results = dict(run_jobs(work("die", tmp_path), range(3), executor="ray"))
        lost = results.pop(1)
        assert isinstance(lost, Lost)
        assert lost.reason.startswith("its worker died or was stopped 3 times; the last time it died: The worker died")
        assert attempts(tmp_path, 1) == 3
        assert results == {0: 0, 2: 2}

    def test_a_defect_names_the_item(self, cluster: Any, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError, match="a defect") as caught:
            list(run_jobs(work("fail", tmp_path), range(2), executor="ray"))
        assert str(caught.value) == "a defect"
        assert caught.value.__notes__ == ["raised while working on 1"]

    def test_torch_uses_the_threads_of_a_task(self, cluster: Any, tmp_path: Path) -> None:
        assert dict(run_jobs(work("threads_of_torch", tmp_path), [0], executor="ray")) == {0: (1, "1")}

    def test_folder_and_settings_are_those_of_the_caller(
        self, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("EVALKIT_TRIAL_ROOT", "of the caller")
        assert list(run_jobs(work("surroundings", tmp_path), [0], executor="ray")) == [
            (0, (tmp_path, "of the caller", ""))
        ]

    def test_a_folder_that_a_node_lacks_is_named(
        self, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        jobs = run_jobs(work("surroundings", tmp_path), [0], executor="ray")
        monkeypatch.chdir(ROOT)
        tmp_path.rmdir()
        with pytest.raises(UserError, match=r"not on node .* of the Ray cluster") as refused:
            list(jobs)
        assert "\n" not in str(refused.value)

    def test_more_than_any_node_has_is_refused(self, cluster: Any) -> None:
        with pytest.raises(UserError, match=r"needs 2 CPU and 0 GPU on one node, .* have: 1 CPU, 0 GPU"):
            run_jobs(int, [1], executor="ray", threads=2)

    def test_no_cluster_at_the_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        with pytest.raises(UserError, match=r"^RAY_ADDRESS=127\.0\.0\.1:1: no Ray cluster answers there"):
            run_jobs(int, [1], executor="ray")

    def test_an_address_of_another_kind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
        with pytest.raises(UserError, match=r"^RAY_ADDRESS=ray://head:10001: expected HOST:PORT"):
            run_jobs(int, [1], executor="ray")

    def test_sigterm_lets_the_work_save(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with tempfile.TemporaryDirectory(prefix="ray") as folder:
            monkeypatch.delenv("RAY_ADDRESS", raising=False)
            monkeypatch.setenv("RAY_TMPDIR", folder)  # a cluster of its own, whatever runs here
            with Driver("save_when_asked", tmp_path, executor="ray") as driver:
                wait_for(lambda: any(tmp_path.glob("*.begun")), "never begun")
                driver.process.send_signal(signal.SIGTERM)
                assert driver.end() == "stopped by SIGTERM with 0 of 2 done; run the same command again to go on\n"
        assert {path.stem for path in tmp_path.glob("*.saved")} == {path.stem for path in tmp_path.glob("*.begun")}


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"not installed: pip install 'codec-bottlenecks\[ray\]'$"):
        run_jobs(int, [1], executor="ray")


def steps_of(folder: Path, item: int) -> int:
    path = folder / f"{item}.steps"
    return len(path.read_text().splitlines()) if path.exists() else 0


def in_hand_of(node: Any, folder: Path) -> int | None:
    """The item that a worker of a Ray node is working on."""
    (raylet,) = node.all_processes["raylet"]
    for path in folder.glob("*.attempts"):
        item, processes = int(path.stem), [int(line) for line in path.read_text().split()]
        if (
            processes
            and alive(process := processes[-1])
            and parent_of(process) == raylet.process.pid
            and steps_of(folder, item) < STEPS
        ):
            return item
    return None


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
