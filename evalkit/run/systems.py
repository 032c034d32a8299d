"""What can be scored: the interface of a system, the known-answer systems, and a codec as a system."""

from __future__ import annotations

import inspect
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torchaudio.functional as AF
from numpy.typing import NDArray

from baselines.codecs import WholeCodec
from evalkit.scoring.protocol import GROUND_TRUTH
from q2d2.audio import AudioError
from q2d2.borders import check_codes, require_finite
from q2d2.codec import Codec
from q2d2.codec.inference import prepare_for_inference
from q2d2.files import file_sha256
from q2d2.rates import check_rates

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Reconstruction:
    """What a system made of an utterance.

    audio: (samples,) float32 at `sample_rate` Hz, as long in seconds as the original.
    codes: (quantizers, frames) int64, or None where the system has none.
    bits: of the coded stream, where a system's bit rate is what its streams take rather than nominal.
    note: what is to be known of the audio, for its rows; may be empty.
    """

    audio: Audio
    sample_rate: int
    codes: NDArray[np.int64] | None = None
    bits: int | None = None
    note: str = ""


class System(Protocol):
    """Anything that can be scored.

    Attributes:
        name: as in tables.
        kind: "anchor" for a known-answer system, "codec" for one that runs here, "folder" for decoded files.
        sample_rate: in Hz; None for one that works at the rate of its input.
        frame_rate: frames per second; None where there are none.
        codebook_sizes: codes of each quantizer; empty where unknown or continuous.
        tokens_per_frame: indices a frame as published tables count them (`Bottleneck.tokens_per_frame`).
    """

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def sample_rate(self) -> int | None: ...
    @property
    def frame_rate(self) -> float | None: ...
    @property
    def codebook_sizes(self) -> tuple[int, ...]: ...
    @property
    def tokens_per_frame(self) -> int: ...

    def fingerprint(self, utterance: str) -> str:
        """Changes whenever the reconstruction of the utterance may change: a digest of weights, or of a file."""
        ...

    def reconstruct(self, audio: Audio, sample_rate: int, utterance: str) -> Reconstruction:
        """Encode and decode audio (samples,) in [-1, 1] at `sample_rate` Hz.

        `utterance` is its id, for systems that look their output up.

        Raises:
            AudioError: the output is a file that cannot be read.
        """
        ...


class Anchor:
    """What known-answer systems share: they work at the rate of their input and, but for one, have no codes."""

    kind = "anchor"
    sample_rate: int | None = None
    frame_rate: float | None = None
    codebook_sizes: tuple[int, ...] = ()
    tokens_per_frame = 0

    def fingerprint(self, utterance: str) -> str:
        return ""  # what it does never changes


class GroundTruth(Anchor):
    """The original itself: the best any metric can say."""

    name = GROUND_TRUTH

    def reconstruct(self, audio: Audio, sample_rate: int, utterance: str) -> Reconstruction:
        return Reconstruction(audio, sample_rate)


class MuLaw(Anchor):
    """8-bit mu-law PCM (ITU-T G.711's companding, mu = 255): good quality at a high bit rate.

    Its codes are not given out: one a sample would be most of what a run keeps, and how they are used says nothing new.
    """

    name = "mulaw-8bit"
    codebook_sizes: tuple[int, ...] = (256,)
    tokens_per_frame = 1

    def __init__(self, test_rate: int | None) -> None:
        self.frame_rate = None if test_rate is None else float(test_rate)

    def reconstruct(self, audio: Audio, sample_rate: int, utterance: str) -> Reconstruction:
        compressed = np.sign(audio) * np.log1p(255 * np.abs(audio).clip(max=1)) / np.log(256)
        codes = np.rint((compressed + 1) * 127.5).astype(np.int64)
        expanded = codes / 127.5 - 1
        decoded = np.sign(expanded) * np.expm1(np.abs(expanded) * np.log(256)) / 255
        return Reconstruction(decoded.astype(np.float32), sample_rate)


class WhiteNoise(Anchor):
    """White Gaussian noise added at 10 dB signal-to-noise ratio: plainly audible damage.

    The noise is a function of the signal alone, so that every run adds the same.
    """

    name = "noise-10db"
    SNR_DB = 10.0

    def reconstruct(self, audio: Audio, sample_rate: int, utterance: str) -> Reconstruction:
        noise = np.random.default_rng(zlib.crc32(audio.tobytes())).standard_normal(audio.size)
        power = float(np.mean(audio.astype(np.float64) ** 2)) * 10 ** (-self.SNR_DB / 10)
        noise *= np.sqrt(power / max(float(np.mean(noise**2)), np.finfo(np.float64).tiny))
        return Reconstruction((audio + noise).astype(np.float32), sample_rate)


class Coder(Protocol):
    """What a `CodecSystem` runs: one of our codecs made ready, or a `baselines.codecs.WholeCodec`."""

    @property
    def sample_rate(self) -> int: ...
    @property
    def frame_rate(self) -> float | None: ...
    def encode(self, audio: torch.Tensor) -> torch.Tensor: ...
    def decode(self, codes: torch.Tensor, length: int | None = None) -> torch.Tensor: ...


