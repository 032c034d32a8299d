"""What run.json and sweep.json say of a run, as far as anything relies on it: a damaged one is told when it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field

from evalkit.schema import Described, read_described, validated
from q2d2.errors import UserError

# A sweep's file has a line a trial.
MAX_SWEEP_BYTES = 256 * 2**20


class _System(Described):
    bottleneck: dict[str, Any] | None = None
    checkpoint: str | None = None
    codec: dict[str, Any] | None = None
    folder: dict[str, Any] | None = None
    published: str | None = None
    differs: str = ""


class _CorpusRef(Described):
    name: str
    part: str | None = None


class _Data(Described):
    train: list[_CorpusRef] = Field(default_factory=list)
    test: _CorpusRef | None = None


class _Backbone(Described):
    size: str | None = None
    changes: dict[str, Any] | None = None


class _Train(Described):
    recipe: str | None = None
    steps: int = 0
    batch_size: int = 0
    segment_seconds: float = 0
    init_from: str | None = None


class _Experiment(Described):
    name: str | None = None
    title: str | None = None
    notes: list[Any] | None = None
    systems: dict[str, _System] | None = None
    backbone: _Backbone | None = None
    data: _Data | None = None
    train: dict[str, Any] | None = None
    metrics: list[str] | None = None
    paper: str | None = None


class _Sweep(Described):
    name: str
    title: str | None = None
    notes: list[Any] | None = None
    experiment: str | None = None
    set: dict[str, Any] | None = None
    seeds: list[int] | None = None
    claims: str | None = None


class _Trial(Described):
    id: str = Field(pattern=r"^[0-9a-f]{1,64}$")  # joined to a path
    configuration: str
    label: str
    family: str
    seed: int
    values: dict[str, Any]
    target: float | None = None
    bits_per_frame: float | None = None
    bitrate: float | None = None


class _Protocol(Described):
    label: str | None = None
    rates: dict[str, Any] | None = None
    versions: dict[str, Any] | None = None


class _Test(Described):
    dataset: str | None = None
    scored: int | None = None
    files_sha256: str | None = None


class _TestCorpus(Described):
    coverage: str | None = None
    left_out: list[Any] | None = None


class _TrainCorpus(Described):
    corpus: str
    coverage: str
    seconds: float | None = None
    left_out: list[Any] | None = None


class _Training(Described):
    backbone: _Backbone | None = None
    train: _Train | None = None
    bottleneck: dict[str, dict[str, Any]] | None = None
    files_sha256: str | None = None


class _Form(Described):
    """What run.json and sweep.json share, and the one or the other has; of older runs parts are missing."""

    experiment: _Experiment | None = None
    sweep: _Sweep | None = None
    baseline: str | None = None
    notes: list[Any] | None = None
    protocol: _Protocol | None = None
    test: _Test | None = None
    test_corpus: _TestCorpus | None = None
    train: list[_TrainCorpus] | None = None
    training: _Training | None = None
    unavailable: dict[str, Any] | None = None
    folders: dict[str, str] | None = None
    originals: str | None = None
    unpaired: dict[str, list[str]] | None = None
    weights_sha256: dict[str, Any] | str | None = None
    packages: dict[str, Any] | None = None
    hardware: dict[str, Any] | None = None
    trials: list[_Trial] | None = None


def read_description(path: Path, error: Callable[[str], UserError]) -> dict[str, Any]:
    """The keys and values of a run.json or sweep.json, as they are in the file.

    Raises:
        UserError: `error`: it cannot be read, or is damaged: the message names the key.
        FileNotFoundError, NotADirectoryError: it is not there.
    """
    values = read_described(path, error, MAX_SWEEP_BYTES)
    validated(_Form, values, f"{path} is damaged", error)
    return values
