"""What can run on this machine, as one report: without any network, and without writing anything."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evalkit.datasets import DATASETS
from evalkit.doctor.checks import (
    Check,
    check_cache,
    check_codec,
    check_datasets,
    check_machine,
    check_metric,
    check_part,
)
from evalkit.doctor.weights import WeightsRow, list_weights
from evalkit.metrics import METRICS
from evalkit.metrics.weights import weights_folder
from q2d2.errors import UserError, did_you_mean
from q2d2.registry import UnknownName

WIDTH = 100


class Missing(UserError, RuntimeError):
    """Something that is required cannot run here; the message says why, and how to get it."""


@dataclass(frozen=True)
class Report:
    """All that was found.

    Attributes:
        machine: versions of Python, the package, torch and transformers (None: not installed), the CPU with its cores
            and threads, ram_gib, the CUDA devices (name, gib of memory, bf16), and why there are none.
        metrics, codecs, datasets: every registered one, in the order of its registry.
        weights: how many of the names in `evalkit weights list` have theirs; the folders where they are looked for.
        cache: path, entries, bytes and max_bytes of the cache of scores; problem: why it is not in use, or empty.
    """

    machine: dict[str, Any]
    metrics: tuple[Check, ...]
    codecs: tuple[Check, ...]
    datasets: tuple[Check, ...]
    weights: dict[str, Any]
    cache: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)

    def require(self, names: Sequence[str]) -> None:
        """Raise `Missing` where one of `names` cannot be used."""
        checks = [check for check in (*self.metrics, *self.codecs, *self.datasets) if check.name in names]
        if missing := [f"{check.name} ({check})" for check in checks if not check.ok]:
            raise Missing(f"required, and missing here: {', '.join(missing)}")

    def lines(self) -> list[str]:
        """The report as text, one screen."""
        machine, weights, cache = self.machine, self.weights, self.cache
        versions = ", ".join(f"{name} {machine[name] or 'missing'}" for name in ("torch", "transformers"))
        gpus = Counter(
            f"{gpu['name']}, {gpu['gib']} GiB, bf16 {'yes' if gpu['bf16'] else 'no'}" for gpu in machine["cuda"]
        )
        text = ["machine"]
        text.append(f"  Python {machine['python']}, {versions}, evalkit {machine['evalkit']}")
        text.append(f"  CPU: {machine['cpu']}, {machine['threads']} threads, {machine['ram_gib']} GiB of memory")
        text.extend(f"  CUDA: {count} x {gpu}" for gpu, count in gpus.items())
        if not gpus:
            text.append(f"  CUDA: no device; {machine['cuda_problem']}")
        text += _section("metrics", self.metrics, together=True)
        text += _section("whole codecs", self.codecs)
        text += _section("datasets", self.datasets)
        text.append(f"weights: {weights['there']} of {weights['needed']} are there (evalkit weights list)")
        text.append(f"  of metrics in {weights['metrics_folder']}")
        text.append(f"  of codecs in {' or '.join(weights['codec_folders'])}")
        if cache["problem"]:
            text.append(f"scores' cache: not in use; {cache['problem']}")
        else:
            size = f"{cache['bytes'] / 1e6:,.1f} of {cache['max_bytes'] / 1e6:,.0f} MB"
            text.append(f"scores' cache: {cache['entries']:,} entries, {size}, {cache['path']}")
        return text


def examine(weights_root: Path | None = None, required: Sequence[str] = ()) -> Report:
    """Look at everything.

    Args:
        weights_root: folder to look for codecs' weights in before the hub's cache.
        required: names that `Report.require` will be asked for; a dataset's may be NAME:PART, which is then looked at
            beside the dataset's default part.

    Raises:
        UnknownName: a required name is neither a metric, a codec nor a dataset.
        DatasetError: a required dataset has no such part.
        WeightsError: `weights_root` is no folder.
    """
    from baselines.codecs import CODECS

    known = [*METRICS.names(), *CODECS.names(), *DATASETS.names()]
    parts = [name for name in dict.fromkeys(required) if name.partition(":")[0] in DATASETS.names() and ":" in name]
    for name in required:
        if name not in (*known, *parts):
            raise UnknownName(
                f"--require {name}: no such metric, codec or dataset.{did_you_mean(name, known)} "
                f"Known: {', '.join(known)}."
            )
    for label in parts:
        check_part(*label.split(":", 1))
    rows = list_weights(root=weights_root, verify=False)
    return Report(
        machine=check_machine(),
        metrics=tuple(map(check_metric, METRICS.names())),
        codecs=tuple(check_codec(name, rows) for name in CODECS.names()),
        datasets=check_datasets([*DATASETS.names(), *parts]),
        weights=_weights(rows, weights_root),
        cache=check_cache(),
    )


def _section(title: str, checks: Sequence[Check], *, together: bool = False) -> list[str]:
    """A heading and a line for each; `together`: those that are there by their names alone."""
    lines = [f"{title}: {sum(check.ok for check in checks)} of {len(checks)} can be used here"]
    if together and (names := [check.name for check in checks if check.ok]):
        lines += textwrap.wrap(", ".join(names), WIDTH, initial_indent="  ok ", subsequent_indent="     ")
    singly = [check for check in checks if not (together and check.ok)]
    width = max((len(check.name) for check in singly), default=0)
    return lines + [f"  {'ok' if check.ok else '--'} {check.name:{width}}  {check}" for check in singly]


def _weights(rows: Sequence[WeightsRow], root: Path | None) -> dict[str, Any]:
    from huggingface_hub import constants

    return {
        "there": len({row.name for row in rows if row.there}),
        "needed": len({row.name for row in rows}),
        "metrics_folder": str(weights_folder()),
        "codec_folders": [*([str(root)] if root is not None else []), constants.HF_HUB_CACHE],
    }
