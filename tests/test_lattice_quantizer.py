"""The lattice bottleneck: codes, values, gradients; what all bottlenecks share is in test_bottlenecks.py."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from q2d2.bottleneck import build_bottleneck
from q2d2.lattice_quantizer import LatticeQuantizer
from q2d2.lattices import LATTICES, Lattice
from q2d2.quantizer import Q2D2
from q2d2.registry import UnknownName
from q2d2.snapping import SPAN_MARGIN, Gradient

DIM = 12
every_lattice = pytest.mark.parametrize("lattice", LATTICES)
EIGHT_CHANNELS = {"a2": (7, 6, 9, 8), "d4": (6, 5), "e8": (7,)}


def latents_of(seed: int, frames: int = 40) -> Tensor:
    return 3 * torch.randn(2, DIM, frames, generator=torch.Generator().manual_seed(seed))


def build(lattice: str, gradient: Gradient = "unit") -> LatticeQuantizer:
    torch.manual_seed(0)
    return LatticeQuantizer(DIM, lattice, EIGHT_CHANNELS[lattice], gradient).eval()


def bare(lattice: str, levels: tuple[int, ...], gradient: Gradient = "unit") -> LatticeQuantizer:
    """One whose projections pass channels through."""
    channels = len(levels) * Lattice(lattice, 5).channels
    quantizer = LatticeQuantizer(channels, lattice, levels, gradient)
    with torch.no_grad():
        for layer in (quantizer.project_in, quantizer.project_out):
            layer.weight.copy_(torch.eye(channels))
            layer.bias.zero_()
    return quantizer


@every_lattice
@pytest.mark.parametrize("gradient", ["unit", "published"])
@pytest.mark.parametrize("training", [False, True])
def test_forward_equals_decoded_codes_to_the_bit(lattice: str, gradient: Gradient, training: bool) -> None:
    quantizer = build(lattice, gradient).train(training)
    for frames in (1, 40):
        latents = latents_of(1, frames)
        output = quantizer(latents)
        assert torch.equal(output.quantized, quantizer.decode(output.codes))
        assert torch.equal(output.codes, quantizer.encode(latents))
        assert output.loss.item() == 0


@every_lattice
def test_one_code_a_group_and_true_bits(lattice: str) -> None:
    levels = EIGHT_CHANNELS[lattice]
    quantizer = build(lattice)
    sizes = tuple(Lattice(lattice, level).num_points for level in levels)
    assert quantizer.codebook_sizes == sizes
    assert quantizer.bits_per_frame == pytest.approx(math.log2(math.prod(sizes)))
    assert quantizer.tokens_per_frame == 1
    assert quantizer(latents_of(2)).codes.shape == (2, len(levels), 40)
    assert quantizer.project_in.out_features == 8


@every_lattice
def test_each_group_is_the_nearest_point_of_its_own_channels(lattice: str) -> None:
    levels = EIGHT_CHANNELS[lattice]
    quantizer = bare(lattice, levels)
    latents = torch.randn(3, 8, 50, generator=torch.Generator().manual_seed(3))
    output = quantizer(latents)
    width = 8 // len(levels)
    for group, level in enumerate(levels):
        channels = slice(group * width, (group + 1) * width)
        half = (level - 1) / 2
        scaled = torch.tanh(latents[:, channels]).transpose(1, 2) * (half * (1 + SPAN_MARGIN))
        points, codes = Lattice(lattice, level).nearest(scaled)
        assert torch.equal(output.codes[:, group], codes)
        torch.testing.assert_close(output.quantized[:, channels], points.transpose(1, 2) / half, atol=1e-6, rtol=0)
    assert output.quantized.abs().max() <= 1


@every_lattice
def test_every_code_survives_a_round_trip(lattice: str) -> None:
    quantizer = bare(lattice, (3,))
    codes = torch.arange(quantizer.codebook_sizes[0]).view(1, 1, -1)
    again = quantizer.encode(torch.atanh(quantizer.decode(codes) / (1 + SPAN_MARGIN)))
    assert torch.equal(again, codes)


def test_gradient_is_that_of_q2d2() -> None:
    latents = (0.3 * torch.randn(3, 8, 50, generator=torch.Generator().manual_seed(4))).requires_grad_()
    for gradient in ("unit", "published"):
        ours, q2d2 = bare("e8", (7,), gradient), Q2D2(8, levels=(7,) * 8, gradient=gradient)
        q2d2.load_state_dict(ours.state_dict())
        reached = [torch.autograd.grad(each(latents).quantized.sum(), latents)[0] for each in (ours, q2d2)]
        torch.testing.assert_close(reached[0], reached[1])
        factor = 1 + SPAN_MARGIN if gradient == "unit" else 1 / 3
        slope = 1 - torch.tanh(latents.detach()).square()
        torch.testing.assert_close(reached[0], factor * slope, atol=1e-6, rtol=1e-5)


def test_huge_codebooks_take_no_memory() -> None:
    quantizer = LatticeQuantizer(DIM, "e8", (101,))
    assert quantizer.codebook_sizes == ((101**8 + 1) // 2 + 100**8 // 2,)
    assert sum(value.numel() for value in [*quantizer.parameters(), *quantizer.buffers()]) < 300
    latents = latents_of(5)
    assert torch.equal(quantizer.decode(quantizer.encode(latents)), quantizer(latents).quantized)


@every_lattice
def test_meta_device(lattice: str) -> None:
    quantizer = build(lattice)
    with torch.device("meta"):
        other = LatticeQuantizer(DIM, lattice, EIGHT_CHANNELS[lattice])
    other = other.to_empty(device="cpu").eval()
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(quantizer(latents_of(6)).quantized, other(latents_of(6)).quantized)


def test_fit_starts_from_latents() -> None:
    quantizer = LatticeQuantizer(DIM, "d4", (15, 15))
    directions = torch.randn(8, DIM, generator=torch.Generator().manual_seed(7))
    latents = (torch.randn(4, 300, 8, generator=torch.Generator().manual_seed(8)) @ directions).transpose(1, 2)
    before = (quantizer(latents).quantized - latents).square().mean()
    quantizer.fit(latents)
    after = (quantizer(latents).quantized - latents).square().mean()
    assert after < 0.1 * latents.square().mean() < before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": ()}, r"levels \[\]: expected one integer a group"),
        ({"levels": (7, 1)}, "levels of lattice d4 are integers in 2.*, got 1"),
        ({"lattice": "a2", "levels": (2,)}, "levels of lattice a2 are integers in 3.*, got 2"),
        ({"lattice": "e8", "levels": (235,)}, "more points at 235 levels than an int64 can number; at most 234"),
        ({"gradient": "twice"}, "gradient 'twice': expected one of unit, published"),
        ({"tiling": "rhombic"}, "options: lattice, levels, gradient"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_bottleneck("lattice", DIM, **options)


def test_unknown_lattice_lists_the_known() -> None:
    with pytest.raises(UnknownName, match="Known: a2, d4, e8"):
        build_bottleneck("lattice", DIM, lattice="leech")


def test_codes_out_of_range_are_refused() -> None:
    quantizer = build("d4")
    for code in (-1, 10**6):
        with pytest.raises(ValueError, match="whose codebook has"):
            quantizer.decode(torch.full((1, 2, 1), code))
