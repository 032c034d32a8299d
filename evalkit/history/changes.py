"""What changed from one publication to the next: paired comparisons with the predecessor of the same name."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import pyarrow.parquet as pq

from evalkit.history.migrations import HistoryError
from evalkit.history.publication import CHANGES, Publication
from evalkit.scoring.protocol import KNOWN_ANSWERS
from evalkit.stats.differences import ALPHA, PairedComparison, compare_paired, holm_of, verdict_of
from evalkit.stats.reach import smallest_p
from evalkit.tables import metric_format, resampling_unit

KEYS = ["dataset", "protocol", "system", "metric"]


class Step(NamedTuple):
    """One comparison to make: a metric of a system, with the publication it follows."""

    dataset: str
    protocol: str
    system: str
    metric: str
    predecessor: str


def find_steps(publications: Sequence[Publication], rows: Iterable[Mapping[str, Any]]) -> dict[int, list[Step]]:
    """Position of a publication -> what is to be compared in it, and with which earlier one.

    The predecessor of a metric of a system is the newest earlier publication of the same name with numbers of the same
    metric version, over the same utterances of the same data set, under the same protocol. Of a sweep nothing is
    compared: its systems are trials.

    Args:
        publications: oldest first.
        rows: of their summaries, with `position` (`History.rows`).
    """
    found: dict[int, list[Step]] = defaultdict(list)
    last: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)  # series -> (references, id), newest last
    for row in rows:
        publication = publications[row["position"]]
        if publication.is_sweep or not row["n_ok"]:
            continue
        dataset, protocol, system, metric = (row[name] for name in KEYS)
        series = last[publication.name, dataset, protocol, system, metric, row["version"], row["utterances"]]
        for earlier, identifier in reversed(series):
            if same_audio(earlier, row["references"]):
                found[row["position"]].append(Step(dataset, protocol, system, metric, identifier))
                break
        series.append((row["references"], publication.id))
    return dict(found)


def same_audio(references: str, others: str) -> bool:
    """Whether two digests of reference audio can be of the same: they are equal, or one was not kept."""
    return references == others or not references or not others


def are_known(publication: Publication, steps: Sequence[Step]) -> bool:
    """Whether the changes kept with a publication are of exactly these steps."""
    columns = [publication.changes[name].to_pylist() for name in Step._fields]
    return {Step(*values) for values in zip(*columns, strict=True)} == set(steps)


def compare_steps(utterances: pd.DataFrame, steps: Sequence[Step], others: Mapping[str, Publication]) -> pd.DataFrame:
    """The comparisons of one publication: one row a step, columns `CHANGES`.

    `difference` is the mean of this one minus the predecessor, over the utterances both scored. Holm's correction is
    over all steps with any difference but those of the known answers: what is equal utterance by utterance needs no
    test, and what a known answer gives is no hypothesis. `verdict` as in
    `evalkit.tables.compare_with_baseline`: "better", "worse" ("higher", "lower"), or "".

    Args:
        utterances: rows of the publication.
        steps: from `find_steps`.
        others: id -> publication, at least the predecessors.

    Raises:
        HistoryError: a predecessor's rows cannot be read.
    """
    here = _scores(utterances)
    before = {identifier: _scores(_rows(others[identifier])) for identifier in {step.predecessor for step in steps}}
    speakers = {
        str(dataset): dict(zip(rows["utterance"], rows["speaker"], strict=True))
        if resampling_unit(rows) == "speakers"
        else None
        for dataset, rows in utterances.groupby("dataset", sort=False)
    }
    compared = [
        compare_paired(
            here.get(step[:-1], {}), before[step.predecessor].get(step[:-1], {}), clusters=speakers[step.dataset]
        )
        for step in steps
    ]
    equal = [index for index, each in enumerate(compared) if not _differs(each)]
    known = [index for index, step in enumerate(steps) if step.system in KNOWN_ANSWERS]
    adjusted = holm_of({index: each.p for index, each in enumerate(compared)}, {*equal, *known})
    table = [
        _row(step, comparison, adjusted[index])
        for index, (step, comparison) in enumerate(zip(steps, compared, strict=True))
    ]
    return pd.DataFrame(table, columns=CHANGES.names)


def out_of_reach(changes: Iterable[Mapping[str, Any]]) -> str:
    """A sentence, or nothing: where so few units were compared that Wilcoxon's test could not reach the level.

    Args:
        changes: of one publication, columns `CHANGES`.
    """
    tested = [row["units"] for row in changes if not math.isnan(row["p_holm"])]
    if not tested:
        return ""
    units = max(tested)
    smallest = smallest_p(units, len(tested))
    if smallest < ALPHA:
        return ""
    return (
        f"With {units} units and {len(tested)} comparisons the smallest corrected p there can be is "
        f"{smallest:.2g}: no change could be found."
    )


def _differs(comparison: PairedComparison) -> bool:
    return comparison.effect_rank != 0 or comparison.interval.mean != 0


def _row(step: Step, comparison: PairedComparison, p_holm: float) -> dict[str, Any]:
    verdict = verdict_of(comparison.side(p_holm), metric_format(step.metric).higher_is_better)
    numbers = comparison.numbers(p_holm)
    return (
        step._asdict()
        | {"n": comparison.interval.n, "units": comparison.units, "p_holm": p_holm, "verdict": verdict}
        | {name: numbers[name] for name in ("difference", "low", "high", "p")}
    )


def _scores(utterances: pd.DataFrame) -> dict[Any, dict[str, float]]:
    """(data set, protocol, system, metric) -> utterance -> value, of the scores that are numbers."""
    protocol = utterances["protocol"].fillna("") if "protocol" in utterances else ""
    ok = utterances.assign(protocol=protocol)[(utterances["status"] == "ok") & utterances["value"].notna()]
    return {
        key: dict(zip(rows["utterance"], rows["value"].astype(float), strict=True))
        for key, rows in ok.groupby(KEYS, sort=False)
    }


def _rows(publication: Publication) -> pd.DataFrame:
    path = publication.folder / "utterances.parquet"
    try:
        rows: pd.DataFrame = pq.ParquetFile(path).read().to_pandas()
    except (OSError, ValueError) as error:
        raise HistoryError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return rows
