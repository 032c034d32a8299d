"""Experiments, sweeps, gates, claims and what is set on the command line."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from evalkit.gate.settings import load_gate
from evalkit.run.experiment import load_experiment
from evalkit.run.plan import make_plan
from evalkit.sweeps.claim_files import load_claims
from evalkit.sweeps.schema import load_sweep
from evalkit.sweeps.trials import expand
from tests.command import TINY
from tests.fuzz.documents import dump, mutated_yaml, override
from tests.fuzz.driver import Silent

SWEEP: dict[str, Any] = {
    "name": "mine",
    "experiment": "quick",
    "set": {"train.steps": 5, "data.test.name": "sample"},
    "constraints": {"bits_per_frame": "<= 40"},
    "seeds": [0, 1],
    "points": [
        {"grid": {"bottleneck.name": ["q2d2"], "bottleneck.tiling": ["rhombic"], "bottleneck.levels": [[7, 7]]}},
        {"list": [{"bottleneck": {"name": "vq", "codebook_size": 64}}]},
        {
            "random": {"train.learning_rate": {"log_uniform": [1e-4, 1e-2]}, "bottleneck.levels": {"choice": [[5, 5]]}},
            "samples": 2, "seed": 3, "set": {"bottleneck.name": "fsq"},
        },
        {"matched": {"families": ["rhombic", "e8"], "bits_per_frame": [15, 20], "channels": {"e8": 8}}},
    ],
}  # fmt: skip


class Settings:
    """One mistake in a file of settings, or in one --set."""

    name = "settings"
    count = 500

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = folder / "base.yaml"
        self.base.write_text(dump(TINY))
        evalkit = files("evalkit")
        gate = yaml.safe_load((evalkit / "gate" / "default.yaml").read_text())
        gate |= {"exact": [{"metrics": ["pesq"], "systems": ["fsq"], "tolerance": 1e-6}]}
        claims = yaml.safe_load((evalkit / "papers" / "q2d2-claims.yaml").read_text())
        self.kinds: list[tuple[dict[str, Any], Callable[[str], Any]]] = [
            (TINY, lambda path: self._plan(path, [])),
            (SWEEP, lambda path: expand(load_sweep(path))),
            (gate, load_gate),
            (claims, load_claims),
        ]

    def run(self, rng: random.Random, number: int) -> None:
        if number % 5 == 4:
            self._plan(str(self.base), [override(rng, TINY)])
            return
        values, read = self.kinds[number % 5]
        path = self.folder / "case.yaml"
        path.write_bytes(mutated_yaml(rng, values))
        read(str(path))

    def _plan(self, path: str, overrides: list[str]) -> None:
        experiment = load_experiment(path, overrides)
        make_plan(experiment, self.folder / "run")
        if bad := [value for value in _numbers(experiment.resolved()) if not math.isfinite(value)]:
            raise Silent(f"an experiment was accepted with {bad}")


def _numbers(values: Any) -> list[float]:
    if isinstance(values, dict | list | tuple):
        inner = values.values() if isinstance(values, dict) else values
        return [number for value in inner for number in _numbers(value)]
    return [values] if isinstance(values, float) else []
