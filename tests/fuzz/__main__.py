"""`python -m tests.fuzz`: damage to all kinds of files; the last lines are figures, all of which should be 0."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.fuzz.archives import Archives
from tests.fuzz.audio import Audio
from tests.fuzz.driver import Kind, Outcome, fuzz
from tests.fuzz.settings import Settings
from tests.fuzz.tokens import TokenFiles
from tests.fuzz.weights import Checkpoints, Published

KINDS: tuple[type[Kind], ...] = (Audio, Settings, Checkpoints, Published, TokenFiles, Archives)
PROCESSES = 2
SHARE = 100  # cases that a process is given at a time


def main() -> int:
    """Run the cases that are asked for; 1 where one of them is at fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "kinds", nargs="*", metavar="KIND", help=f"of {', '.join(kind.name for kind in KINDS)}; default: all"
    )
    parser.add_argument("--seed", type=int, default=0, help="other damage; default 0")
    parser.add_argument("--share", type=float, default=1.0, help="of the cases; default 1")
    parser.add_argument("--case", type=int, help="this case alone, in this process, with its traceback")
    given = parser.parse_args()
    kinds = [kind for kind in KINDS if not given.kinds or kind.name in given.kinds]
    if given.case is not None:
        return _alone(kinds[0], given.seed, given.case)
    begun, total = time.perf_counter(), 0
    for kind in kinds:
        outcome = _fuzzed(kind, given.seed, max(1, round(kind.count * given.share)))
        total += sum(outcome.faults.values())
        print(f"{kind.name}: {outcome.read} read, {outcome.refused} refused", *outcome.cases, sep="\n    ")
        for fault, count in outcome.faults.items():
            print(f"figure fuzz.{kind.name}.{fault} {count}", flush=True)
    print(f"figure fuzz.seconds {time.perf_counter() - begun:.0f}")
    return int(total > 0)


def _fuzzed(kind: type[Kind], seed: int, count: int) -> Outcome:
    shares = [range(first, min(first + SHARE, count)) for first in range(0, count, SHARE)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        outcomes = list(pool.map(lambda numbers: fuzz(kind, seed, numbers), shares))
    return sum(outcomes[1:], outcomes[0])


def _alone(kind: type[Kind], seed: int, number: int) -> int:
    import random
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        kind(Path(folder)).run(random.Random(f"{kind.name} {seed} {number}"), number)
    print(f"{kind.name} {number}: read")
    return 0


if __name__ == "__main__":
    sys.exit(main())
