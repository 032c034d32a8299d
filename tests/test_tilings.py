"""Tilings: numbering, geometry, and the closed-form nearest point against brute force in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from q2d2 import tilings
from q2d2.registry import UnknownName
from q2d2.tilings import TILINGS, Tiling, build_tiling

NAMES = list(TILINGS)
LEVELS = [(2, 2), (2, 3), (3, 2), (3, 3), (7, 7), (9, 9), (8, 8), (7, 5), (5, 8), (8, 5), (4, 6), (2, 11), (11, 3)]
every_tiling = pytest.mark.parametrize(
    ("name", "levels", "dtype"), list(itertools.product(NAMES, LEVELS, [torch.float32, torch.float64])), ids=str
)
# A pair this much nearer (in units of a column) to one point than to all others is no tie.
MARGIN = 1e-6


def brute_force(tiling: Tiling, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the nearest point (n,) and how much farther the next one is (n,), in float64.

    How much farther is computed from the difference of squares, which keeps its digits far outside the grid.
    """
    pairs, points = pairs.reshape(-1, 2).double(), tiling.points.double()
    # Squared distance less |pair|^2, which is the same for all points.
    score = points.square().sum(-1) - 2 * pairs @ points.T
    best, second = score.topk(2, dim=-1, largest=False).values.unbind(-1)
    distance = torch.linalg.vector_norm(pairs - points[score.argmin(-1)], dim=-1)
    return score.argmin(-1), (second - best) / (2 * distance).clamp(min=1.0)


def assert_nearest(tiling: Tiling, pairs: Tensor, margin: float = MARGIN) -> None:
    points, indices = tiling.nearest(pairs)
    expected, gap = brute_force(tiling, pairs)
    assert points.dtype == pairs.dtype
    assert indices.dtype == torch.int64
    assert points.shape == pairs.shape
    assert indices.shape == pairs.shape[:-1]
    assert torch.equal(points, tiling.points[indices].to(pairs.dtype))
    clear = gap > margin
    assert torch.equal(indices.flatten()[clear], expected[clear])
    # In a tie any of the tied points will do, but no other.
    flat, chosen, best = pairs.reshape(-1, 2).double(), points.reshape(-1, 2).double(), tiling.points[expected].double()
    longer = ((best - chosen) * (2 * flat - best - chosen)).sum(-1)
    distance = torch.linalg.vector_norm(flat - best, dim=-1)
    assert (longer <= 2 * margin * distance.clamp(min=1.0)).all()


@every_tiling
def test_nearest_equals_brute_force_inside_and_around(name: str, levels: tuple[int, int], dtype: torch.dtype) -> None:
    tiling = build_tiling(name, *levels)
    generator = torch.Generator().manual_seed(3)
    spread = torch.tensor([levels[0], levels[1]], dtype=dtype)
    pairs = (torch.rand(5000, 2, generator=generator, dtype=dtype) - 0.5) * spread * 1.6
    assert (brute_force(tiling, pairs)[1] > MARGIN).double().mean() > 0.999
    assert_nearest(tiling, pairs)


@every_tiling
def test_nearest_on_borders_of_cells(name: str, levels: tuple[int, int], dtype: torch.dtype) -> None:
    tiling = build_tiling(name, *levels)
    points = tiling.points.double()
    middles = ((points[:, None] + points[None]) / 2).reshape(-1, 2)
    apart = (points[None] - points[:, None]).reshape(-1, 2)
    near = apart.abs().amax(-1) < 2
    middles, apart = middles[near], apart[near]
    for epsilon in (0.0, 1e-12, 1e-5, -1e-5, 1e-3):
        assert_nearest(tiling, (middles + epsilon * apart).to(dtype))
    assert torch.equal(tiling.nearest(points.to(dtype))[1], torch.arange(tiling.num_points))


