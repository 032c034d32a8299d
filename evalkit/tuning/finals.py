"""The best of the search and the baseline, trained anew and scored on what nothing was chosen by: is any better?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evalkit.stats.differences import holm_of, verdict_of
from evalkit.sweeps.comparison import NEAR_TARGET, difference_at, summarize_configurations
from evalkit.sweeps.configurations import SweptConfiguration, configurations
from evalkit.sweeps.equal_rate import Difference, points_of, surely
from evalkit.sweeps.folder import SweepFolder, write_sweep
from evalkit.sweeps.results import collect
from evalkit.sweeps.schema import Sweep
from evalkit.sweeps.trials import Trial, expand
from evalkit.tables import metric_format
from evalkit.tuning.settings import Tuning
from evalkit.tuning.space import Choice

FINALISTS = "finalists"
COLUMNS = (
    "rank", "configuration", "family", "channels", "levels", "learning_rate", "bits_per_frame", "metric", "mean",
    "low", "high", "difference", "difference_low", "difference_high", "p", "p_holm", "seeds", "utterances", "clusters",
    "verdict", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Finalist:
    """What is trained anew.

    Attributes:
        rank: in the search, from 1; 0 for the baseline.
        choice: family, channels and their configuration.
        learning_rate: of its best trial; None for the experiment's own.
    """

    rank: int
    choice: Choice
    learning_rate: float | None


@dataclass(frozen=True)
class Finals:
    """The baseline and the finalists as a sweep in a folder of its own.

    Attributes:
        entries: the baseline first, then by rank.
        sweep: their trainings.
        trials: of the sweep, all first seeds first.
        folder: of the sweep.
    """

    entries: tuple[Finalist, ...]
    sweep: Sweep
    trials: tuple[Trial, ...]
    folder: Path

    def write(self) -> None:
        """Note the sweep in its folder, for `evalkit sweep status` and `report`."""
        write_sweep(self.folder, self.sweep, self.trials)


def plan_finals(tuning: Tuning, searched: pd.DataFrame, count: int, num_seeds: int) -> Finals:
    """The baseline, and the `count` best of the search that are not the baseline, each configuration once.

    Where learning rates were searched, each comes with that of its own best trial, the baseline too.

    Args:
        tuning: the search.
        searched: rows of `SearchStudy.rows`.
        count: of finalists, at least 1.
        num_seeds: trainings of each.
    """
    done = searched[searched["state"] == "done"].sort_values(
        ["objective", "number"], ascending=[not tuning.higher_is_better, True]
    )
    rates: dict[tuple[str, int], float] = {}
    for row in done.to_dict("records"):
        rates.setdefault((row["family"], row["channels"]), float(row["learning_rate"]))
    searches_rate = tuning.learning_rate is not None
    others = [key for key in rates if key != tuning.baseline.key][:count]
    entries = [Finalist(0, tuning.baseline, rates.get(tuning.baseline.key) if searches_rate else None)]
    entries += [
        Finalist(rank, tuning.space.by_key[key], rates[key] if searches_rate else None)
        for rank, key in enumerate(others, 1)
    ]
    sweep = tuning.final_sweep([(entry.choice, entry.learning_rate) for entry in entries], num_seeds)
    return Finals(tuple(entries), sweep, tuple(expand(sweep)), tuning.folder / FINALISTS)


def compare_finals(tuning: Tuning, finals: Finals) -> pd.DataFrame:
    """COLUMNS, one row a metric and entry: means and paired differences from the baseline on the held-out part.

    Intervals (95 %) are over seeds and utterances (speakers, where there are six at least), see
    `evalkit.stats.crossed`; `p_holm` is corrected over the finalists of a metric. `verdict` is "better" or "worse"
    where the interval and p_holm leave no doubt and more bits cannot be the reason
    (`evalkit.sweeps.equal_rate.Difference.side`), else "".

    Args:
        tuning: the search.
        finals: with whatever results it has; what is missing has NaN and a note.
    """
    sweep = SweepFolder.read(finals.folder)
    by_id = {each.id: each for each in configurations(sweep, collect(sweep))}
    firsts = finals.trials[: len(finals.entries)]
    found = [by_id[trial.configuration] for trial in firsts]
    rows: list[dict[str, Any]] = []
    for metric in tuning.metrics:
        summary = summarize_configurations(found, [metric]).to_dict("records")
        differences = [_difference(each, found[0], metric, tuning.space.target) for each in found[1:]]
        rows += _rows(tuning, finals.entries, found, metric, summary, differences)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _difference(each: SweptConfiguration, baseline: SweptConfiguration, metric: str, target: float) -> Difference:
    sides = [points_of([one], metric, "nominal") for one in (each, baseline)]
    # No slope: what fractions of a bit are worth is not measured, so they count against the side that has more.
    return difference_at(sides[0], sides[1], target, (), 2 * NEAR_TARGET)


def _rows(
    tuning: Tuning, entries: Sequence[Finalist], found: Sequence[SweptConfiguration], metric: str,
    summary: Sequence[dict[Any, Any]], differences: Sequence[Difference],
) -> list[dict[str, Any]]:  # fmt: skip
    direction = metric_format(metric).higher_is_better
    adjusted = holm_of({n: each.estimate.p if each.estimate else None for n, each in enumerate(differences)})
    rows = []
    for place, (entry, one, means) in enumerate(zip(entries, found, summary, strict=True)):
        row: dict[str, Any] = {
            "rank": entry.rank, "configuration": one.label, "family": entry.choice.family,
            "channels": entry.choice.channels, "levels": " ".join(map(str, entry.choice.bottleneck["levels"])),
            "learning_rate": entry.learning_rate or tuning.experiment.train.learning_rate,
            "bits_per_frame": entry.choice.bits_per_frame, "metric": metric, "mean": means[metric],
            "low": means[f"{metric}_low"], "high": means[f"{metric}_high"], "seeds": means["seeds_done"],
            "utterances": means[f"{metric}_utterances"], "clusters": 0, "verdict": "", "note": means[f"{metric}_note"],
            **dict.fromkeys(("difference", "difference_low", "difference_high", "p", "p_holm"), math.nan),
        }  # fmt: skip
        if one.num_scored < one.num_seeds:
            row["note"] = "; ".join(filter(None, [row["note"], one.status]))
        if place:
            row |= _compared(differences[place - 1], adjusted[place - 1], direction, row["note"])
        rows.append(row)
    return rows


def _compared(difference: Difference, adjusted: float, direction: bool | None, note: str) -> dict[str, Any]:
    estimate = difference.estimate
    if estimate is None:
        return {"note": "; ".join(dict.fromkeys(filter(None, [note, difference.note])))}
    p_holm = None if math.isnan(adjusted) else adjusted
    side = difference.side(p_holm)
    seen = surely(estimate, p_holm)
    notes = [note, difference.note]
    if seen and not side:
        notes.append(f"{verdict_of(seen, direction)}, but it has more bits: how much that is worth is not known")
    numbers = {
        "difference": estimate.value, "difference_low": estimate.low, "difference_high": estimate.high,
        "p": estimate.p, "p_holm": p_holm,
    }  # fmt: skip
    return {
        **{name: _or_nan(number) for name, number in numbers.items()},
        "seeds": estimate.n_seeds, "utterances": estimate.n_utterances, "clusters": estimate.n_clusters,
        "verdict": verdict_of(side, direction), "note": "; ".join(dict.fromkeys(filter(None, notes))),
    }  # fmt: skip


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else float(number)
