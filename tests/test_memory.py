"""What a training needs is told before it starts, and refused where the machine has too little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from evalkit.run.training import check_memory, memory_note
from q2d2.codec import codec_config
from q2d2.training.config import TrainConfig, recipe_values
from q2d2.training.memory import training_bytes
from q2d2.training.state import TrainingError
from tests.command import TINY, evalkit, write_experiment

GIB = 2**30
MEASURED = """
import sys
from pathlib import Path
import torch
from evalkit.run.experiment import load_experiment
from evalkit.run.plan import make_plan
from evalkit.run.training import memory_needed, train_system
plan = make_plan(load_experiment(sys.argv[1]), Path(sys.argv[2]))
needed = memory_needed(plan)
train_system(plan, plan.trained[0], "cpu")
peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
print("ratio", needed / peak, peak)
"""


def test_the_estimate_is_near_what_a_training_took(tmp_path: Path) -> None:
    train = {"recipe": "corrected", "steps": 1, "batch_size": 8, "segment_seconds": 0.6, "num_workers": 0}
    path = write_experiment(
        tmp_path / "x.yaml",
        train=train | {"discriminator_width": 0.25, "spectral_steps": 0, "warmup_steps": 0, "log_every": 1},
        systems={"fsq": TINY["systems"]["fsq"]},
    )
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(path), str(tmp_path / "run")],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True, timeout=200,
    )  # fmt: skip
    ratio, peak = map(float, done.stdout.split("ratio")[1].split())
    assert peak > 1.3 * GIB, "more than a process that trains nothing takes"
    assert 0.6 < ratio < 1.5


def test_it_grows_with_the_batch_and_shrinks_with_processes() -> None:
    config, backbone = TrainConfig(**recipe_values({"recipe": "spectral", "batch_size": 16})), codec_config("tiny")
    one = training_bytes(backbone, config)
    assert training_bytes(backbone, config, processes=4) < one
    larger = TrainConfig(**recipe_values({"recipe": "spectral", "batch_size": 160}))
    assert training_bytes(backbone, larger) > 3 * one


def test_too_much_is_said_in_the_plan_and_refused_on_a_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("evalkit.run.training.machine_bytes", lambda: GIB)
    assert memory_note(0) == ""
    assert memory_note(2 * GIB).endswith("about 2.0 GiB a training (float32); this machine has 1.0 GiB beside its "
                                         "GPUs: too little to train on the CPU")  # fmt: skip
    check_memory(2 * GIB, torch.device("cuda"))
    with pytest.raises(TrainingError, match="about 2 GiB, this machine has 1 GiB: train on a GPU"):
        check_memory(2 * GIB, torch.device("cpu"))
    path = write_experiment(tmp_path / "x.yaml", train=TINY["train"] | {"batch_size": 4096, "segment_seconds": 0.5})
    plan = evalkit("run", path, "--dry-run", "--out", tmp_path / "run")
    assert plan.status == 0
    assert "too little to train on the CPU" in plan.out
    for verb in ("run", "train"):
        refused = evalkit(verb, path, "--out", tmp_path / "run", "--device", "cpu")
        assert refused.complaint.startswith("a training would take about")
    assert not (tmp_path / "run" / "checkpoints").exists()
