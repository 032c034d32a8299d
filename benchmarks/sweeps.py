"""How long planning and looking at large sweeps take: `python -m benchmarks.sweeps`.

Whole commands, as a user starts them: `evalkit sweep FILE --plan` with 10,000 trials, and `evalkit sweep status` of a
sweep with 1,000 finished trials. Baseline: for the plan a Python that imports torch and ends, as bottlenecks are built
to know their rates; for the status `evalkit --help`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from evalkit.sweeps.folder import write_sweep
from evalkit.sweeps.schema import Sweep
from evalkit.sweeps.state import Outcome, trial_folder
from evalkit.sweeps.trials import expand

EVALKIT = [sys.executable, "-m", "evalkit"]


def large_sweep(levels: int, rates: int, seeds: int) -> dict[str, object]:
    """4 tilings x `levels` levels x `rates` learning rates x `seeds` seeds."""
    return {
        "name": "large",
        "experiment": "tiny",
        "points": [
            {
                "set": {"bottleneck.name": "q2d2"},
                "grid": {
                    "bottleneck.tiling": ["rhombic", "rectangular", "hexagonal", "hexagonal-regular"],
                    "bottleneck.levels": [[level, level, 7, 7] for level in range(3, 3 + levels)],
                    "train.learning_rate": [1e-4 * (1 + number) for number in range(rates)],
                },
            }
        ],
        "seeds": list(range(seeds)),
    }


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each, interleaved; medians are printed")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.yaml"
        plan.write_text(yaml.safe_dump(large_sweep(25, 10, 10)))
        finished = Path(folder) / "finished"
        sweep = Sweep.model_validate(large_sweep(25, 10, 1))
        trials = expand(sweep)
        write_sweep(finished, sweep, trials)
        for trial in trials:
            Outcome("done", "", 100.0, "host", time.time()).write(trial_folder(finished, trial.id))
        commands = {
            "import_torch_seconds": [sys.executable, "-c", "import torch"],
            "plan_10000_trials_seconds": [*EVALKIT, "sweep", str(plan), "--plan"],
            "help_seconds": [*EVALKIT, "--help"],
            "status_1000_trials_seconds": [*EVALKIT, "sweep", "status", str(finished)],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                times[name].append(seconds(command))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"figure {name} {value:.2f}")
    print(f"figure plan_over_import_torch {medians['plan_10000_trials_seconds'] / medians['import_torch_seconds']:.2f}")
    print(f"figure status_over_help {medians['status_1000_trials_seconds'] / medians['help_seconds']:.2f}")


if __name__ == "__main__":
    main()
