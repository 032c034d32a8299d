"""Usage maps, tilings and looks: cells are those of nearest(), counts stand on their own points, greys differ."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb

from evalkit.figures.cells import bounding_box, clipped_cells
from evalkit.figures.curves import running_mean
from evalkit.figures.looks import CODEC_COLORS, HATCHES, LINES, MARKERS, NothingToDraw, looks, spread
from evalkit.figures.rates import cover_levels
from evalkit.figures.usage import code_usage, grids_of
from evalkit.plots.lattices import plot_tilings
from evalkit.plots.usage import plot_usage_curves, plot_usage_map
from q2d2.tilings import TILINGS, build_tiling
from tests.synthetic_run import (
    CODECS,
    assert_legible,
    make_codes,
    make_systems,
)


@pytest.fixture(scope="module")
def systems() -> pd.DataFrame:
    return make_systems()


@pytest.fixture(scope="module")
def codes() -> pd.DataFrame:
    return make_codes()


def lightness(color: str) -> float:
    """CIE L*."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return 116 * float(np.dot(linear, [0.2126, 0.7152, 0.0722])) ** (1 / 3) - 16


def q2d2_system(name: str, tiling: str, levels: list[int]) -> pd.DataFrame:
    spec = json.dumps({"name": "q2d2", "tiling": tiling, "levels": levels})
    return pd.DataFrame({"system": [name], "bottleneck": [spec]})


