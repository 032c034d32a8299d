"""Settings and fixtures of the whole suite."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.finished_run import Run

ROOT = Path(__file__).resolve().parents[1]

# Before anything imports torch or numpy: one thread gives the same sums on every machine; processes inherit it.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["MPLBACKEND"] = "Agg"
# Processes that tests start import this tree too, wherever they are started.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
# With AMX, oneDNN's bfloat16 is wrong in places (q2d2/bfloat16.py); other processors take no notice of this.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

# Shared machines stall for seconds, so no deadline; the same examples each time, so that a failure is a change.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put slow files at the head of each half of the tests, where pytest-xdist lets two processes begin."""
    slow = list(dict.fromkeys(item.path for item in items if item.get_closest_marker("slow")))
    groups = [[item for item in items if item.path in slow[number::2]] for number in range(2)]
    rest = [item for item in items if item.path not in slow]
    half = max(0, len(items) // 2 - len(groups[0]))
    items[:] = [*groups[0], *rest[:half], *groups[1], *rest[half:]]


@pytest.fixture(scope="session", autouse=True)
def cache_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads scores that an earlier session, or the user, has kept."""
    os.environ["EVALKIT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def speech_root() -> Path:
    """Folder of real speech named by the environment variable EVALKIT_SPEECH; the test is skipped where it is unset."""
    value = os.environ.get("EVALKIT_SPEECH")
    if not value:
        pytest.skip("EVALKIT_SPEECH is not set: no real speech to test on")
    root = Path(value)
    if not root.is_dir():
        pytest.fail(f"EVALKIT_SPEECH names {root}, which is no folder")
    return root


# What follows loads torch, pandas or matplotlib only where a test asks for it.


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of the tiny experiment: only to be read."""
    from tests.finished_run import finished_run

    return finished_run(tmp_path_factory)


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Run:
    """The finished run, to be changed."""
    from tests.finished_run import copied_run

    return copied_run(finished, tmp_path)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no plots."""
    from tests.finished_run import leave_out_plots

    leave_out_plots(monkeypatch)


@pytest.fixture(scope="session")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three files of two seconds to train on."""
    from tests.shared import made_once
    from tests.small_training import write_audio

    return made_once(tmp_path_factory, "audio", write_audio)


@pytest.fixture(scope="session")
def undisturbed(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished training of each bottleneck: only to be read."""
    from tests.shared import made_once
    from tests.small_training import BOTTLENECKS, train_one

    def make(folder: Path) -> None:
        for name in BOTTLENECKS:
            train_one(audio, folder / name, name)

    return made_once(tmp_path_factory, "undisturbed", make)


@pytest.fixture
def trials_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of sweeps and searches are run in the test's own process, where their processes are not the point."""
    from tests.small_sweep import run_trials_here

    run_trials_here(monkeypatch)
