"""The notes that stand under every table: what its numbers are, and what is missing from them."""

from __future__ import annotations

import pandas as pd

from evalkit.tables.cells import is_ranked
from evalkit.tables.summary import metric_format, resampling_unit

MAX_REASONS = 6


def standing_notes(utterances: pd.DataFrame, systems: pd.DataFrame, summary: pd.DataFrame) -> list[str]:
    """Plain-text sentences: intervals and counts, who is ranked, how speed was measured, why scores are missing."""
    notes = [
        f"Brackets: 95 % interval of the mean, bootstrap over {resampling_unit(utterances)}. a/b: a of b utterances "
        "scored; the others are left out of the mean, never replaced by a number.",
        _ranking(summary),
        "kbit/s: nominal, from the sizes of the codebooks. coded kbit/s: entropy of the codes in use. Utilization: "
        "mean over a system's quantizers; normalized entropy: theirs together, over the nominal bits.",
    ]
    if summary[["rtf_encode", "rtf_decode"]].notna().any().any():
        details = [str(text) for text in systems["rtf_detail"].dropna().unique() if str(text)]
        measured = f" Measured with: {'; '.join(details)}." if details else ""
        notes.append(f"RTF: seconds of computing per second of audio; not ranked.{measured}")
    return notes + _missing(utterances)


def _ranking(summary: pd.DataFrame) -> str:
    rest = summary[~is_ranked(summary)]
    anchors = list(dict.fromkeys(rest.loc[rest["kind"] == "anchor", "system"]))
    uncoded = list(dict.fromkeys(rest.loc[rest["kind"] != "anchor", "system"]))
    text = "Bold: best of a column with an arrow, all that are equal to it as printed, among codecs with a bit rate."
    parts = []
    if anchors:
        parts.append(f"{', '.join(anchors)} (known answers)")
    if uncoded:
        parts.append(f"{', '.join(uncoded)} (no codes, no bit rate)")
    return f"{text} Not ranked, in italics: {'; '.join(parts)}." if parts else text


def _missing(utterances: pd.DataFrame) -> list[str]:
    """One sentence a reason for which scores are missing, most frequent first."""
    lost = utterances[utterances["status"] != "ok"]
    if not len(lost):
        return []
    notes = []
    reasons = lost.assign(detail=lost["detail"].fillna("no reason given")).groupby(["metric", "status", "detail"])
    for (metric, status, detail), rows in sorted(reasons, key=lambda item: (-len(item[1]), item[0])):
        counts = ", ".join(f"{system} {count}" for system, count in rows["system"].value_counts(sort=False).items())
        notes.append(f"{metric_format(str(metric)).label}, {status}: {counts}: {detail}")
    if len(notes) > MAX_REASONS:
        further = len(notes) - MAX_REASONS
        notes = [*notes[:MAX_REASONS], f"{further} further reasons for missing scores: see the rows of the run."]
    return notes
