"""Two real processes train one codec: alike on both, stoppable, and not waiting for the dead."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from q2d2.checkpoints import WEIGHTS
from q2d2.training import processes
from q2d2.training.processes import checksums, require_equal
from q2d2.training.state import STATE, TrainingError
from tests import rank_training, warm
from tests.rank_training import BOTTLENECKS
from tests.small_training import rows, train_one

ROOT = Path(__file__).resolve().parent.parent
# More losses than in the other tests: every kind of discriminator, and gradients added up before they are exchanged.
ALL_LOSSES = "losses={mel: 1, waveform: 16, commitment: 1, mpd: 0.1, mrd: 0.1, mrd_features: 0.1, dac_features: 0.02}"


class Pair:
    """Two processes of tests.rank_training, with the variables that torchrun sets."""

    def __init__(self, audio: Path, out: Path, *arguments: str) -> None:
        out.mkdir(exist_ok=True)
        self.outputs = [out / f"rank{rank}.output" for rank in range(2)]
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        self.ranks = [
            warm.start(
                rank_training.main, str(audio), str(out), *arguments, output=output,
                environment=os.environ | {
                    "RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "WORLD_SIZE": "2",
                    "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port),
                    "TORCHELASTIC_RUN_ID": "test",
                },
            )
            for rank, output in enumerate(self.outputs)
        ]  # fmt: skip

    def ended(self, seconds: float = 150) -> list[int]:
        """The exit status of each."""
        return [warm.ended(rank, seconds) for rank in self.ranks]

    @property
    def first(self) -> tuple[BaseProcess, Path]:
        """The first process, and where it writes what it prints."""
        return self.ranks[0], self.outputs[0]

    @property
    def printed(self) -> str:
        return "\n".join(output.read_text() for output in self.outputs)


@pytest.mark.slow
def test_two_processes_train_every_bottleneck_alike_and_like_one(audio: Path, tmp_path: Path) -> None:
    """Equal to the bit on both ranks, and losses near those of one process with the same global batch."""
    settings = {"steps": 50, "spectral_steps": 30}
    both = Pair(audio, tmp_path / "two", ",".join(BOTTLENECKS), *(f"{key}={value}" for key, value in settings.items()))
    apart = []
    for name, described in BOTTLENECKS.items():  # meanwhile
        train_one(audio, tmp_path / "one" / name, described, **settings)
    assert both.ended() == [0, 0], both.printed
    for name in BOTTLENECKS:
        first, second = (torch.load(tmp_path / "two" / f"{name}.rank{rank}.pt", weights_only=True) for rank in (0, 1))
        assert set(first) == {"codec", "discriminators"}
        for part, state in first.items():
            for key, tensor in state.items():
                assert torch.equal(tensor, second[part][key]), (name, part, key)
        saved = load_file(tmp_path / "two" / name / WEIGHTS)
        assert saved.keys() == first["codec"].keys()
        two, one = (rows(tmp_path / number / name) for number in ("two", "one"))
        assert [row["step"] for row in two] == [row["step"] for row in one]
        ends = [sum(float(row["total"]) for row in each[-10:]) for each in (two, one)]
        apart.append(abs(ends[0] / ends[1] - 1))
    # Another seed, and so other data, differs by 3 to 28 %.
    assert max(apart) < 0.1
    assert sum(apart) / len(apart) < 0.03


@pytest.mark.slow
def test_sigterm_to_one_process_stops_both_and_the_rest_follows_to_the_bit(audio: Path, tmp_path: Path) -> None:
    settings = ("steps=16", "accumulate=2", "batch_size=4", ALL_LOSSES, "log_every=1")
    undisturbed = Pair(audio, tmp_path / "undisturbed", "vq", *settings)
    assert undisturbed.ended() == [0, 0], undisturbed.printed
    stopped = Pair(audio, tmp_path / "stopped", "vq", *settings)
    log = tmp_path / "stopped" / "vq" / "log.csv"
    warm.wait_until(lambda: log.exists() and len(log.read_text().splitlines()) > 5, *stopped.first)
    stopped.ranks[1].terminate()
    assert stopped.ended() == [143, 143], stopped.printed
    for output in stopped.outputs:
        assert "stopped by SIGTERM after step" in output.read_text()
        assert "run the same command again" in output.read_text()
    assert "gone" not in stopped.printed
    assert (tmp_path / "stopped" / "vq" / STATE).exists()
    again = Pair(audio, tmp_path / "stopped", "vq", *settings, "num_workers=2")
    assert again.ended() == [0, 0], again.printed
    one, other = (load_file(tmp_path / name / "vq" / WEIGHTS) for name in ("undisturbed", "stopped"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert rows(tmp_path / "undisturbed" / "vq") == rows(tmp_path / "stopped" / "vq")


@pytest.mark.slow
def test_a_killed_process_of_torchrun_is_not_waited_for(audio: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "localhost:0", str(ROOT / "tests" / "rank_training.py"), str(audio), str(tmp_path)]
    both = subprocess.Popen(
        [*command, "rvq", "steps=100000", "checkpoint_every=5"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + 90
        while not (tmp_path / "rvq" / STATE).exists():
            assert both.poll() is None, both.communicate()[1]
            assert time.monotonic() < end, "no checkpoint"
            time.sleep(0.05)
        os.kill(int((tmp_path / "rank1.pid").read_text()), signal.SIGKILL)
        killed = time.monotonic()
        errors = both.communicate(timeout=60)[1]
    finally:
        both.kill()
    assert both.returncode != 0
    assert time.monotonic() - killed < 60
    assert "rank 0 of 2: another process of this training is gone or no longer answers" in errors
    assert "run the same command again to go on" in errors


def test_checksums_see_a_bit_and_a_place() -> None:
    tensors = [torch.randn(4, 5), torch.arange(6), torch.tensor(True), torch.randn(3).bfloat16()]
    before = checksums(tensors)
    assert torch.equal(checksums([tensor.clone() for tensor in tensors]), before)
    for number in range(len(tensors)):
        changed = [tensor.clone() for tensor in tensors]
        as_bytes = changed[number].view(-1).view(torch.uint8)
        as_bytes[0] ^= 1  # the lowest bit of the first value
        assert (checksums(changed) != before).tolist() == [other == number for other in range(len(tensors))]
    swapped = [tensors[0].flip(0), *tensors[1:]]
    assert checksums(swapped)[0] != before[0]


def test_a_process_with_other_weights_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, others = [torch.zeros(3)], [torch.tensor([0.0, 1e-30, 0.0])]
    monkeypatch.setattr(processes, "gather", lambda _, value: torch.stack([value, value, checksums(others)]))
    fabric = SimpleNamespace(world_size=3)
    with pytest.raises(TrainingError, match="weights: those of rank 2 differ from those of rank 0"):
        require_equal(fabric, mine, "weights")  # type: ignore[arg-type]
    monkeypatch.setattr(processes, "gather", lambda _, value: torch.stack([value, value, value]))
    require_equal(fabric, mine, "weights")  # type: ignore[arg-type]
