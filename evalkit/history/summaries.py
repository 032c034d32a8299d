"""What a publication keeps ready computed: means, intervals and counts, so that a site of many needs no bootstrap."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from evalkit.tables import summarize
from evalkit.tables.cells import CODES_AND_SPEED, RATES, Column, metric_names

# Known per system, not per utterance: one number without an interval.
SYSTEM_NUMBERS: dict[str, Column] = {column.key: column for column in (*RATES, *CODES_AND_SPEED)}
TEXT, FLOAT, COUNT = pa.string(), pa.float64(), pa.int64()
SUMMARY = pa.schema(
    [
        ("dataset", TEXT), ("protocol", TEXT), ("system", TEXT), ("kind", TEXT), ("codec", TEXT), ("metric", TEXT),
        ("version", TEXT), ("mean", FLOAT), ("low", FLOAT), ("high", FLOAT), ("n_ok", COUNT), ("n_total", COUNT),
        ("n_unavailable", COUNT), ("detail", TEXT), ("utterances", TEXT), ("references", TEXT),
    ]
)  # fmt: skip
DIGEST = 12  # hexadecimal digits


def long_summary(utterances: pd.DataFrame, systems: pd.DataFrame, signals: pd.DataFrame) -> pd.DataFrame:
    """One row a data set, protocol, system and metric, with the columns of `SUMMARY`.

    `mean` with its 95 % interval `low`..`high` over the `n_ok` of `n_total` utterances (`evalkit.tables.summarize`);
    `version` of the metric; `detail`: the most frequent reason for a missing score; `utterances`: digest of the
    utterances' ids; `references`: digest of the audio files behind them, "" where it was not kept. What is known of a
    system as a whole (`SYSTEM_NUMBERS`: rates, use of codes, speed) is a row as well, without interval and version.

    Raises:
        ValueError: the rows are inconsistent, see `summarize`.
    """
    rows = utterances.assign(
        protocol=utterances["protocol"].fillna("") if "protocol" in utterances else "",
        version=utterances.get("version"),
    )
    found = []
    for protocol, of_protocol in rows.groupby("protocol", sort=False):
        known = systems[systems["system"].isin(of_protocol["system"])]
        facts = _facts(of_protocol, signals)
        summary = summarize(of_protocol, known)
        metrics = metric_names(summary)
        for row in summary.to_dict("records"):
            told = facts[row["dataset"], row["system"]]
            common = {
                "dataset": row["dataset"], "protocol": protocol, "system": row["system"], "kind": row["kind"],
                "codec": row["codec"], "utterances": told.utterances, "references": told.references,
            }  # fmt: skip
            for metric in metrics:
                if row[f"{metric}_n_total"]:
                    version, detail = told.metrics[metric]
                    found.append(
                        common
                        | {"metric": metric, "version": version, "detail": detail, "mean": row[metric]}
                        | {key: row[f"{metric}_{key}"] for key in ("low", "high", "n_ok", "n_total", "n_unavailable")}
                    )
            for key in SYSTEM_NUMBERS:
                if not math.isnan(row[key]):
                    nothing = {"version": "", "detail": "", "low": math.nan, "high": math.nan}
                    counts = {"n_ok": 0, "n_total": 0, "n_unavailable": 0}
                    found.append(common | nothing | counts | {"metric": key, "mean": row[key]})
    return pd.DataFrame(found, columns=SUMMARY.names)


def as_table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """The frame in the exact types of `schema`, so that tables of many publications can be put together."""
    return pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)


def digest_texts(texts: Iterable[str]) -> str:
    """A digest of a set of texts, whatever their order."""
    joined = "\n".join(text.encode("unicode_escape").decode() for text in sorted(texts))
    return hashlib.sha256(joined.encode()).hexdigest()[:DIGEST]


class _Facts(NamedTuple):
    """Of one system on one data set: digests, and metric -> (version, most frequent reason for a missing score)."""

    utterances: str
    references: str
    metrics: dict[str, tuple[str, str]]


def _facts(rows: pd.DataFrame, signals: pd.DataFrame) -> dict[Any, _Facts]:
    """What is told of each (data set, system)."""
    references = {
        key: digest_texts(part["utterance"] + " " + part["reference_sha256"])
        for key, part in signals.groupby(["dataset", "system"], sort=False)
    }
    digests: dict[frozenset[str], str] = {}  # nearly all systems of a run have one set of utterances
    found: dict[Any, _Facts] = {}
    for key, part in rows.groupby(["dataset", "system"], sort=False):
        ids = frozenset(part["utterance"])
        if ids not in digests:
            digests[ids] = digest_texts(ids)
        metrics = {str(metric): (_version(each), _detail(each)) for metric, each in part.groupby("metric", sort=False)}
        found[key] = _Facts(digests[ids], references.get(key, ""), metrics)
    return found


def _version(rows: pd.DataFrame) -> str:
    known = rows.loc[rows["status"] == "ok", "version"].dropna()
    return str(known.iloc[0]) if len(known) else ""


def _detail(rows: pd.DataFrame) -> str:
    lost = rows[rows["status"] != "ok"]
    if not len(lost):
        return ""
    details = lost["detail"].fillna("").replace("", "no reason given")
    return str(details.value_counts().index[0])
