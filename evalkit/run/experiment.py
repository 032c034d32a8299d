"""The schema of an experiment file: what is compared, on what data, trained how, scored by what."""

from __future__ import annotations

from collections.abc import Container, Sequence
from importlib.resources import files
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from evalkit.papers import paper_names, read_paper
from evalkit.schema import FILE_NAME, MAX_COUNT, MAX_NAME, Strict, YamlSources, validated
from evalkit.scoring.protocol import KNOWN_ANSWERS
from q2d2.errors import UserError, did_you_mean, printable, shown
from q2d2.plain_values import BARE_NULL, NotPlain
from q2d2.training.config import TrainConfig, recipe_values
from q2d2.yaml_values import parse_yaml


class ExperimentError(UserError, ValueError):
    """An experiment that cannot be read or is not valid; the message names the file, the key and the way out."""


SOURCES = YamlSources("experiment", files("evalkit.run") / "experiments", ExperimentError)


class CorpusRef(Strict):
    """One part of a dataset.

    Attributes:
        name: a registered dataset: sample, librispeech, libritts, ljspeech, folder, ...
        part: such as "test-clean"; None for the dataset's default.
        root: folder of the corpus; None for the environment variable EVALKIT_<NAME>_ROOT.
        limit: use this many utterances, the same ones on every machine, drawn over the whole list; None for all.
    """

    name: str
    part: str | None = None
    root: Path | None = None
    limit: int | None = Field(default=None, ge=1, le=MAX_COUNT)


class DataSection(Strict):
    """Corpora to train on (needed only where a system is trained) and the one to test on."""

    train: list[CorpusRef] = Field(default_factory=list)
    test: CorpusRef


class BackboneSection(Strict):
    """A named size of the backbone and changes to it: {size: wavtokenizer, changes: {ratios: [6, 5, 5, 3]}}."""

    size: str = "wavtokenizer"
    changes: dict[str, Any] = Field(default_factory=dict)


class FolderSection(Strict):
    """Decoded audio of a codec, paired by file name.

    Attributes:
        path: folder of the decoded files.
        references: folder of their originals, which are then scored as a data set of their own; None where they belong
            to utterances of the test set.
    """

    path: Path
    references: Path | None = None


class SystemSpec(Strict):
    """A system: exactly one of the first four.

    Attributes:
        bottleneck: to train under the backbone: {name: registered bottleneck, **its options}.
        checkpoint: folder of a checkpoint, or the name of one that ships with the package.
        codec: a whole codec: {name: registered codec or package.module:Class, **its options}.
        folder: decoded audio.
        published: the system of the experiment's paper that this one is compared with.
        differs: what makes that comparison an unequal one, such as other weights; printed beside it.
    """

    bottleneck: dict[str, Any] | None = None
    checkpoint: str | None = None
    codec: dict[str, Any] | None = None
    folder: FolderSection | None = None
    published: str | None = None
    differs: str = ""

    @field_validator("bottleneck", "codec", mode="before")
    @classmethod
    def _has_a_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"expected a name with options: {{name: {printable(value)}}}")
        return value

    def model_post_init(self, context: Any) -> None:
        kinds = (self.bottleneck, self.checkpoint, self.codec, self.folder)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("give either bottleneck (to train), checkpoint or codec (to load), or folder (to score)")
        if self.bottleneck is not None and not isinstance(self.bottleneck.get("name"), str):
            example = "bottleneck needs a name, for instance {name: q2d2, tiling: rhombic, levels: [7, 7]}"
            raise ValueError(BARE_NULL if self.bottleneck.get("name", "") is None else example)
        if self.codec is not None and not isinstance(self.codec.get("name"), str):
            raise ValueError("codec needs a name, for instance {name: encodec, num_quantizers: 8}")


class SpeedSection(Strict):
    """How the real-time factor is measured: median of `repeats` on one clip of `seconds`, batch 1."""

    seconds: float = Field(default=5.0, gt=0, le=600)
    repeats: int = Field(default=5, ge=1, le=10_000)