def test_usage_map_puts_each_count_on_its_own_point(systems: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    tiling = build_tiling("rhombic", 5, 5)
    count = np.zeros(tiling.num_points, dtype=int)
    count[[3, 17, 30]] = [10, 40, 50]
    codes = pd.DataFrame({"system": "r", "quantizer": 0, "code": np.arange(tiling.num_points), "count": count})
    (usage,) = code_usage(codes.sample(frac=1, random_state=0), q2d2_system("r", "rhombic", [5, 5]))
    figure = plot_usage_map(usage)
    texts = assert_legible(figure, monkeypatch)
    assert any("3 of 41 used" in text for text in texts)
    assert "never used" in texts
    used, unused = (part for part in figure.axes[0].collections if isinstance(part, PolyCollection))
    np.testing.assert_allclose(np.asarray(used.get_array()), np.array([10, 40, 50]) / 100 * 41)
    for cell, code in zip(used.get_paths(), (3, 17, 30), strict=True):
        assert cell.contains_point(tiling.points[code].numpy())
    assert len(unused.get_paths()) == 38
    assert unused.get_hatch()


def test_codes_of_another_tiling_are_on_no_map(codes: pd.DataFrame) -> None:
    (usage,) = code_usage(codes, q2d2_system("rhombic", "rhombic", [5, 5] * 3))
    with pytest.raises(NothingToDraw, match="on no tilings"):
        plot_usage_map(usage)


def test_usage_figures_are_legible(codes: pd.DataFrame, systems: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    (mapped,) = code_usage(codes, q2d2_system("hexagonal", "hexagonal", [9] * 6))
    assert_legible(plot_usage_map(mapped), monkeypatch)
    curves = plot_usage_curves([usage for usage in code_usage(codes, systems) if not usage.has_grids])
    assert_legible(curves, monkeypatch)
    assert [axes.get_title().split(":")[0] for axes in curves.axes] == ["fsq", "vq", "rvq"]
    shares = curves.axes[1].lines[0].get_ydata()
    counts = codes.loc[codes["system"] == "vq", "count"]
    assert len(shares) == (counts > 0).sum()
    assert shares[0] == pytest.approx(counts.max() / counts.sum())


def test_specs_name_the_grids_of_each_pair() -> None:
    spec = json.dumps({"name": "q2d2", "tiling": "rectangular", "levels": [9, 7, 5, 5]})
    assert [(grid.levels, len(grid.points)) for grid in grids_of(spec)] == [((9, 7), 63), ((5, 5), 25)]
    (grid, *_) = grids_of(json.dumps({"name": "q2d2"}))  # options left out
    assert (grid.levels, len(grid.points)) == ((9, 9), 145)
    for other in (json.dumps({"name": "fsq", "levels": [5]}), None, math.nan):
        assert grids_of(other) == []


@pytest.mark.parametrize("name", TILINGS)
@pytest.mark.parametrize("levels", [(7, 7), (4, 6)])
def test_cells_fill_the_box_and_agree_with_nearest(name: str, levels: tuple[int, int]) -> None:
    tiling = build_tiling(name, *levels)
    points = tiling.points.double().numpy()
    box = bounding_box(points)
    cells = clipped_cells(points, box)
    areas = []
    for code, cell in enumerate(cells):
        x, y = cell.T
        areas.append(0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))
        # A little inside each corner the nearest point is the cell's own.
        inner = tiling.points.new_tensor(points[code] + 0.98 * (cell - points[code]))
        assert (tiling.nearest(inner)[1] == code).all()
    assert sum(areas) == pytest.approx((box[1] - box[0]) * (box[3] - box[2]))


def test_cells_refuse_points_outside_the_box() -> None:
    with pytest.raises(ValueError, match="outside the box"):
        clipped_cells(np.array([[0.0, 0.0], [2.0, 0.0]]), (-1.0, 1.0, -1.0, 1.0))


def test_tilings_figure_states_points_and_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = assert_legible(plot_tilings((7, 7)), monkeypatch)
    assert "rhombic\n85 points, 6.41 bits" in texts
    assert "rectangular\n49 points, 5.61 bits" in texts
    assert len([text for text in texts if "points" in text]) == len(TILINGS)


def test_running_mean_keeps_length_and_level() -> None:
    values = pd.Series(np.tile([0.0, 2.0], 100))
    smooth = running_mean(values)
    assert len(smooth) == 200
    assert smooth.iloc[20:-20].between(0.8, 1.2).all()


def test_systems_differ_in_grey_and_beyond_colour(systems: pd.DataFrame) -> None:
    levels = sorted(lightness(color) for color in CODEC_COLORS)
    assert min(np.diff(levels)) > 6
    assert levels[-1] < 85  # still visible on white
    found = looks(systems)
    codecs = [found[name] for name in CODECS]
    for attribute in ("color", "marker", "line", "hatch"):
        assert len({getattr(look, attribute) for look in codecs}) == len(codecs), attribute
    assert len(set(LINES)) == len(LINES)
    assert len(set(MARKERS)) == len(MARKERS)
    assert len(set(HATCHES)) == len(HATCHES)


def test_families_differ_in_colour_and_twenty_series_in_their_look() -> None:
    families = [f"family {number % 8}" for number in range(20)]
    rows = pd.DataFrame({"system": [f"series {number}" for number in range(20)], "kind": "codec", "family": families})
    found = looks(rows)
    assert len(set(found.values())) == 20
    colors = {
        family: {found[name].color for name in rows.loc[rows["family"] == family, "system"]} for family in families
    }
    assert all(len(each) == 1 for each in colors.values())
    assert len(set.union(*colors.values())) == 8


def test_points_that_cover_one_another_are_at_different_levels() -> None:
    places = np.array([(0.0, 0.0), (0.0, 0.0), (1.0, 1.0), (50.0, 0.0), (0.0, 50.0)])
    assert cover_levels(places, 5.0) == [0, 1, 2, 0, 0]


def test_spread_separates_labels_and_keeps_their_order() -> None:
    placed = spread([0.5, 0.52, 0.1, 0.51], 0.1, 0.0, 1.0)
    assert min(np.diff(np.sort(placed))) >= 0.1 - 1e-9
    assert list(np.argsort(placed)) == [2, 0, 3, 1]
    np.testing.assert_allclose(spread([0.2, 0.9], 0.1, 0.0, 1.0), [0.2, 0.9])
    crowded = spread([0.98, 0.99, 1.0], 0.1, 0.0, 1.0)
    assert crowded.max() <= 1.0
    assert min(np.diff(crowded)) >= 0.1 - 1e-9
    np.testing.assert_allclose(spread([0.5] * 5, 0.5, 0.0, 1.0), [0, 0.25, 0.5, 0.75, 1.0])


def test_a_collapsed_codebook_is_a_point() -> None:
    codes = pd.DataFrame({"system": "vq", "quantizer": 0, "code": range(4), "count": [9, 0, 0, 0]})
    systems = pd.DataFrame({"system": ["vq"], "kind": ["codec"], "bottleneck": [None]})
    (axes,) = plot_usage_curves(code_usage(codes, systems)).axes
    assert axes.lines[0].get_marker() == "o"
    assert axes.lines[0].get_xydata().tolist() == [[1, 1]]
