"""Scoring in processes: order, equality with scoring in place, and a process that dies or hangs."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from joblib.externals.loky import get_reusable_executor

from evalkit.datasets import load_corpus, read_audio
from evalkit.metrics import METRICS
from evalkit.run.systems import MuLaw
from evalkit.scoring.cache import Cache
from evalkit.scoring.pair import Pair, Score
from evalkit.scoring.protocol import PROTOCOLS
from tests.one_pair import score_pair
from tests.pairs_to_score import pairs, score_pairs

ROOT = Path(__file__).resolve().parents[1]
FAKES = '''
"""Metrics of another package: one that tells where it ran, one that ends its process when it meets a certain length."""
import os, signal

class Length:
    name, label, unit, version = "length", "Length", "", "1"
    higher_is_better, needs_reference, sample_rate, decimals = True, True, None, 0
    def score(self, reference, estimate, sample_rate):
        return estimate.size

class Deadly(Length):
    name = "deadly"
    def score(self, reference, estimate, sample_rate):
        if estimate.size == 666:
            os.kill(os.getpid(), signal.SIGKILL)
        return estimate.size

class Where(Length):
    name = "where"
    def score(self, reference, estimate, sample_rate):
        return os.getpid()

class Threads(Length):
    name = "threads"
    def score(self, reference, estimate, sample_rate):
        return int(os.environ["OMP_NUM_THREADS"])

class Stuck(Length):
    name = "stuck"
    def score(self, reference, estimate, sample_rate):
        if estimate.size == 666:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            (10 ** 10) ** (10 ** 8)  # one operation that holds the interpreter for hours
        return estimate.size

class Broken(Length):
    name = "broken"
    def score(self, reference, estimate, sample_rate):
        raise SystemError("a defect of the metric")
'''

# Tests that leave work behind, followed by one with another number of workers.
pytestmark = pytest.mark.filterwarnings("ignore:Trying to resize an executor")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A package with the metrics above, found through its entry points by this and all further processes."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "fake_metrics.py").write_text(FAKES)
    info = folder / "fake_metrics-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-metrics\nVersion: 1\n")
    names = {
        name: f"fake_metrics:{name.title()}" for name in ("length", "deadly", "stuck", "where", "threads", "broken")
    }
    lines = "".join(f"{name} = {target}\n" for name, target in names.items())
    (info / "entry_points.txt").write_text(f"[evalkit.metrics]\n{lines}")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        get_reusable_executor(1).shutdown(wait=True, kill_workers=True)  # workers of other tests do not know it
        assert set(names) <= set(METRICS.names())
        yield
        get_reusable_executor(1).shutdown(wait=True, kill_workers=True)


def values(scored: Iterator[tuple[Pair, list[Score]]]) -> dict[str, list[float | None]]:
    return {pair.utterance: [score.value for score in scores] for pair, scores in scored}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_metric_that_takes_its_process_down_is_one_failed_score(installed: None, workers: int) -> None:
    scored = list(score_pairs(pairs(10, 20, 666, 40, 50, 60), ["length", "deadly"], workers))
    assert [pair.utterance for pair, _ in scored] == ["u0", "u1", "u2", "u3", "u4", "u5"]
    for pair, scores in scored:
        assert (scores[0].status, scores[0].value) == ("ok", pair.estimate.size)
        if pair.estimate.size == 666:
            assert (scores[1].status, scores[1].value) == ("failed", None)
            assert scores[1].detail == "deadly took its process down"
        else:
            assert (scores[1].status, scores[1].value) == ("ok", pair.estimate.size)


def test_even_a_single_worker_is_a_process_of_its_own_with_one_thread(installed: None) -> None:
    scored = values(score_pairs(pairs(10, 20), ["where", "threads"], 1))
    assert scored["u0"] == scored["u1"]
    assert scored["u0"][0] != os.getpid()
    assert scored["u0"][1] == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_reads_little_ahead_and_in_the_calling_thread(installed: None, workers: int) -> None:
    read: list[int] = []

    def source() -> Iterator[Pair]:
        for number in itertools.count():
            assert threading.current_thread() is threading.main_thread()
            read.append(number)
            yield pairs(10)[0]

    scored = score_pairs(source(), ["length"], workers)
    for done in range(1, 9):
        next(scored)
        assert len(read) <= done + 2 * workers
    del scored


def test_what_goes_wrong_while_reconstructing_surfaces(installed: None) -> None:
    def source() -> Iterator[Pair]:
        yield from pairs(10, 20, 30)
        raise ZeroDivisionError("in the codec")

    scored = score_pairs(source(), ["length"], 1)
    with pytest.raises(ZeroDivisionError, match="in the codec"):
        list(scored)


def test_whatever_a_metric_raises_is_a_failed_score(installed: None) -> None:
    (scored,) = score_pairs(pairs(10), ["broken", "length"], 1)
    assert [(score.status, score.detail) for score in scored[1]] == [
        ("failed", "SystemError: a defect of the metric"), ("ok", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
def test_a_metric_that_hangs_is_one_failed_score(installed: None, workers: int) -> None:
    begun = time.monotonic()
    scored = list(score_pairs(pairs(10, 666, 40), ["length", "stuck"], workers, time_limit=2))
    assert time.monotonic() - begun < 60
    assert [pair.utterance for pair, _ in scored] == ["u0", "u1", "u2"]
    for pair, scores in scored:
        assert (scores[0].status, scores[0].value) == ("ok", pair.estimate.size)
        if pair.estimate.size == 666:
            assert (scores[1].status, scores[1].value) == ("failed", None)
            assert scores[1].detail == "stuck gave no score within 2 s"
        else:
            assert (scores[1].status, scores[1].value) == ("ok", pair.estimate.size)


def test_a_slow_crash_is_no_hang(installed: None) -> None:
    """Starting its process may take longer than the limit."""
    ((_, scores),) = score_pairs(pairs(666), ["deadly"], 1, time_limit=1)
    assert (scores[0].status, scores[0].detail) == ("failed", "deadly took its process down")
    assert scores[0].version == "1"


def test_an_interruption_does_not_wait_for_a_metric_that_hangs(installed: None) -> None:
    scored = score_pairs(pairs(10, 666, 30), ["length", "stuck"], 1, time_limit=200)
    next(scored)
    begun = time.monotonic()
    scored.close()
    scored = score_pairs(interrupted(), ["length", "stuck"], 1, time_limit=200)
    with pytest.raises(KeyboardInterrupt):
        next(scored)
    assert time.monotonic() - begun < 60


def test_nor_does_one_at_the_last_pair(installed: None) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
    threading.Timer(5, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(score_pairs(pairs(666), ["stuck"], 1, time_limit=200))
    finally:
        signal.signal(signal.SIGINT, before)
    begun = time.monotonic()
    get_reusable_executor(1).shutdown(wait=True)
    assert time.monotonic() - begun < 60


def test_a_killed_run_leaves_no_process_behind(installed: None, tmp_path: Path) -> None:
    """Nor does one whose workers hold the interpreter, or wait for a pair that was half sent."""
    code = (
        "from tests.pairs_to_score import *\n"
        "scored = score_pairs(pairs(10, 666, *[10**6] * 9), ['length', 'stuck'], 2, time_limit=200)\n"
        "next(scored); print('begun', flush=True); list(scored)\n"
    )
    site = METRICS.resolve("stuck").__module__
    folder = Path(str(sys.modules[site].__file__)).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    assert run.stdout is not None
    assert run.stdout.readline() == "begun\n"
    workers = [pid for pid in children(run.pid) if "LokyProcess" in command_line(pid)]
    assert workers
    run.kill()
    run.wait()
    deadline = time.monotonic() + 30
    while any("LokyProcess" in command_line(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if "LokyProcess" in command_line(pid)]


def children(parent: int) -> list[int]:
    return [
        int(pid) for task in Path(f"/proc/{parent}/task").iterdir() for pid in (task / "children").read_text().split()
    ]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def interrupted() -> Iterator[Pair]:
    yield from pairs(666)
    raise KeyboardInterrupt


def test_what_is_cached_needs_no_process(installed: None, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    first = values(score_pairs(pairs(10, 20), ["where", "length"], 1, cache=cache))
    get_reusable_executor(1).shutdown(wait=True, kill_workers=True)
    with mock.patch("evalkit.scoring.workers.get_reusable_executor", side_effect=AssertionError("a process")):
        assert values(score_pairs(pairs(10, 20), ["where", "length"], 1, cache=cache)) == first
    # A pair that is new to one metric goes to a worker for that one alone.
    both = values(score_pairs(pairs(10), ["where", "threads"], 1, cache=cache))
    assert both["u0"] == [first["u0"][0], 1]


def test_unreadable_utterance_fails_every_metric_with_the_reason(installed: None) -> None:
    source = [pairs(10)[0], Pair.without_audio("gone", "empty file (0 bytes)")]
    scored = list(score_pairs(source, ["length", "stoi"], 1))
    assert [(score.metric, score.status, score.value, score.detail) for score in scored[1][1]] == [
        ("length", "failed", None, "empty file (0 bytes)"),
        ("stoi", "failed", None, "empty file (0 bytes)"),
    ]


def test_nothing_to_score() -> None:
    assert list(score_pairs([], ["stoi"], 2)) == []


def test_scores_equal_those_in_place_whatever_the_number_of_workers(tmp_path: Path) -> None:
    source = []
    for utterance in load_corpus("sample", "test").utterances[:3]:
        audio, rate = read_audio(utterance.path)
        audio = audio[: 2 * rate]
        source.append(Pair(utterance.id, audio, rate, MuLaw(rate).reconstruct(audio, rate, utterance.id).audio, rate))
    metrics = ["pesq", "stoi"]
    expected = {
        pair.utterance: [score.value for score in score_pair(pair, metrics, PROTOCOLS["strict"])] for pair in source
    }
    assert values(score_pairs(source, metrics, 1)) == expected
    assert values(score_pairs(source, metrics, 2)) == expected
