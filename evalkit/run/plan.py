"""What a run will do, worked out and checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evalkit.datasets import Corpus, Utterance, load_corpus
from evalkit.datasets.selection import select_manifest, select_utterances
from evalkit.metrics import METRICS
from evalkit.papers import read_paper
from evalkit.run.descriptions import read_description as read_run
from evalkit.run.evaluation import Evaluation
from evalkit.run.experiment import Experiment, ExperimentError, SystemSpec
from evalkit.run.planned import Planned, PlannedBottleneck, PlannedCodec, PlannedFolder, plan_system
from evalkit.run.shards import Shard, refuse_another_experiment
from evalkit.scoring.protocol import KNOWN_ANSWERS, get_protocol
from evalkit.stats.reach import few_units
from evalkit.tables.against_paper import Counterpart
from q2d2.bottleneck import NullBottleneck
from q2d2.checkpoints import find_checkpoint, read_description
from q2d2.codec import Codec, CodecConfig, CodecOutput, codec_config
from q2d2.plain_values import differences
from q2d2.training.losses import ReconstructionLosses
from q2d2.training.manifest import Manifest

MAX_LEFT_OUT = 5
OWN_WEIGHTS = "weights from a folder of one's own, not compared with the published ones"


@dataclass(frozen=True)
class Plan:
    """An experiment with its corpora opened and its systems built once for checking.

    Attributes:
        train, test: corpora; `train` is empty where nothing is trained.
        train_manifest: the files of the training corpora that are trained on.
        test_utterances: those of the test corpus that are scored, sorted by id.
    """

    experiment: Experiment
    folder: Path
    systems: tuple[Planned, ...]
    train: tuple[Corpus, ...]
    train_manifest: Manifest
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
    def training(self) -> dict[str, Any]:
        """All that the trained systems depend on, in plain values: it must not change within a run's folder."""
        resolved = self.experiment.resolved()
        return {
            "backbone": resolved["backbone"],
            "train": resolved["train"],
            "files_sha256": self.train_manifest.digest,
            "bottleneck": {system.name: system.bottleneck for system in self.trained},
        }

    @property
    def trained(self) -> tuple[PlannedBottleneck, ...]:
        """The systems that have to be trained, or were in the run's folder."""
        return tuple(s for s in self.systems if isinstance(s, PlannedBottleneck) and s.checkpoint is None)

    @property
    def _counterparts(self) -> dict[str, Counterpart]:
        """System -> the paper's row that it is compared with."""
        experiment = self.experiment
        if experiment.paper is None:
            return {}
        known = read_paper(experiment.paper).systems
        found = {name: Counterpart(name) for name in KNOWN_ANSWERS if name in known}
        for system in self.systems:
            spec = experiment.systems[system.name]
            if spec.published is not None:
                found[system.name] = _counterpart(spec, system)
        return found

    @property
    def evaluation(self) -> Evaluation:
        """What its systems are scored on, and how."""
        experiment = self.experiment
        return Evaluation(
            folder=self.folder,
            title=experiment.title or experiment.name,
            notes=_notes(self),
            dataset=self.dataset,
            utterances=self.test_utterances,
            metrics=tuple(experiment.metrics),
            protocol=get_protocol(experiment.protocol, experiment.align),
            baseline=experiment.baseline,
            examples=experiment.examples,
            paper=experiment.paper,
            counterparts=self._counterparts,
        )


def _counterpart(spec: SystemSpec, planned: Planned) -> Counterpart:
    parts = [spec.differs] if spec.differs else []
    if isinstance(planned, PlannedBottleneck) and planned.checkpoint is None:
        parts.append("trained here, not the published weights")
    if isinstance(planned, PlannedCodec) and planned.own_weights:
        parts.append(OWN_WEIGHTS)
    return Counterpart(str(spec.published), "; ".join(parts))


