"""From rows of utterances and systems to one row a system: means, intervals, counts, rates, codes, speed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evalkit.metrics import METRICS
from evalkit.statistics import bootstrap_mean
from q2d2.registry import UnknownName

# With fewer speakers their resamples are too alike to tell anything; utterances are resampled then.
MIN_SPEAKERS = 5


@dataclass(frozen=True)
class MetricFormat:
    """How a metric is printed.

    `higher_is_better` is None, and nothing is ranked, for a metric that is not installed here.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool | None
    decimals: int

    @property
    def arrow(self) -> str:
        """The better direction as an arrow; empty where it is not known."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    @property
    def heading(self) -> str:
        """Label, unit and arrow, such as "pitch RMSE (cents) ↓"."""
        unit = f"({self.unit})" if self.unit else ""
        return " ".join(part for part in (self.label, unit, self.arrow) if part)


def metric_format(name: str) -> MetricFormat:
    """Label, unit, direction and decimals of the metric `name`; name and three decimals if not installed."""
    try:
        metric = METRICS.resolve(name)
    except (UnknownName, ImportError):  # an old run stays printable without the metric's own package
        return MetricFormat(name, name, "", None, 3)
    return MetricFormat(name, metric.label, metric.unit, metric.higher_is_better, metric.decimals)


def resampling_unit(utterances: pd.DataFrame) -> str:
    """What the bootstrap resamples, "speakers" or "utterances".

    Utterances of one speaker are alike, so speakers are drawn whole where every row names one and there are at least
    `MIN_SPEAKERS`. Decided once for all rows, so that all intervals of a table mean the same.
    """
    speakers = utterances["speaker"]
    known = len(speakers) > 0 and bool(speakers.notna().all())
    return "speakers" if known and speakers.nunique() >= MIN_SPEAKERS else "utterances"


def summarize(utterances: pd.DataFrame, systems: pd.DataFrame) -> pd.DataFrame:
    """One row a data set and system, systems in the order of `systems`.

    Columns: `dataset`, `system`, `kind`, `bits_per_frame`, `kbps` (nominal kbit/s), `tokens_per_second`; for each
    metric M `M` (mean over the rows that are ok), `M_low` and `M_high` (95 % interval of the mean), `M_n_ok`,
    `M_n_total`; `utilization_percent` (0..100), `normalized_entropy` (0..1), `entropy_kbps`, `rtf_encode`,
    `rtf_decode`, `parameters_millions`. NaN where a number does not exist: a rate without codes, a mean without rows.
    Failed and unavailable rows count in `M_n_total` only.

    Raises:
        ValueError: a system has utterances but no row in `systems`, a system is listed twice, or one utterance was
            scored twice by a metric (it would count double).
    """
    _check(utterances, systems)
    metrics = list(dict.fromkeys(utterances["metric"]))
    by_speaker = resampling_unit(utterances) == "speakers"
    groups = {key: rows for key, rows in utterances.groupby(["dataset", "system", "metric"], sort=False)}
    nothing = utterances.iloc[:0]
    table = []
    for dataset in list(dict.fromkeys(utterances["dataset"])) or [""]:
        for record in systems.to_dict("records"):
            row = {"dataset": dataset, **_rates(record)}
            for metric in metrics:
                row |= _mean(metric, groups.get((dataset, record["system"], metric), nothing), by_speaker)
            table.append(row | _codes_and_speed(record))
    return pd.DataFrame(table)


def _check(utterances: pd.DataFrame, systems: pd.DataFrame) -> None:
    if systems["system"].duplicated().any():
        raise ValueError(f"listed twice in systems: {sorted(systems['system'][systems['system'].duplicated()])}")
    strangers = sorted(set(utterances["system"]) - set(systems["system"]))
    if strangers:
        raise ValueError(f"utterances of {strangers}, but systems has rows for {list(systems['system'])} only")
    key = ["system", "dataset", "utterance", "metric"]
    twice = utterances[utterances.duplicated(key)]
    if len(twice):
        raise ValueError(f"{len(twice)} scores are there twice, the first: {twice[key].iloc[0].to_dict()}")


def _number(value: object) -> float:
    """A float; NaN for any kind of null."""
    return float(value) if isinstance(value, (int, float, np.number)) else math.nan


def _positive(value: object) -> float:
    """A float; NaN for null and for the zero of a system without codes."""
    number = _number(value)
    return number if number > 0 else math.nan


def _rates(record: dict) -> dict[str, object]:
    return {
        "system": record["system"],
        "kind": record["kind"],
        "bits_per_frame": _positive(record["bits_per_frame"]),
        "kbps": _positive(record["bitrate"]) / 1000,
        "tokens_per_second": _positive(record["tokens_per_second"]),
    }


def _codes_and_speed(record: dict) -> dict[str, float]:
    return {
        "utilization_percent": 100 * _number(record["utilization"]),
        "normalized_entropy": _number(record["normalized_entropy"]),
        "entropy_kbps": _number(record["entropy_bitrate"]) / 1000,
        "rtf_encode": _number(record["rtf_encode"]),
        "rtf_decode": _number(record["rtf_decode"]),
        "parameters_millions": _number(record["parameters"]) / 1e6,
    }


def _mean(metric: str, rows: pd.DataFrame, by_speaker: bool) -> dict[str, float]:
    values = rows["value"].to_numpy(dtype=np.float64, na_value=math.nan)
    ok = (rows["status"] == "ok").to_numpy() & np.isfinite(values)
    interval = bootstrap_mean(values[ok], clusters=rows["speaker"].to_numpy()[ok].tolist() if by_speaker else None)
    return {
        metric: _number(interval.mean),
        f"{metric}_low": _number(interval.low),
        f"{metric}_high": _number(interval.high),
        f"{metric}_n_ok": int(ok.sum()),
        f"{metric}_n_total": len(rows),
    }
