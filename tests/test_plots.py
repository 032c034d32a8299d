"""Plots: the files are there and equal in every run, every figure shows what it should, and no label covers another."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from evalkit.figures.looks import NothingToDraw, looks, pages
from evalkit.figures.spectrograms import RANGE_DB, spectrogram_db
from evalkit.figures.usage import code_usage
from evalkit.plots import lettering
from evalkit.plots.curves import plot_training_curves
from evalkit.plots.differences import plot_differences
from evalkit.plots.distributions import plot_distributions
from evalkit.plots.drawing import draw_plots
from evalkit.plots.figures import save
from evalkit.plots.rates import plot_quality_against_rate
from evalkit.plots.spectrograms import plot_spectrograms
from evalkit.plots.usage import plot_usage_curves, plot_usage_map
from evalkit.tables import compare_with_baseline, summarize
from tests.synthetic_run import (
    CODECS,
    NUM_UTTERANCES,
    SCALES,
    assert_legible,
    make_all_metrics,
    make_codes,
    make_signals,
    make_systems,
    make_training,
    make_utterances,
)


@pytest.fixture(scope="module")
def systems() -> pd.DataFrame:
    return make_systems()


@pytest.fixture(scope="module")
def utterances() -> pd.DataFrame:
    return make_utterances()


@pytest.fixture(scope="module")
def codes() -> pd.DataFrame:
    return make_codes()


def grey(image: np.ndarray) -> np.ndarray:
    return image[..., :3] @ [0.299, 0.587, 0.114]


def test_draw_plots_writes_every_plot_twice_and_hides_nothing(
    utterances: pd.DataFrame, systems: pd.DataFrame, codes: pd.DataFrame, tmp_path
) -> None:
    signals = make_signals(["ground-truth", "rhombic"])
    drawn = draw_plots(utterances, systems, codes, {}, signals, tmp_path / "plots")
    tilings = ["rectangular", "rhombic", "hexagonal", "hexagonal-regular"]
    stems = ["quality-vs-bitrate", "distributions", *(f"usage-{name}" for name in tilings)]
    stems += ["usage-curves", "tilings", "spectrograms"]
    assert [path.name for path in drawn.files] == [f"{stem}.{suffix}" for stem in stems for suffix in ("svg", "png")]
    assert drawn.skipped == {"training-curves": "no training was logged"}
    for path in drawn.files:
        if path.suffix == ".png":
            assert grey(imread(path)).std() > 0.05, f"{path.name} is blank"
        else:
            text = path.read_text()
            assert "</svg>" in text
            assert "<dc:date>" not in text


def test_several_datasets_get_their_own_plots(systems: pd.DataFrame, codes: pd.DataFrame, tmp_path) -> None:
    few = make_utterances(("libri/clean", "libri/other"))
    drawn = draw_plots(few[few["utterance"].isin(["u1", "u2", "u3", "u4"])], systems, codes[:0], {}, {}, tmp_path)
    names = [path.stem for path in drawn.files]
    assert {"quality-vs-bitrate-libri_clean", "distributions-libri_other"} <= set(names)
    assert drawn.skipped["spectrograms"] == "no audio to show"
    assert drawn.skipped["usage-curves"] == "no codes of a system without tilings"


def test_equal_figures_are_equal_files(systems: pd.DataFrame, utterances: pd.DataFrame, tmp_path) -> None:
    for folder in ("first", "second"):
        save(plot_distributions(utterances, systems), tmp_path / folder, "figure")
    for suffix in ("svg", "png"):
        one, other = (tmp_path / folder / f"figure.{suffix}" for folder in ("first", "second"))
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("without", [[], ["vq"]], ids=["two rates", "nearly equal rates"])
def test_quality_is_legible_and_names_every_system(
    without: list[str], utterances: pd.DataFrame, systems: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = systems[~systems["system"].isin(without)]
    summary = summarize(utterances[~utterances["system"].isin(without)], kept)
    figure = plot_quality_against_rate(summary)
    texts = assert_legible(figure, monkeypatch)
    for name in kept["system"]:
        assert any(name in text for text in texts), name
    assert "↑ ground-truth 4.64" in texts  # far above the systems: named at the edge with its value


def test_quality_shows_nominal_and_entropy_coded_rates_and_intervals(
    utterances: pd.DataFrame, systems: pd.DataFrame
) -> None:
    summary = summarize(utterances, systems)
    axes = plot_quality_against_rate(summary).axes[0]
    row = summary.set_index("system").loc["vq"]
    points = {
        (round(float(line.get_xdata()[0]), 6), round(float(line.get_ydata()[0]), 6)): line.get_markerfacecolor()
        for line in axes.lines
        if line.get_marker() == looks(systems)["vq"].marker and len(line.get_xdata()) == 1
    }
    height = round(row["pesq"], 6)
    assert points[round(row["entropy_kbps"], 6), height] == "white"
    assert points[round(row["kbps"], 6), height] == looks(systems)["vq"].color
    ends = {tuple(np.round(segment[:, 1], 6)) for bars in axes.collections for segment in bars.get_segments()}
    assert (round(row["pesq_low"], 6), round(row["pesq_high"], 6)) in ends


def test_six_panels_of_eleven_systems_stay_legible(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, every = make_all_metrics(()), make_systems()
    part = pages(SCALES)[-1]
    compared = compare_with_baseline(rows, every, "fsq")
    for figure in (
        plot_quality_against_rate(summarize(rows, every), metrics=part),
        plot_distributions(rows, every, metrics=part),
        plot_differences(compared, every, metrics=part),
    ):
        assert_legible(figure, monkeypatch)
        assert len(figure.axes) == len(part)


def test_nearly_equal_rates_do_not_hide_one_another(utterances: pd.DataFrame, systems: pd.DataFrame) -> None:
    tied = systems[systems["system"].isin(["rectangular", "hexagonal", "hexagonal-regular", "fsq"])]
    figure = plot_quality_against_rate(summarize(utterances[utterances["system"].isin(tied["system"])], tied))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    rate = summarize(utterances[utterances["system"].isin(tied["system"])], tied)["kbps"].iloc[0]
    filled = [line for line in axes.lines if len(line.get_xdata()) == 1 and np.isclose(line.get_xdata()[0], rate)]
    places = {round(float(line.get_transform().transform(line.get_xydata())[0, 0]), 2) for line in filled}
    assert len(places) == 1, "no point is moved"
    assert len({line.get_markersize() for line in filled}) > 1, "one that is covered is larger"


def test_no_bit_rate_is_a_reason_not_an_empty_figure(utterances: pd.DataFrame, systems: pd.DataFrame) -> None:
    anchors = systems[systems["kind"] == "anchor"]
    with pytest.raises(NothingToDraw, match="no bit rates known"):
        plot_quality_against_rate(summarize(utterances[utterances["system"].isin(anchors["system"])], anchors))


def test_distributions_show_all_systems_in_order_with_counts(
    utterances: pd.DataFrame, systems: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = plot_distributions(utterances, systems.iloc[::-1])
    texts = assert_legible(figure, monkeypatch)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(systems["system"])[::-1]
    assert texts.count("57/60") == 1
    pesq_points = sum(len(points.get_offsets()) for points in figure.axes[0].collections)
    assert pesq_points == NUM_UTTERANCES * len(systems) - 3  # failed rows are no points


def test_spectrogram_finds_a_sine_at_its_frequency_level_and_time() -> None:
    rate = 16000
    audio = np.zeros(rate, dtype=np.float32)
    audio[rate // 2 :] = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate // 2) / rate)
    level = spectrogram_db(audio, rate)
    assert level.shape[0] == 257
    peak = np.unravel_index(level.argmax(), level.shape)
    assert peak[0] * rate / 512 == pytest.approx(1000)
    assert level.max() == pytest.approx(20 * np.log10(0.5), abs=0.1)
    assert level[:, : level.shape[1] // 2 - 4].max() <= -150


@pytest.mark.parametrize("count", [1, 3, 11])
def test_spectrograms_share_one_scale(count: int, systems: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    signals = make_signals(list(systems["system"])[:count])
    figure = plot_spectrograms(signals, "utterance 1089-134686-0000")
    texts = assert_legible(figure, monkeypatch)
    assert set(signals) <= set(texts)
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == count
    assert len({image.get_clim() for image in images}) == 1
    low, high = images[0].get_clim()
    assert high - low == RANGE_DB
    loudest = max(spectrogram_db(audio, rate).max() for audio, rate in signals.values())
    assert high == pytest.approx(loudest)


def test_training_curves_have_a_panel_for_every_loss(systems: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = plot_training_curves(make_training(), systems)
    assert_legible(figure, monkeypatch)
    panels = {axes.get_title(): axes for axes in figure.axes}
    titles = ["total", "mel", "stft", "waveform", "complex stft", "commitment", "learning rate"]
    assert list(panels) == titles
    assert len(panels["total"].lines) == len(CODECS)
    assert len(panels["commitment"].lines) == 2
    assert panels["total"].get_yscale() == "log"
    assert len({str(line.get_linestyle()) + str(line.get_dash_capstyle()) for line in panels["total"].lines}) >= 2
    with pytest.raises(NothingToDraw):
        plot_training_curves({}, systems)


def test_the_users_matplotlib_settings_do_not_matter(utterances: pd.DataFrame, systems: pd.DataFrame, tmp_path) -> None:
    import matplotlib as mpl

    summary = summarize(utterances, systems)
    (plain, _) = save(plot_quality_against_rate(summary), tmp_path / "plain", "figure")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "other"}):
        (mine, _) = save(plot_quality_against_rate(summary), tmp_path / "mine", "figure")
    assert plain.read_bytes() == mine.read_bytes()


def test_points_stand_at_their_true_rates(utterances: pd.DataFrame, systems: pd.DataFrame) -> None:
    summary = summarize(utterances, systems)
    figure = plot_quality_against_rate(summary, metrics=["pesq"])
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for row in summary[(summary["kind"] == "codec") & summary["kbps"].notna()].to_dict("records"):
        look = looks(systems)[row["system"]]
        drawn = [
            line.get_transform().transform(line.get_xydata())[0]
            for line in axes.lines
            if line.get_marker() == look.marker and line.get_markerfacecolor() == look.color
        ]
        np.testing.assert_allclose(drawn, [axes.transData.transform((row["kbps"], row["pesq"]))], atol=0.1)


HOSTILE = {
    "rhombic": "cost_$5_or_$\\6", "vq": "$\\frac{$", "rvq": "_leading", "fsq": "\u202eevil\x1b[31m",
    "unquantized": "日本語\nहिन्दी\U0001f3a7",
}  # fmt: skip


@pytest.mark.parametrize("restricted", [False, True], ids=["installed fonts", "matplotlib's own font"])
def test_names_are_drawn_as_text_without_a_warning(
    restricted: bool, utterances: pd.DataFrame, systems: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    if restricted:
        own = [font for font in lettering.fontManager.ttflist if font.name == lettering.BASE]
        monkeypatch.setattr(lettering.fontManager, "ttflist", own)
    lettering._family.cache_clear()
    scores, rows = (frame.assign(system=frame["system"].replace(HOSTILE)) for frame in (utterances, systems))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plot_quality_against_rate(summarize(scores, rows), "a $\\frac{$ title", ["pesq"])
        save(figure, tmp_path, "names")
    texts = " ".join(text.get_text() for text in figure.findobj(Text))
    for name in ("cost_$5_or_$\\6", "$\\frac{$", "_leading", "\\u202eevil\\x1b[31m", "a $\\frac{$ title"):
        assert name in texts
    if restricted:
        assert "\\u65e5\\u672c\\u8a9e\\n" in texts
    assert not caplog.records
    lettering._family.cache_clear()


LONG = "rhombic-published-gradient-levels-9-9-7-7-7-7"


def test_long_names_stay_legible(
    utterances: pd.DataFrame, systems: pd.DataFrame, codes: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"rhombic": LONG, "unquantized": f"{LONG}-null", "vq": f"{LONG}-vq", "rvq": f"{LONG}-rvq"}
    renamed = [frame.assign(system=frame["system"].replace(names)) for frame in (utterances, systems, codes)]
    scores, rows, usage = renamed
    used = code_usage(usage, rows)
    training = {names.get(name, name): log for name, log in make_training().items()}
    for figure in (
        plot_quality_against_rate(summarize(scores, rows)),
        plot_distributions(scores, rows),
        plot_differences(compare_with_baseline(scores, rows, "fsq"), rows),
        *map(plot_usage_map, [each for each in used if each.system == LONG]),
        plot_usage_curves([each for each in used if not each.has_grids]),
        plot_training_curves(training, rows),
        plot_spectrograms(make_signals(list(rows["system"])), "an utterance"),
    ):
        texts = assert_legible(figure, monkeypatch)
        assert any(LONG in "".join(text.split()) for text in texts)
