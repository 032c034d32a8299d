"""Settings and fixtures of the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Before anything imports torch or numpy: one thread gives the same sums on every machine; processes inherit it.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["MPLBACKEND"] = "Agg"
# With AMX, oneDNN's bfloat16 is wrong in places (q2d2/bfloat16.py); other processors take no notice of this.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

# Shared machines stall for seconds, so no deadline; the same examples each time, so that a failure is a change.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


# Files of minutes: each of two processes begins with a group of them, so that none is left over for the end.
LONG = (
    ("test_sweeps", "test_score_faults", "test_tuning", "test_resume"),
    ("test_processes", "test_ray_workers", "test_interruption", "test_preemption", "test_runner"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put LONG at the head of each half of the tests, which is where pytest-xdist lets two processes begin."""
    groups: list[list[pytest.Item]] = [[item for item in items if item.path.stem in names] for names in LONG]
    rest = [item for item in items if not any(item.path.stem in names for names in LONG)]
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
