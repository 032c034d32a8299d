"""Lattices in a box: geometry, numbering, and the closed-form nearest point against brute force in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from q2d2 import lattices
from q2d2.lattices import LATTICES, Box, Lattice
from q2d2.registry import UnknownName

CASES = [("a2", 3), ("a2", 4), ("a2", 8), ("a2", 9), ("d4", 2), ("d4", 3), ("d4", 4), ("d4", 5), ("e8", 2), ("e8", 3)]
every_case = pytest.mark.parametrize(("name", "levels"), CASES, ids=str)
MARGIN = 1e-6


def enumerated(name: str, levels: int) -> Tensor:
    """All points of the lattice in the box |x| <= (levels-1)/2, from its definition, float64, in any order."""
    half = (levels - 1) / 2
    if name == "a2":
        rows = range(-2 * levels, 2 * levels + 1)
        found = [(x / 2, y * math.sqrt(3) / 2) for x in rows for y in rows if (x + y) % 2 == 0]
        return torch.tensor([p for p in found if max(map(abs, p)) <= half], dtype=torch.float64)
    channels = {"d4": 4, "e8": 8}[name]
    # d4 keeps to the coset whose axis has `levels` values, e8 has both.
    counts = [levels] if name == "d4" else [levels, levels - 1]
    grids = []
    for count in counts:
        axis = [i - (count - 1) / 2 for i in range(count)]
        grids.append(torch.tensor(list(itertools.product(axis, repeat=channels)), dtype=torch.float64))
    points = torch.cat(grids)
    return points[points.sum(-1) % 2 == 0]


def assert_nearest(name: str, levels: int, groups: Tensor) -> None:
    """Against brute force over the points of `enumerated`; where two are about as near, ours must be as near."""
    lattice, every = Lattice(name, levels), enumerated(name, levels)
    points, codes = lattice.nearest(groups)
    assert points.shape == groups.shape
    assert points.dtype == groups.dtype
    assert codes.dtype == torch.int64
    assert torch.equal(points, lattice.points(codes, groups.dtype))
    for flat, chosen in zip(groups.double().split(5000), points.double().split(5000), strict=True):
        # |q-p|^2 - |q|^2, which keeps its digits far outside the box.
        score = every.square().sum(-1) - 2 * flat @ every.T
        best = every[score.argmin(-1)]
        farther = ((best - chosen) * (2 * flat - best - chosen)).sum(-1)
        two = score.topk(2, dim=-1, largest=False).values
        distance = torch.linalg.vector_norm(flat - best, dim=-1).clamp(min=1.0)
        clear = (two[:, 1] - two[:, 0]) / (2 * distance) > MARGIN
        torch.testing.assert_close(chosen[clear], best[clear], atol=1e-5, rtol=0)
        assert (farther <= 2 * MARGIN * distance).all()


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_nearest_equals_brute_force(name: str, levels: int, dtype: torch.dtype) -> None:
    """Random groups from well inside to twice as far as the border, on it, and far outside."""
    generator = torch.Generator().manual_seed(3)
    channels = Lattice(name, levels).channels
    groups = (torch.rand(10_000, channels, generator=generator, dtype=dtype) - 0.5) * levels * 2
    assert_nearest(name, levels, groups)
    border = (levels - 1) / 2
    assert_nearest(name, levels, groups[:4000].clamp(-border, border))
    for radius in (20.0, 1e3, 1e6):
        assert_nearest(name, levels, groups[:1000] * radius)


def test_nearest_with_more_levels_of_e8() -> None:
    generator = torch.Generator().manual_seed(4)
    assert_nearest("e8", 4, (torch.rand(400, 8, generator=generator, dtype=torch.float64) - 0.5) * 7)


@every_case
def test_nearest_on_borders_of_cells(name: str, levels: int) -> None:
    every = enumerated(name, levels)
    generator = torch.Generator().manual_seed(5)
    near = every[torch.randint(len(every), (2000,), generator=generator)]
    apart = near[torch.randperm(2000, generator=generator)] - near
    for epsilon in (0.0, 1e-12, 1e-5, -1e-5):
        assert_nearest(name, levels, near + (0.5 + epsilon) * apart)


@given(
    case=st.sampled_from(CASES),
    values=st.lists(st.floats(-1e7, 1e7, width=32) | st.integers(-6, 6).map(lambda k: k / 2), min_size=8, max_size=8),
)
def test_nearest_of_any_group(case: tuple[str, int], values: list[float]) -> None:
    channels = Lattice(*case).channels
    for dtype in (torch.float32, torch.float64):
        assert_nearest(*case, torch.tensor([values[:channels]], dtype=dtype))


@every_case
def test_points_are_those_of_the_definition_each_once(name: str, levels: int) -> None:
    lattice, expected = Lattice(name, levels), enumerated(name, levels)
    codes = torch.arange(lattice.num_points)
    points = lattice.points(codes, torch.float64)
    assert lattice.num_points == len(expected)
    assert lattice.bits == pytest.approx(math.log2(len(expected)))
    ordered = [set(map(tuple, (each * 1e6).round().tolist())) for each in (points, expected)]
    assert ordered[0] == ordered[1]
    assert torch.equal(lattice.nearest(points)[1], codes)
    assert torch.equal(lattice.nearest(points.float())[1], codes)
    assert (points.abs() <= (levels - 1) / 2).all()
    assert points[:, 0].max() == (levels - 1) / 2
    assert {tuple(p) for p in (-points).tolist()} == {tuple((p + 0.0).tolist()) for p in points}
    assert (points == 0).all(dim=-1).any() == (name != "d4" or levels % 2 == 1)


@pytest.mark.parametrize(
    ("name", "levels", "count"),
    [
        ("a2", 3, 7),  # a point and its six neighbours
        ("a2", 7, 3 * 7 + 4 * 6),
        ("d4", 7, (7**4 + 1) // 2),
        ("d4", 8, 8**4 // 2),
        ("e8", 3, (3**8 + 1) // 2 + 2**8 // 2),
        ("e8", 9, (9**8 + 1) // 2 + 8**8 // 2),
        ("e8", 10, (9**8 + 1) // 2 + 10**8 // 2),
    ],
)
def test_number_of_points(name: str, levels: int, count: int) -> None:
    assert Lattice(name, levels).num_points == count


@pytest.mark.parametrize(
    ("name", "levels"), [("e8", 9), ("e8", 10), ("e8", 233), ("e8", 234), ("d4", 55_108), ("a2", 2**20)]
)
def test_codes_of_huge_boxes_are_a_bijection(name: str, levels: int) -> None:
    lattice = Lattice(name, levels)
    edges = [0, 1, lattice.num_points - 1, *(box.num_points + i for box in lattice.boxes[:1] for i in (-1, 0))]
    drawn = np.random.default_rng(6).integers(0, lattice.num_points, 5000)
    codes = torch.cat([torch.tensor([code for code in edges if code < lattice.num_points]), torch.from_numpy(drawn)])
    points = lattice.points(codes)
    assert (points.abs() <= (levels - 1) / 2).all()
    if name != "a2":  # there a step of a row is finer than float32 at half a million
        found, again = lattice.nearest(points)
        assert torch.equal(again, codes)
        assert torch.equal(found, points)
    assert torch.equal(lattice.nearest(lattice.points(codes, torch.float64))[1], codes)


@pytest.mark.parametrize(
    ("name", "norm", "count"), [("a2", 1.0, 6), ("d4", 2.0, 24), ("e8", 2.0, 240)], ids=["a2", "d4", "e8"]
)
def test_kissing_numbers(name: str, norm: float, count: int) -> None:
    """Points nearest to the origin: 6, 24 and 240 (Conway and Sloane, Sphere Packings, table 1.2)."""
    lattice = Lattice(name, 5 if name != "e8" else 3)
    squares = lattice.points(torch.arange(lattice.num_points), torch.float64).square().sum(-1)
    assert squares[squares > 0].min().item() == pytest.approx(norm)
    assert int((squares < norm + 1e-9).sum()) == count + 1


def spread_over(period: tuple[float, ...]) -> Tensor:
    """131,072 groups spread evenly over one period of a lattice."""
    sobol = torch.quasirandom.SobolEngine(len(period), scramble=True, seed=8)
    return (sobol.draw(2**17, dtype=torch.float64) - 0.5) * torch.tensor(period, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "period", "volume", "moment"),
    [
        ("a2", (1.0, math.sqrt(3)), math.sqrt(3) / 2, 5 / (36 * math.sqrt(3))),  # 0.0802
        ("d4", (2.0,) * 4, 2.0, 13 / (120 * math.sqrt(2))),  # 0.0766
        ("e8", (2.0,) * 8, 1.0, 929 / 12960),  # 0.0717
    ],
    ids=["a2", "d4", "e8"],
)
def test_second_moments(name: str, period: tuple[float, ...], volume: float, moment: float) -> None:
    """Normalized second moments as in Conway and Sloane, Sphere Packings, table 2.3: far from the border of the box."""
    groups = spread_over(period)
    error = groups - Lattice(name, 9).nearest(groups)[0]
    measured = error.square().mean().item() / volume ** (2 / len(period))
    assert measured == pytest.approx(moment, rel=1e-3)


def test_second_moment_of_a_plain_box_is_that_of_rounding() -> None:
    box = Box((9, 8, 5), (1.0, 2.0, 0.5))
    values = spread_over((1.0, 2.0, 0.5)).T
    scaled = (values - box.place(box.snap(values))) / torch.tensor(box.pitches, dtype=torch.float64)[:, None]
    assert scaled.square().mean().item() == pytest.approx(1 / 12, rel=1e-3)


@pytest.mark.parametrize("name", LATTICES)
@pytest.mark.parametrize("lead", [(), (0,), (0, 3), (5,), (2, 3, 4)], ids=str)
def test_any_leading_shape_and_layout(name: str, lead: tuple[int, ...]) -> None:
    lattice = Lattice(name, 5)
    groups = 3 * torch.randn(*lead, lattice.channels, generator=torch.Generator().manual_seed(1))
    before = groups.clone()
    points, codes = lattice.nearest(groups.requires_grad_())
    assert not points.requires_grad
    assert (points.shape, codes.shape) == (groups.shape, lead)
    assert torch.equal(groups.detach(), before)
    if lead:
        swapped = lattice.nearest(groups.detach().transpose(0, -2))
        assert torch.equal(swapped[0], points.transpose(0, -2))
        assert torch.equal(lattice.points(swapped[1]), swapped[0])


@pytest.mark.parametrize("name", LATTICES)
def test_blocks_join_without_a_seam(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lattice = Lattice(name, 6)
    groups = 2 * torch.randn(1001, lattice.channels, generator=torch.Generator().manual_seed(4))
    whole = lattice.nearest(groups)
    monkeypatch.setattr(lattices, "BLOCK", 100)
    for one, other in zip(whole, lattice.nearest(groups), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", LATTICES)
@pytest.mark.parametrize("levels", [5, 6])
def test_infinite_huge_and_missing_channels(name: str, levels: int) -> None:
    lattice = Lattice(name, levels)
    largest = torch.finfo(torch.float32).max
    odd = [math.inf, -math.inf, largest, -largest, 0.3]
    groups = torch.tensor(list(itertools.product(odd, repeat=2))).repeat(1, lattice.channels // 2)
    points, codes = lattice.nearest(groups)
    assert codes.min() >= 0
    assert codes.max() < lattice.num_points
    assert torch.equal(points, lattice.points(codes))
    for channel in range(lattice.channels):
        groups = torch.full((1, lattice.channels), 0.4)
        groups[0, channel] = math.nan
        points, codes = lattice.nearest(groups)
        assert points.isnan().any()
        assert 0 <= codes.item() < lattice.num_points


@pytest.mark.parametrize("name", LATTICES)
def test_largest_finite_numbers_go_where_their_direction_points(name: str) -> None:
    largest = torch.finfo(torch.float32).max
    lattice, every = Lattice(name, 3), enumerated(name, 3)
    directions = torch.rand(50, lattice.channels, generator=torch.Generator().manual_seed(7)) * 2 - 1
    score = directions.double() @ every.T
    two = score.topk(2, dim=-1).values
    clear = two[:, 0] - two[:, 1] > 1e-4
    assert clear.sum() > 25
    found = lattice.nearest(directions * largest)[0].double()
    torch.testing.assert_close(found[clear], every[score.argmax(-1)][clear], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", LATTICES)
def test_meta_device(name: str) -> None:
    lattice = Lattice(name, 5)
    points, codes = lattice.nearest(torch.empty(4, 3, lattice.channels, device="meta"))
    assert (points.shape, codes.shape) == ((4, 3, lattice.channels), (4, 3))
    assert lattice.points(codes).device.type == points.device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", LATTICES)
def test_gpu_gives_the_same_codes(name: str) -> None:
    lattice = Lattice(name, 6)
    groups = 2 * torch.randn(20_000, lattice.channels, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    expected = lattice.nearest(groups)
    found = lattice.nearest(groups.cuda())
    assert torch.equal(found[1].cpu(), expected[1])
    assert torch.equal(lattice.points(found[1]).cpu(), lattice.points(expected[1]))


@pytest.mark.parametrize(
    ("name", "levels"), [("a2", 2), ("d4", 1), ("e8", 0), ("d4", 2.5), ("d4", True), ("d4", "7"), ("a2", 2**20 + 1)]
)
def test_levels_out_of_range(name: str, levels: object) -> None:
    with pytest.raises(ValueError, match=rf"^levels of lattice {name} are integers in .*, got {levels!r}$"):
        Lattice(name, levels)  # type: ignore[arg-type]


def test_more_points_than_an_int64_numbers() -> None:
    for name, most in (("e8", 234), ("d4", 55_108)):
        with pytest.raises(ValueError, match=f"lattice {name}: more points at {most + 1} levels .*; at most {most}"):
            Lattice(name, most + 1)
        assert Lattice(name, np.int64(most)).num_points <= 2**63


def test_unknown_name_suggests_a_close_one() -> None:
    with pytest.raises(UnknownName, match=r"unknown lattice 'e6'.*Known: a2, d4, e8"):
        Lattice("e6", 5)


def test_wrong_groups_and_codes() -> None:
    lattice = Lattice("d4", 5)
    with pytest.raises(ValueError, match=r"\(\.\.\., 4\), got \(4, 3\)"):
        lattice.nearest(torch.zeros(4, 3))
    for dtype in (torch.float16, torch.int64):
        with pytest.raises(TypeError, match=str(dtype)):
            lattice.nearest(torch.zeros(4, 4, dtype=dtype))
    for code in (-1, 313):
        with pytest.raises(IndexError, match=rf"codes {code}\.\.{code} are outside 0\.\.312"):
            lattice.points(torch.tensor([code]))
