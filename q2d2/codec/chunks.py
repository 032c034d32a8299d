"""Audio of any length through a codec in bounded memory.

Encoding is exact: but for the LSTM, which runs forward and hands its state on, the encoder sees a finite stretch around
each frame. Decoding is not: the position net's attention and group normalization see all frames they are given. So
clips up to `Chunking.whole_seconds` are decoded whole, and longer ones in overlapping windows, cross-faded.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from q2d2.borders import check_audio, require_audible, require_finite
from q2d2.codec.codec import Codec
from q2d2.codec.encoder import Encoder, PaddedConv1d, SkipLSTM
from q2d2.spans import spans

ENCODE_SECONDS = 10.0  # of a stretch; its length changes memory and speed only


@dataclass(frozen=True)
class Chunking:
    """How long codes are decoded. The defaults are the choice of `python -m benchmarks.chunks`; see docs/coding.md.

    Attributes:
        whole_seconds: up to here a clip is decoded whole.
        window_seconds: length of the windows of longer clips.
        overlap_seconds: what neighbouring windows share at least.
        fade_seconds: length of the cross-fade in the middle of an overlap; what is beyond it only gives context.

    Raises:
        ValueError: lengths that do not fit into one another.
    """

    whole_seconds: float = 60.0
    window_seconds: float = 30.0
    overlap_seconds: float = 2.0
    fade_seconds: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.fade_seconds <= self.overlap_seconds <= self.window_seconds / 4 <= self.whole_seconds / 4:
            raise ValueError(f"{self}: expected 0 <= fade <= overlap <= window / 4, and window <= whole")

    def is_whole(self, frames: int, frame_rate: float) -> bool:
        """Whether codes of so many frames are decoded whole."""
        return frames <= self.whole_seconds * frame_rate


def reach(layers: nn.Module) -> int:
    """Samples on each side that one output of these convolutions, one after another, can depend on.

    Reflected padding at a signal's end is counted in: it brings the last samples in once more.
    """
    samples, stride = 0, 1
    for layer in layers.modules():
        if isinstance(layer, PaddedConv1d):
            right = (layer.kernel_size - layer.stride) // 2
            left = layer.kernel_size - layer.stride - right
            samples += max(left, right + layer.stride - 1) * stride
            stride *= layer.stride
    return samples


def latents_of_blocks(encoder: Encoder, blocks: Iterable[Tensor], hop_length: int, frames: int) -> Iterator[Tensor]:
    """Latents of audio that arrives in blocks, equal to those of the whole but for the order of float sums.

    Args:
        blocks: (batch, samples) each, of any length.
        hop_length: the encoder's stride.
        frames: how many are computed at a time.

    Yields:
        (batch, dimension, up to `frames`); together ceil(samples / hop_length) frames.
    """
    convolutions, lstm, activation, last = encoder.model[:-3], encoder.model[-3], encoder.model[-2], encoder.model[-1]
    context = math.ceil(reach(convolutions) / hop_length) * hop_length

    def hidden() -> Iterator[Tensor]:
        state = None
        for span in spans((block.unsqueeze(1) for block in blocks), frames * hop_length, context):
            first = span.before // hop_length
            features = convolutions(span.signal)[..., first : first + math.ceil(span.size / hop_length)]
            output, state = cast(SkipLSTM, lstm).advance(features, state)
            yield activation(output)

    for span in spans(hidden(), frames, reach(last)):
        yield last(span.signal)[..., span.before : span.before + span.size].float()


@torch.inference_mode()
def encode_blocks(codec: Codec, blocks: Iterable[Tensor], seconds: float = ENCODE_SECONDS) -> Tensor:
    """Codes of audio that arrives in blocks: those of the whole, in memory that does not grow but for the codes.

    A bottleneck must code each frame by itself, as all of this project do.

    Args:
        codec: in eval mode.
        blocks: (batch, samples) in [-1, 1] at the codec's rate and on its device, of any length.
        seconds: how much audio is computed at a time.

    Returns:
        (batch, quantizers, ceil(samples / hop_length)) int64 on the CPU.

    Raises:
        ValueError: there is no sample.
        TypeError, ValueError, NotFinite: as `Codec.latents`.
    """
    frames = max(1, round(seconds * codec.frame_rate))
    codes = []
    for latents in latents_of_blocks(codec.encoder, _checked(blocks), codec.hop_length, frames):
        require_finite(latents, "latents of the encoder")
        codes.append(codec.bottleneck.encode(latents).cpu())
    if not codes:
        raise ValueError("no audio to encode: the blocks hold no sample")
    return torch.cat(codes, dim=-1)


def _checked(blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    for block in blocks:
        if block.shape[-1]:
            check_audio(block)
            require_audible(block, "audio")
        yield block


@torch.inference_mode()
def decode_blocks(
    codec: Codec, codes: Tensor, length: int, chunking: Chunking | None = None, batch: int = 1
) -> Iterator[Tensor]:
    """Decode codes of any length, block by block.

    Args:
        codec: in eval mode.
        codes: (quantizers, frames), on any device.
        length: samples to give, within the last frame.
        chunking: when and how to decode in windows.
        batch: windows computed at a time.

    Yields:
        Audio (samples,) on the codec's device, together `length` samples.

    Raises:
        ValueError: `length` does not fit the number of frames.
    """
    chunking = chunking or Chunking()
    num_frames, hop = codes.shape[-1], codec.hop_length
    if num_frames != math.ceil(length / hop):
        raise ValueError(f"length {length} asked of {num_frames} frames of {hop} samples")
    device = codec_device(codec)
    if chunking.is_whole(num_frames, codec.frame_rate):
        yield codec.decode(codes[None].to(device), length)[0]
        return
    window, overlap, fade = (
        round(seconds * codec.frame_rate)
        for seconds in (chunking.window_seconds, chunking.overlap_seconds, chunking.fade_seconds)
    )
    starts = window_starts(num_frames, window, overlap)
    # Where the fade into the next window begins.
    fades = [(start + window + following - fade) // 2 for start, following in itertools.pairwise(starts)]
    ramp = torch.sin(torch.pi / 2 * (torch.arange(fade * hop, device=device) + 0.5) / max(1, fade * hop)).square()
    tail = None  # of the window before, in the fade
    for index, audio in enumerate(_decoded(codec, codes, starts, window, batch)):
        start = starts[index] * hop
        stop = length if index == len(fades) else fades[index] * hop
        if tail is None:
            yield audio[:stop]
        else:
            first = fades[index - 1] * hop - start
            after = first + tail.shape[-1]
            yield tail + ramp * (audio[first:after] - tail)
            yield audio[after : stop - start]
        tail = audio[stop - start : stop - start + fade * hop]


def codec_device(codec: Codec) -> torch.device:
    """Where a codec computes: the device of the first of its weights."""
    return next(itertools.chain(codec.parameters(), codec.buffers())).device


def window_starts(frames: int, window: int, overlap: int) -> list[int]:
    """First frames of as few windows as cover `frames` with at least `overlap` shared, spread evenly.

    So all windows are equally long, the last too: a short one would have a group normalization of its own kind.

    Raises:
        ValueError: fewer frames than a window, or windows that do not advance.
    """
    if frames < window or overlap >= window:
        raise ValueError(f"windows of {window} frames with {overlap} shared do not fit {frames} frames")
    gaps = math.ceil((frames - window) / (window - overlap))
    return [round(index * (frames - window) / max(1, gaps)) for index in range(gaps + 1)]


def _decoded(codec: Codec, codes: Tensor, starts: list[int], window: int, batch: int) -> Iterator[Tensor]:
    """Audio (window * hop_length,) of each window, `batch` of them computed at a time."""
    device = codec_device(codec)
    for first in range(0, len(starts), batch):
        windows = [codes[:, start : start + window] for start in starts[first : first + batch]]
        yield from codec.decode(torch.stack(windows).to(device))
