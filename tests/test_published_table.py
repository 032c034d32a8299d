"""Published numbers as data, and ours beside them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from evalkit.metrics import METRICS
from evalkit.papers import paper_names, read_paper
from evalkit.tables import Counterpart, compare_with_paper, summarize
from evalkit.tables.against_paper import published_latex, published_markdown, published_notes
from q2d2.registry import UnknownName
from tests.table_rows import score_rows, system_row

N = 60


@pytest.fixture
def summary() -> pd.DataFrame:
    """mimi near what is published (PESQ 2.80), encodec far from it (3.18), bigcodec on another data set."""
    noise = np.random.default_rng(0).normal(0, 0.2, N)
    rows = [
        *score_rows("mimi", "pesq", list(2.81 + noise)),
        *score_rows("encodec", "pesq", list(2.0 + noise)),
        *score_rows("bigcodec", "pesq", list(3.27 + noise), dataset="ljspeech/wavs"),
    ]
    systems = pd.DataFrame([system_row("mimi"), system_row("encodec", rtf_encode=math.nan), system_row("bigcodec")])
    return summarize(pd.DataFrame(rows), systems)


def compared(summary: pd.DataFrame, **counterparts: Counterpart) -> pd.DataFrame:
    reasons = {"dac": "dac: the weights are missing"}
    return compare_with_paper(summary, read_paper("q2d2"), counterparts, "paper", reasons)


class TestPapers:
    def test_every_metric_is_registered(self) -> None:
        for name in paper_names():
            for system in read_paper(name).systems.values():
                assert set(system.values) - {"rtf"} <= set(METRICS.names())

    def test_the_table_of_q2d2(self) -> None:
        """As printed: in the paper's order, with the numbers of single cells checked against it."""
        paper = read_paper("q2d2")
        order = "ground-truth dac encodec q2d2-6k xcodec mimi q2d2-3k bigcodec wavtokenizer"
        assert list(paper.systems) == order.split()
        assert paper.systems["dac"].values == {"utmos": 4.00, "pesq": 4.15, "stoi": 0.95}
        assert paper.systems["q2d2-3k"].values["pesq"] == 3.36
        assert (paper.systems["mimi"].quantizers, paper.systems["mimi"].tokens_per_second) == (8, 100)
        assert paper.systems["wavtokenizer"].decimals == {"utmos": 2, "pesq": 2, "stoi": 2, "rtf": 4}
        assert (paper.n, paper.dataset, paper.protocol) == (2620, "librispeech/test-clean", "paper")

    def test_unknown(self) -> None:
        with pytest.raises(UnknownName, match=r"unknown paper 'q3d3'\. Known: q2d2"):
            read_paper("q3d3")


class TestComparison:
    def test_difference_and_cover(self, summary: pd.DataFrame) -> None:
        table = compared(summary, encodec=Counterpart("encodec"), mimi=Counterpart("mimi")).set_index("system")
        pesq = table[table["metric"] == "pesq"]
        assert pesq.loc["mimi", "difference"] == pytest.approx(pesq.loc["mimi", "ours"] - 2.80)
        assert pesq.loc["mimi", "covered"] is True
        assert pesq.loc["encodec", "covered"] is False
        assert list(pesq["n"]) == [N, N]
        assert list(table.index.unique()) == ["encodec", "mimi"], "not in the paper's order"

    def test_rounding_of_the_printed_number_is_no_difference(self, summary: pd.DataFrame) -> None:
        """Without noise the interval is a point: 2.804 is printed as 2.80, 2.806 is not."""
        for value, covered in ((2.804, True), (2.796, True), (2.806, False)):
            rows = pd.DataFrame(score_rows("mimi", "pesq", [value] * N))
            table = compared(summarize(rows, pd.DataFrame([system_row("mimi")])), mimi=Counterpart("mimi"))
            assert table.loc[table["metric"] == "pesq", "covered"].tolist() == [covered], value

    def test_what_makes_it_unequal_is_said(self, summary: pd.DataFrame) -> None:
        table = compared(
            summary, mimi=Counterpart("mimi"), bigcodec=Counterpart("bigcodec", "trained here"), dac=Counterpart("dac"),
            wavtokenizer=Counterpart("wavtokenizer"),
        )  # fmt: skip
        remarks = table.set_index(["system", "metric"])["remarks"]
        assert remarks["mimi", "pesq"] == "60 of 2,620 utterances"
        assert remarks["mimi", "stoi"] == "not measured here"
        assert remarks["bigcodec", "pesq"] == "on ljspeech/wavs, not librispeech/test-clean; trained here"
        assert remarks["dac", "pesq"] == "dac: the weights are missing"
        rtf = table[table["metric"] == "rtf"].iloc[0]
        assert math.isnan(rtf["ours"])
        strict = compare_with_paper(summary, read_paper("q2d2"), {"mimi": Counterpart("mimi")}, "strict", {})
        assert "protocol strict, not paper" in strict["remarks"].iloc[1]

    def test_rtf_is_encoding_and_decoding_and_never_covered(self, summary: pd.DataFrame) -> None:
        table = compared(summary, mimi=Counterpart("wavtokenizer")).set_index("metric")
        assert table.loc["rtf", "ours"] == pytest.approx(0.03)
        assert table.loc["rtf", "covered"] is None
        assert "other hardware" in table.loc["rtf", "remarks"]

    def test_texts(self, summary: pd.DataFrame) -> None:
        table = compared(summary, mimi=Counterpart("mimi"), dac=Counterpart("dac"))
        notes = published_notes(table, read_paper("q2d2"))
        text = published_markdown(table, "Ours", notes)
        (line,) = [line for line in text.splitlines() if line.startswith("| mimi") and "PESQ" in line]
        assert line == r"| mimi | Mimi | PESQ | 60 | 2.83 | \[2.78, 2.87\] | 2.80 | +0.03 | yes\* |"
        assert "| dac | DAC | PESQ | - | - | - | 4.15 | - | - |" in text
        assert "- dac (UTMOS, PESQ, STOI): dac: the weights are missing." in text
        latex = published_latex(table, "Ours", notes)
        assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 1
        assert "2,620 utterances" in latex
