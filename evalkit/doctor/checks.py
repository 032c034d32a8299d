"""What `evalkit doctor` looks at, part by part: the machine, metrics, whole codecs, corpora, the cache of scores.

Nothing is written, no network is loaded and no corpus is read: of a corpus the files of one part are listed and a few
headers looked at, for a few seconds at most.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import platform
import shlex
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any, TypeVar

from evalkit.datasets import DATASETS, DatasetError, load_corpus
from evalkit.datasets.corpus import watching_headers
from evalkit.datasets.fetch import archives_of
from evalkit.datasets.layout import Archive, require_part, root_variable
from evalkit.doctor.weights import WeightsRow
from evalkit.machine import code_version
from evalkit.metrics import Unavailable, load_metric
from evalkit.metrics.weights import WEIGHTS
from evalkit.scoring.cache import Cache, CacheError
from evalkit.speed import hardware_fingerprint

SECONDS_FOR_CORPORA = 4.0  # more than listing a hundred thousand files takes on a local disk
INSTALL = "install the package that has it"

T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """Whether one metric, codec or dataset can be used here.

    Attributes:
        name: as registered; a dataset may have a part, as in "librispeech:dev-clean".
        ok: it can be used, as far as can be known without loading it.
        state: a few words: what is there (a metric's version, a codec's weights, a corpus), or what is missing.
        way: how to get what is missing, one line; empty where nothing is.
    """

    name: str
    ok: bool
    state: str
    way: str = ""

    def __str__(self) -> str:
        return f"{self.state}; {self.way}" if self.way else self.state


def check_machine() -> dict[str, Any]:
    """`Report.machine`."""
    import torch

    with warnings.catch_warnings(record=True) as complaints:  # of a driver that is too old, for instance
        warnings.simplefilter("always")
        hardware = hardware_fingerprint()
        devices = [_cuda(number) for number in range(hardware["gpus"])]
    if complaints:
        problem = str(complaints[0].message).splitlines()[0]
    elif torch.version.cuda is None:
        problem = "this torch is built without CUDA"
    else:
        problem = f"torch is built for CUDA {torch.version.cuda} and finds no GPU"
    return {
        "python": platform.python_version(),
        "evalkit": code_version(),
        "torch": torch.__version__,
        "transformers": _version("transformers"),
        "cpu": hardware["cpu"],
        "cores": hardware["cores"],
        "threads": hardware["threads"],
        "ram_gib": hardware["ram_gib"],
        "cuda": devices,
        "cuda_problem": "" if devices else problem,
    }


def _cuda(number: int) -> dict[str, Any]:
    import torch

    with torch.cuda.device(number):
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    properties = torch.cuda.get_device_properties(number)
    return {"name": properties.name, "gib": round(properties.total_memory / 2**30, 1), "bf16": bf16}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_metric(name: str) -> Check:
    """Build the metric `name`; its network, if any, is not loaded, and its weights are not read."""
    try:
        return Check(name, True, load_metric(name).version)
    except Unavailable as error:
        # "What is missing: command", or with more sentences after it, of which a screen has no room.
        state, _, way = str(error).removeprefix(f"{name}: ").partition(". ")[0].partition(": ")
        return Check(name, False, state, way or (f"evalkit weights fetch {name}" if name in WEIGHTS.names() else ""))
    except ImportError as error:
        return Check(name, False, str(error), INSTALL)


def check_codec(name: str, rows: Sequence[WeightsRow]) -> Check:
    """The codec `name` by its row in `list_weights`; one that has none needs no weights."""
    row = next((row for row in rows if row.name == name), None)
    if row is None:
        return Check(name, True, "needs no weights")
    if row.state in ("not usable", "incomplete"):
        return Check(name, False, row.origin, row.way)
    return Check(name, row.there, "no weights" if row.state == "absent" else f"weights {row.state}", row.way)


def check_cache() -> dict[str, Any]:
    """`Report.cache`; a cache that is not there is not made."""
    try:
        cache = Cache.from_environment()
    except CacheError as error:
        return {"path": None, "entries": 0, "bytes": 0, "max_bytes": 0, "problem": str(error)}
    found = {"path": str(cache.path), "entries": 0, "bytes": 0, "max_bytes": cache.max_bytes, "problem": ""}
    if os.path.exists(cache.path):
        info = cache.info()
        return found | {"entries": info.entries, "bytes": info.bytes, "problem": cache.problem}
    # Not asked itself, as that would make it.
    above = next(parent for parent in cache.path.parents if os.path.exists(parent))
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        found["problem"] = f"{cache.path} cannot be made in {above}; EVALKIT_CACHE can name another folder"
    return found


def check_datasets(names: Sequence[str]) -> tuple[Check, ...]:
    """Look for each dataset, given as NAME (its default part) or NAME:PART, where EVALKIT_<NAME>_ROOT says.

    All side by side: a large folder, or a share that does not answer, must not keep the report waiting.
    """
    started = [(name, _start(partial(_dataset, name))) for name in names]
    deadline = time.monotonic() + SECONDS_FOR_CORPORA
    checks = []
    for name, future in started:
        try:
            checks.append(future.result(max(0.0, deadline - time.monotonic())))
        except TimeoutError:
            variable = root_variable(name.partition(":")[0])
            state = f"{variable}={os.environ.get(variable)} is not listed within {SECONDS_FOR_CORPORA:g} s"
            checks.append(Check(name, False, state, f"evalkit data check {name.partition(':')[0]}"))
    return tuple(checks)


def _start(function: Callable[[], T]) -> Future[T]:
    """Run `function` in a thread that does not keep the process alive."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=work, daemon=True).start()
    return future


