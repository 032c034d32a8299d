"""The start of a bounded projection from a trained backbone's latents."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor, nn

from q2d2.bottleneck import build_bottleneck
from q2d2.codec import SIZES
from q2d2.projection import fit_projections
from q2d2.training.config import train_config
from q2d2.training.loop import train
from q2d2.training.manifest import AudioFile, Manifest
from q2d2.training.state import TrainingError

DIM, RANK = 16, 4
SPECS = [{"name": "q2d2", "tiling": "rhombic", "levels": [9] * RANK}, {"name": "fsq", "levels": [9] * RANK}]


def latents_of_rank(rank: int, scale: float = 5.0) -> Tensor:
    """Latents (4, DIM, 100) with mean, in a subspace of `rank` dimensions."""
    generator = torch.Generator().manual_seed(0)
    inside = torch.randn(4, 100, rank, generator=generator) @ torch.randn(rank, DIM, generator=generator)
    return (scale * inside + 3.0).transpose(1, 2)


def relative_error(estimate: Tensor, wanted: Tensor) -> float:
    spread = wanted - wanted.mean(dim=(0, 2), keepdim=True)
    return ((estimate - wanted).square().mean() / spread.square().mean()).item()


def test_bounded_values_fill_the_range_and_lead_back() -> None:
    project_in, project_out = nn.Linear(DIM, RANK), nn.Linear(RANK, DIM)
    latents = latents_of_rank(RANK)
    fit_projections(project_in, project_out, latents)
    bounded = torch.tanh(project_in(latents.transpose(1, 2)))
    assert bounded.mean(dim=(0, 1)).abs().max() < 0.1
    assert 0.5 < bounded.std().item() < 0.75  # uniform in [-1, 1]: 0.58
    assert relative_error(project_out(bounded).transpose(1, 2), latents) < 0.1


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_the_scale_of_the_latents_does_not_matter(scale: float) -> None:
    project_in, project_out = nn.Linear(DIM, RANK), nn.Linear(RANK, DIM)
    latents = latents_of_rank(RANK, scale)
    fit_projections(project_in, project_out, latents)
    assert 0.5 < torch.tanh(project_in(latents.transpose(1, 2))).std().item() < 0.75


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["name"])
def test_a_fitted_bottleneck_keeps_what_a_random_one_loses(spec: dict) -> None:
    options = dict(spec)
    bottleneck = build_bottleneck(options.pop("name"), DIM, **options).eval()
    latents = latents_of_rank(RANK)
    before = relative_error(bottleneck(latents).quantized, latents)
    bottleneck.fit(latents)
    assert relative_error(bottleneck(latents).quantized, latents) < 0.15 < 0.8 < before


def test_bottlenecks_with_codebooks_are_left_alone() -> None:
    bottleneck = build_bottleneck("vq", DIM, codebook_size=8)
    state = {name: tensor.clone() for name, tensor in bottleneck.state_dict().items()}
    bottleneck.fit(latents_of_rank(RANK))
    assert all(torch.equal(tensor, state[name]) for name, tensor in bottleneck.state_dict().items())


def test_a_warm_start_that_cannot_be_fitted_is_one_line(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", torch.rand(16000).numpy() - 0.5, 16000)
    config = train_config("spectral", steps=1, batch_size=1, segment_seconds=0.5, init_from="tiny", num_workers=0)
    wide = {"name": "fsq", "levels": [3] * 33}
    with pytest.raises(TrainingError, match="cannot start from tiny: cannot fit a projection of 32 to 33 channels"):
        train(SIZES["tiny"], wide, Manifest.of([AudioFile(tmp_path / "a.wav", 16000, 16000)]), config, tmp_path / "run")


@pytest.mark.parametrize(("channels", "frames"), [(RANK, DIM - 1), (DIM + 1, 100)])
def test_what_cannot_be_fitted_is_refused(channels: int, frames: int) -> None:
    with pytest.raises(ValueError, match=f"{DIM} to {channels} channels to {frames} frames"):
        fit_projections(nn.Linear(DIM, channels), nn.Linear(channels, DIM), latents_of_rank(RANK)[:1, :, :frames])
