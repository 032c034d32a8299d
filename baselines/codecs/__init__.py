"""Whole codecs, each with an encoder and decoder of its own: their interface, and the table of known ones."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from baselines.codecs.weights import Weights
from q2d2.borders import check_codes
from q2d2.errors import UserError
from q2d2.rates import RateError, check_rate
from q2d2.registry import ForeignCode, Registry, import_trusted, is_import_path

# Other packages' codecs join through the entry-point group.
CODECS = Registry(
    "codec",
    group="evalkit.codecs",
    entries={
        "opus": "baselines.codecs.opus:Opus",
        "encodec": "baselines.codecs.encodec:Encodec",
        "dac": "baselines.codecs.dac:DAC",
        "dac-24khz": "baselines.codecs.dac:DAC24kHz",
        "mimi": "baselines.codecs.mimi:Mimi",
        "xcodec": "baselines.codecs.xcodec:XCodec",
        "bigcodec": "baselines.codecs.bigcodec:BigCodec",
        "wavtokenizer-75": "baselines.codecs.published:WavTokenizer75",
        "wavtokenizer-40": "baselines.codecs.published:WavTokenizer40",
        "q2d2-1k": "baselines.codecs.published:Q2D2At1k",
        "q2d2-3k": "baselines.codecs.published:Q2D2At3k",
        "q2d2-6k": "baselines.codecs.published:Q2D2At6k",
    },
)


class CodecError(UserError, ValueError):
    """A codec that cannot be built as asked; the message names the option, or the file, and the way out."""


class PackageMissing(CodecError):
    """A known codec whose package is not installed; the message says how to install it."""


class WholeCodec(ABC):
    """A codec ready to run: audio to codes and back.

    A subclass takes keyword options, after `folder` where it has `weights`, and sets the attributes in its constructor,
    from its own configuration, never from a name.

    Attributes:
        weights: class attribute: where its weights are published; None where it needs none.
        sample_rate: of the audio it takes and gives, in Hz.
        frame_rate: frames per second; None for a coder whose stream has no frames of codes.
        codebook_sizes: codes of each quantizer in use; empty for a coder whose stream has no codebooks.
        tokens_per_frame: indices of one frame as published tables count them; usually one a quantizer.
        module: its model, in eval mode; None where it has none.
        weights_sha256: digest of the files of weights it was loaded from; "" where it has none.
    """

    weights: ClassVar[Weights | None] = None
    sample_rate: int
    frame_rate: float | None
    codebook_sizes: tuple[int, ...]
    tokens_per_frame: int
    module: nn.Module | None = None
    weights_sha256: str = ""

    @property
    def bits_per_frame(self) -> float:
        """Nominal bits of one frame: the sum of log2 of the codebook sizes in use."""
        return sum(math.log2(size) for size in self.codebook_sizes)

    @property
    def bitrate(self) -> float:
        """Nominal bit/s; 0 for a coder whose rate is what its streams take (`stream_bits`)."""
        return self.bits_per_frame * (self.frame_rate or 0.0)

    @property
    def tokens_per_second(self) -> float:
        return self.tokens_per_frame * (self.frame_rate or 0.0)

    @property
    def fingerprint(self) -> str:
        """Changes whenever its output may change: class, weights, and what of them is in use."""
        kind = f"{type(self).__module__}:{type(self).__qualname__}"
        return f"{kind} {self.weights_sha256[:16]} {','.join(map(str, self.codebook_sizes))}"

    @property
    def num_parameters(self) -> int | None:
        """Of the whole model."""
        return None if self.module is None else sum(parameter.numel() for parameter in self.module.parameters())

    @abstractmethod
    def encode(self, audio: Tensor) -> Tensor:
        """Audio (batch, samples) in [-1, 1] at `sample_rate` -> codes (batch, quantizers, frames) int64.

        Code q is in [0, codebook_sizes[q]). Any length from one sample on.
        """

    @abstractmethod
    def decode(self, codes: Tensor, length: int | None = None) -> Tensor:
        """Codes (batch, quantizers, frames) -> audio (batch, samples), of exactly `length` samples if given."""

    def stream_bits(self, codes: Tensor) -> int | None:
        """Bits of the stream that `codes` of one recording stand for; None where the nominal rate is the rate."""
        return None

    def to(self, device: torch.device) -> None:
        """Move the model to `device`."""
        if self.module is not None:
            self.module.to(device)


def codec_class(name: str, trust_code: bool = False) -> type[WholeCodec]:
    """The class registered as `name`, or given as "package.module:Class", also from the working directory.

    Args:
        name: registered, or "package.module:Class".
        trust_code: whether the latter may be imported.

    Raises:
        UnknownName: no such codec.
        UntrustedCode: "package.module:Class" without `trust_code`.
        PackageMissing: what a registered one needs is not installed.
        CodecError: there is no such module or class, or it is no `WholeCodec`.
    """
    if is_import_path(name):
        try:
            found = import_trusted("codec", name, trust_code=trust_code)
        except ForeignCode as error:
            raise CodecError(str(error)) from error
    else:
        CODECS.require(name)
        try:
            found = CODECS.resolve(name)
        except ImportError as error:
            hint = "Install: pip install 'codec-bottlenecks[codecs]'"
            raise PackageMissing(f"codec {name!r} cannot be imported: {error}. {hint}") from error
    if not (inspect.isclass(found) and issubclass(found, WholeCodec)):
        raise CodecError(f"codec {name!r} is no subclass of baselines.codecs.WholeCodec")
    return found


def build_codec(name: str, weights_root: Path | None = None, trust_code: bool = False, /, **options: Any) -> WholeCodec:
    """Load the codec `name` with its options.

    Args:
        name: registered, or "package.module:Class".
        weights_root: folder to look for weights in before the hub's own cache; see its `weights.find`.
        trust_code: whether "package.module:Class" may be imported.
        options: of the codec, such as num_quantizers=8.

    Raises:
        UnknownName, UntrustedCode, CodecError: as in `codec_class`; or an option is unknown or out of range.
            It is run on a short clip of noise: one that does not keep the interface is told here, not utterance by
            utterance.
        WeightsMissing, WeightsDamaged: the weights are not on this machine, or not as published.
    """
    cls = codec_class(name, trust_code)
    check_options(name, cls, options)
    where = () if cls.weights is None else (cls.weights.find(name, weights_root),)
    codec = cls(*where, **options)
    _try_out(name, codec)
    return codec


def _try_out(name: str, codec: WholeCodec) -> None:
    for attribute in ("sample_rate", "frame_rate", "codebook_sizes", "tokens_per_frame"):
        if not hasattr(codec, attribute):
            raise CodecError(f"codec {name!r} sets no {attribute}, which every WholeCodec has to")
    try:
        check_rate(codec.sample_rate)
    except RateError as error:
        raise CodecError(f"codec {name!r}: {error}") from error
    clip = 0.1 * torch.randn(1, codec.sample_rate // 2, generator=torch.Generator().manual_seed(0))
    try:
        codes = codec.encode(clip)
        check_codes(codes, codec.codebook_sizes)
        audio = codec.decode(codes, clip.shape[-1])
    except Exception as error:  # anybody's code
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CodecError(f"codec {name!r} cannot code half a second of noise: {reason}") from error
    if audio.shape != clip.shape:
        raise CodecError(
            f"codec {name!r} decodes {tuple(clip.shape)} samples to {tuple(audio.shape)}: expected the same, as length "
            "was given"
        )


def check_options(name: str, cls: type[WholeCodec], options: dict[str, Any]) -> None:
    """Raise CodecError where `cls` has no such option, or needs another one."""
    known = [option for option in inspect.signature(cls).parameters if option != "folder"]
    for option in options:
        if option not in known:
            raise CodecError(f"codec {name!r} has no option {option!r}. Its options: {', '.join(known) or 'none'}.")
    try:
        inspect.signature(cls).bind(*(() if cls.weights is None else (Path(),)), **options)
    except TypeError as error:
        raise CodecError(f"codec {name!r}: {error}. Its options: {', '.join(known) or 'none'}.") from None
