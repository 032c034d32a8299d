"""The notes that stand under every table: what its numbers are, and what is missing from them."""

from __future__ import annotations

import math

import pandas as pd

from evalkit.scoring.protocol import GROUND_TRUTH
from evalkit.stats.differences import ALPHA
from evalkit.stats.reach import smallest_p
from evalkit.tables.cells import cells, columns, is_ranked, mark_legend, metric_names, usual_counts
from evalkit.tables.summary import metric_format, metric_keys, protocols, resampling_unit

MAX_REASONS = 10
ONE_TRAINING = "One training each: the marks say nothing of other seeds."
METHOD = (
    "paired over the utterances both scored; Wilcoxon signed-rank test over {units}, p < "
    f"{ALPHA:g} with Holm's correction over all systems but the known answers, and the 95 % interval of the mean "
    "difference excludes 0. No mark: no difference was found, which does not mean that there is none."
)


def standing_notes(
    utterances: pd.DataFrame, systems: pd.DataFrame, summary: pd.DataFrame, differences: pd.DataFrame | None = None
) -> list[str]:
    """Plain-text sentences: intervals and counts, marks, who is ranked, the protocol, speed, why scores are missing."""
    notes = [
        f"a ± b: mean and half of its 95 % interval over {units(utterances)}; both ends are in the CSV. "
        f"{_counts(summary)} What was not scored is left out of a mean, never replaced by a number."
    ]
    if differences is not None and "baseline" in summary:
        notes.append(
            f"{_marks(summary)}: {METHOD.format(units=units(utterances))}{out_of_reach(differences)}"
            + (f" {ONE_TRAINING}" if trained_once(summary) else "")
        )
    notes.append(_ranking(summary))
    notes += protocol_note(utterances)
    if summary["kbps"].notna().any():
        notes.append(
            f"kbit/s: nominal, from the sizes of the codebooks{_measured_rates(summary)}. coded kbit/s: entropy of the "
            "codes in use. Utilization: mean over a system's quantizers; normalized entropy: theirs together, over the "
            "nominal bits."
        )
    if summary[["rtf_encode", "rtf_decode"]].notna().any().any():
        details = [str(text) for text in systems["rtf_detail"].dropna().unique() if str(text)]
        measured = f" Measured with: {'; '.join(details)}." if details else ""
        notes.append(f"RTF: seconds of computing per second of audio; not ranked.{measured}")
    return notes + caveats(summary) + _missing(utterances)


def _measured_rates(summary: pd.DataFrame) -> str:
    """Which systems have the rate of their streams, as they have no codebooks."""
    measured = summary["kbps"].notna() & summary["bits_per_frame"].isna() & (summary["kind"] == "codec")
    names = list(dict.fromkeys(summary.loc[measured, "system"]))
    return f"; of {', '.join(names)}: measured, packets without their container" if names else ""


def out_of_reach(differences: pd.DataFrame) -> str:
    """A sentence, or nothing: where there are so few units that Wilcoxon's test can never reach the level."""
    compared_at_all = differences[differences["n"] > 0]
    if len(compared_at_all) and (compared_at_all["units"] == 1).all():
        one = "speaker" if (compared_at_all["n"] > 1).any() else "utterance"
        return f" With one {one} there is no interval and nothing can be marked: it tells nothing of another one."
    families = differences[differences["p_holm"].notna()].groupby(["dataset", "metric", "protocol"], sort=False)
    smallest = {
        (int(rows["units"].max()), len(rows)): smallest_p(int(rows["units"].max()), len(rows)) for _, rows in families
    }
    lost = [pair for pair, p in smallest.items() if p >= ALPHA]
    if not lost:
        return ""
    few, compared = min(lost)
    return (
        f" With {few} units and {compared} comparisons the smallest corrected p there can be is "
        f"{smallest[few, compared]:.2g}: nothing can be marked{'' if len(lost) == len(smallest) else ' there'}."
    )


def trained_once(systems: pd.DataFrame) -> bool:
    """Whether systems that were trained here, once each, are compared: `systems` or a summary, columns kind, codec."""
    whole = systems["codec"].fillna("") if "codec" in systems else ""
    trained = systems.loc[(systems["kind"] == "codec") & (whole == ""), "system"]
    return trained.nunique() > 1


def protocol_note(utterances: pd.DataFrame) -> list[str]:
    """The protocol's name, or the names where there are several; nothing where the rows have none."""
    named = [name for name in protocols(utterances) if name]
    if not named:
        return []
    return [f"Protocol: {named[0]}." if len(named) == 1 else f"Protocols, in the headings: {', '.join(named)}."]


def pair_notes(utterances: pd.DataFrame) -> list[str]:
    """One sentence a system with pairs that are delayed, clipped, of unequal length, or were made mono."""
    told = utterances[(utterances["status"] == "ok") & (utterances["detail"] != "")]
    notes = []
    for system, rows in told.groupby("system", sort=False):
        total = utterances.loc[utterances["system"] == system, "utterance"].nunique()
        first = rows.iloc[int(rows["detail"].str.len().to_numpy().argmax())]
        notes.append(
            f"{system}: remarks on {rows['utterance'].nunique()} of {total} utterances (detail in the rows), "
            f"such as {first['utterance']}: {first['detail']}."
        )
    return notes


