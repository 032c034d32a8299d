"""Published numbers as data: one CSV a paper, named after it, with where they come from beside it in a YAML."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from q2d2.registry import UnknownName
from q2d2.yaml_values import parse_yaml

FOLDER = files("evalkit") / "papers"


@dataclass(frozen=True)
class PublishedSystem:
    """One row of a paper's table.

    Attributes:
        label: as the paper calls it.
        quantizers, tokens_per_second, kbps: as printed; None where nothing is.
        values: metric (as registered here; "rtf" for the real-time factor of the whole inference) -> printed number.
        decimals: metric -> digits after the point as printed, so that rounding is not taken for a difference.
    """

    label: str
    quantizers: int | None
    tokens_per_second: float | None
    kbps: float | None
    values: Mapping[str, float]
    decimals: Mapping[str, int]


@dataclass(frozen=True)
class Paper:
    """The numbers of one paper.

    Attributes:
        name: of its files.
        title, source: what it is, and which table of it.
        dataset, n: the test set as named in rows, and how many utterances it has.
        protocol: label of ours that has the same definitions of metrics.
        remarks: what is to be known of the numbers, a sentence each.
        systems: in the order of the table.
    """

    name: str
    title: str
    source: str
    dataset: str
    n: int
    protocol: str
    remarks: tuple[str, ...]
    systems: Mapping[str, PublishedSystem]


def paper_names() -> list[str]:
    """The papers whose numbers are here."""
    return sorted(entry.name.removesuffix(".csv") for entry in FOLDER.iterdir() if entry.name.endswith(".csv"))


@cache
def read_paper(name: str) -> Paper:
    """The numbers of the paper `name`.

    Raises:
        UnknownName: it is not here.
        ValueError: its files contradict themselves (a defect of this package: they ship with it).
    """
    if name not in paper_names():
        raise UnknownName(f"unknown paper {name!r}. Known: {', '.join(paper_names())}.")
    about = parse_yaml((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    rows: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader((FOLDER / f"{name}.csv").read_text(encoding="utf-8").splitlines()):
        rows.setdefault(row["system"], []).append(row)
    systems = {system: _system(system, of_system) for system, of_system in rows.items()}
    remarks = tuple(about.pop("remarks"))
    return Paper(name=name, remarks=remarks, systems=systems, **about)


def _system(name: str, rows: list[dict[str, str]]) -> PublishedSystem:
    described = {(row["label"], row["quantizers"], row["tokens_per_second"], row["kbps"]) for row in rows}
    metrics = [row["metric"] for row in rows]
    if len(described) > 1 or len(set(metrics)) < len(metrics):
        raise ValueError(f"{name}: rows that contradict each other: {sorted(described)}, metrics {metrics}")
    label, quantizers, tokens, kbps = described.pop()
    return PublishedSystem(
        label,
        int(quantizers) if quantizers else None,
        float(tokens) if tokens else None,
        float(kbps) if kbps else None,
        {row["metric"]: float(row["value"]) for row in rows},
        {row["metric"]: len(row["value"].partition(".")[2]) for row in rows},
    )