class _Opened(Exception):
    """The corpus is there: its first header has been read. `args` holds the number of its files."""


def _dataset(label: str) -> Check:
    name, _, wanted = label.partition(":")
    variable = root_variable(name)
    root = os.environ.get(variable, "")

    def stop(done: int, total: int) -> None:
        raise _Opened(total)

    part = wanted
    try:
        part = wanted or _default_part(name)
        with watching_headers(stop):
            num_files = len(load_corpus(name, wanted or None).utterances)
    except _Opened as opened:
        num_files = opened.args[0]
    except ImportError as error:
        return Check(label, False, str(error), INSTALL)
    except (DatasetError, OSError) as error:
        fetch = _fetch_command(name, part, root)
        if not root:
            return Check(label, False, f"{variable} not set", fetch or "set it, or give root in the experiment")
        state = str(error).removeprefix(f"{name}: ").partition(". ")[0].partition("\n")[0]
        correct = () if fetch and _is_folder(root) else ("correct it",)
        return Check(label, False, f"{variable}: {state}", ", or ".join(filter(None, (*correct, fetch))))
    plural = "" if num_files == 1 else "s"
    return Check(label, True, f"{part}, {num_files:,} file{plural}{f' in {root}' if root else ''}")


def _default_part(name: str) -> str:
    return str(inspect.signature(DATASETS.resolve(name)).parameters["part"].default)


def check_part(name: str, part: str) -> None:
    """Raise DatasetError if `part` is none of the published parts of `name`; where none are published, any may be."""
    if archives := _archives(name):
        require_part(name, part, archives)


def _archives(name: str) -> Mapping[str, Archive]:
    try:
        return archives_of(name)
    except DatasetError:
        return {}


def _fetch_command(name: str, part: str, root: str) -> str:
    """How `part` is downloaded, to `root` if that is a folder; empty where nothing is published."""
    if part not in _archives(name):
        return ""
    to = f" --to {shlex.quote(root)}" if _is_folder(root) else ""
    return f"evalkit data fetch {name} --part {part}{to}"


def _is_folder(root: str) -> bool:
    return bool(root) and os.path.isdir(os.path.expanduser(root))
