"""Charts of the report: what is drawn where, and the numbers beside it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evalkit.figures.axis import Axis
from evalkit.report.charts import system_looks
from evalkit.report.comparison import comparison_table
from evalkit.report.curves import MAX_POINTS, training_chart
from evalkit.report.joined import join_runs
from evalkit.report.rates import rates_chart
from evalkit.report.rows import differences_chart, distributions_chart
from evalkit.report.svg import MARKERS, Scale, marker, tag, text, tick_label
from evalkit.report.usage import MAX_BARS, usage_chart
from evalkit.run.saved_run import load_run
from evalkit.stats.differences import MARKS
from evalkit.tables.differences import differences_markdown
from evalkit.text import isolated, plain, shortened
from tests.report_runs import Q2D2, write_log, write_run

RESULTS = Path(__file__).parent.parent / "results"


@pytest.fixture(scope="module")
def tiny():
    return join_runs([load_run(RESULTS / "tiny")])


class TestSvg:
    def test_what_is_written_is_escaped(self):
        assert tag("text", "<b>", data_tip='"&') == '<text data-tip="&#34;&amp;">&lt;b&gt;</text>'
        assert "<script>" not in text(0, 0, "<script>")

    @pytest.mark.parametrize(("low", "high"), [(0, 1), (1.43, 1.72), (-0.05, 0.17), (2.37e3, 2.5e3), (-7, -6.9)])
    def test_ticks_are_round_and_inside(self, low, high):
        ticks = Axis(low, high).ticks()
        assert 2 <= len(ticks) <= 8
        assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
        assert len({tick_label(tick) for tick in ticks}) == len(ticks)

    @pytest.mark.parametrize(("low", "high"), [(0.9, 30), (1, 2), (0.1, 1e5), (1.1, 1.2)])
    def test_logarithmic_ticks(self, low, high):
        scale = Scale(Axis(low, high, logarithmic=True), 0, 100)
        ticks = scale.axis.ticks()
        assert 1 <= len(ticks) <= 8
        assert all(0 <= scale(tick) <= 100 for tick in ticks)

    def test_a_scale_can_run_upwards(self):
        scale = Scale(Axis(0, 10), 300, 0)
        assert scale(0) == 300
        assert scale(10) == 0

    def test_no_two_markers_are_alike(self):
        assert len({marker(shape, 0, 0) for shape in MARKERS}) == len(MARKERS)

    def test_no_tick_is_a_negative_zero(self):
        assert tick_label(-0.0) == tick_label(1e-17) == "0"


class TestNames:
    def test_marks_of_direction_stay_inside(self):
        assert isolated("a\u202eb\u2069c") == "\u2068a\\u202eb\\u2069c\u2069"
        assert plain("a\n\x00b") == "a \\x00b"
        assert plain(" \t") == "(no name)"

    def test_both_ends_of_a_long_name_are_kept(self):
        short = shortened("start" + "x" * 300 + "end", 20)
        assert short.strip("\u2068\u2069").startswith("start")
        assert short.strip("\u2068\u2069").endswith("end")
        assert len(short.strip("\u2068\u2069")) == 20
        assert "…" not in shortened("short", 20)
        assert shortened("声" * 30, 21).strip("\u2068\u2069") == "声" * 5 + "…" + "声" * 5


class TestComparison:
    def test_values_are_those_of_the_summary(self, tiny):
        table = comparison_table(tiny)
        keys = [column.key for column in table.columns]
        for row, (_, record) in zip(table.rows, tiny.summary.iterrows(), strict=True):
            assert row.system == record["system"]
            for key, cell in zip(keys, row.cells, strict=True):
                assert cell.value == ("" if math.isnan(record[key]) else repr(float(record[key])))

    def test_marks_are_those_of_the_differences(self, tiny):
        table = comparison_table(tiny)
        place = [column.key for column in table.columns].index("pesq")
        verdicts = {row.system: row.cells[place].verdict for row in table.rows}
        own = tiny.differences[tiny.differences["metric"] == "pesq"]
        assert {name: verdicts[name] for name in own["system"]} == dict(zip(own["system"], own["verdict"], strict=True))
        assert set(verdicts.values()) >= {"better", "worse", ""}


class TestRates:
    def test_a_panel_a_metric_and_a_point_a_rated_system(self, tiny):
        chart = rates_chart(tiny.summary, system_looks(tiny.systems))
        assert len(chart.panels) == 13  # UTMOS has no score
        pesq = chart.panels[0]
        assert pesq.label == "PESQ"
        assert str(pesq.svg).count("data-tip=") == len(pesq.rows) == 11

    def test_points_stand_at_their_rates_which_are_in_the_tips(self, tiny):
        svg = str(rates_chart(tiny.summary, system_looks(tiny.systems)).panels[0].svg)
        centres = sorted(float(x) for x in re.findall(r'<path d="M([\d.]+) [\d.]+L\1 [\d.]+" class="bar', svg))
        rates = np.sort(tiny.summary.loc[tiny.summary["kind"] == "codec", "kbps"].dropna())
        assert len(centres) == len(rates) == 7
        slope = (centres[-1] - centres[0]) / (rates[-1] - rates[0])
        np.testing.assert_allclose(centres, centres[0] + slope * (rates - rates[0]), atol=0.06)
        assert "2.404 kbit/s, entropy-coded" in svg

    def test_without_a_rate_there_is_nothing_to_draw(self, tiny):
        chart = rates_chart(tiny.summary.assign(kbps=math.nan), system_looks(tiny.systems))
        assert chart.missing == "no system has both a bit rate and a score"

    def test_one_codec_at_several_rates_is_joined(self):
        run = load_run(RESULTS / "opus")
        chart = rates_chart(run.summary(), system_looks(run.systems))
        assert str(chart.panels[0].svg).count('class="join"') == 1


class TestRows:
    def test_single_utterances_and_their_quartiles(self, tiny):
        chart = distributions_chart(tiny.utterances, system_looks(tiny.systems))
        line = next(row for row in chart.panels[0].rows if row[0] == "rhombic")
        rows = tiny.utterances.query("system == 'rhombic' and metric == 'pesq'")["value"].astype(float)
        assert line[1] == "57"
        assert line[2:] == [
            f"{value:.2f}" for value in (rows.mean(), *np.percentile(rows, (5, 25, 50, 75, 95)), rows.min(), rows.max())
        ]

        # Every utterance is a dot where they are few.
        dots = re.findall(r'd="([^"]*)" class="dots', str(chart.panels[0].svg))
        assert [path.count("M") for path in dots] == [57] * 11
        assert "every utterance" in chart.explained

    def test_of_many_only_the_ends_are_dots(self, tiny):
        few = tiny.utterances[tiny.utterances["metric"].isin(["pesq", "stoi"])]
        many = pd.concat([few.assign(utterance=few["utterance"] + f"-{k}") for k in range(16)])
        chart = distributions_chart(many, system_looks(tiny.systems))
        dots = re.findall(r'd="([^"]*)" class="dots', str(chart.panels[0].svg))
        assert max(path.count("M") for path in dots) <= 14_000 // 22
        assert "every utterance" not in chart.explained
        assert "utterances at the ends" in chart.explained
        assert chart.panels[0].rows[0][1] == "912"

    def test_filled_where_a_difference_was_found(self, tiny):
        near = ["rectangular", "rhombic", "hexagonal", "hexagonal-regular", "fsq", "vq", "rvq"]
        chart = differences_chart(tiny.differences, system_looks(tiny.systems), near)
        svg = str(chart.panels[0].svg)
        rows = tiny.differences[(tiny.differences["metric"] == chart_metric(chart)) & (tiny.differences["n"] > 0)]
        assert svg.count("hollow") == int((rows["verdict"] == "").sum())
        assert svg.count(MARKS["better"]) >= int((rows["verdict"] == "better").sum())
        assert len(chart.panels[0].rows) == len(rows) == 10
        # As the printed table has it: a digit more than the means.
        assert "| hexagonal | 57 | 27 | -0.004 |" in differences_markdown(tiny.differences, "", [])
        assert next(row for row in chart.panels[0].rows if row[0] == "hexagonal")[3] == "-0.004"

    def test_no_baseline_no_forest(self, tiny):
        assert differences_chart(None, system_looks(tiny.systems), []).missing


def chart_metric(chart) -> str:
    return {"PESQ": "pesq"}[chart.panels[0].label]


class TestUsage:
    def test_a_panel_a_system(self, tiny):
        chart = usage_chart(tiny.codes, tiny.systems)
        labels = [panel.label for panel in chart.panels]
        assert labels == ["rectangular", "rhombic", "hexagonal", "hexagonal-regular", "fsq", "vq", "rvq"]
        rhombic = chart.panels[1]
        assert str(rhombic.svg).count("data-tip=") == len(rhombic.rows) == 3 * 85
        # Other families are sorted bars.
        vq = next(panel for panel in chart.panels if panel.label == "vq")
        assert len(vq.rows) == MAX_BARS
        shares = [float(row[2]) for row in vq.rows]
        assert shares == sorted(shares, reverse=True)

    def test_a_code_never_used_is_crossed_out(self):
        codes = pd.DataFrame({"system": "a", "quantizer": 0, "code": range(25), "count": [0, *[4] * 24]})
        systems = pd.DataFrame({"system": ["a"], "kind": ["codec"], "bottleneck": [json.dumps(Q2D2)]})
        (panel,) = usage_chart(codes, systems).panels
        assert str(panel.svg).count('class="cell unused"') == 1
        assert "24 of 25 used" in str(panel.svg)
        assert panel.rows[0][2:] == ["0", "0.000", "0.00"]
        # 1/24 of the frames is 25/24 of uniform use.
        assert str(panel.svg).count('class="cell h4"') == 24
        assert panel.rows[1][4] == "1.04"


class TestTraining:
    def test_curves_are_thinned_keep_their_ends_and_leave_out_what_is_not_finite(self, tmp_path):
        folder = write_run(tmp_path / "run")
        write_log(folder, "alpha")
        run = load_run(folder)
        looks = system_looks(run.systems)
        chart = training_chart(run.training, looks)
        assert [panel.label for panel in chart.panels] == ["total", "mel", "learning rate"]
        (path,) = re.findall(r'd="(M[^"]*)" class="line', str(chart.panels[0].svg))
        assert path.count("L") + 1 == MAX_POINTS
        assert chart.panels[0].rows[0][0] == "10"
        assert chart.panels[0].rows[-1][0] == "5,000"
        log = run.training["alpha"].copy()
        log.loc[3, "total"] = np.inf
        svg = str(training_chart({"alpha": log}, looks).panels[0].svg)
        assert "nan" not in svg
        assert "inf" not in svg
