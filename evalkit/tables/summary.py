"""From rows of utterances and systems to one row a system: means, intervals, counts, rates, codes, speed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evalkit.metrics import METRICS
from evalkit.stats.bootstrap import bootstrap_mean
from q2d2.registry import UnknownName


@dataclass(frozen=True)
class MetricFormat:
    """How a metric is printed.

    Attributes:
        name: the column's key, "pesq" or, with a protocol, "pesq@paper".
        label: "PESQ" or "PESQ (paper)".
        unit: empty for a pure number.
        higher_is_better: None, and nothing is ranked, for a metric that is not installed here.
        decimals: digits after the point.
        needs_reference: False for predictors, which look at the estimate alone.
        caveat: the metric class's own, a sentence that stands under every table with the metric; may be empty.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool | None
    decimals: int
    needs_reference: bool = True
    caveat: str = ""

    @property
    def arrow(self) -> str:
        """The better direction as an arrow; empty where it is not known."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    @property
    def heading(self) -> str:
        """Label and unit, such as "pitch RMSE (cents)" or "PESQ (paper, MOS-LQO)"."""
        if not self.unit:
            return self.label
        return f"{self.label[:-1]}, {self.unit})" if self.label.endswith(")") else f"{self.label} ({self.unit})"


def metric_key(metric: str, protocol: str = "") -> str:
    """The key of a metric's columns: "pesq", or "pesq@paper" where its protocol has to be told from another."""
    return f"{metric}@{protocol}" if protocol else metric


def metric_format(key: str) -> MetricFormat:
    """Label, unit, direction and decimals of the metric `key` ("pesq", "pesq@paper").

    A metric that is not installed gets its name as label, three decimals and no direction.
    """
    name, _, protocol = key.partition("@")
    suffix = f" ({protocol})" if protocol else ""
    try:
        metric = METRICS.resolve(name)
    except (UnknownName, ImportError):  # an old run stays printable without the metric's own package
        return MetricFormat(key, name + suffix, "", None, 3)
    return MetricFormat(
        key,
        metric.label + suffix,
        metric.unit,
        metric.higher_is_better,
        metric.decimals,
        getattr(metric, "needs_reference", True),
        getattr(metric, "caveat", ""),
    )


def protocols(utterances: pd.DataFrame) -> list[str]:
    """The protocols of the rows, in order; "" for rows without one."""
    if "protocol" not in utterances:
        return [""] if len(utterances) else []
    return [str(name) for name in utterances["protocol"].fillna("").unique()]


def metric_keys(utterances: pd.DataFrame) -> pd.Series:
    """The metric of each row, with its protocol (`metric_key`) where the rows hold several protocols."""
    if len(protocols(utterances)) < 2:
        return utterances["metric"]
    suffixes = utterances["protocol"].fillna("")
    return utterances["metric"].where(suffixes == "", utterances["metric"] + "@" + suffixes)


def resampling_unit(utterances: pd.DataFrame) -> str:
    """What the bootstrap resamples and tests rank in these rows of one data set, "speakers" or "utterances".

    Utterances of one speaker are alike, so speakers are taken whole where every row names one, however few there are:
    of one there is no interval and no mark. Decided once for all rows of a data set, so that all its intervals mean the
    same.
    """
    speakers = utterances["speaker"]
    known = len(speakers) > 0 and bool(speakers.notna().all())
    return "speakers" if known else "utterances"


def summarize(utterances: pd.DataFrame, systems: pd.DataFrame, differences: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a data set and system that was scored on it, systems in the order of `systems`.

    Columns: `dataset`, `system`, `kind`, `codec` (the whole codec that it is, or ""), `bits_per_frame`, `kbps` (kbit/s,
    nominal unless a coder has no codebooks), `tokens_per_second`; for each metric M `M` (mean over the rows that are
    ok), `M_low` and `M_high` (95 % interval of the mean), `M_n_ok`, `M_n_total`, `M_n_unavailable`;
    `utilization_percent` (0..100), `normalized_entropy` (0..1), `entropy_kbps`, `rtf_encode`, `rtf_decode`,
    `parameters_millions`. NaN where a number does not exist: a rate without codes, a mean without rows. Failed and
    unavailable rows count in `M_n_total` only.

    M is the metric's name, or name@protocol where the rows hold several protocols, so that no mean is over two.

    Args:
        utterances: rows of utterances.parquet; `protocol` and `version` may be missing.
        systems: rows of systems.parquet.
        differences: from `compare_with_baseline`, of the same rows: adds `M_verdict` ("better", "worse", "higher",
            "lower", or "" where no difference was found) and the column `baseline`.

    Raises:
        ValueError: a system has utterances but no row in `systems`, a system is listed twice, one utterance was
            scored twice by a metric (it would count double), or by two versions of a metric.
    """
    utterances = utterances.assign(metric=metric_keys(utterances))
    _check(utterances, systems)
    metrics = list(dict.fromkeys(utterances["metric"]))
    groups = {key: rows for key, rows in utterances.groupby(["dataset", "system", "metric"], sort=False)}
    nothing = utterances.iloc[:0]
    verdicts = _verdicts(differences)
    table = []
    scored_on = utterances.groupby("system", sort=False)["dataset"].unique().to_dict()
    for dataset in list(dict.fromkeys(utterances["dataset"])) or [""]:
        by_speaker = resampling_unit(utterances[utterances["dataset"] == dataset]) == "speakers"
        for record in systems.to_dict("records"):
            if dataset not in scored_on.get(record["system"], [dataset]):
                continue
            row = {"dataset": dataset, **_rates(record)}
            for metric in metrics:
                row |= _mean(metric, groups.get((dataset, record["system"], metric), nothing), by_speaker)
                if verdicts:
                    row[f"{metric}_verdict"] = verdicts.get((dataset, record["system"], metric), "")
            table.append(row | _codes_and_speed(record))
    summary = pd.DataFrame(table)
    return (
        summary
        if differences is None or not len(differences)
        else summary.assign(baseline=differences["baseline"].iloc[0])
    )


def _verdicts(differences: pd.DataFrame | None) -> dict[tuple[str, str, str], str]:
    if differences is None:
        return {}
    keys = zip(differences["dataset"], differences["system"], metric_keys(differences), strict=True)
    return dict(zip(keys, differences["verdict"], strict=True))


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
    if "version" in utterances:
        scored = utterances[utterances["status"] == "ok"]
        for metric, versions in scored.groupby("metric", sort=False)["version"]:
            found = sorted(versions.fillna("(none)").unique())
            if len(found) > 1:
                raise ValueError(
                    f"{metric} was scored by versions {', '.join(map(str, found))}: no mean may be over both; "
                    "score all again with one of them"
                )


def _text(value: object) -> str:
    """A text; empty for any kind of null."""
    return value if isinstance(value, str) else ""


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
        "codec": _text(record.get("codec")),
        "bits_per_frame": _positive(record.get("bits_per_frame")),
        "kbps": _positive(record.get("bitrate")) / 1000,
        "tokens_per_second": _positive(record.get("tokens_per_second")),
    }


def _codes_and_speed(record: dict) -> dict[str, float]:
    return {
        "utilization_percent": 100 * _number(record.get("utilization")),
        "normalized_entropy": _number(record.get("normalized_entropy")),
        "entropy_kbps": _number(record.get("entropy_bitrate")) / 1000,
        "rtf_encode": _number(record.get("rtf_encode")),
        "rtf_decode": _number(record.get("rtf_decode")),
        "parameters_millions": _number(record.get("parameters")) / 1e6,
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
        f"{metric}_n_unavailable": int((rows["status"] == "unavailable").sum()),
    }
