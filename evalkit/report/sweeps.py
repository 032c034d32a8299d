"""What a sweep adds to a page: what its own report found, and a rate chart of its configurations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from evalkit.report.charts import Chart, system_looks
from evalkit.report.copies import Copies
from evalkit.report.rates import rates_chart
from evalkit.run.saved_run import SavedRun
from evalkit.sweeps.written import WrittenSweep, WrittenTable, configuration_metrics, read_written

NAMES = {"claims": "claims", "configurations": "configurations", "matched": "differences at equal rate"}


@dataclass(frozen=True)
class SweepTable:
    """A table of a sweep on the page, under an id of its own, with what its buttons copy."""

    identity: str
    table: WrittenTable
    copies: Copies


@dataclass(frozen=True)
class ReportedSweep:
    """A sweep among the runs of a page.

    Attributes:
        run: the sweep.
        label: what the page calls it.
        written: what its report found; without tables where it was not written.
        tables: these, for the page.
    """

    run: SavedRun
    label: str
    written: WrittenSweep
    tables: tuple[SweepTable, ...]


def reported_sweeps(runs: Sequence[SavedRun], labels: Sequence[str]) -> list[ReportedSweep]:
    """Those of `runs` that are sweeps.

    Raises:
        SweepError: a table of a sweep is damaged.
    """
    found = []
    for position, (run, label) in enumerate(zip(runs, labels, strict=True)):
        if "sweep" in run.description:
            written = read_written(run.folder, run.title)
            tables = tuple(_table(f"{table.identity}-{position}", table) for table in written.tables)
            found.append(ReportedSweep(run, label, written, tables))
    return found


def configurations_chart(sweep: ReportedSweep) -> Chart | None:
    """Quality against bit rate of a sweep's configurations, all seeds of each together; None without its tables."""
    found = sweep.written.configurations
    if found is None:
        return None
    rates = sweep.run.systems.drop_duplicates("configuration").set_index("configuration")["frame_rate"]
    series = _series(found)
    frame = pd.DataFrame({
        "dataset": ", ".join(map(str, sweep.run.utterances["dataset"].unique())),
        "system": found["configuration"],
        "kind": "codec",
        "codec": series,
        "kbps": found["bits_per_frame"] * found["id"].map(rates) / 1000,
        "entropy_kbps": found["entropy_bits_per_frame"] * found["id"].map(rates) / 1000,
    })  # fmt: skip
    for metric in configuration_metrics(found):
        counts = found[f"{metric}_utterances"].fillna(0).astype(int)
        ends = {end: found[end] for end in (metric, f"{metric}_low", f"{metric}_high")}
        frame = frame.assign(**ends, **{f"{metric}_n_ok": counts, f"{metric}_n_total": counts})
    families = pd.DataFrame({"system": series, "kind": "codec", "family": found["family"]})
    of_series = system_looks(families.drop_duplicates("system"))
    entries = dict(zip(frame["system"], series, strict=True))
    return rates_chart(frame, {system: of_series[name] for system, name in entries.items()}, entries)


def _series(configurations: pd.DataFrame) -> pd.Series:
    """Which configurations are joined by a line: one family, and equally many channels where it has several."""
    several = configurations.groupby("family")["channels"].transform("nunique") > 1
    channels = configurations["channels"].map("{:g}".format)
    return configurations["family"].where(~several, configurations["family"] + " d=" + channels)


def _table(identity: str, table: WrittenTable) -> SweepTable:
    return SweepTable(identity, table, Copies(identity, NAMES[table.identity], table.texts()))