def make_plan(experiment: Experiment, folder: Path, shard: Shard | None = None, trust_code: bool = False) -> Plan:
    """Open the corpora and check everything that can be checked without computing; writes nothing.

    Args:
        experiment: what to do.
        folder: of the run.
        shard: do this part of it only, in a folder of its own inside `folder`; systems must have been trained before.
        trust_code: whether classes that the experiment names ("package.module:Class") may be imported.

    Raises:
        ExperimentError: a system, size, loss or segment length is not valid, a class may not be imported, or `folder`
            holds systems that were trained otherwise.
        UnknownName: a metric or dataset is not registered.
        DatasetError, CheckpointError: a corpus or checkpoint is missing or does not fit.
    """
    for metric in experiment.metrics:
        METRICS.require(metric)
    if experiment.weights_root is not None and not experiment.weights_root.is_dir():
        raise ExperimentError(f"weights_root: {experiment.weights_root} is no folder")
    backbone = _backbone(experiment)
    test = load_corpus(experiment.data.test.name, experiment.data.test.part, experiment.data.test.root)
    test_utterances = tuple(select_utterances(test, experiment.data.test.limit))
    systems = tuple(plan_system(name, experiment, backbone, test_utterances, trust_code) for name in experiment.systems)
    if shard is not None:
        refuse_another_experiment(experiment, shard.folder(folder))
        if shard.count > len(test_utterances):
            raise ExperimentError(f"--shard: {shard.count} shards of {len(test_utterances)} utterances")
        test_utterances = shard.select(test_utterances)
        systems = tuple(_part(system, shard, folder) for system in systems)
        folder = shard.folder(folder)
    train: list[Corpus] = []
    manifests: list[Manifest] = []
    if any(isinstance(system, PlannedBottleneck) and system.checkpoint is None for system in systems):
        _check_training(experiment, backbone)
        for ref in experiment.data.train:
            train.append(load_corpus(ref.name, ref.part, ref.root))
            manifests.append(select_manifest(train[-1], ref.limit))
    plan = Plan(experiment, folder, systems, tuple(train), Manifest.concat(manifests), test, test_utterances)
    _check_folder(plan)
    return plan


def _part(system: Planned, shard: Shard, folder: Path) -> Planned:
    """The system as one of several shards sees it."""
    if isinstance(system, PlannedFolder) and system.references is not None:
        dataset, utterances = system.references
        return replace(system, references=(dataset, shard.select(utterances)))
    if isinstance(system, PlannedBottleneck) and system.checkpoint is None:
        if system.state(folder) != "trained already":
            raise ExperimentError(f"--shard: train {system.name} first: evalkit train ... --out {folder}")
        return replace(system, checkpoint=folder / "checkpoints" / system.name)
    return system


def _backbone(experiment: Experiment) -> CodecConfig:
    try:
        backbone = codec_config(experiment.backbone.size, **experiment.backbone.changes)
        with torch.device("meta"):  # shapes without numbers
            Codec(backbone, NullBottleneck(backbone.dimension))
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise ExperimentError(f"backbone: {error}") from error
    return backbone


def _check_training(experiment: Experiment, backbone: CodecConfig) -> None:
    if not experiment.data.train:
        raise ExperimentError("data.train is empty, but there are systems to train")
    settings = experiment.train
    samples = round(settings.segment_seconds * backbone.sample_rate)
    try:
        losses = ReconstructionLosses(backbone.sample_rate, settings.losses)
        nothing = torch.zeros(1, min(samples, losses.shortest))
        losses(CodecOutput(nothing, nothing, nothing.sum()), nothing)
    except (ValueError, RuntimeError) as error:
        raise ExperimentError(f"train.losses or train.segment_seconds: {error}") from error
    if settings.init_from:
        source = find_checkpoint(settings.init_from)
        if found := differences(read_description(source)["backbone"], backbone.to_dict()):
            raise ExperimentError(f"train.init_from: {source} holds another backbone: {'; '.join(found)}")


def _check_folder(plan: Plan) -> None:
    """Raise ExperimentError where the folder's systems were, or are being, trained otherwise than planned."""
    begun = [name for name in plan.training["bottleneck"] if (plan.folder / "checkpoints" / name).is_dir()]
    path = plan.folder / "run.json"
    if not begun or not path.is_file():
        return
    stored = read_run(path, ExperimentError).get("training")
    if stored is None:
        return
    if lacking := [key for key in ("train", "backbone", "bottleneck", "files_sha256") if stored.get(key) is None]:
        raise ExperimentError(f"{path} is damaged: training lacks {lacking[0]}")
    wanted = plan.training
    for part, keys in (("train", wanted["train"]), ("backbone", wanted["backbone"]), ("bottleneck", begun)):
        known = [key for key in keys if key in stored[part]]  # an older version may not have had it
        held, ours = ({part: {key: of[part][key] for key in known}} for of in (stored, wanted))
        if found := differences(held, ours):
            raise ExperimentError(
                f"{plan.folder} holds systems trained with {found[0]}. "
                "Choose another --out, or delete that folder to train anew."
            )
    if stored["files_sha256"] != wanted["files_sha256"]:
        raise ExperimentError(
            f"{plan.folder} holds systems trained on other files than data.train has now. "
            "Choose another --out, or delete that folder to train anew."
        )


