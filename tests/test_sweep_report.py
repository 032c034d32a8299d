"""The report of a sweep: its files at every stage, plots that can be read, what stands on the terminal."""

from __future__ import annotations

import io
import json
import math
import re

import pandas as pd
import pytest
from matplotlib.image import imread
from rich.console import Console

from evalkit.figures.looks import NothingToDraw
from evalkit.sweeps import SweepError
from evalkit.sweeps.budget import describe_budget
from evalkit.sweeps.comparison import compare_series, summarize_configurations
from evalkit.sweeps.plots import (
    MAX_SERIES,
    compared_targets,
    plot_matched_differences,
    plot_quality_along_rate,
)
from evalkit.sweeps.report import show_report, write_report
from evalkit.sweeps.results import known_rows, read_rows
from evalkit.sweeps.state import trial_folder
from evalkit.sweeps.tables import configurations_markdown, matched_markdown
from tests.synthetic_run import assert_legible
from tests.synthetic_sweep import Made, Noise, made_sweep, octaves, q2d2, swept

TABLES = [
    "claims.csv", "claims.md", "configurations.csv", "configurations.md", "configurations.tex", "matched.csv",
    "matched.md",
]  # fmt: skip
PLOTS = ["differences-at-15", "differences-at-20", "quality-along-entropy-rate", "quality-along-rate"]
FEW = ("rhombic", "hexagonal-regular")
FAMILIES = ("rhombic", "rectangular", "hexagonal", "hexagonal-regular")


def made_of(states: tuple[str, ...] = (), families: tuple[str, ...] = FAMILIES) -> list[Made]:
    """Families at about 20 and 15 bits, the last of them with the given states; rhombic with 4 and 10 channels too."""
    made = [
        q2d2(
            f"{name} {target}", [7] * 6, target + 0.1 * place, octaves(target) + 0.1 * place, target=float(target),
            states=states if name == families[-1] and target == 20 else (),
        )
        for target in (20, 15)
        for place, name in enumerate(families)
    ]  # fmt: skip
    rhombic = {"name": "q2d2", "tiling": "rhombic"}
    made += [
        Made(f"rhombic d{len(levels)}", "rhombic", rhombic | {"levels": levels}, 20.4, target=20.0)
        for levels in ([23] * 4, [4] * 10)
    ]
    fsq, rvq = {"name": "fsq", "levels": [6] * 8}, {"name": "rvq", "codebook_size": 1024, "num_quantizers": 2}
    made += [Made(f"fsq {bits}", "fsq", fsq, bits, octaves(bits), target=round(bits / 5) * 5) for bits in (20.1, 14.9)]
    return [*made, *(Made(f"rvq {bits}", "rvq", rvq, bits, octaves(bits), target=bits) for bits in (20.0, 15.0))]


def text_of(report) -> str:
    console = Console(file=io.StringIO(), width=120)
    show_report(report, console)
    return console.file.getvalue()


def test_a_report_is_rows_tables_and_plots_in_the_folder(tmp_path):
    sweep, rows = made_sweep(made_of(), tmp_path, noise=Noise(0.01, 0.02), claims="q2d2-claims", notes=["A note."])
    report = write_report(sweep, rows)
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == TABLES
    assert sorted(path.name for path in report.tables) == TABLES
    assert sorted(path.name for path in report.plots.files) == sorted(
        f"{stem}.{suffix}" for stem in PLOTS for suffix in ("svg", "png")
    )
    assert report.plots.skipped == {}
    for path in report.plots.files:
        if path.suffix == ".png":
            assert imread(path)[..., :3].std() > 0.02, f"{path.name} is blank"
    again = read_rows(tmp_path)
    assert len(again.trials) == len(rows.trials)
    pd.testing.assert_frame_equal(again.utterances, rows.utterances, check_dtype=False)
    summary = pd.read_csv(tmp_path / "tables" / "configurations.csv")
    assert list(summary["configuration"]) == [one.label for one in made_of()]
    matched = pd.read_csv(tmp_path / "tables" / "matched.csv")
    assert set(matched["baseline"]) == {"rhombic d=6"}
    claims = pd.read_csv(tmp_path / "tables" / "claims.csv")
    assert dict(zip(claims["claim"], claims["claim_verdict"], strict=True))["tilings"] == report.claims[0].verdict
    for name in ("configurations.md", "matched.md", "claims.md"):
        assert "- A note." in (tmp_path / "tables" / name).read_text(encoding="utf-8")
    told = text_of(report)
    assert "claim utilization: SUPPORTED" in told
    assert "failed" not in told


