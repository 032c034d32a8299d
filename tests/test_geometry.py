"""Tilings without training: known second moments, exact integrals against drawn samples, bounds, and the command."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.image import imread
from safetensors.numpy import save_file

from evalkit.datasets import load_corpus, read_audio
from evalkit.geometry import sources
from evalkit.geometry.drawing import draw, plot_error
from evalkit.geometry.latents import LatentsError, read_latents, record_latents
from evalkit.geometry.partition import SQUARE, clip, moments, partition
from evalkit.geometry.second_moment import OPTIMUM_2D, SPHERE_BOUND, lattice_moment, second_moment
from evalkit.geometry.sources import GaussianTanh, Recorded, Source, SourceError, Uniform, double_exponential
from evalkit.geometry.survey import RATES, GeometryError, Survey, error_at, normalized, survey
from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import save_codec
from q2d2.codec import Codec, codec_config
from q2d2.tilings import TILINGS, build_tiling
from tests.command import evalkit

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "geometry.md").read_text(encoding="utf-8")
SOURCES: list[Source] = [Uniform(), GaussianTanh(0.25), GaussianTanh(1.0), GaussianTanh(4.0)]
BY_NAME = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)


@pytest.fixture(scope="module")
def measured() -> Survey:
    pairs = np.tanh(0.6 * np.random.default_rng(0).standard_normal((4000, 2)))
    return survey(list(TILINGS), [5, 6], [Uniform(), GaussianTanh(0.5), Recorded(pairs)])


def drawn(source: Source, count: int) -> np.ndarray:
    """Pairs (count, 2) of a source, drawn."""
    generator = np.random.default_rng(1)
    if isinstance(source, GaussianTanh):
        return np.tanh(source.sigma * generator.standard_normal((count, 2)))
    return generator.uniform(-1, 1, (count, 2))


def test_second_moments_are_the_known_ones() -> None:
    known = {"rectangular": 1 / 12, "rhombic": 1 / 12, "hexagonal": 31 / 384, "hexagonal-regular": OPTIMUM_2D}
    for name, exact in known.items():
        assert second_moment(name) == pytest.approx(exact, abs=1e-12)
    assert pytest.approx(0.0802, abs=1e-4) == OPTIMUM_2D
    assert min(map(second_moment, TILINGS)) >= OPTIMUM_2D - 1e-12  # nothing in the plane is better


@pytest.mark.parametrize(("name", "known"), [("a2", OPTIMUM_2D), ("d4", 0.076603), ("e8", 0.071682)])
def test_second_moments_of_lattices_are_the_published_ones(name: str, known: float) -> None:
    """Conway and Sloane, table 2.3."""
    moment = lattice_moment(name)
    assert moment.standard_error < 2e-4
    assert abs(moment.value - known) < 4 * moment.standard_error + 1e-6
    assert lattice_moment(name) == moment


@pytest.mark.parametrize("levels", [(2, 2), (5, 5), (6, 9)], ids=str)
@pytest.mark.parametrize("name", TILINGS)
def test_cells_fill_the_square_and_hold_what_snaps_to_their_point(name: str, levels: tuple[int, int]) -> None:
    cells = partition(build_tiling(name, *levels))
    areas, _ = moments(cells.points, cells.cells)
    assert areas.sum() == pytest.approx(4, abs=1e-12)
    half = torch.tensor(cells.tiling.half_span, dtype=torch.float64)
    for code, cell in enumerate(cells.cells):
        assert np.abs(cell).max() <= 1
        inside = torch.from_numpy(cell.mean(axis=0) + 0.99 * (cell - cell.mean(axis=0)))
        assert set(cells.tiling.nearest(inside * half)[1].tolist()) == {code}


def test_border_codes_are_those_whose_cells_have_a_side_on_the_square() -> None:
    assert partition(build_tiling("rectangular", 7, 7)).border.sum() == 4 * 6
    rhombic = partition(build_tiling("rhombic", 7, 7))
    assert rhombic.border[:49].sum() == 4 * 6
    assert not rhombic.border[49:].any()  # the centres' cells only touch it with a corner


def test_clip_keeps_what_is_inside_and_only_that() -> None:
    corner = np.array([[0.5, 0.5], [2.0, 0.5], [2.0, 2.0], [0.5, 2.0]])
    assert moments(np.zeros((1, 2)), [clip(corner, SQUARE)])[0] == pytest.approx(0.25)
    assert clip(corner + 3, SQUARE).shape == (0, 2)
    np.testing.assert_array_equal(clip(corner / 4, SQUARE), corner / 4)


@pytest.mark.parametrize("name", TILINGS)
def test_uniform_integrals_are_the_closed_form_of_polygons(name: str) -> None:
    cells = partition(build_tiling(name, 7, 7))
    areas, integrals = moments(cells.points, cells.cells)
    coding = Uniform().code(cells)
    np.testing.assert_allclose(coding.probability, areas / 4, atol=1e-13)
    assert coding.mse == pytest.approx(integrals.sum() / 8, rel=1e-12)
    if name == "rectangular":  # a scalar quantizer of steps 1/3, its outer cells halved: step^2 / 12 in all of them
        assert coding.mse == pytest.approx((1 / 3) ** 2 / 12, rel=1e-12)


@BY_NAME
@pytest.mark.parametrize("name", TILINGS)
def test_integrals_agree_with_drawn_samples(name: str, source: Source) -> None:
    cells = partition(build_tiling(name, 7, 7))
    count = 100_000
    exact, sampled = source.code(cells), Recorded(drawn(source, count)).code(cells)
    assert exact.probability.sum() == pytest.approx(1, abs=1e-12)
    spread = np.sqrt(exact.probability * (1 - exact.probability) / count)
    assert (np.abs(exact.probability - sampled.probability) <= 5 * spread + 1e-6).all()
    assert exact.mse == pytest.approx(sampled.mse, rel=0.01)
    assert exact.entropy == pytest.approx(sampled.entropy, abs=0.01)
    assert source.variance == pytest.approx(drawn(source, count).var(), rel=0.01)


@BY_NAME
def test_more_nodes_change_nothing(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TILINGS:
        cells = partition(build_tiling(name, 9, 9))
        coarse = source.code(cells)
        with monkeypatch.context() as patch:
            patch.setattr(sources, "NODES", 400)
            fine = source.code(cells)
        assert coarse.mse == pytest.approx(fine.mse, rel=1e-9)
        np.testing.assert_allclose(coarse.probability, fine.probability, atol=1e-10)
    assert double_exponential(sources.NODES)[1].sum() == pytest.approx(2, abs=1e-12)


@pytest.mark.parametrize("source", SOURCES[:3], ids=lambda source: source.name)
def test_fine_tilings_come_to_their_second_moment_at_equal_entropy(source: Source) -> None:
    """The differential entropy is right: Gish and Pierce's asymptote."""
    coding = source.code(partition(build_tiling("rectangular", 64, 64)))
    assert normalized(coding.mse, coding.entropy, source) == pytest.approx(1 / 12, rel=0.03)