@every_tiling
def test_nearest_far_outside(name: str, levels: tuple[int, int], dtype: torch.dtype) -> None:
    tiling = build_tiling(name, *levels)
    angle = torch.rand(1000, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 2 * math.pi
    directions = torch.cat([angle.cos(), angle.sin()], dim=-1)
    for radius in (20.0, 1e3, 1e6, 1e9):
        assert_nearest(tiling, (directions * radius).to(dtype))
    # One coordinate inside: the other's size must not drown it.
    inside = (directions * torch.tensor(tiling.half_span)).to(dtype)
    for radius in (-1e6, 1e6):
        for axis in (0, 1):
            pairs = inside.clone()
            pairs[:, axis] = radius
            points, indices = tiling.nearest(pairs)
            # Far out along an axis the outermost points win, and among these the nearest.
            outermost = tiling.points[:, axis] * math.copysign(1, radius)
            outer = torch.nonzero(outermost > outermost.max() - 1e-4).flatten()
            gap = (tiling.points[outer, 1 - axis] - pairs[:, 1 - axis : 2 - axis]).abs().double()
            assert torch.isin(indices, outer).all()
            chosen = (points[:, 1 - axis] - pairs[:, 1 - axis]).abs().double()
            torch.testing.assert_close(chosen, gap.amin(-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_nearest_of_the_largest_finite_numbers(name: str) -> None:
    largest = torch.finfo(torch.float32).max
    for levels in ((7, 7), (8, 9), (2, 3)):
        tiling = build_tiling(name, *levels)
        for x, y in ((0.97, 0.21), (0.3, -1.0), (-1.0, 0.9), (-0.6, -0.99), (0.77, 0.77)):
            huge = tiling.nearest(torch.tensor([x * largest, y * largest]))[1]
            scaled, gap = brute_force(tiling, torch.tensor([[x, y]], dtype=torch.float64) * 1e12)
            assert gap.item() > MARGIN
            assert huge.item() == scaled.item()


@given(
    name=st.sampled_from(NAMES),
    lx=st.integers(2, 13),
    ly=st.integers(2, 13),
    pairs=st.lists(st.tuples(*[st.floats(-1e7, 1e7, width=32) | st.floats(-9, 9, width=32)] * 2), min_size=1),
)
def test_nearest_of_any_pairs(name: str, lx: int, ly: int, pairs: list[tuple[float, float]]) -> None:
    tiling = build_tiling(name, lx, ly)
    assert_nearest(tiling, torch.tensor(pairs, dtype=torch.float64))
    assert_nearest(tiling, torch.tensor(pairs, dtype=torch.float32))


def test_numbering_as_published() -> None:
    rectangular = build_tiling("rectangular", 3, 2).points.tolist()
    assert rectangular == [[-1, -0.5], [-1, 0.5], [0, -0.5], [0, 0.5], [1, -0.5], [1, 0.5]]
    rhombic = build_tiling("rhombic", 3, 3).points.tolist()
    assert rhombic[:4] == [[-1, -1], [-1, 0], [-1, 1], [0, -1]]
    assert rhombic[9:] == [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]
    hexagonal = build_tiling("hexagonal", 3, 3).points.tolist()
    assert hexagonal[:3] == [[-0.75, -1], [0.25, -1], [1.25, -1]]
    assert hexagonal[3:6] == [[-1.25, 0], [-0.25, 0], [0.75, 0]]
    assert hexagonal[6:] == [[-0.75, 1], [0.25, 1], [1.25, 1]]


@pytest.mark.parametrize(
    ("name", "levels", "count"),
    [("rectangular", (7, 5), 35), ("rhombic", (7, 7), 85), ("rhombic", (9, 9), 145), ("hexagonal-regular", (4, 6), 24)],
)
def test_number_of_points_and_bits(name: str, levels: tuple[int, int], count: int) -> None:
    tiling = build_tiling(name, *levels)
    assert tiling.num_points == count == len(torch.unique(tiling.points, dim=0))
    assert tiling.points.shape == (count, 2)
    assert tiling.points.dtype == torch.float32
    assert tiling.bits == pytest.approx(math.log2(count))
    assert tiling.half_span == ((levels[0] - 1) / 2, (levels[1] - 1) / 2)


@pytest.mark.parametrize("levels", LEVELS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_symmetry_and_extent(name: str, levels: tuple[int, int]) -> None:
    tiling = build_tiling(name, *levels)
    points, half = tiling.points.double(), torch.tensor(tiling.half_span, dtype=torch.float64)
    if name == "hexagonal":
        # As published: 1/4 beyond the square on both sides, and off centre where there are more even than odd rows.
        assert points.amax(0).tolist() == [half[0].item() + 0.25, half[1].item()]
        assert points.amin(0).tolist() == [-half[0].item() - 0.25, -half[1].item()]
        assert points[:, 0].mean().item() == pytest.approx(0.25 * (levels[1] % 2) / levels[1])
        return
    assert (points.abs() <= half + 1e-6).all()
    assert points[:, 0].amax().item() == pytest.approx(half[0].item(), abs=1e-6)
    assert points.mean(0).abs().max() < 1e-6
    assert torch.cdist(-points, points).amin(-1).max() < 1e-6
    if levels[0] % 2 and levels[1] % 2:
        assert points.abs().amax(-1).min() == 0


@pytest.mark.parametrize("levels", [(7, 7), (8, 8), (7, 5), (6, 9), (5, 4)], ids=str)
def test_regular_hexagons_have_six_equal_neighbours(levels: tuple[int, int]) -> None:
    lx, ly = levels
    points = build_tiling("hexagonal-regular", lx, ly).points.double()
    pitch = (points[1] - points[0])[0].item()
    distances = torch.cdist(points, points).fill_diagonal_(math.inf)
    assert distances.min().item() == pytest.approx(pitch, rel=2e-6)
    neighbours = (distances < 1.01 * pitch).sum(-1).view(ly, lx)
    assert (neighbours[1:-1, 1:-1] == 6).all()
    rows = points.view(ly, lx, 2)
    assert (rows[:, 1:, 0] - rows[:, :-1, 0]).sub(pitch).abs().max() < 1e-6
    assert (rows[1:, 0, 1] - rows[:-1, 0, 1]).div(pitch).sub(math.sqrt(3) / 2).abs().max() < 1e-6
    assert ((rows[1:, 0, 0] - rows[:-1, 0, 0]).abs() / pitch - 0.5).abs().max() < 1e-6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(2,), (0, 2), (0, 3, 2), (5, 2), (2, 3, 4, 2)], ids=str)
def test_any_leading_shape(name: str, shape: tuple[int, ...]) -> None:
    tiling = build_tiling(name, 7, 6)
    pairs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    points, indices = tiling.nearest(pairs.requires_grad_())
    assert not points.requires_grad
    assert points.shape == shape
    assert indices.shape == shape[:-1]
    if pairs.numel():
        assert_nearest(tiling, pairs.detach())


@pytest.mark.parametrize("name", NAMES)
def test_input_is_left_alone_and_layout_does_not_matter(name: str) -> None:
    tiling = build_tiling(name, 7, 8)
    pairs = torch.randn(50, 4, 2, generator=torch.Generator().manual_seed(2)) * 4
    for view in (pairs, pairs.transpose(0, 1), pairs[:1, :1], pairs.mT.contiguous().mT, pairs[::3, 1]):
        before = view.clone()
        assert_nearest(tiling, view)
        assert torch.equal(view, before)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_join_without_a_seam(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiling = build_tiling(name, 9, 7)
    pairs = torch.randn(1001, 2, generator=torch.Generator().manual_seed(4)) * 3
    whole = tiling.nearest(pairs)
    monkeypatch.setattr(tilings, "BLOCK", 100)
    parts = tiling.nearest(pairs)
    assert torch.equal(parts[0], whole[0])
    assert torch.equal(parts[1], whole[1])


@pytest.mark.parametrize("name", NAMES)
def test_infinite_and_missing_coordinates(name: str) -> None:
    tiling = build_tiling(name, 7, 9)
    values = [0.3, math.inf, -math.inf]
    infinite = torch.tensor([[x, y] for x in values for y in values if math.inf in (abs(x), abs(y))])
    points, indices = tiling.nearest(infinite)
    assert torch.equal(points, tiling.points[indices])
    missing = torch.tensor([[math.nan, 0.0], [0.0, math.nan], [math.nan, math.nan]])
    points, indices = tiling.nearest(missing)
    assert points.isnan().any(-1).all()
    assert indices.tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_moves_with_the_module(name: str) -> None:
    plain = build_tiling(name, 7, 8)
    assert plain.state_dict() == {}
    pairs = torch.randn(2000, 2, generator=torch.Generator().manual_seed(6)) * 3
    for dtype in (torch.float64, torch.bfloat16):
        moved = build_tiling(name, 7, 8).to(dtype)
        assert moved.points.dtype == dtype
        points, indices = moved.nearest(pairs)
        assert torch.equal(indices, plain.nearest(pairs)[1])
        assert torch.equal(points, moved.points[indices].to(pairs.dtype))
    assert_nearest(build_tiling(name, 7, 8).to(torch.float64), pairs.double())


@pytest.mark.parametrize("name", NAMES)
def test_meta_device(name: str) -> None:
    with torch.device("meta"):
        tiling = build_tiling(name, 7, 8)
    assert tiling.points.is_meta
    assert tiling.num_points == build_tiling(name, 7, 8).num_points
    points, indices = tiling.nearest(torch.empty(4, 3, 2, device="meta"))
    assert (points.shape, indices.shape) == ((4, 3, 2), (4, 3))
    assert (points.device.type, indices.device.type) == ("meta", "meta")
    # Fresh memory after `to_empty` holds anything: the points must have been written again.
    assert torch.equal(torch.nn.Sequential(tiling).to_empty(device="cpu")[0].points, build_tiling(name, 7, 8).points)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", NAMES)
def test_gpu_gives_the_same_codes(name: str) -> None:
    tiling = build_tiling(name, 9, 8)
    pairs = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(7)) * 4
    clear = brute_force(tiling, pairs)[1] > MARGIN
    expected = tiling.nearest(pairs)[1]
    points, indices = tiling.cuda().nearest(pairs.cuda())
    assert torch.equal(indices.cpu()[clear], expected[clear])
    assert torch.equal(points, tiling.points[indices])


@pytest.mark.parametrize("levels", [(1, 5), (5, 0), (-3, 3), (2.5, 3), (True, 3), ("7", 7), (2**11, 2**10)], ids=str)
def test_levels_out_of_range(levels: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"^levels"):
        build_tiling("rhombic", *levels)


def test_levels_of_numpy_are_integers_too() -> None:
    levels = build_tiling("rhombic", np.int64(7), np.int32(5)).levels
    assert levels == (7, 5)
    assert [type(level) for level in levels] == [int, int]


def test_unknown_name_suggests_a_close_one() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'rhombic'"):
        build_tiling("rombic", 7, 7)


def test_wrong_pairs() -> None:
    tiling = build_tiling("rectangular", 7, 7)
    with pytest.raises(ValueError, match=r"\(\.\.\., 2\), got \(4, 3\)"):
        tiling.nearest(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"got \(\)"):
        tiling.nearest(torch.tensor(1.0))
    for dtype in (torch.float16, torch.int64):
        with pytest.raises(TypeError, match=str(dtype)):
            tiling.nearest(torch.zeros(4, 2, dtype=dtype))