def test_a_sweep_kept_without_its_trials_is_reported_from_the_rows_kept_with_it(tmp_path):
    sweep, rows = made_sweep(made_of(families=FEW), tmp_path, metrics=["pesq"])
    write_report(sweep, rows)
    assert not (tmp_path / "trials").exists()
    known = known_rows(sweep)
    assert len(known.trials) == len(rows.trials)
    pd.testing.assert_frame_equal(known.utterances, rows.utterances, check_dtype=False)
    first = trial_folder(tmp_path, sweep.trials[0]["id"])
    first.mkdir(parents=True)
    assert known_rows(sweep).utterances.empty, "trials that lie there say what there is"


def test_the_baseline_can_be_chosen_and_must_exist(tmp_path):
    sweep, rows = made_sweep(made_of(families=FEW), tmp_path, metrics=["pesq"])
    assert set(write_report(sweep, rows, "fsq").matched["baseline"]) == {"fsq"}
    with pytest.raises(SweepError, match="baseline 'vq' is in no trial"):
        write_report(sweep, rows, "vq")


def test_failed_trials_have_a_table_until_they_are_done(tmp_path):
    sweep, rows = made_sweep(made_of(("done", "failed", "failed"), FEW), tmp_path, metrics=["pesq"])
    report = write_report(sweep, rows)
    failed = (tmp_path / "tables" / "failed.md").read_text(encoding="utf-8")
    assert "2 of" in failed
    assert failed.count("the loss is not finite") == 2
    assert "hexagonal-regular 20" in failed
    assert "1/3 done, 2 failed: the loss is not finite" in (tmp_path / "tables" / "configurations.md").read_text()
    assert "failed trials: 2, with reasons in" in text_of(report)
    (tmp_path / "tables" / "mine.md").write_text("kept")
    (tmp_path / "plots" / "differences-at-12.png").write_text("of an earlier call")
    write_report(*made_sweep(made_of(families=FEW), tmp_path, metrics=["pesq"]))
    assert not (tmp_path / "tables" / "failed.md").exists()
    assert not (tmp_path / "plots" / "differences-at-12.png").exists()
    assert (tmp_path / "tables" / "mine.md").exists()


