"""Q2D2: codes, values, gradients and precision."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from q2d2.bottleneck import NullBottleneck, build_bottleneck
from q2d2.quantizer import Q2D2, SPAN_MARGIN, Gradient
from q2d2.registry import UnknownName
from q2d2.tilings import TILINGS

DIM = 12


def latents_of(seed: int, frames: int = 40) -> Tensor:
    return 3 * torch.randn(2, DIM, frames, generator=torch.Generator().manual_seed(seed))


def build(tiling: str = "rhombic", levels: tuple[int, ...] = (9, 7, 5, 6), gradient: Gradient = "unit") -> Q2D2:
    torch.manual_seed(0)
    return Q2D2(DIM, tiling=tiling, levels=levels, gradient=gradient).eval()


def bare(levels: tuple[int, ...], gradient: Gradient, tiling: str = "rhombic") -> Q2D2:
    """A Q2D2 whose projections pass channels through."""
    quantizer = Q2D2(len(levels), tiling=tiling, levels=levels, gradient=gradient)
    with torch.no_grad():
        for layer in (quantizer.project_in, quantizer.project_out):
            layer.weight.copy_(torch.eye(len(levels)))
            layer.bias.zero_()
    return quantizer


@pytest.mark.parametrize("tiling", TILINGS)
@pytest.mark.parametrize("gradient", ["unit", "published"])
@pytest.mark.parametrize("training", [False, True])
def test_forward_equals_decoded_codes_to_the_bit(tiling: str, gradient: Gradient, training: bool) -> None:
    quantizer = build(tiling, gradient=gradient).train(training)
    for frames in (1, 40):
        latents = latents_of(1, frames)
        output = quantizer(latents)
        assert torch.equal(output.quantized, quantizer.decode(output.codes))
        assert torch.equal(output.codes, quantizer.encode(latents))
        assert output.quantized.shape == latents.shape
        assert output.loss.item() == 0


@given(st.sampled_from(sorted(TILINGS)), st.lists(st.integers(2, 12), min_size=2, max_size=6), st.floats(-4, 4))
def test_codes_are_in_range(tiling: str, levels: list[int], scale: float) -> None:
    levels = levels[: len(levels) // 2 * 2]
    quantizer = build(tiling, tuple(levels))
    codes = quantizer.encode(10**scale * latents_of(2))
    assert codes.shape == (2, len(levels) // 2, 40)
    assert codes.dtype == torch.int64
    for pair, size in enumerate(quantizer.codebook_sizes):
        assert size == quantizer.tilings[pair].num_points
        assert codes[:, pair].min() >= 0
        assert codes[:, pair].max() < size
    assert quantizer.bits_per_frame == pytest.approx(sum(math.log2(size) for size in quantizer.codebook_sizes))


@pytest.mark.parametrize("tiling", TILINGS)
def test_every_code_survives_a_round_trip(tiling: str) -> None:
    """The point of each code, sent back through scale and snap, has that code: nothing is shifted or swapped."""
    quantizer = bare((5, 4), "unit", tiling)
    points = quantizer.tilings[0].points
    inside = (points.abs() <= quantizer.half_spans + 1e-5).all(dim=1)  # tanh does not get far beyond
    codes = torch.arange(len(points))[inside].view(1, 1, -1)
    assert codes.numel() > 0
    unit = quantizer.decode(codes)
    again = quantizer.encode(torch.atanh(unit / (1 + SPAN_MARGIN)))
    assert torch.equal(again, codes)


def test_the_margin_lets_finite_latents_reach_the_border() -> None:
    quantizer = bare((9, 9, 8, 8), "unit", "rectangular")
    codes = quantizer.encode(torch.linspace(-10, 10, 5001).expand(1, 4, -1))
    for pair, level in enumerate((9, 8)):
        assert codes[0, pair].unique().tolist() == [i * level + i for i in range(level)]
    assert quantizer.decode(codes).abs().max() == 1.0


@pytest.mark.parametrize("levels", [(9, 9, 7, 7), (5, 11)])
def test_gradient_factors(levels: tuple[int, ...]) -> None:
    latents = (0.3 * torch.randn(3, len(levels), 50)).requires_grad_()
    slope = 1 - torch.tanh(latents.detach()).square()
    for gradient in ("unit", "published"):
        quantizer = bare(levels, gradient)
        (reached,) = torch.autograd.grad(quantizer(latents).quantized.sum(), latents)
        factors = reached / slope
        expected = torch.tensor([1 + SPAN_MARGIN if gradient == "unit" else 1 / (level // 2) for level in levels])
        torch.testing.assert_close(factors, expected[:, None].expand_as(factors), atol=1e-5, rtol=1e-5)


def test_gradient_does_not_change_values() -> None:
    unit, published = build(gradient="unit"), build(gradient="published")
    for one, other in zip(unit(latents_of(3)), published(latents_of(3)), strict=True):
        assert torch.equal(one, other)


def test_gradient_reaches_every_parameter() -> None:
    quantizer = build().train()
    quantizer(latents_of(4)).quantized.square().sum().backward()
    for name, parameter in quantizer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().min() > 0, name


def test_float32_inside_autocast() -> None:
    quantizer = build()
    latents = latents_of(5)
    expected = quantizer(latents)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, half = quantizer(latents), quantizer(latents.bfloat16())
        assert torch.equal(quantizer.encode(latents), expected.codes)
        assert torch.equal(quantizer.decode(expected.codes), expected.quantized)
    assert torch.equal(output.codes, expected.codes)
    assert torch.equal(output.quantized, expected.quantized)
    assert half.quantized.dtype == torch.bfloat16
    assert torch.equal(half.codes, quantizer.encode(latents.bfloat16().float()))


def test_frame_index_counts_the_first_pair_fastest() -> None:
    quantizer = build("rectangular", (3, 2, 2, 2, 5, 2))
    sizes = quantizer.codebook_sizes
    assert sizes == (6, 4, 10)
    every = torch.cartesian_prod(*(torch.arange(size) for size in reversed(sizes))).flip(-1)  # the last column slowest
    assert torch.equal(quantizer.frame_index(every.T[None])[0], torch.arange(math.prod(sizes)))


def test_frame_index_fits_an_int64_or_raises() -> None:
    beyond = Q2D2(DIM, "rectangular", (128, 128) * 4 + (16, 16))  # 2**64 codes
    with pytest.raises(ValueError, match="do not fit an int64"):
        beyond.frame_index(torch.zeros(1, 5, 1, dtype=torch.int64))
    full = Q2D2(DIM, "rectangular", (128, 128) * 4 + (8, 16))  # 2**63: the last index is the largest int64
    codes = torch.tensor(full.codebook_sizes)[None, :, None] - 1
    assert full.frame_index(codes).item() == 2**63 - 1
    six = Q2D2(DIM, "rhombic", (7,) * 12)  # six pairs of 85 points, where int32 would overflow
    codes = torch.full((1, 6, 1), 84)
    assert six.frame_index(codes).item() == 85**6 - 1


def test_state_restores_to_the_bit(tmp_path: Path) -> None:
    quantizer = build()
    torch.save(quantizer.state_dict(), tmp_path / "state.pt")
    torch.manual_seed(1)
    other = Q2D2(DIM, levels=(9, 7, 5, 6))
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(quantizer(latents_of(6)).quantized, other.eval()(latents_of(6)).quantized)


@pytest.mark.parametrize("tiling", TILINGS)
def test_meta_device(tiling: str) -> None:
    quantizer = build(tiling)
    with torch.device("meta"):
        other = Q2D2(DIM, tiling=tiling, levels=(9, 7, 5, 6))
    other = other.to_empty(device="cpu").eval()
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other.half_spans, quantizer.half_spans)
    assert torch.equal(quantizer(latents_of(7)).quantized, other(latents_of(7)).quantized)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": (9, 9, 7)}, r"levels \[9, 9, 7\]: .*even number"),
        ({"levels": ()}, "even number"),
        ({"levels": (9, 1)}, "at least 2, got 1"),
        ({"levels": (9, 7.0)}, r"at least 2, got 7\.0"),
        ({"gradient": "twice"}, "gradient 'twice': expected one of unit, published"),
        ({"radius": 3}, "radius"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_bottleneck("q2d2", DIM, **options)


def test_unknown_tiling_is_answered_with_a_close_one() -> None:
    with pytest.raises(UnknownName, match=r"'rombic'\. Did you mean 'rhombic'"):
        Q2D2(DIM, tiling="rombic")


def test_wrong_shapes_are_named() -> None:
    quantizer = build()
    for latents in (torch.zeros(2, DIM + 1, 5), torch.zeros(DIM, 5)):
        for call in (quantizer, quantizer.encode):
            with pytest.raises(ValueError, match=r"latents .* expected \(batch, 12, frames\)"):
                call(latents)
    for codes in (torch.zeros(2, 3, 5), torch.zeros(2, 1, 5), torch.zeros(2, 5)):
        with pytest.raises(ValueError, match=r"codes .* expected \(batch, 2, frames\)"):
            quantizer.decode(codes.long())


@pytest.mark.parametrize("code", [-1, 10**6])
def test_codes_out_of_range_are_refused(code: int) -> None:
    with pytest.raises(ValueError, match="whose codebook has"):
        build().decode(torch.full((1, 2, 1), code))


def test_spec_rebuilds() -> None:
    quantizer = build_bottleneck("q2d2", DIM, tiling="hexagonal", levels=[5, 7])
    assert quantizer.spec == {"name": "q2d2", "tiling": "hexagonal", "levels": [5, 7]}
    assert quantizer.codebook_sizes == (35,)


@pytest.mark.parametrize("name", ["unquantized", "null"])
def test_null_bottleneck_is_the_identity_without_codes(name: str) -> None:
    null = build_bottleneck(name, DIM)
    assert null.spec == {"name": name}  # as given: what older runs and checkpoints hold is compared with it
    assert isinstance(null, NullBottleneck)
    latents = latents_of(8)
    output = null(latents)
    assert torch.equal(output.quantized, latents)
    assert torch.equal(null.decode(null.encode(latents)), latents)
    assert output.codes.shape == (2, 0, 40)
    assert null.bits_per_frame == 0
    assert output.loss.item() == 0
