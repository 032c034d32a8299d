"""What a search is: its space, audio and training; kept in its folder, so that it is never mixed with another one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from evalkit.datasets import load_corpus
from evalkit.datasets.selection import select_utterances
from evalkit.metrics import METRICS, Unavailable, load_metric
from evalkit.run.experiment import CorpusRef, DataSection, Experiment, SystemSpec, load_experiment
from evalkit.run.plan import make_plan
from evalkit.schema import read_described
from evalkit.sweeps.schema import Block, Sweep
from evalkit.sweeps.trials import Trial, bottleneck_label, expand
from evalkit.tuning.space import Choice, Space, TuneError, baseline_choice, search_space
from evalkit.tuning.split import HELD_OUT, SEARCH, TRAIN, Split, split_audio, split_test_set
from q2d2.files import write_atomically
from q2d2.plain_values import differences

SCHEMA_VERSION = 1
DESCRIPTION, EXPERIMENT, AUDIO = "tune.json", "experiment.yaml", "audio"
# Speed is no question here, so no time is spent on it.
QUICK_SPEED = {"speed.repeats": 1, "speed.seconds": 1.0}
# Keys of an experiment that the search itself decides, and by which option.
OWN_KEYS = {"systems": "--families", "metrics": "--metric", "baseline": "--families", "paper": "--families"}


@dataclass(frozen=True)
class Tuning:
    """One search.

    Attributes:
        folder: of the search, absolute.
        space: what is searched.
        baseline: what the best are compared with.
        experiment: with its data in the parts of `split`; its `train.steps` are those of the finalists.
        split: parts of the audio.
        metrics: the first one is what is optimised, the others are reported too.
        steps: of a trial of the search.
        learning_rate: (low, high) to search too; None for the experiment's own.
        limit: utterances scored in the search, and as many held out; None for all.
    """

    folder: Path
    space: Space
    baseline: Choice
    experiment: Experiment
    split: Split
    metrics: tuple[str, ...]
    steps: int
    learning_rate: tuple[float, float] | None
    limit: int | None

    @property
    def metric(self) -> str:
        """What is optimised."""
        return self.metrics[0]

    @property
    def higher_is_better(self) -> bool:
        """Direction of `metric`."""
        return bool(METRICS.resolve(self.metric).higher_is_better)

    @property
    def seed(self) -> int:
        """Of the search's trainings; the finalists have those after it."""
        return self.experiment.train.seed

    def trial(self, choice: Choice, learning_rate: float | None) -> Trial:
        """The training of one point, scored on the part to choose by."""
        point = _point(choice, learning_rate)
        (trial,) = expand(self._sweep("search", [point], SEARCH, self.metrics[:1], self.steps, (self.seed,)))
        return trial

    def final_sweep(self, chosen: Sequence[tuple[Choice, float | None]], num_seeds: int) -> Sweep:
        """Points trained for all of the experiment's steps with new seeds, scored on the held-out part."""
        seeds = tuple(range(self.seed + 1, self.seed + 1 + num_seeds))
        points = [_point(*each) for each in chosen]
        return self._sweep("finalists", points, HELD_OUT, self.metrics, self.experiment.train.steps, seeds)

    def test_set(self, part: str) -> CorpusRef:
        """A part to score on."""
        return CorpusRef(name="folder", part=part, root=self.folder / AUDIO, limit=self.limit)

    def moved_to(self, folder: Path) -> Tuning:
        """The same search in another folder."""
        data = self.experiment.data
        ours = {"root": folder / AUDIO}
        train = [ref.model_copy(update=ours) if ref.root == self.folder / AUDIO else ref for ref in data.train]
        test = data.test.model_copy(update=ours)
        changed = self.experiment.model_copy(update={"data": DataSection(train=train, test=test)})
        return replace(self, folder=folder, experiment=changed)

    def num_scored(self, part: str) -> int:
        """Utterances of a part that are scored."""
        return min(self.limit or len(self.split.parts[part]), len(self.split.parts[part]))

    def write(self) -> None:
        """Make the folder what `experiment` and its trials refer to.

        Raises:
            TuneError: it holds another search; the message names the difference.
        """
        wanted = self._describe()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / DESCRIPTION
        if path.is_file():
            _refuse_another(path, wanted)
        else:
            write_atomically(path, json.dumps(wanted, ensure_ascii=False, indent=1) + "\n")
        self.split.write(self.folder / AUDIO)
        text = yaml.safe_dump(self.experiment.resolved(), sort_keys=False, allow_unicode=True)
        write_atomically(self.folder / EXPERIMENT, text)

    def check(self) -> None:
        """Refuse settings that no trial could be trained with; nothing is left in the folder.

        Raises:
            ExperimentError, DatasetError, CheckpointError: as `evalkit.run.plan.make_plan`.
        """
        with tempfile.TemporaryDirectory() as elsewhere:
            moved = self.moved_to(Path(elsewhere))
            moved.write()
            trial = moved.trial(self.baseline, None)
            if trial.experiment is None:
                raise TuneError(trial.problem)
            make_plan(trial.experiment, moved.folder / "trial")

    def _sweep(
        self, name: str, points: list[dict[str, Any]], part: str, metrics: Sequence[str], steps: int,
        seeds: tuple[int, ...],
    ) -> Sweep:  # fmt: skip
        keys = {
            **QUICK_SPEED, "train.steps": steps, "metrics": list(metrics),
            "data.test": self.test_set(part).model_dump(mode="json"),
        }  # fmt: skip
        title = f"{self.experiment.title or self.experiment.name}: {name} at {self.space.target:g} bits per frame"
        block = Block.model_validate({"list": points})
        return Sweep(
            name=name, title=title, experiment=str(self.folder / EXPERIMENT), set=keys, points=[block], seeds=seeds
        )

    def _describe(self) -> dict[str, Any]:
        experiment = self.experiment.resolved()
        for ref in (*experiment["data"]["train"], experiment["data"]["test"]):
            del ref["root"]  # the folder may be moved
        settings = {
            "bits_per_frame": self.space.target,
            "families": list(dict.fromkeys(choice.family for choice in self.space.choices)),
            "metric": list(self.metrics), "steps": self.steps,
            "learning_rate": None if self.learning_rate is None else list(self.learning_rate),
            "limit": self.limit, "audio": self.split.digests(), "experiment": experiment,
        }  # fmt: skip
        return {"schema_version": SCHEMA_VERSION, "settings": settings}