def _notes(plan: Plan) -> tuple[str, ...]:
    """What a reader of the table must know, as sentences."""
    train = plan.experiment.train
    tested = f"Test set: {plan.dataset}, {plan.test.coverage}"
    if len(plan.test_utterances) < len(plan.test.utterances):
        tested += f", of which {len(plan.test_utterances)} were scored"
    notes = [*plan.experiment.notes, tested + "."]
    if plan.test.problems:
        shown = "; ".join(f"{problem.path.name}: {problem.reason}" for problem in plan.test.problems[:MAX_LEFT_OUT])
        further = len(plan.test.problems) - MAX_LEFT_OUT
        notes.append(f"Left out, unusable: {shown}{f'; and {further} more' if further > 0 else ''}.")
    for system in plan.systems:
        if isinstance(system, PlannedCodec) and system.own_weights:
            notes.append(f"{system.name}: {OWN_WEIGHTS}.")
    if plan.train:
        start = f"continuing from the backbone checkpoint {train.init_from}" if train.init_from else "from scratch"
        minutes = plan.train_manifest.seconds / 60
        notes.append(
            f"Every system was trained by the recipe {train.recipe}, {start}, for {train.steps:,} steps of "
            f"{train.batch_size} x "
            f"{train.segment_seconds:g} s on {minutes:.1f} minutes of speech, seed {train.seed}."
        )
    return tuple(notes)


def show_plan(plan: Plan, console: Console) -> None:
    """Print what will be done, no line wider than 80 characters but for long paths and titles."""

    def line(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    train = plan.experiment.train
    line(f"[bold]{escape(plan.experiment.title or plan.experiment.name)}[/]  ->  {escape(str(plan.folder))}")
    for role, corpora in (("train on", plan.train), ("test on", (plan.test,))):
        for corpus in corpora:
            line(f"{role:9} {corpus.name} {corpus.part}: {corpus.coverage}, {corpus.seconds / 60:.1f} min")
            for problem in corpus.problems:
                line(f"          [yellow]left out[/] {escape(str(problem))}")
    if len(plan.test_utterances) < len(plan.test.utterances):
        line(f"          limited to {len(plan.test_utterances):,} test utterances")
    backbones = {system.backbone for system in plan.systems if isinstance(system, PlannedBottleneck)}
    if len(backbones) == 1:
        line(f"backbone  {_size(*backbones)}")
    if plan.train:
        start = f"continuing from {escape(train.init_from)}" if train.init_from else "from scratch"
        line(
            f"training  recipe {train.recipe}, {start}, {train.steps:,} steps of {train.batch_size} x "
            f"{train.segment_seconds:g} s each"
        )
    line(f"scoring   {len(plan.test_utterances):,} utterances by {', '.join(plan.experiment.metrics)}")
    line(f"protocol  {plan.evaluation.protocol.label}")

    table = Table(box=None, pad_edge=False)
    for heading in ("system", "bits/frame", "kbit/s", "", *(["backbone"] if len(backbones) > 1 else [])):
        table.add_column(heading, justify="right" if heading in ("bits/frame", "kbit/s") else "left", overflow="fold")
    for system in plan.systems:
        rates, size = ["-", "-"], _size(system.backbone) if isinstance(system, PlannedBottleneck) else ""
        if not isinstance(system, PlannedFolder) and system.bits_per_frame:
            rates = [f"{system.bits_per_frame:.2f}", f"{system.bitrate / 1000:.3f}"]
        state = escape(system.state(plan.folder))
        table.add_row(system.name, *rates, state, *([size] if len(backbones) > 1 else []))
    for name in KNOWN_ANSWERS:
        table.add_row(name, "", "", "known answer")
    console.print(table, highlight=False)
    missing: dict[str, list[str]] = {}
    for system in plan.systems:
        if isinstance(system, PlannedCodec) and system.missing:
            missing.setdefault(system.missing, []).append(system.name)
    for reason, names in missing.items():
        line(f"[yellow]unavailable[/] {', '.join(names)}: {escape(reason)}")


def reach_note(plan: Plan) -> str:
    """A sentence where so few speakers or utterances are scored that nothing could be marked; else nothing."""
    experiment = plan.experiment
    compared = len(plan.systems) - (experiment.baseline in experiment.systems)
    if experiment.baseline is None or compared < 1:
        return ""
    speakers = {utterance.speaker for utterance in plan.test_utterances}
    if None in speakers:
        return few_units(len(plan.test_utterances), "utterance", compared)
    return few_units(len(speakers), "speaker", compared)


def _size(backbone: CodecConfig) -> str:
    return f"{backbone.sample_rate / 1000:g} kHz, {backbone.frame_rate:g} frames/s"
