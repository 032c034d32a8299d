"""Whole codecs that transformers implements: strict loading, the number of quantizers, the exact length."""

from __future__ import annotations

import importlib.util
import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.codecs import CodecError, WholeCodec
from baselines.codecs.weights import files_sha256
from q2d2.borders import check_audio, check_length
from q2d2.tensors import listed, read_safetensors, value_faults

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
FILES = (CONFIG, WEIGHTS)
_FLAGS = (".inited", ".initialized")  # of a codebook: a number in the model, and either in files

if importlib.util.find_spec("transformers") is None:  # said now, as it is imported only when a model is loaded
    raise ImportError("the package transformers is not installed")


@dataclass(frozen=True)
class Layout:
    """What a model's configuration says of its codes.

    Attributes:
        sample_rate: in Hz.
        hop_length: samples of one frame.
        codebook_size: codes of each quantizer.
        num_quantizers: the numbers of quantizers it can be run with, ascending.
    """

    sample_rate: int
    hop_length: int
    codebook_size: int
    num_quantizers: Sequence[int]


class PretrainedCodec(WholeCodec):
    """A codec of transformers, loaded from the folder of its files, in float32.

    Args:
        folder: holds config.json and model.safetensors.
        num_quantizers: of those that the model has, the first so many are used; None: all.

    Raises:
        CodecError: transformers is not installed; a file cannot be read, or is of another model; tensors are missing,
            unexpected or of other shapes; or the model cannot be run with so many quantizers.
    """

    architecture: ClassVar[str]
    """Name of the model's class in transformers."""

    def __init__(self, folder: Path, num_quantizers: int | None = None) -> None:
        self.model = load_pretrained(self.architecture, folder)
        self.module = self.model
        self.weights_sha256 = files_sha256(folder, FILES)
        layout = self.layout(folder)
        allowed = layout.num_quantizers
        self.num_quantizers = allowed[-1] if num_quantizers is None else num_quantizers
        if type(self.num_quantizers) is not int or self.num_quantizers not in allowed:
            raise CodecError(
                f"num_quantizers={num_quantizers!r}: the model in {folder} can be run with {_listed(allowed)}"
            )
        self.sample_rate = layout.sample_rate
        self.hop_length = layout.hop_length
        self.frame_rate = layout.sample_rate / layout.hop_length
        self.codebook_sizes = (layout.codebook_size,) * self.num_quantizers
        self.tokens_per_frame = self.num_quantizers

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """Audio (batch, samples) in [-1, 1] -> codes (batch, quantizers, ceil(samples / hop_length)) int64.

        Raises:
            ValueError: audio is not (batch, samples) or is empty.
        """
        check_audio(audio)
        return self.codes_of(audio.unsqueeze(1))

    @torch.no_grad()
    def decode(self, codes: Tensor, length: int | None = None) -> Tensor:
        """Codes (batch, quantizers, frames) -> audio (batch, length), by default as many samples as the model makes.

        What the model makes too little is filled with zeros at the end: DAC's strides lose a few samples.

        Raises:
            ValueError: `length` is below 1 or more than the codes hold.
        """
        check_length(length, codes.shape[-1] * self.hop_length)
        audio = self.audio_of(codes)
        return audio if length is None else F.pad(audio[:, :length], (0, max(0, length - audio.shape[-1])))

    @abstractmethod
    def layout(self, folder: Path) -> Layout:
        """What the loaded model's configuration says. May raise CodecError where the model is of an unfit kind."""

    @abstractmethod
    def codes_of(self, audio: Tensor) -> Tensor:
        """Audio (batch, 1, samples) -> codes (batch, quantizers, frames) int64."""

    @abstractmethod
    def audio_of(self, codes: Tensor) -> Tensor:
        """Codes (batch, quantizers, frames) -> audio (batch, samples)."""


def load_pretrained(architecture: str, folder: Path) -> Any:
    """transformers' class `architecture` from `folder`, in float32 and eval mode, every tensor accounted for.

    transformers itself only warns of missing tensors, and leaves them random.

    Raises:
        CodecError: as in `PretrainedCodec`.
    """
    try:
        import transformers

        cls = getattr(transformers, architecture)
    except (ImportError, AttributeError) as error:
        raise CodecError(
            f"{architecture} of transformers cannot be imported: {_first_line(error)}. "
            "Install: pip install 'codec-bottlenecks[codecs]'"
        ) from error
    _require_type(folder / CONFIG, cls.config_class.model_type)
    try:
        with _quiet():
            model, report = cls.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True,
                ignore_mismatched_sizes=True, output_loading_info=True,
            )  # fmt: skip
    except Exception as error:  # whatever a damaged file sets off in there, the file is what the user can mend
        raise CodecError(
            f"{folder}: {CONFIG} and {WEIGHTS} cannot be loaded as {architecture}: {_first_line(error)}. "
            "Fetch the weights again"
        ) from error
    for fault, kind in (
        ("missing_keys", "lacks tensors of the model"),
        ("unexpected_keys", "holds tensors that the model has not"),
        ("mismatched_keys", "holds tensors of other shapes than the model"),
    ):
        if keys := sorted(key if isinstance(key, str) else key[0] for key in report[fault]):
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise CodecError(
                f"{folder / WEIGHTS} {kind} that {CONFIG} describes: {', '.join(keys[:3])}{more}. "
                f"It is not a file of this {architecture}: fetch the weights again"
            )
    # transformers converts what it reads, so the file itself is looked at.
    tensors, _ = read_safetensors(folder / WEIGHTS)
    flags = [name for name, tensor in model.state_dict().items() if not tensor.is_floating_point()]
    flags += [name for name, tensor in tensors.items() if name.endswith(_FLAGS) and not tensor.is_floating_point()]
    if faults := value_faults(tensors, flags):
        raise CodecError(f"{folder / WEIGHTS}: {listed(faults)}. Fetch the weights again")
    return model.eval()


def bandwidths(model: Any) -> dict[int, float]:
    """Of a model that is told a bandwidth: its numbers of quantizers, ascending -> the least bandwidth in kbit/s."""
    found: dict[int, float] = {}
    for bandwidth in sorted(model.config.target_bandwidths):
        count = model.quantizer.get_num_quantizers_for_bandwidth(bandwidth)
        found.setdefault(min(count, model.config.num_quantizers), bandwidth)
    return found


def pad_to_frames(audio: Tensor, hop_length: int) -> Tensor:
    """Audio (..., samples) with zeros at the end, up to whole frames."""
    return F.pad(audio, (0, -audio.shape[-1] % hop_length))


def _require_type(path: Path, expected: str) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        model_type = found["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CodecError(
            f"{path} is no model's configuration ({_first_line(error)}): fetch the weights again"
        ) from error
    if model_type != expected:
        raise CodecError(f"{path}: model_type {model_type!r}, expected {expected!r}: it is of another codec")


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers without its progress bar and warnings: what they report is raised here."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _listed(numbers: Sequence[int]) -> str:
    whole = len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