class Experiment(Strict):
    """Everything a run needs; saved resolved in run.json.

    Attributes:
        name: also names the run's folder.
        title: heading of the tables.
        notes: sentences printed under every table, such as what is not comparable.
        backbone, data, train: shared by all systems that are trained.
        systems: name -> what it is, in the order of the tables. Known-answer systems are always added.
        metrics: registered metrics of single utterances.
        protocol, align: how pairs are brought to the metrics, and whether delays are compensated.
        baseline: the system that the others are compared with; None for no comparison.
        paper: published numbers to stand beside, one of `evalkit.papers`; None for none.
        weights_root: folder with weights of whole codecs; None for the hub's cache of this machine.
        speed: how the real-time factor is measured.
        examples: number of utterances whose audio is kept and whose first one is drawn as spectrograms.
    """

    name: str = Field(pattern=FILE_NAME, max_length=MAX_NAME)
    title: str = ""
    notes: list[str] = Field(default_factory=list)
    backbone: BackboneSection = BackboneSection()
    data: DataSection
    train: TrainConfig = TrainConfig()
    systems: dict[str, SystemSpec] = Field(min_length=1)
    metrics: list[str] = Field(default=["pesq", "stoi"], min_length=1)
    protocol: Literal["strict", "paper"] = "strict"
    align: bool = False
    baseline: str | None = None
    paper: str | None = None
    weights_root: Path | None = None
    speed: SpeedSection = SpeedSection()
    examples: int = Field(default=2, ge=0, le=MAX_COUNT)

    @field_validator("systems")
    @classmethod
    def _names_are_file_names(cls, systems: dict[str, SystemSpec]) -> dict[str, SystemSpec]:
        for name in systems:
            if not name or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name) or name[0] in ".-":
                raise ValueError(f"system name {shown(name)}: use letters, digits, '.', '_' and '-'")
            if len(name) > MAX_NAME:
                raise ValueError(f"system name {shown(name)}: {len(name):,} characters, expected at most {MAX_NAME}")
            if name in KNOWN_ANSWERS:
                raise ValueError(f"system name {name!r} is taken by a known-answer system, which every run adds")
        return systems

    @field_validator("metrics")
    @classmethod
    def _metrics_differ(cls, metrics: list[str]) -> list[str]:
        if twice := [name for name in dict.fromkeys(metrics) if metrics.count(name) > 1]:
            raise ValueError(f"listed twice: {', '.join(twice)}")
        return metrics

    @field_validator("train", mode="before")
    @classmethod
    def _over_its_recipe(cls, train: Any) -> Any:
        return recipe_values(train) if isinstance(train, dict) else train

    @model_validator(mode="after")
    def _baseline_is_a_system(self) -> Experiment:
        known = [*KNOWN_ANSWERS, *self.systems]
        if self.baseline is not None and self.baseline not in known:
            raise ValueError(
                f"baseline {shown(self.baseline)} is no system of this experiment: {', '.join(known)}. "
                "Name another one, or none: --set baseline=null"
            )
        return self

    @model_validator(mode="after")
    def _published_systems_exist(self) -> Experiment:
        asked = {name: spec.published for name, spec in self.systems.items() if spec.published is not None}
        if not asked and self.paper is None:
            return self
        if self.paper is None:
            raise ValueError(f"systems.{next(iter(asked))}.published needs paper: one of {', '.join(paper_names())}")
        known = read_paper(self.paper).systems
        for name, published in asked.items():
            if published not in known:
                hint = did_you_mean(published, known)
                listed = ", ".join(known)
                raise ValueError(
                    f"systems.{name}.published: {self.paper} has no {shown(published)}.{hint} It has: {listed}."
                )
        return self

    def resolved(self) -> dict[str, Any]:
        """Plain values for JSON, enough to run again."""
        return self.model_dump(mode="json")


def built_in_experiments() -> list[str]:
    """Names of the experiments that ship with the package."""
    return SOURCES.names()


def load_experiment(source: str, overrides: Sequence[str] = ()) -> Experiment:
    """Read a built-in experiment or a YAML file and apply overrides such as "train.steps=200".

    Args:
        source: a built-in name, or the path of a YAML file.
        overrides: "dotted.key=value" each, the value in YAML.

    Raises:
        ExperimentError: not found, not YAML, an unknown key, or a value out of range.
    """
    assignments = [parse_override(override) for override in overrides]
    return build_experiment(read_values(source), assignments, f"experiment {source}")


