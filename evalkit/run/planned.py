"""The systems of an experiment before they exist: what each will be, and what is to be done for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from baselines.codecs import CodecError, PackageMissing, build_codec, check_options, codec_class
from baselines.codecs.weights import WeightsMissing
from evalkit.datasets import Utterance
from evalkit.run.experiment import Experiment, ExperimentError, FolderSection, SystemSpec
from evalkit.run.folders import FolderSystem, pair_folders
from evalkit.run.systems import CodecSystem, System
from evalkit.scoring.pairing import Catalogue, find_by_ids, list_audio
from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import CONFIG, find_checkpoint, load_codec, read_description
from q2d2.codec import CodecConfig
from q2d2.registry import UntrustedCode
from q2d2.training.state import STATE


@dataclass(frozen=True)
class PlannedBottleneck:
    """A bottleneck under the backbone, to be trained or loaded.

    Attributes:
        name: as in tables.
        bottleneck: {"name": ..., **options}.
        backbone: sizes of its backbone.
        checkpoint: where to load it from; None for one to be trained.
        bits_per_frame: nominal; 0 for the unquantized one.
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

    def folder(self, run: Path) -> Path:
        """Of the checkpoint: the one to load, or that of its training in the run's folder."""
        return self.checkpoint or run / "checkpoints" / self.name

    def state(self, run: Path) -> str:
        """What is to be done in the run's folder: "load FOLDER", "trained already", "go on training" or "train"."""
        if self.checkpoint is not None:
            return f"load {self.checkpoint}"
        folder = self.folder(run)
        if (folder / CONFIG).is_file():
            return "trained already"
        return "go on training" if (folder / STATE).is_file() else "train"


@dataclass(frozen=True)
class PlannedCodec:
    """A whole codec, to be loaded.

    Attributes:
        name: as in tables.
        codec, options: as `baselines.codecs.build_codec` takes them.
        weights_root: likewise.
        missing: why it cannot run here; empty where it can.
        bits_per_frame, bitrate: nominal, where they are known without loading weights; else 0.
        own_weights: they lie in a folder of one's own, and nothing says that they are the published ones.
        trust_code: whether `codec` may be a class to import.
    """

    name: str
    codec: str
    options: dict[str, Any]
    weights_root: Path | None
    missing: str
    bits_per_frame: float
    bitrate: float
    own_weights: bool
    trust_code: bool = False

    def state(self, run: Path) -> str:
        return "unavailable" if self.missing else f"load {self.codec}"


@dataclass(frozen=True)
class PlannedFolder:
    """Decoded audio, to be read.

    Attributes:
        name: as in tables.
        folder: that holds it.
        files: utterance -> file.
        references: where they are a data set of their own: its name, and the utterances with a file.
    """

    name: str
    folder: Path
    files: Mapping[str, Path]
    references: tuple[str, tuple[Utterance, ...]] | None

    def state(self, run: Path) -> str:
        return f"read {len(self.files):,} files of {self.folder.name}"


Planned = PlannedBottleneck | PlannedCodec | PlannedFolder


def open_system(planned: Planned, run: Path, device: torch.device) -> System:
    """The system itself; one that was trained here comes from the checkpoint in the run's folder.

    Raises:
        CheckpointError, CodecError, WeightsDamaged, OSError: it is damaged, missing, or does not fit.
    """
    if isinstance(planned, PlannedBottleneck):
        folder = planned.folder(run)
        digest = read_description(folder)["weights_sha256"]
        return CodecSystem.of_ours(planned.name, load_codec(folder), device, digest)
    if isinstance(planned, PlannedFolder):
        return FolderSystem(planned.name, planned.folder, planned.files)
    codec = build_codec(planned.codec, planned.weights_root, planned.trust_code, **planned.options)
    return CodecSystem.of_whole(planned.name, planned.codec, planned.options, codec, device)


def plan_system(
    name: str,
    experiment: Experiment,
    backbone: CodecConfig,
    utterances: tuple[Utterance, ...],
    trust_code: bool = False,
) -> Planned:
    """What the system `name` of `experiment` will be.

    Args:
        name: of the system.
        experiment: that it is in.
        backbone: of the systems that are trained.
        utterances: those of the test set.
        trust_code: whether classes that the experiment names may be imported.

    Raises:
        ExperimentError: an option is not valid, or a class may not be imported.
        CheckpointError, PairingError: a checkpoint, or decoded audio, is missing or does not fit.
        UnknownName: no such codec or bottleneck.
    """
    spec = experiment.systems[name]
    if spec.codec is not None:
        return _plan_codec(name, dict(spec.codec), experiment.weights_root, trust_code)
    if spec.folder is not None:
        return _plan_folder(name, spec.folder, utterances)
    return _plan_bottleneck(name, spec, backbone)


def _plan_codec(name: str, options: dict[str, Any], weights_root: Path | None, trust_code: bool) -> PlannedCodec:
    codec, missing, rates, own = options.pop("name"), "", (0.0, 0.0), False
    try:
        cls = codec_class(codec, trust_code)
        check_options(codec, cls, options)
        if cls.weights is None:
            # Built now, so that what is wrong with it is said before anything runs.
            built = build_codec(codec, None, trust_code, **options)
            rates = (built.bits_per_frame, built.bitrate)
        else:
            own = weights_root is not None and cls.weights.find(codec, weights_root) == weights_root / codec
            cls.weights.find(codec, weights_root)
    except (WeightsMissing, PackageMissing) as error:
        missing = str(error)
    except (CodecError, UntrustedCode) as error:
        raise ExperimentError(f"systems.{name}: {error}") from error
    return PlannedCodec(name, codec, options, weights_root, missing, *rates, own, trust_code)


def _plan_folder(name: str, section: FolderSection, utterances: tuple[Utterance, ...]) -> PlannedFolder:
    if section.references is not None:
        pairing = pair_folders(section.references, [f"{name}={section.path}"])
        (system,) = pairing.systems
        return PlannedFolder(name, section.path, system.files, (pairing.dataset, pairing.references))
    catalogue = Catalogue(section.path, list_audio(section.path, []).files)
    files = find_by_ids({utterance.id: utterance.path.stem for utterance in utterances}, catalogue)
    if not files:
        raise ExperimentError(
            f"systems.{name}: no file of {section.path} is called like an utterance of the test set; where it is of "
            "other recordings, give the folder of their originals as references (--decoded SYSTEM=DIR,ORIGINALS)"
        )
    return PlannedFolder(name, section.path, files, None)


def _plan_bottleneck(name: str, spec: SystemSpec, backbone: CodecConfig) -> PlannedBottleneck:
    if spec.checkpoint is not None:
        checkpoint = find_checkpoint(spec.checkpoint)
        described = read_description(checkpoint)
        bottleneck = described["bottleneck"]
        try:
            backbone = CodecConfig(**described["backbone"])
        except (ValueError, TypeError) as error:
            raise ExperimentError(f"systems.{name}: {checkpoint}: backbone: {error}") from error
    else:
        assert spec.bottleneck is not None  # SystemSpec allows one of four
        checkpoint, bottleneck = None, spec.bottleneck
    options = dict(bottleneck)
    try:
        built = build_bottleneck(options.pop("name"), backbone.dimension, **options)
    except ValueError as error:
        raise ExperimentError(f"systems.{name}: {error}") from error
    return PlannedBottleneck(name, bottleneck, backbone, checkpoint, built.bits_per_frame)
