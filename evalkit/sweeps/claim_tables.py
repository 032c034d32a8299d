"""The verdicts on a paper's claims as Markdown: what they hold for, each claim, each comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from evalkit.stats.differences import ALPHA
from evalkit.sweeps.claim_files import QUANTITIES, Claims
from evalkit.sweeps.claims import ClaimVerdict
from evalkit.sweeps.equal_rate import SAME_RATE
from evalkit.sweeps.tables import interval
from evalkit.tables import metric_format
from evalkit.tables.cells import MISSING, probability, signed
from evalkit.tables.markup import markdown_list, markdown_page, markdown_table
from evalkit.tables.table import Table

HEAD = (
    "Claim", "Comparison", "Metric", "difference", "95 % interval", "p", "p (Holm)", "bits/frame", "seeds", "n",
    "verdict", "note",
)  # fmt: skip


def claims_markdown(
    claims: Claims,
    judged: pd.DataFrame,
    found: Sequence[ClaimVerdict],
    budget: Sequence[str],
    without: Mapping[str, str],
) -> str:
    """Markdown: what the verdicts hold for, one row a claim, one row a comparison, notes.

    Args:
        claims: of the paper.
        judged: of `evalkit.sweeps.claims.judge`.
        found: of `evalkit.sweeps.claims.verdicts`.
        budget: sentences of `describe_budget`.
        without: metrics of the sweep without any score, and why.
    """
    head = "These verdicts hold for the budget of this sweep, and for no other:"
    rows = [(each.claim.id, _told(each), each.claim.source, each.verdict, each.counts) for each in found]
    parts = [
        head,
        markdown_list([*budget, *metric_sentences(claims, judged, without)]),
        markdown_table(Table(["Claim", "What the paper says", "Where", "Verdict", "Comparisons"], rows, 5)),
        markdown_table(Table(HEAD, [_texts(row) for row in judged.to_dict("records")], 3)),
    ]
    return markdown_page(f"Claims of {claims.title}, {claims.source}", parts, [*claims.remarks, *_notes(judged)])


def metric_sentences(claims: Claims, judged: pd.DataFrame, without: Mapping[str, str]) -> list[str]:
    """By which of the paper's metrics claims were tested, and why not by the others."""
    tested = {str(metric).partition("@")[0] for metric in judged.loc[judged["verdict"] != "untested", "metric"]}
    reasons = {key.partition("@")[0]: reason for key, reason in without.items()}
    used = [metric_format(name).label for name in claims.metrics if name in tested]
    missing = [
        f"{metric_format(name).label} ({reasons.get(name, 'not scored in this sweep')})"
        for name in claims.metrics
        if name not in tested
    ]
    sentences = [f"The paper's metrics tested here: {', '.join(used) or 'none'}."]
    if missing:
        sentences.append(f"Not tested by {', '.join(missing)}: what that would say is not known.")
    return sentences


def _told(found: ClaimVerdict) -> str:
    return f"{found.claim.text} {found.claim.test}".strip()


def _texts(row: dict[Any, Any]) -> list[str]:
    metric = str(row["metric"])
    if metric in QUANTITIES:
        label, decimals = QUANTITIES[metric], 4
    else:
        style = metric_format(metric)
        label, decimals = f"{style.label} {style.arrow}".strip(), style.decimals + 1

    def show(value: float) -> str:
        return signed(value, decimals)

    rate, other = row["rate"], row["rate_other"]
    rates = MISSING if math.isnan(rate) else f"{rate:.2f}"
    if not math.isnan(other) and abs(rate - other) > SAME_RATE:
        rates += f" against {other:.2f}"
    return [
        str(row["claim"]), str(row["comparison"]), label, show(row["difference"]),
        interval(row["low"], row["high"], show), probability(row["p"]), probability(row["p_holm"]), rates,
        f"{row['seeds']}", f"{row['utterances']:,}" if row["utterances"] else MISSING, str(row["verdict"]),
        str(row["note"]),
    ]  # fmt: skip


def _notes(judged: pd.DataFrame) -> list[str]:
    return [
        "difference: the side that is claimed to be better minus the other, at equal rate, paired over seeds and "
        "utterances; or a measured quantity minus its threshold, over seeds. 95 % interval and p by jackknife, with "
        "the degrees of freedom of seeds and of speakers each.",
        f"supported: the interval lies wholly on the claimed side and p < {ALPHA:g} with Holm's correction over all "
        f"{int(judged['p'].count())} tests of this table, with two seeds at least, and not by a difference of rates "
        "alone. contradicted: likewise on the other side. undecided: neither, which does not mean that there is no "
        "difference. untested: trials are missing, or the design cannot tell, "
        "see the note. Where no seed differed from another there is no p, "
        "and the side decides.",
        "A claim is supported where all of its comparisons are, by all metrics; contradicted where one of them is.",
    ]