def test_a_survey_has_every_row_and_the_rectangular_grid_to_compare_with(measured: Survey) -> None:
    listed = measured.rows[measured.rows["listed"]]
    assert len(listed) == 3 * len(TILINGS) * 2
    assert measured.levels == [5, 6]
    assert measured.codes.groupby(["source", "tiling", "level"])["probability"].sum().to_numpy() == pytest.approx(1)
    assert listed["points"].to_numpy() == pytest.approx(2 ** listed["bits"].to_numpy())
    assert listed.loc[listed["source"] == "recorded", "normalized_at_bits"].isna().all()
    assert (listed["entropy"] <= listed["bits"]).all()
    known = measured.rows[measured.rows["source"] != "recorded"]
    assert (known["normalized_at_entropy"] > SPHERE_BOUND).all()
    alone = survey(["rhombic"], [5, 6], measured.sources)
    assert alone.tilings == ["rhombic"]
    together = measured.gaps[measured.gaps["tiling"] == "rhombic"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.gaps, together)


def test_gains_are_read_off_the_curves_at_the_rectangular_grids_rate(measured: Survey) -> None:
    gap = measured.gaps.set_index(["source", "tiling", "rate", "level"])
    own = measured.rows[(measured.rows["source"] == "uniform") & (measured.rows["tiling"] == "hexagonal")]
    assert gap.loc[("uniform", "hexagonal", "bits", 5), "value"] == pytest.approx(math.log2(25))
    rectangular = 1 / 4 / 12 / 4 * 4  # step 1/2: step^2 / 12
    expected = 10 * math.log10(rectangular / own.loc[own["level"] == 5, "mse"].item())
    assert gap.loc[("uniform", "hexagonal", "bits", 5), "gain_db"] == pytest.approx(expected)

    curve = pd.DataFrame({"bits": [4.0, 2.0], "mse": [0.01, 0.04]})
    assert error_at(curve, "bits", 3.0) == pytest.approx(0.02)
    assert math.isnan(error_at(curve, "bits", 4.5))