class CodecSystem:
    """A codec that runs here, resampling to its own rate where the input has another.

    The output stays at the codec's rate and has ceil(samples * codec rate / input rate) samples.

    Args:
        name: as in tables.
        coder: ready to run on `device`.
        device: where it runs.
        identity: changes whenever its output may change.
        weights_sha256: of the weights it was loaded from; empty where it has none.
        codebook_sizes, tokens_per_frame: as in `System`.
        num_parameters: None for a codec without any.
        family: name of the whole codec that it is, at one of its rates; empty for one of ours.
        stream_bits: codes -> bits of the stream they stand for, of a coder whose rate is not nominal.
    """

    kind = "codec"

    def __init__(
        self,
        name: str,
        coder: Coder,
        device: torch.device,
        identity: str,
        weights_sha256: str,
        codebook_sizes: tuple[int, ...],
        tokens_per_frame: int,
        num_parameters: int | None,
        family: str = "",
        stream_bits: Callable[[torch.Tensor], int | None] = lambda codes: None,
    ) -> None:
        self.name = name
        self.coder = coder
        self.device = device
        self.identity = identity
        self.weights_sha256 = weights_sha256
        self.sample_rate: int | None = coder.sample_rate
        self.frame_rate = coder.frame_rate
        self.codebook_sizes = codebook_sizes
        self.tokens_per_frame = tokens_per_frame
        self.num_parameters = num_parameters
        self.family = family
        self._stream_bits = stream_bits

    @classmethod
    def of_ours(cls, name: str, codec: Codec, device: torch.device, weights_sha256: str) -> CodecSystem:
        """One of our codecs, as a copy prepared for inference in float32."""
        bottleneck = codec.bottleneck
        return cls(
            name, prepare_for_inference(codec.to(device)), device, weights_sha256, weights_sha256,
            bottleneck.codebook_sizes, bottleneck.tokens_per_frame,
            sum(parameter.numel() for parameter in codec.parameters()),
        )  # fmt: skip

    @classmethod
    def of_whole(
        cls, name: str, family: str, options: Mapping[str, Any], codec: WholeCodec, device: torch.device
    ) -> CodecSystem:
        """A whole codec of `baselines.codecs`, called `family` there and built with `options`.

        The file that its class is written in is part of what it is: a codec under development is scored again.
        """
        codec.to(device)
        file = inspect.getsourcefile(type(codec))
        source = file_sha256(Path(file)) if file and Path(file).is_file() else ""
        identity = f"{codec.fingerprint} {json.dumps(dict(options), sort_keys=True, default=str)} {source}"
        return cls(
            name, codec, device, identity, codec.weights_sha256, codec.codebook_sizes, codec.tokens_per_frame,
            codec.num_parameters, family, codec.stream_bits,
        )  # fmt: skip

    def fingerprint(self, utterance: str) -> str:
        return self.identity

    def prepare(self, audio: Audio, sample_rate: int) -> torch.Tensor:
        """Audio (samples,) -> (1, samples) on the codec's device and at its rate.

        Raises:
            RateError: the two rates have too little in common.
        """
        check_rates(sample_rate, self.coder.sample_rate)
        signal = torch.from_numpy(np.ascontiguousarray(audio)).to(self.device)[None]
        resampled: torch.Tensor = AF.resample(signal, sample_rate, self.coder.sample_rate)
        return resampled

    @torch.inference_mode()
    def reconstruct(self, audio: Audio, sample_rate: int, utterance: str) -> Reconstruction:
        signal = self.prepare(audio, sample_rate)
        codes = self.coder.encode(signal)
        check_codes(codes, self.codebook_sizes)
        made = self.coder.decode(codes, length=signal.shape[-1])
        if made.shape != signal.shape or not made.is_floating_point():
            raise ValueError(f"decoded audio {tuple(made.shape)} {made.dtype}: expected {tuple(signal.shape)} float")
        require_finite(made, "decoded audio")
        decoded = made[0].float().cpu().numpy()
        kept = codes[0].cpu().numpy() if self.codebook_sizes else None
        return Reconstruction(decoded, self.coder.sample_rate, kept, self._stream_bits(codes))


class UnavailableSystem(Anchor):
    """A system that cannot run here: all its scores are unavailable, or failed where it is broken, for `reason`."""

    def __init__(
        self, name: str, kind: str, reason: str, status: Literal["unavailable", "failed"] = "unavailable"
    ) -> None:
        self.name = name
        self.kind = kind
        self.reason = reason
        self.status = status

    def reconstruct(self, audio: Audio, sample_rate: int, utterance: str) -> Reconstruction:
        raise AudioError(Path(utterance), self.reason)


def anchors(test_rate: int | None) -> list[System]:
    """The known-answer systems in every table; if they move, the harness is broken.

    `test_rate` in Hz is the rate of the test set, None where it has several.
    """
    return [GroundTruth(), MuLaw(test_rate), WhiteNoise()]