def short_notes(summary: pd.DataFrame) -> list[str]:
    """What a reader of the terminal cannot do without: what ± and the marks mean, how many utterances, caveats."""
    notes = [f"a ± b: mean and half of its 95 % interval. {_counts(summary)}"] if metric_names(summary) else []
    if "baseline" in summary:
        notes.append(f"{_marks(summary)}.")
    return notes + caveats(summary)


def units(utterances: pd.DataFrame) -> str:
    """What is resampled and tested, such as "27 speakers"; per data set where they differ."""
    found = {}
    for dataset, rows in utterances.groupby("dataset", sort=False):
        unit = resampling_unit(rows)
        count = rows["speaker"].nunique()
        found[str(dataset)] = f"{count:,} speaker{'s' if count > 1 else ''}" if unit == "speakers" else "utterances"
    if len(set(found.values())) <= 1:
        return next(iter(found.values()), "utterances")
    return "; ".join(f"{unit} ({dataset})" for dataset, unit in found.items())


def caveats(summary: pd.DataFrame) -> list[str]:
    """The metrics' own caveats, each once, and which systems a predictor puts above the ground truth."""
    own, above = [], []
    for name in metric_names(summary):
        style = metric_format(name)
        if style.caveat and summary[name].notna().any():
            own.append(style.caveat)
        if not style.needs_reference:
            above += _above_ground_truth(summary, name, style.label)
    return list(dict.fromkeys(own)) + above


def _above_ground_truth(summary: pd.DataFrame, name: str, label: str) -> list[str]:
    notes = []
    for dataset, rows in summary.groupby("dataset", sort=False):
        truth = rows.loc[rows["system"] == GROUND_TRUTH, name]
        higher = rows.loc[rows[name] > (truth.iloc[0] if len(truth) else math.inf), "system"]
        if len(higher):
            where = f" ({dataset})" if summary["dataset"].nunique() > 1 else ""
            notes.append(f"{label} puts {', '.join(higher)} above {GROUND_TRUTH}{where}.")
    return notes


def _counts(summary: pd.DataFrame) -> str:
    usual = usual_counts(summary)
    if not usual:
        return "Nothing was scored."
    numbers = {f"{count:,}" for count in usual.values()}
    if len(numbers) == 1:
        over = numbers.pop()
    else:
        over = ", ".join(f"{count:,} ({dataset})" for dataset, count in usual.items())
    exceptions = any(cell.scored for line in cells(summary, columns(summary)) for cell in line)
    return f"Means are over {over} utterances{', or over a of b where a cell says a/b' if exceptions else ''}."


def _marks(summary: pd.DataFrame) -> str:
    verdicts = [verdict for name in metric_names(summary) for verdict in summary[f"{name}_verdict"]]
    return mark_legend(verdicts, str(summary["baseline"].iloc[0]), trained_once(summary))


def _ranking(summary: pd.DataFrame) -> str:
    ranked = is_ranked(summary)
    kinds = set(summary.loc[ranked, "kind"])
    who = " and ".join(
        text for kind, text in (("codec", "codecs with a bit rate"), ("folder", "folders")) if kind in kinds
    )
    text = f"Bold: best of a column with an arrow, all that are equal to it as printed, among {who or 'codecs'}."
    rest = summary[~ranked]
    anchors = list(dict.fromkeys(rest.loc[rest["kind"] == "anchor", "system"]))
    scored = rest[[f"{name}_n_ok" for name in metric_names(rest)]].gt(0).any(axis=1)
    uncoded = list(dict.fromkeys(rest.loc[(rest["kind"] != "anchor") & scored, "system"]))
    unscored = list(dict.fromkeys(rest.loc[(rest["kind"] != "anchor") & ~scored, "system"]))
    parts = []
    if anchors:
        parts.append(f"{', '.join(anchors)} (known answers)")
    if uncoded:
        parts.append(f"{', '.join(uncoded)} (no codes, no bit rate)")
    if unscored:
        parts.append(f"{', '.join(unscored)} (nothing scored)")
    return f"{text} Not ranked, in italics: {'; '.join(parts)}." if parts else text


def _missing(utterances: pd.DataFrame) -> list[str]:
    """One sentence a reason for which scores are missing, most frequent first."""
    rows = utterances.assign(metric=metric_keys(utterances))
    lost = rows[rows["status"] != "ok"]
    if not len(lost):
        return []
    tried = rows["metric"].value_counts().to_dict()
    notes = []
    reasons = lost.assign(detail=lost["detail"].fillna("no reason given")).groupby(["status", "detail"], sort=False)
    for (status, detail), missing in sorted(reasons, key=lambda item: (-len(item[1]), item[0])):
        by_system = missing.groupby("system", sort=False)["utterance"].nunique()
        counts = ", ".join(f"{system} {count}" for system, count in by_system.items())
        metrics = list(dict.fromkeys(missing["metric"]))
        all_lost = len(missing) == sum(tried[metric] for metric in metrics)
        labels = ", ".join(metric_format(str(metric)).label for metric in metrics)
        notes.append(f"{labels}, {status}: {'every score' if all_lost else counts}: {detail}")
    if len(notes) > MAX_REASONS:
        further = len(notes) - MAX_REASONS
        notes = [*notes[:MAX_REASONS], f"{further} further reasons for missing scores: see the rows of the run."]
    return notes