def test_figures_show_every_tiling_and_are_equal_in_every_run(measured: Survey, tmp_path: Path) -> None:
    paths = draw(measured, tmp_path / "a")
    stems = [*(f"codes-{name}" for name in TILINGS), "error-bits", "error-entropy"]
    assert [path.name for path in paths] == [f"{stem}.{suffix}" for stem in stems for suffix in ("svg", "png")]
    for path in paths:
        if path.suffix == ".png":
            assert imread(path)[..., :3].std() > 0.05, f"{path.name} is blank"
    panels = plot_error(measured, "entropy").axes
    assert [axes.get_title() for axes in panels] == ["uniform", "gaussian-tanh-0.5", "recorded"]
    for axes in panels:
        lines = [line for line in axes.lines if len(line.get_xdata()) > 2]  # type: ignore[arg-type]
        assert len(lines) == len(TILINGS)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(GeometryError, match=r"unknown tiling 'rombic'\. Did you mean 'rhombic'"):
        survey(["rombic"], [5], [Uniform()])
    with pytest.raises(GeometryError, match="level 65: expected 2 to 64"):
        survey(["rhombic"], [65], [Uniform()])
    with pytest.raises(GeometryError, match="name a tiling and a level"):
        survey(["rhombic"], [], [Uniform()])
    with pytest.raises(
        GeometryError, match="recorded: every pair is a point of rectangular 2 x 2: record latents before"
    ):
        survey(["rectangular"], [2], [Recorded(np.array([[1.0, 1.0], [-1.0, 1.0]]))])
    for sigma in (0.01, 5.0, math.nan):
        with pytest.raises(SourceError, match=r"expected a standard deviation from 0.05 to 4"):
            GaussianTanh(sigma)


