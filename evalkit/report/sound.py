"""Audio inside a page: FLAC without loss beyond 16 bits, small spectrograms, and a spectrogram in words."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import matplotlib
import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from evalkit.figures.spectrograms import HOP_SECONDS, RANGE_DB, WINDOW_SECONDS, Signal, spectrogram_db
from q2d2.errors import UserError

# A page is opened whole: a lecture in ten codecs would be hundreds of megabytes.
MAX_SECONDS = 40.0
# The recording, of a data set on which ground-truth was not scored.
ORIGINAL = "original recording"  # no system of an experiment can have a space in its name

WIDTH, HEIGHT = 400, 128
# Of a palette of 256: the first is transparent, for what lies beyond a signal's end or sample rate.
_NOTHING, _FIRST, _STEPS = 0, 1, 255


class Unheard(NamedTuple):
    """Why there is no audio of a system."""

    reason: str


def too_long(seconds: float) -> str:
    return "" if seconds <= MAX_SECONDS else f"it is longer than {MAX_SECONDS:g} s, too much for one page"


def told(error: BaseException) -> str:
    """An error on one line, without its last full stop; the kind of one that is a defect as well."""
    text = " ".join(str(error).split()).rstrip(".")
    return text if isinstance(error, UserError | OSError) else f"{type(error).__name__}: {text}"


def decode_flac(coded: bytes) -> Signal:
    """(samples,) float32 in [-1, 1] and the rate in Hz of a FLAC file's bytes; several channels are averaged.

    Raises:
        soundfile.LibsndfileError: they are no audio.
    """
    channels, rate = soundfile.read(io.BytesIO(coded), dtype="float32", always_2d=True)
    mono: NDArray[np.float32] = channels.mean(axis=1, dtype=np.float32)
    return mono, rate


@dataclass(frozen=True)
class Spectrograms:
    """Spectrograms with one scale.

    Attributes:
        images: name -> PNG of `WIDTH` x `HEIGHT` pixels, time to the right, frequency upwards, transparent where a
            signal has no content by its end or sample rate.
        seconds: the width.
        kilohertz: the height.
        ceiling_db: level of the brightest colour, that of the loudest bin of all; 0 dB is a sine of amplitude 1. The
            darkest is `RANGE_DB` below.
    """

    images: dict[str, bytes]
    seconds: float
    kilohertz: float
    ceiling_db: float

    @property
    def floor_db(self) -> float:
        return self.ceiling_db - RANGE_DB


def draw_spectrograms(signals: Mapping[str, Signal]) -> Spectrograms:
    """Of all signals, at least one, on the same axes and in the same range of levels.

    Args:
        signals: name -> (audio (samples,) float in [-1, 1], sample rate in Hz); rates and lengths may differ.
    """
    levels = {name: spectrogram_db(audio, rate) for name, (audio, rate) in signals.items()}
    ceiling = max(float(level.max()) for level in levels.values())
    seconds = max(len(audio) / rate for audio, rate in signals.values())
    highest = max(rate for _, rate in signals.values()) / 2
    images = {}
    for name, (audio, rate) in signals.items():
        canvas = np.full((HEIGHT, WIDTH), _NOTHING, np.uint8)
        # A frame is centred half a window in and stands for one hop; none reaches beyond the signal's end.
        start = WINDOW_SECONDS / 2 - HOP_SECONDS / 2
        end = min(start + levels[name].shape[1] * HOP_SECONDS, len(audio) / rate)
        left, right = (min(WIDTH, round(WIDTH * time / seconds)) for time in (start, end))
        height = max(1, round(HEIGHT * rate / 2 / highest))
        if right > left:
            canvas[HEIGHT - height :, left:right] = _colours(levels[name], right - left, height, ceiling)
        images[name] = _png(canvas)
    return Spectrograms(images, seconds, highest / 1000, ceiling)


def _colours(level: NDArray[np.float64], width: int, height: int, ceiling: float) -> NDArray[np.uint8]:
    """`level` (frequencies, frames) in dB -> (height, width) places in the palette, highest frequency first."""
    upwards = Image.fromarray(level[::-1].astype(np.float32))
    # The mean of what falls into a pixel: one frame out of ten would show chance.
    resized = np.asarray(upwards.resize((width, height), Image.Resampling.BOX))
    share = ((resized - (ceiling - RANGE_DB)) / RANGE_DB).clip(0, 1)
    return (_FIRST + np.rint(share * (_STEPS - 1))).astype(np.uint8)


def _png(canvas: NDArray[np.uint8]) -> bytes:
    colours = matplotlib.colormaps["magma"](np.linspace(0, 1, _STEPS))[:, :3]
    palette = np.concatenate([np.zeros((1, 3)), colours])
    image = Image.fromarray(canvas, "L")
    image.putpalette(np.rint(palette * 255).astype(np.uint8).tobytes())
    coded = io.BytesIO()
    image.save(coded, "PNG", optimize=True, transparency=_NOTHING)
    return coded.getvalue()


def describe_sound(audio: NDArray[np.float32], sample_rate: int) -> str:
    """What a spectrogram shows, for those who do not see it: duration, band, level, and where the energy lies."""
    band = f"{len(audio) / sample_rate:.1f} s, 0 to {sample_rate / 2000:g} kHz"
    power = 2 * float(np.mean(audio.astype(np.float64) ** 2)) if len(audio) else 0.0  # 1 is that of a full-scale sine
    if power == 0:
        return f"{band}, silent"
    energy = np.cumsum((10 ** (spectrogram_db(audio, sample_rate) / 10)).sum(axis=1))
    bin_below = int(np.searchsorted(energy, 0.99 * energy[-1]))
    below = bin_below / max(1, len(energy) - 1) * sample_rate / 2000
    level = 10 * np.log10(power)
    return f"{band}; level {level:.0f} dB re a full-scale sine, 99 % of the energy below {below:.1f} kHz"