def test_two_reports_of_the_same_rows_are_equal_to_the_byte(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_report(
            *made_sweep(
                made_of(families=FEW), tmp_path / name, noise=Noise(0.01, 0.02), claims="q2d2-claims", metrics=["pesq"]
            )
        )
    for path in (tmp_path / "one").glob("*/*"):
        assert path.read_bytes() == (tmp_path / "two" / path.parent.name / path.name).read_bytes(), path.name


@pytest.mark.parametrize("state", ["waiting", "failed"])
def test_a_sweep_without_any_result_says_so(tmp_path, state):
    made = [q2d2("rhombic", [7] * 6, 20.0, states=[state] * 3), q2d2("hexagonal", [7] * 6, 20.0, states=[state] * 3)]
    sweep, rows = made_sweep(made, tmp_path, claims="q2d2-claims")
    report = write_report(sweep, rows)
    assert set(report.plots.skipped) >= {"quality-along-rate", "quality-along-entropy-rate"}
    assert {each.verdict for each in report.claims} == {"untested"}
    text = (tmp_path / "tables" / "configurations.md").read_text(encoding="utf-8")
    assert f"0/3 done, 3 {state}" in text
    assert "No trial has a result yet." in text
    assert "UNTESTED" in text_of(report)


def test_one_seed_is_told_wherever_an_interval_stands(tmp_path):
    sweep, rows = made_sweep(made_of(families=FEW), tmp_path, seeds=1, metrics=["pesq"], noise=Noise(0.01, 0.02))
    report = write_report(sweep, rows)
    text = (tmp_path / "tables" / "configurations.md").read_text(encoding="utf-8")
    assert r"\*: over utterances only, as one seed is done" in text
    assert re.search(r"\| 2\.\d\d ± 0\.\d\d\\\* \|", text), "a cell is not starred"
    assert "over utterances only: one seed" in (tmp_path / "tables" / "matched.md").read_text(encoding="utf-8")
    assert set(report.matched["verdict"]) == {""}
    assert "*: over utterances only: one seed" in text_of(report)


def test_a_single_family_has_nothing_to_be_compared_with(tmp_path):
    report = write_report(*made_sweep([q2d2("rhombic", [7] * 6, 20.0)], tmp_path))
    assert report.matched.empty
    assert "There is no second series to compare" in (tmp_path / "tables" / "matched.md").read_text(encoding="utf-8")


def test_codecs_without_a_known_rate_stay_in_the_table(tmp_path):
    unknown = Made("opus", "codec", {}, None, 0.3, values={"codec.bitrate": 6000})
    report = write_report(*made_sweep([*made_of(families=FEW), unknown], tmp_path, metrics=["pesq"]))
    row = report.summary.set_index("configuration").loc["opus"]
    assert math.isnan(row["bits_per_frame"])
    assert row["pesq"] > 2
    assert "opus" not in set(report.matched.loc[report.matched["difference"].notna(), "series"])


def test_what_matched_says_in_words():
    _, series = swept(made_of(), noise=Noise(0.01, 0.02))
    metrics = ["pesq", "stoi"]
    text = matched_markdown(compare_series(series, series[0], metrics), "Title", [])
    assert "#### Difference at equal rate near 20 bits/frame, nominal rates" in text
    assert "#### Bits more or less at equal quality, entropy-coded rates" in text
    line = next(each for each in text.splitlines() if each.startswith("| rhombic d=10 | 20.40 against 20.00 | "))
    assert "rates +0.40 bits/frame apart" in line
    assert "Not compared: rhombic d=4, rhombic d=10: undefined: a curve needs two points, got 1." in text
    assert "▲ better" in text
    assert "▼ worse" in text
    assert float(line.split("|")[3]) == pytest.approx(-octaves(20.0), abs=0.02)


def test_cells_say_over_how_many_utterances_where_not_all_were_scored():
    def fail(utterances: pd.DataFrame) -> pd.DataFrame:
        lost = (utterances["trial"] == "trial-1-2") & utterances["utterance"].isin(["u00", "u01"])
        return utterances.assign(status=utterances["status"].mask(lost, "failed"), value=utterances["value"].mask(lost))

    found, _ = swept(made_of()[:3], change=fail)
    text = configurations_markdown(summarize_configurations(found, ["pesq"]), ["pesq"], "Title", [])
    assert text.count("(34)") == 1
    assert "or a where a cell ends in (a)" in text


@pytest.mark.parametrize("kind", ["nominal", "entropy"])
def test_ten_families_along_the_rate_can_be_read(kind, monkeypatch):
    made = made_of(families=(*FAMILIES, "d4", "e8", "a2"))
    found, series = swept(made, noise=Noise(0.01, 0.02), metrics=("pesq", "stoi", "mel_distance"))
    assert len(series) > 10
    metrics = ["pesq", "stoi", "mel_distance"]
    figure = plot_quality_along_rate(summarize_configurations(found, metrics), series, metrics, kind, "Quality")
    texts = assert_legible(figure, monkeypatch)
    assert {each.name for each in series} <= set(texts)
    axes = figure.axes[0]
    places = [place for line in axes.lines for place in line.get_xdata()]
    column = "bits_per_frame" if kind == "nominal" else "entropy_bits_per_frame"
    assert sorted(places) == sorted(summarize_configurations(found, metrics)[column])  # none is moved


def test_points_that_are_far_apart_stand_at_their_rates():
    found, series = swept([q2d2("rhombic a", [5] * 6, 14.0, 0.1), q2d2("rhombic b", [8] * 6, 20.0, 0.3)])
    figure = plot_quality_along_rate(summarize_configurations(found, ["pesq"]), series, ["pesq"], "nominal", "Quality")
    (axes,) = figure.axes
    (line,) = (line for line in axes.lines if line.get_marker() == "o")
    assert list(line.get_xdata()) == pytest.approx([14.0, 20.0])
    assert list(line.get_ydata()) == pytest.approx([each.scores["pesq"].values.mean() for each in found])
    assert "moved" not in axes.get_xlabel()


def test_the_forest_of_ten_families_can_be_read_and_fills_what_differs(monkeypatch):
    made = made_of(families=(*FAMILIES, "d4", "e8"))
    _, series = swept(made, noise=Noise(0.01, 0.02))
    matched = compare_series(series, series[0], ["pesq", "stoi"])
    assert compared_targets(matched) == [20.0, 15.0]
    figure = plot_matched_differences(matched, series, ["pesq", "stoi"], 20.0, "Differences")
    texts = assert_legible(figure, monkeypatch)
    assert {"rectangular", "d4", "rhombic d=10 (+0.40 bits)"} <= set(texts)
    rows = matched[(matched["target"] == 20) & (matched["rate"] == "nominal") & (matched["metric"] == "pesq")]
    points = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    assert [line.get_xdata()[0] for line in points] == pytest.approx(list(rows["difference"]))
    assert [line.get_markerfacecolor() != "white" for line in points] == list(rows["verdict"] != "")
    assert {"", "better"} <= set(rows["verdict"])


def test_too_many_series_are_not_drawn(tmp_path):
    made = [
        q2d2(f"rhombic {number}", [7] * 6, 20.0, values={"bottleneck": {"name": "q2d2"}, "train.steps": number})
        for number in range(MAX_SERIES + 1)
    ]
    found, series = swept(made, seeds=1)
    with pytest.raises(NothingToDraw, match=f"{MAX_SERIES + 1} series, and no more than {MAX_SERIES}"):
        plot_quality_along_rate(summarize_configurations(found, ["pesq"]), series, ["pesq"], "nominal", "Quality")
    report = write_report(*made_sweep(made, tmp_path, seeds=1))
    assert f"no plot quality-along-rate: {MAX_SERIES + 1} series" in text_of(report)


def run_file(steps: int = 400, seconds: float = 600.0) -> str:
    train = {"steps": steps, "batch_size": 8, "accumulate": 2, "segment_seconds": 0.5, "init_from": "tiny"}
    return json.dumps(
        {
            "experiment": {"train": train, "backbone": {"size": "tiny", "changes": {"ratios": [4, 2]}}},
            "train": [{"corpus": "sample/train", "coverage": "all 9 utterances", "seconds": seconds}],
            "test": {"dataset": "sample/test"}, "test_corpus": {"coverage": "6 of 9 utterances"},
            "protocol": {"label": "strict"},
        }
    )  # fmt: skip


def test_the_budget_is_read_from_the_trials(tmp_path):
    sweep, rows = made_sweep([q2d2("rhombic", [7] * 6, 20.0)], tmp_path, seeds=2)
    assert describe_budget(sweep, rows.trials) == [  # committed results have no folders of trials
        "Budget: 400 steps of training, seeds 0, 1; backbone: 1.27 M parameters with the bottleneck."
    ]
    for seed, seconds in enumerate((600.0, 1200.0)):
        folder = tmp_path / "trials" / f"trial-0-{seed}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(run_file(seconds=seconds), encoding="utf-8")
    first, second = describe_budget(sweep, rows.trials)
    assert first == (
        "Budget: 400 steps of training, seeds 0, 1; 16 x 0.5 s each (53 min of audio in all); drawn from 10 min of "
        "sample/train (all 9 utterances) or 20 min of sample/train (all 9 utterances); each from the backbone tiny, "
        "trained without a bottleneck; backbone: tiny (ratios: [4, 2]), 1.27 M parameters with the bottleneck."
    )
    assert second == "Scored on sample/test: 6 of 9 utterances, protocol strict."


def test_claims_that_cannot_be_read_stop_before_anything_is_written(tmp_path):
    sweep, rows = made_sweep(made_of(), tmp_path, claims="q2d2-clams")
    with pytest.raises(ValueError, match="no claims 'q2d2-clams'"):
        write_report(sweep, rows)
    assert not list(tmp_path.iterdir())