def prepare(
    folder: Path,
    target: float,
    *,
    experiment: str = "tiny",
    overrides: Sequence[str] = (),
    audio: Path | None = None,
    families: Sequence[str] | None = None,
    metrics: Sequence[str] = ("mel_distance",),
    steps: int | None = None,
    learning_rate: tuple[float, float] | None = None,
    limit: int | None = 100,
) -> Tuning:
    """A search from what a user gives; writes nothing.

    Args:
        folder: where it will be.
        target: bits per frame.
        experiment: built-in name or YAML file: backbone, training, and data where `audio` is None.
        overrides: "key=value" each.
        audio: a tree of audio files to train and test on.
        families, metrics, steps, learning_rate, limit: as in `Tuning`; None for all families, the experiment's steps.

    Raises:
        TuneError, ExperimentError, DatasetError, UnknownName: something cannot be used; nothing was computed.
    """
    _refuse_own_keys(overrides, audio)
    space, baseline = search_space(target, families), baseline_choice(target)
    loaded = load_experiment(experiment, overrides)
    for metric in dict.fromkeys(metrics):
        METRICS.require(metric)
        try:
            load_metric(metric)
        except (Unavailable, ImportError) as error:
            raise TuneError(f"--metric {metric} cannot run here: {error}") from error
    if learning_rate is not None and not 0 < learning_rate[0] < learning_rate[1] < float("inf"):
        raise TuneError(f"--learning-rate {learning_rate[0]:g},{learning_rate[1]:g}: expected 0 < LOW < HIGH")
    folder = folder.expanduser().absolute()
    root = folder / AUDIO
    if audio is not None:
        if not audio.expanduser().is_dir():
            raise TuneError(f"--audio {audio}: there is no such folder")
        split = split_audio(load_corpus("folder", "all", audio))
        train = [CorpusRef(name="folder", part=TRAIN, root=root)]
    else:
        test = loaded.data.test
        corpus = load_corpus(test.name, test.part, test.root)
        split = split_test_set(corpus, select_utterances(corpus, test.limit))
        train = [_absolute(ref) for ref in loaded.data.train]
    label = bottleneck_label(baseline.bottleneck)
    data = DataSection(train=train, test=CorpusRef(name="folder", part=HELD_OUT, root=root, limit=limit))
    changes: dict[str, Any] = {
        "data": data, "systems": {label: SystemSpec(bottleneck=baseline.bottleneck)}, "baseline": label, "paper": None,
        "metrics": list(dict.fromkeys(metrics)), "examples": 0,
    }  # fmt: skip
    return Tuning(
        folder, space, baseline, loaded.model_copy(update=changes), split, tuple(dict.fromkeys(metrics)),
        steps or loaded.train.steps, learning_rate, limit,
    )  # fmt: skip


def _refuse_own_keys(overrides: Sequence[str], audio: Path | None) -> None:
    own = OWN_KEYS | ({"data": "--audio"} if audio is not None else {})
    for override in overrides:
        key = override.partition("=")[0].split(".")[0]
        if key in own:
            raise TuneError(f"--set {override}: {key} is decided by {own[key]}; use that option instead")


def _absolute(ref: CorpusRef) -> CorpusRef:
    return ref if ref.root is None else ref.model_copy(update={"root": ref.root.expanduser().absolute()})


def _point(choice: Choice, learning_rate: float | None) -> dict[str, Any]:
    rate = {} if learning_rate is None else {"train.learning_rate": learning_rate}
    return {"bottleneck": choice.bottleneck, **rate}


def _refuse_another(path: Path, wanted: Mapping[str, Any]) -> None:
    stored = read_described(path, lambda problem: TuneError(f"{problem}; choose another --out"))
    if found := differences(stored, wanted):
        first = found[0].removeprefix("settings.")
        if first.startswith("audio."):
            first = f"other audio in part {first.split()[0].removeprefix('audio.')}"
        raise TuneError(
            f"{path.parent} holds a search with {first}. Choose another --out, or give the same settings to go on "
            "with it."
        )
