"""What a search comes to: the configuration that is named, how sure that is, and its experiment file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from evalkit.sweeps.trials import bottleneck_label
from evalkit.tables import metric_format
from evalkit.tuning.finals import Finalist, Finals
from evalkit.tuning.settings import Tuning
from q2d2.files import write_atomically

BEST = "best.yaml"


@dataclass(frozen=True)
class Answer:
    """Which configuration is named, and how sure that is.

    Attributes:
        best: what best.yaml holds.
        told: it is told from the baseline.
        sentences: for people.
    """

    best: Finalist
    told: bool
    sentences: tuple[str, ...]


def answer(tuning: Tuning, finals: Finals, compared: pd.DataFrame) -> Answer:
    """Name the best: the first by the search that is told better than the baseline on the held-out part.

    The held-out part only tests; among those told better it does not choose, so that nothing was chosen by it. Where
    none is told better the baseline stays; where its family was not to be searched, the first of the search.
    """
    rows = compared[compared["metric"] == tuning.metric].to_dict("records")
    baseline, others = rows[0], rows[1:]
    counts = _counted(others or rows)
    better = [row for row in others if row["verdict"] == "better"]
    worse = [row["configuration"] for row in others if row["verdict"] == "worse"]
    style = metric_format(tuning.metric)
    sentences = []
    if better:
        row = better[0]
        chosen = finals.entries[row["rank"]]
        ends = f"{row['difference_low']:+.{style.decimals + 1}f} to {row['difference_high']:+.{style.decimals + 1}f}"
        sentences.append(
            f"{row['configuration']} ({row['bits_per_frame']:.2f} bits/frame) is told from the baseline "
            f"{baseline['configuration']} ({baseline['bits_per_frame']:.2f}) {counts}: {style.heading} "
            f"{row['difference']:+.{style.decimals + 1}f} ({ends}), p = {row['p_holm']:.2g} after Holm's correction."
        )
    else:
        chosen = finals.entries[0]
        sentences.append(f"No finalist is told better than the baseline {baseline['configuration']} {counts}.")
        if tuning.baseline.key not in tuning.space.by_key and others:
            chosen = finals.entries[1]
            sentences.append(f"{BEST} names the first of the search, {others[0]['configuration']}.")
        else:
            sentences.append(f"{BEST} names the baseline, the published tiling at this rate: nothing is surely better.")
    if worse:
        sentences.append(f"Told worse than the baseline: {', '.join(worse)}.")
    return Answer(chosen, bool(better), tuple(sentences))


def _counted(rows: Sequence[dict[Any, Any]]) -> str:
    row = max(rows, key=lambda row: row["utterances"])
    grouped = 0 < row["clusters"] < row["utterances"]
    of = f" of {row['clusters']} speakers" if grouped else ""
    return f"at {row['seeds']} seeds and {row['utterances']:,} held-out utterances{of}"


def write_best(tuning: Tuning, found: Answer, compared: pd.DataFrame) -> Path:
    """Write an experiment file for `evalkit run`: the best, beside the baseline where that is another one."""
    label, baseline = bottleneck_label(found.best.choice.bottleneck), bottleneck_label(tuning.baseline.bottleneck)
    values = tuning.experiment.resolved()
    values["name"] = f"best-{tuning.space.target:g}".replace("+", "")
    values["title"] = f"The best of a search at {tuning.space.target:g} bits per frame"
    values["notes"] = [*tuning.experiment.notes, *found.sentences]
    systems = {label: found.best.choice.bottleneck, baseline: tuning.baseline.bottleneck}
    values["systems"] = {name: {"bottleneck": bottleneck} for name, bottleneck in systems.items()}
    values["data"]["test"]["limit"] = None
    values["examples"] = 2
    if found.best.learning_rate is not None:
        values["train"]["learning_rate"] = found.best.learning_rate
        values["notes"].append("All its systems are trained with the learning rate that was best for the first.")
    path = tuning.folder / BEST
    head = "".join(f"# {sentence}\n" for sentence in (*found.sentences, f"Run it: evalkit run {BEST}"))
    write_atomically(path, head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    return path
