"""What the audio of a finished run can be made of again: recordings and systems, found without computing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from evalkit.datasets import Utterance, load_corpus
from evalkit.datasets.selection import select_utterances
from evalkit.machine import select_device
from evalkit.report.extremes import Key
from evalkit.report.sound import told
from evalkit.run.evaluation import file_digest
from evalkit.run.experiment import Experiment, ExperimentError
from evalkit.run.folders import FolderSystem
from evalkit.run.planned import PlannedCodec, PlannedFolder, open_system, plan_system
from evalkit.run.saved_run import SavedRun
from evalkit.run.systems import System
from evalkit.schema import validated
from evalkit.scoring.pairing import Catalogue, PairingError, list_audio
from q2d2.audio import AudioError, read_header
from q2d2.checkpoints import CONFIG
from q2d2.codec import codec_config
from q2d2.errors import UserError

Opener = Callable[[], System]


@dataclass(frozen=True)
class Material:
    """What a run's audio can be made of again.

    Attributes:
        recordings: (data set, utterance) -> its file; not yet compared with what was scored.
        openers: system -> what loads it.
        lost: system -> why it cannot be loaded.
        reason: why nothing can be made again; empty where something can.
    """

    recordings: Mapping[Key, Utterance] = field(default_factory=dict)
    openers: Mapping[str, Opener] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


def open_material(run: SavedRun, trust_code: bool = False) -> Material:
    """Find what a run's audio can be made of: the corpora and systems of its experiment, or its folders.

    Nothing is raised: what is missing is a reason.

    Args:
        run: of an experiment or of folders; a sweep has neither.
        trust_code: whether classes that its experiment names may be imported.
    """
    try:
        return _of_experiment(run, trust_code) if run.description.get("experiment") else _of_folders(run)
    except (UserError, OSError) as error:
        return Material(reason=told(error))


def _of_experiment(run: SavedRun, trust_code: bool) -> Material:
    try:
        experiment = validated(Experiment, run.description["experiment"], "experiment", ExperimentError)
        backbone = codec_config(experiment.backbone.size, **experiment.backbone.changes)
    except (ValueError, TypeError) as error:
        why = told(error)
        return Material(reason=f"the experiment in run.json is not one of this version of evalkit: {why}")
    lost = {
        name: f"the run's folder has no checkpoint of it (checkpoints/{name}); a published run has none"
        for name, spec in experiment.systems.items()
        if spec.bottleneck is not None and not (run.folder / "checkpoints" / name / CONFIG).is_file()
    }
    test = experiment.data.test
    corpus = load_corpus(test.name, test.part, test.root)
    utterances = tuple(select_utterances(corpus, test.limit))
    recordings = {(f"{corpus.name}/{corpus.part}", utterance.id): utterance for utterance in utterances}
    openers: dict[str, Opener] = {}
    for name in experiment.systems:
        if name in lost:
            continue
        try:
            planned = plan_system(name, experiment, backbone, utterances, trust_code)
        except (UserError, OSError) as error:
            lost[name] = told(error)
            continue
        if isinstance(planned, PlannedCodec) and planned.missing:
            lost[name] = planned.missing.rstrip(".")
            continue
        if isinstance(planned, PlannedFolder) and planned.references is not None:
            dataset, references = planned.references
            recordings |= {(dataset, utterance.id): utterance for utterance in references}
        openers[name] = partial(open_system, planned, run.folder, select_device("cpu"))
    if not openers:
        return Material(reason="; ".join(dict.fromkeys(lost.values())))
    return Material(recordings, openers, lost)


def _of_folders(run: SavedRun) -> Material:
    """Of `evalkit score`: decoded files by their utterances' names, originals by their content."""
    folders = {name: Path(path) for name, path in run.description["folders"].items()}
    utterances = list(dict.fromkeys(run.utterances["utterance"]))
    dataset = run.description["test"]["dataset"]
    openers: dict[str, Opener] = {}
    lost: dict[str, str] = {}
    for name, folder in folders.items():
        try:
            files = _by_name(folder, utterances)
        except PairingError as error:
            lost[name] = str(error)
            continue
        openers[name] = partial(FolderSystem, name, folder, files)
    recordings = _originals(run, folders.values(), dataset)
    if not recordings:
        place = run.description.get("originals", dataset)
        return Material(
            reason=f"the folder of its originals ({place}) was not found from here, or its files are others: run "
            "evalkit report where evalkit score was run"
        )
    if not openers:
        return Material(reason="; ".join(dict.fromkeys(lost.values())))
    return Material({(dataset, name): recording for name, recording in recordings.items()}, openers, lost)


def _by_name(folder: Path, utterances: Iterable[str]) -> dict[str, Path]:
    catalogue = Catalogue(folder, list_audio(folder, []).files)
    found = {name: catalogue.find(name, name) for name in utterances}
    return {name: path for name, path in found.items() if path is not None}


def _originals(run: SavedRun, estimates: Iterable[Path], dataset: str) -> dict[str, Utterance]:
    """Utterance -> its recording, in the first likely folder where contents are those that were scored."""
    digests = dict(zip(run.signals["utterance"], run.signals["reference_sha256"], strict=True))
    for folder in _likely(run, estimates, dataset):
        try:
            files = _by_name(folder, digests)
            if not files or file_digest(files[first := next(iter(files))]) != digests[first]:
                continue
        except PairingError:
            continue
        return {name: found for name, path in files.items() if (found := _recording(name, path)) is not None}
    return {}


def _recording(name: str, path: Path) -> Utterance | None:
    try:
        header = read_header(path)
    except AudioError:
        return None
    return Utterance(name, path, None, header.frames, header.sample_rate)


def _likely(run: SavedRun, estimates: Iterable[Path], dataset: str) -> Iterator[Path]:
    """The originals' folder; older runs do not name it, but a data set is called after it and the one above it."""
    estimates = list(estimates)
    if "originals" in run.description:
        yield Path(run.description["originals"])
    yield from (Path(name) for name in run.description.get("unpaired") or {} if Path(name) not in estimates)
    yield Path(dataset)
    for folder in estimates:
        yield from (folder.parent / Path(dataset).name, folder.parent.parent / dataset)