def build_experiment(values: dict[str, Any], assignments: Sequence[Assignment], where: str) -> Experiment:
    """Set keys of an experiment's plain values, which are changed in place, and validate them.

    Args:
        values: as an experiment file has them.
        assignments: dotted keys and their values.
        where: what it is, for messages: "experiment tiny".

    Raises:
        ExperimentError: an unknown key, or a value out of range.
    """
    # The recipe comes first, so that a single one of its losses can be set.
    for assignment in sorted(assignments, key=lambda assignment: assignment.key != "train.recipe"):
        if isinstance(train := values.get("train") or {}, dict) and assignment.key.startswith("train.losses."):
            values["train"] = _over_recipe(where, train)
        assign(values, assignment)
    return validated(Experiment, values, where, ExperimentError)


def with_decoded(experiment: Experiment, given: str) -> Experiment:
    """The experiment with one more system, decoded audio, beside what is published of one that it has.

    Args:
        experiment: one with a paper.
        given: "SYSTEM=DIR", or "SYSTEM=DIR,ORIGINALS" where the audio is not of the test set.

    Raises:
        ExperimentError: it is not such a text, or nothing is published of SYSTEM.
    """
    system, equals, folders = given.partition("=")
    path, _, originals = folders.partition(",")
    if not equals or not path:
        raise ExperimentError(f"--decoded {given}: expected SYSTEM=DIR or SYSTEM=DIR,ORIGINALS")
    published = {name: spec.published for name, spec in experiment.systems.items() if spec.published is not None}
    if system not in published:
        hint = did_you_mean(system, published)
        raise ExperimentError(
            f"--decoded {given}: nothing published of {system!r}.{hint} There are: {', '.join(published)}."
        )
    folder = FolderSection(path=Path(path), references=Path(originals) if originals else None)
    spec = SystemSpec(
        folder=folder, published=published[system], differs=f"decoded elsewhere, folder {Path(path).name}"
    )
    name = _free_name(f"{system}-decoded", experiment.systems)
    names = list(experiment.systems)
    # After the system itself and what is decoded of it already.
    after = max(place for place, known in enumerate(names) if known == system or known.startswith(f"{system}-decoded"))
    names.insert(after + 1, name)
    systems = {each: experiment.systems.get(each, spec) for each in names}
    return experiment.model_copy(update={"systems": systems})


def _free_name(name: str, taken: Container[str]) -> str:
    numbered = (f"{name}-{number}" for number in count(2))
    return next(each for each in chain([name], numbered) if each not in taken)


def _over_recipe(where: str, train: dict[str, Any]) -> dict[str, Any]:
    try:
        return recipe_values(train)
    except ValueError as error:
        raise ExperimentError(f"{where}: {error}") from error


def read_values(source: str) -> dict[str, Any]:
    """The plain values of a built-in experiment or a YAML file, not validated.

    Raises:
        ExperimentError: not found, or not YAML with keys.
    """
    return SOURCES.read(source)


class Assignment(NamedTuple):
    """A dotted key, its value, and how it was given, for messages."""

    key: str
    value: Any
    given: str


def parse_override(override: str) -> Assignment:
    """Of "train.steps=200", the value in YAML.

    Raises:
        ExperimentError: it is not such a text, or its value not YAML.
    """
    key, separator, text = override.partition("=")
    given = f"--set {shown(override)}"
    if not separator or not all(key.split(".")):
        raise ExperimentError(f"{given}: expected key=value, for instance train.steps=200")
    try:
        value = parse_yaml(text)
    except NotPlain as error:
        raise ExperimentError(f"{given}: the value {error}") from error
    return Assignment(key, value, given)


def assign(values: dict[str, Any], assignment: Assignment) -> None:
    """Set one key of plain values, making the mappings above it.

    Raises:
        ExperimentError: a part of the key names a single value, or no entry of a list.
    """
    *parents, last = assignment.key.split(".")
    target: Any = values
    for parent in parents:
        place = _place(target, parent, assignment)
        if isinstance(target, dict) and target.get(place) is None:
            target[place] = {}
        target = target[place]
        if not isinstance(target, dict | list):
            raise ExperimentError(f"{assignment.given}: {shown(parent)} holds a single value, not keys")
    target[_place(target, last, assignment)] = assignment.value


def _place(target: dict[str, Any] | list[Any], part: str, assignment: Assignment) -> Any:
    """`part` of a dotted key as a key of a mapping, or as the number of a list's entry, counted from 0."""
    if isinstance(target, dict):
        return part
    if not part.isdecimal() or len(part) > 9 or int(part) >= len(target):
        raise ExperimentError(
            f"{assignment.given}: {shown(part)} is no entry of a list of {len(target)}, counted from 0"
        )
    return int(part)
