"""What a run will do, worked out and checked before anything is computed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evalkit.datasets import Corpus, Utterance, load_corpus
from evalkit.experiment import CorpusRef, Experiment, ExperimentError
from evalkit.metrics import METRICS
from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import CONFIG, find_checkpoint, read_description
from q2d2.codec import CodecConfig, codec_config
from q2d2.registry import UnknownName
from q2d2.training.segments import AudioFile


@dataclass(frozen=True)
class PlannedSystem:
    """A system of the experiment, before it is trained or loaded.

    Attributes:
        name: as in tables.
        bottleneck: {"name": ..., **options}.
        backbone: sizes of its backbone.
        checkpoint: where to load it from; None for one to be trained.
        bits_per_frame: nominal; 0 for the null bottleneck.
    """

    name: str
    bottleneck: dict[str, Any]
    backbone: CodecConfig
    checkpoint: Path | None
    bits_per_frame: float

    @property
    def bitrate(self) -> float:
        """Nominal bit/s."""
        return self.bits_per_frame * self.backbone.frame_rate


@dataclass(frozen=True)
class Plan:
    """An experiment with its corpora opened and its systems built once for checking.

    Attributes:
        train, test: corpora; `train` is empty where nothing is trained.
        test_utterances: those of the test corpus that are scored, sorted by id.
    """

    experiment: Experiment
    folder: Path
    systems: tuple[PlannedSystem, ...]
    train: tuple[Corpus, ...]
    train_utterances: tuple[Utterance, ...]
    test: Corpus
    test_utterances: tuple[Utterance, ...]

    @property
    def dataset(self) -> str:
        """The test set as named in rows: "librispeech/test-clean"."""
        return f"{self.test.name}/{self.test.part}"

    @property
    def test_rate(self) -> int | None:
        """The test set's sample rate in Hz, None where it has several."""
        rates = {utterance.sample_rate for utterance in self.test_utterances}
        return rates.pop() if len(rates) == 1 else None

    @property
    def train_files(self) -> list[AudioFile]:
        return [AudioFile(u.path, u.frames, u.sample_rate) for u in self.train_utterances]


def make_plan(experiment: Experiment, folder: Path) -> Plan:
    """Open the corpora and check every system and metric.

    Raises:
        ExperimentError: a system, size or metric is not valid.
        DatasetError, CheckpointError: a corpus or checkpoint is missing.
    """
    for metric in experiment.metrics:
        METRICS.resolve(metric)
    try:
        backbone = codec_config(experiment.backbone.size, **experiment.backbone.changes)
    except (ValueError, TypeError) as error:
        raise ExperimentError(f"backbone: {error}") from error
    systems = tuple(_plan_system(name, experiment, backbone) for name in experiment.systems)
    if experiment.train.init_from and any(system.checkpoint is None for system in systems):
        find_checkpoint(experiment.train.init_from)
    train: list[Corpus] = []
    train_utterances: list[Utterance] = []
    if any(system.checkpoint is None for system in systems):
        if not experiment.data.train:
            raise ExperimentError("data.train is empty, but there are systems to train")
        for ref in experiment.data.train:
            train.append(load_corpus(ref.name, ref.part, ref.root))
            train_utterances += _limited(train[-1], ref)
    test = load_corpus(experiment.data.test.name, experiment.data.test.part, experiment.data.test.root)
    test_utterances = tuple(_limited(test, experiment.data.test))
    return Plan(experiment, folder, systems, tuple(train), tuple(train_utterances), test, test_utterances)


def _plan_system(name: str, experiment: Experiment, backbone: CodecConfig) -> PlannedSystem:
    spec = experiment.systems[name]
    checkpoint = None
    if spec.checkpoint is not None:
        checkpoint = find_checkpoint(spec.checkpoint)
        described = read_description(checkpoint)
        bottleneck, backbone = described["bottleneck"], CodecConfig(**described["backbone"])
    else:
        assert spec.bottleneck is not None  # SystemSpec allows one or the other
        bottleneck = spec.bottleneck
    options = dict(bottleneck)
    try:
        built = build_bottleneck(options.pop("name"), backbone.dimension, **options)
    except UnknownName as error:
        raise ExperimentError(f"systems.{name}: {error}") from error
    except ValueError as error:
        raise ExperimentError(f"systems.{name}: {error}") from error
    return PlannedSystem(name, bottleneck, backbone, checkpoint, built.bits_per_frame)


def _limited(corpus: Corpus, ref: CorpusRef) -> Sequence[Utterance]:
    """The first `limit` utterances of an order that does not depend on how ids are sorted or who speaks."""
    if ref.limit is None or ref.limit >= len(corpus.utterances):
        return corpus.utterances
    by_digest = sorted(corpus.utterances, key=lambda u: hashlib.sha256(u.id.encode()).digest())
    return sorted(by_digest[: ref.limit], key=lambda u: u.id)


def show_plan(plan: Plan, console: Console) -> None:
    """Print what will be done."""
    train = plan.experiment.train
    console.print(f"[bold]{plan.experiment.title or plan.experiment.name}[/]  ->  {plan.folder}")
    for role, corpora in (("train on", plan.train), ("test on", (plan.test,))):
        for corpus in corpora:
            console.print(f"{role:9} {corpus.name} {corpus.part}: {corpus.coverage}, {corpus.seconds / 60:.1f} min")
            for problem in corpus.problems:
                console.print(f"          [yellow]left out[/] {problem}", highlight=False)
    if len(plan.test_utterances) < len(plan.test.utterances):
        console.print(f"          limited to {len(plan.test_utterances)} test utterances")
    table = Table(box=None, pad_edge=False)
    for heading in ("system", "backbone", "bits/frame", "kbit/s", "how"):
        table.add_column(heading, justify="right" if heading in ("bits/frame", "kbit/s") else "left")
    for system in plan.systems:
        trained = (plan.folder / "checkpoints" / system.name / CONFIG).is_file()
        how = (
            f"load {system.checkpoint}"
            if system.checkpoint
            else (
                "trained already"
                if trained
                else f"train {train.steps:,} steps x {train.batch_size} x {train.segment_seconds:g} s"
            )
        )
        rate = f"{system.bitrate / 1000:.2f}" if system.bits_per_frame else "-"
        bits = f"{system.bits_per_frame:.2f}" if system.bits_per_frame else "-"
        size = f"{system.backbone.sample_rate / 1000:g} kHz, {system.backbone.frame_rate:g} frames/s"
        table.add_row(system.name, size, bits, rate, how)
    console.print(table)
    start = f"continuing from {train.init_from}" if train.init_from else "from scratch"
    console.print(
        f"training {start}; scoring {len(plan.test_utterances)} utterances x {len(plan.systems) + 3} systems "
        f"(3 of them known-answer) by {', '.join(plan.experiment.metrics)}"
    )