def test_recorded_latents_give_the_codes_of_the_codec(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = codec_config("tiny", num_filters=2, dimension=8, lstm_layers=1, decoder_dim=64, decoder_intermediate=64)
    codec = Codec(config, build_bottleneck("q2d2", 8, tiling="rhombic", levels=[5, 5, 7, 7])).eval()
    utterances = load_corpus("sample", "test").utterances[:2]
    audio = [torch.from_numpy(read_audio(each.path)[0])[None] for each in utterances]  # at 16 kHz, the codec's rate
    with torch.no_grad():
        codec.bottleneck.fit(codec.latents(audio[0]))  # random weights would keep to the middle
    save_codec(codec, tmp_path / "codec")
    told: list[tuple[int, int]] = []
    target = tmp_path / "latents.safetensors"
    paths = [each.path for each in utterances]
    frames = record_latents(tmp_path / "codec", paths, target, lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]
    pairs = read_latents(target)
    assert len(pairs) == 2 * frames

    codes = [codec.encode(each)[0] for each in audio]
    for pair, tiling in enumerate(codec.bottleneck.tilings):
        counts = torch.bincount(torch.cat([own[pair] for own in codes]), minlength=tiling.num_points)
        coding = Recorded(pairs.reshape(frames, 2, 2)[:, pair]).code(partition(build_tiling("rhombic", *tiling.levels)))
        np.testing.assert_allclose(coding.probability, counts / counts.sum(), atol=2.5 / frames)  # ties in float32
        assert (counts > 0).sum() > 4


def test_latents_that_do_not_fit_are_one_clear_line(tmp_path: Path) -> None:
    good = np.zeros((4, 2), np.float32)
    cases = {
        "more.npz": ({"a": good, "b": good}, "expected one array, or one called 'latents'; found a, b"),
        "odd.npz": ({"x": np.zeros((4, 3))}, r"latents \(4, 3\) of float64; expected floats"),
        "whole.npz": ({"x": np.zeros((4, 2), int)}, "of int64; expected floats"),
        "nan.safetensors": ({"x": good * np.nan}, "8 values are not finite"),
        "still.npz": ({"x": good}, "all 4 frames are equal"),
        "wide.safetensors": ({"x": good + 3}, "values up to 3; .* apply tanh"),
    }
    for name, (arrays, message) in cases.items():
        path = tmp_path / name
        save_file(arrays, path) if path.suffix == ".safetensors" else np.savez(path, **arrays)
        with pytest.raises(LatentsError, match=message):
            read_latents(path)
    np.savez(tmp_path / "good.npz", latents=np.eye(3, 4), other=good)
    assert read_latents(tmp_path / "good.npz").shape == (6, 2)
    for name in ("damaged.npz", "damaged.safetensors"):
        (tmp_path / name).write_bytes(b"no such thing")
        with pytest.raises(LatentsError, match="cannot be read as"):
            read_latents(tmp_path / name)
    with pytest.raises(LatentsError, match="there is no such file"):
        read_latents(tmp_path / "none.npz")
    with pytest.raises(LatentsError, match=r"read from .safetensors or .npz"):
        read_latents(tmp_path / "latents.csv")


def test_the_command_prints_the_tables_and_writes_the_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", np.tanh(np.random.default_rng(2).standard_normal((500, 4))))
    arguments = ["--levels", "5", "--tilings", "rhombic", "--sigma", "0.5", "--latents", tmp_path / "mine.npz"]
    first = evalkit("geometry", *arguments, "-o", tmp_path / "a")
    assert first.status == 0, first
    shown = ("rhombic", "lattice e8", "gaussian-tanh-0.5", "recorded", "0.083333", "5.358", "error-bits.png")
    assert [text for text in shown if text not in first.out] == []
    assert max(len(line) for line in first.out.partition("tables:")[0].splitlines()) <= 80
    assert "hexagonal" not in first.out
    rows = pd.read_csv(tmp_path / "a" / "errors.csv")
    assert rows.loc[rows["listed"], "source"].tolist() == ["uniform", "gaussian-tanh-0.5", "recorded"]

    evalkit("geometry", *arguments, "-o", tmp_path / "b")
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path.name


def test_the_command_refuses_in_one_line(tmp_path: Path) -> None:
    out = ("-o", tmp_path)
    assert "--levels 5,x: expected whole numbers" in evalkit("geometry", "--levels", "5,x", *out).complaint
    assert "Did you mean 'rhombic'" in evalkit("geometry", "--tilings", "rombic", *out).complaint
    assert "go together" in evalkit("geometry", "--record", "tiny", *out).complaint
    assert "exclude one another" in evalkit("geometry", "--record", "tiny", "--latents", "a.npz", *out).complaint
    complaint = evalkit("geometry", "--record", "tiny", "--data", tmp_path, *out).complaint
    assert complaint == "tiny: its bottleneck is 'unquantized'; latents are recorded from one of the kind q2d2"


def test_the_page_quotes_what_is_measured() -> None:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:2] == "| "]
    told = survey(list(TILINGS), [5, 7, 9, 11], [Uniform(), GaussianTanh(0.5), GaussianTanh(1.0)])
    quoted = {(line[0], int(line[1])): [float(cell) for cell in line[2:]] for line in lines if line[0] in TILINGS}
    columns = ["mse", "entropy", "border_share"]
    scales, half_digits = np.array([1000, 1, 100]), np.array([0, 0.0005, *(3 * [0.0005, 0.0005, 0.05])])
    groups = told.rows[told.rows["listed"]].groupby(["tiling", "level"])
    assert len(quoted) == len(groups)
    for key, own in groups:
        numbers = [*own.iloc[0][["points", "bits"]], *(own[columns].to_numpy() * scales).ravel()]
        assert (np.abs(np.array(numbers, float) - quoted[key]) <= half_digits + 1e-9).all(), key

    gains = told.gaps.groupby(["source", "rate", "level"], sort=False)
    assert [line for line in lines if line[1] in RATES and line[0] != "tiling"] == [
        [str(source), str(rate), f"{own['value'].iloc[0]:.3f}", *(f"{gain:+.3f}" for gain in own["gain_db"])]
        for (source, rate, _), own in gains
    ]
    for name in TILINGS:
        assert f"{second_moment(name):.6f}" in PAGE


def test_the_snippet_of_the_page_makes_latents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(PAGE.partition("```python\n")[2].partition("```")[0], {})
    assert read_latents(tmp_path / "latents.safetensors").std() == pytest.approx(0.4, abs=0.1)
