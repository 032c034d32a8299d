"""The training loop: it learns, repeats to the bit, averages, clips, and stops where numbers are no longer finite."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import WEIGHTS, CheckpointError, load_codec, read_description, save_codec
from q2d2.codec import Codec
from q2d2.training import loop
from q2d2.training.config import TrainConfig
from q2d2.training.loop import train
from q2d2.training.losses import ReconstructionLosses
from q2d2.training.manifest import AudioFile, Manifest
from q2d2.training.state import STATE, TrainingError
from tests.small_training import (
    BOTTLENECKS,
    RATE,
    SHORT,
    SMALL,
    assert_same_run,
    corpus,
    files_of,
    rows,
    train_one,
)


def test_it_learns(audio: Path, tmp_path: Path) -> None:
    """The loss falls, and the saved codec reconstructs better than at the start."""
    folder = train_one(audio, tmp_path, steps=80, batch_size=4, learning_rate=5e-3, log_every=1)
    totals = [float(row["total"]) for row in rows(folder)]
    assert np.mean(totals[-10:]) < 0.75 * np.mean(totals[:5])
    codec = load_codec(folder)
    torch.manual_seed(0)
    fresh = Codec(SMALL, build_bottleneck("q2d2", SMALL.dimension, levels=[7, 7, 7, 7])).eval()
    signal_, _ = soundfile.read(audio / "1.wav", dtype="float32")
    batch = torch.from_numpy(signal_)[None]
    objective = ReconstructionLosses(RATE, {"mel": 1.0})
    with torch.inference_mode():
        mel, before = (objective(each(batch), batch)["mel"].item() for each in (codec, fresh))
    assert mel < 0.6 * before


def test_log_holds_what_is_summed(undisturbed: Path) -> None:
    for name in BOTTLENECKS:
        logged = rows(undisturbed / name)
        assert [int(row["step"]) for row in logged] == list(range(2, 25, 2))
        assert list(logged[0]) == ["step", *SHORT.losses, "total", "discriminator_mpd", "learning_rate"]
        for row in logged:
            spectral = int(row["step"]) <= SHORT.spectral_steps
            assert [name for name, value in row.items() if value == ""] == (
                ["mpd", "mpd_features", "discriminator_mpd"] if spectral else []
            )
            assert float(row["total"]) == pytest.approx(sum(float(row[loss] or 0) for loss in SHORT.losses))
            assert float(row["learning_rate"]) == SHORT.learning_rate_at(int(row["step"]) - 1)
        commitment = [float(row["commitment"]) for row in logged]
        assert all(loss == 0 for loss in commitment) if name == "q2d2" else all(loss > 0 for loss in commitment)


def test_checkpoint_says_how_it_was_made(undisturbed: Path) -> None:
    described = read_description(undisturbed / "vq")
    assert described["bottleneck"].items() >= BOTTLENECKS["vq"].items()  # and the defaults
    assert described["metadata"]["settings"]["train"] == SHORT.to_dict()
    assert described["metadata"]["files"] == 3
    assert described["metadata"]["audio_seconds"] == 6.0


def test_one_seed_one_result(audio: Path, undisturbed: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)  # of no influence, nor is who reads the audio
    np.random.seed(99)
    train_one(audio, tmp_path / "again", "rvq", num_workers=0)
    assert_same_run(tmp_path / "again", undisturbed / "rvq")
    train_one(audio, tmp_path / "other", "rvq", seed=4)
    assert rows(tmp_path / "other") != rows(undisturbed / "rvq")


def test_averaged_weights_are_saved_and_forget_the_start(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history: list[dict[str, torch.Tensor]] = []
    update = AveragedModel.update_parameters

    def record(self: AveragedModel, model: nn.Module) -> None:
        update(self, model)
        history.append({name: weight.detach().clone() for name, weight in model.named_parameters()})

    monkeypatch.setattr(AveragedModel, "update_parameters", record)
    averaged = load_file(train_one(audio, tmp_path / "averaged", "vq") / WEIGHTS)
    assert len(history) == SHORT.steps
    for name in history[0]:
        expected = history[0][name].double()
        for count, weights in enumerate(history[1:], start=1):
            decay = min(0.9, (1 + count) / (10 + count))
            expected = decay * expected + (1 - decay) * weights[name].double()
        torch.testing.assert_close(averaged[name].double(), expected, atol=1e-6, rtol=1e-4)
    last = load_file(train_one(audio, tmp_path / "last", "vq", ema_decay=0.0) / WEIGHTS)
    assert all(torch.equal(last[name], weight) for name, weight in history[-1].items())
    assert rows(tmp_path / "last") == rows(tmp_path / "averaged")
    # Codebooks are averages by themselves: the latest is saved in both.
    assert torch.equal(last["bottleneck.codebook.embed"], averaged["bottleneck.codebook.embed"])


def test_moving_average_forgets_its_first_weights() -> None:
    model = nn.Linear(1, 1, bias=False)
    averaged = AveragedModel(model, multi_avg_fn=loop._moving_average(0.999))
    for step in range(200):
        nn.init.constant_(model.weight, 1000.0 if step == 0 else 1.0)
        averaged.update_parameters(model)
    # A constant decay of 0.999 would still hold 0.999^199 = 82 % of the first weight.
    assert averaged.module.weight.item() == pytest.approx(1.0, abs=1e-3)


def test_gradients_are_clipped_together(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    step = torch.optim.AdamW.step

    def record(self: torch.optim.AdamW, *args: Any, **options: Any) -> Any:
        gradients = [weight.grad.norm() for group in self.param_groups for weight in group["params"]]
        norms.append(torch.stack(gradients).norm().item())
        return step(self, *args, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", record)
    train_one(audio, tmp_path, steps=3, gradient_clip=1e-3)
    assert norms == pytest.approx([1e-3] * 3, rel=1e-3)


def test_learning_rate_rises_and_falls() -> None:
    config = TrainConfig(steps=1000, learning_rate=1.0, warmup_steps=100, final_learning_rate=0.1)
    rates = [config.learning_rate_at(step) for step in range(1000)]
    assert rates[:2] == pytest.approx([0.01, 0.02])
    assert rates[99] == rates[100] == 1.0
    assert rates[550] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert TrainConfig(steps=10, warmup_steps=0).learning_rate_at(0) == 5e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "train.steps is 0: expected a positive number"),
        ({"learning_rate": -1.0}, "train.learning_rate is -1.0"),
        ({"ema_decay": 1.0}, "train.ema_decay is 1.0: expected 0 <= ema_decay < 1"),
    ],
)
def test_bad_settings_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**change)


def test_denormals_are_flushed_in_training_alone(audio: Path, undisturbed: Path) -> None:
    tiny = torch.tensor(1e-40)
    train_one(audio, undisturbed / "q2d2")
    assert (tiny * 1).item() > 0


def test_a_weight_that_is_not_finite_is_never_saved(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finite loss can have an infinite gradient: the step that checkpoints must not save what it made of it."""
    backward, calls = torch.Tensor.backward, 0

    def poisoned(self: torch.Tensor, *args: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        backward(self * math.inf if calls == 36 else self, *args, **options)

    monkeypatch.setattr(torch.Tensor, "backward", poisoned)
    with pytest.raises(TrainingError, match="step 16"):
        train_one(audio, tmp_path)
    state = torch.load(tmp_path / STATE, weights_only=True)
    assert state["step"] == 8
    assert all(weight.isfinite().all() for weight in state["codec"].values())


def test_a_first_step_that_is_not_finite_says_that_nothing_was_saved(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="No checkpoint had been written yet"):
        train_one(audio, tmp_path, learning_rate=1e38, warmup_steps=0, steps=200, checkpoint_every=200)
    assert not (tmp_path / STATE).exists()


def test_unreadable_files_are_reported_and_survived(
    audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = Manifest.of([*files_of(audio), AudioFile(tmp_path / "gone.wav", 4 * RATE, RATE)])
    config = dataclasses.replace(SHORT, steps=6)
    load_codec(train(SMALL, BOTTLENECKS["q2d2"], files, config, tmp_path / "run", device="cpu"))
    shown = "".join(capsys.readouterr().err.split())  # wrapped to the console's width
    assert "gone.wav:nosuchfile" in shown


def test_too_short_segments_are_named(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="spectral losses need 1025 samples, segments have 800"):
        train_one(audio, tmp_path, segment_seconds=0.1)


def test_warm_start_continues_from_another_bottlenecks_backbone(audio: Path, undisturbed: Path, tmp_path: Path) -> None:
    source = undisturbed / "vq"
    train_one(audio, tmp_path / "warm", init_from=str(source), learning_rate=1e-30, steps=2, weight_decay=0.0)
    warm, start = load_file(tmp_path / "warm" / WEIGHTS), load_file(source / WEIGHTS)
    backbone = [name for name in warm if not name.startswith("bottleneck.")]
    assert all(torch.equal(warm[name], start[name]) for name in backbone)
    assert len(backbone) == len([name for name in start if not name.startswith("bottleneck.")])

    # Another backbone under the same name is another run.
    copy = tmp_path / "copy"
    save_codec(load_codec(source), copy)
    train_one(audio, tmp_path / "run", init_from=str(copy), steps=2)
    save_codec(load_codec(undisturbed / "rvq"), copy)
    with pytest.raises(TrainingError, match="init_weights_sha256"):
        train_one(audio, tmp_path / "run", init_from=str(copy), steps=2)


def test_warm_start_that_does_not_fit_is_named(audio: Path, undisturbed: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(SMALL, decoder_layers=2)
    config = dataclasses.replace(SHORT, init_from=str(undisturbed / "vq"))
    with pytest.raises(CheckpointError, match=r"another backbone: decoder_layers 1, not 2"):
        train(other, BOTTLENECKS["q2d2"], corpus(audio), config, tmp_path, device="cpu")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        train_one(audio, tmp_path, init_from=str(tmp_path / "nowhere"))


def test_compiled_training_is_the_same_training(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and cut as by --compile, but run by torch itself instead of a C++ compiler."""
    traced: list[str] = []
    compile_ = torch.compile

    def with_eager_backend(call: Any, **options: Any) -> Any:
        traced.append(type(call.__self__).__name__)
        return compile_(call, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", with_eager_backend)
    changes = {"steps": 3, "spectral_steps": 1}
    compiled = load_file(train_one(audio, tmp_path / "compiled", "vq", compile=True, **changes) / WEIGHTS)
    assert traced == ["Encoder", "Decoder", "ISTFTHead", "MultiPeriod"]
    plain = load_file(train_one(audio, tmp_path / "plain", "vq", **changes) / WEIGHTS)
    assert len(traced) == 4
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled[name], tensor, atol=1e-6, rtol=1e-5, msg=name)
