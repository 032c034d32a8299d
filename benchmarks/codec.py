"""Encoding and decoding prepared for inference against the plain module graph, and against the arithmetic alone.

plain: the codec as published code runs it: old weight normalization anew in each forward, attention by an explicit
matrix, eager, in inference mode. folded: Codec's own layers with weight norm folded. float32, bfloat16: the codec of
`prepare_for_inference`. limit: the same multiplications as matrix products by torch.mm, see benchmarks/products.py;
peak: as many multiplications at the rate of one large product.
"""

from __future__ import annotations

import argparse
import functools
import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks import training_step
from benchmarks.codec_quality import change_by_bfloat16, load_speech, trained_codecs
from benchmarks.plain_codec import plain_codec
from benchmarks.products import Product, Products, products_of
from benchmarks.timing import LEARNING_BLOCK, hardware, print_figure
from q2d2.bfloat16 import WrongArithmetic, check_bfloat16
from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import load_codec
from q2d2.codec import Codec, codec_config
from q2d2.codec.inference import prepare_for_inference

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SPEEDUP_TARGETS = {"float32": 1.1, "bfloat16": 1.7}
LIMIT_TARGET = 1.3
PEAK = Product(2048, 2048, 2048)
WAYS = ("encode", "decode")


class Setting(NamedTuple):
    """A published configuration: strides, bottleneck, and the real-time factor of the published code elsewhere."""

    ratios: tuple[int, ...]
    bottleneck: dict[str, Any]
    published: float


SETTINGS = {
    "wavtokenizer-75": Setting((8, 5, 4, 2), {"name": "vq", "codebook_size": 4096}, 0.096),
    "q2d2-1k": Setting((6, 5, 5, 3), {"name": "q2d2", "levels": (9, 9, 7, 7, 7, 7)}, 0.069),
    "q2d2-3k": Setting((6, 4, 3, 2), {"name": "q2d2", "levels": (9, 9, 7, 7, 7, 7)}, 0.170),
    "q2d2-6k": Setting((6, 4, 3, 1), {"name": "q2d2", "levels": (9, 9, 9, 9, 7, 7)}, 0.340),
}


class Seconds(NamedTuple):
    """Wall time of a call: the fastest round, to which other processes added least, and the median."""

    best: float
    median: float


def interleaved_seconds(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Seconds]:
    """Wall time of each call, all taking turns in `rounds` rounds after one that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    torch.empty(LEARNING_BLOCK, dtype=torch.uint8)  # taken and at once released
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            stop = time.perf_counter()
            if turn:
                seconds[name].append(stop - start)
    return {name: Seconds(min(values), statistics.median(values)) for name, values in seconds.items()}


def build_codec(setting: Setting, size: str) -> Codec:
    """With random weights; a codebook of random codes."""
    torch.manual_seed(0)
    changes = {"ratios": setting.ratios} if size == "wavtokenizer" else {}
    config = codec_config(size, **changes)
    options = dict(setting.bottleneck)
    codec = Codec(config, build_bottleneck(options.pop("name"), config.dimension, **options))
    for name, tensor in codec.bottleneck.published_state().items():
        if name.endswith("inited"):
            tensor.fill_(1)
        elif name.endswith("embed"):
            tensor.normal_()
    return codec.eval()


@functools.cache
def dtypes() -> dict[str, torch.dtype]:
    """Those that are right on this machine; what is left out is said once."""
    try:
        check_bfloat16()
    except WrongArithmetic as error:
        print(f"bfloat16 is left out: {error}")
        return {"float32": torch.float32}
    return DTYPES


class Comparison:
    """One configuration at one batch size: seconds of every way to compute it.

    Args:
        setting: of the codec.
        size: of its backbone.
        batch: clips.
        seconds: of each clip.
        compiled: measure torch.compile as well.
    """

    def __init__(self, setting: Setting, size: str, batch: int, seconds: float, compiled: bool) -> None:
        codec = build_codec(setting, size)
        self.audio = 0.1 * torch.randn(batch, round(seconds * codec.sample_rate))
        self.audio_seconds = batch * seconds
        plain = plain_codec(codec)
        with patch("q2d2.codec.inference.can_pack", return_value=False):
            codecs: dict[str, Codec] = {"plain": plain, "folded": prepare_for_inference(codec)}
        codecs |= {name: prepare_for_inference(codec, dtype) for name, dtype in dtypes().items()}
        self.compile_seconds: dict[str, float] = {}
        with torch.inference_mode():
            self.codes = codec.encode(self.audio)
            reference = codec.decode(self.codes)
            if compiled:
                for name, dtype in dtypes().items():
                    codecs[f"compiled-{name}"] = self._compiled(codec, dtype, name)
        self.snr = {name: self._snr(reference, other) for name, other in codecs.items()}
        self.codecs = codecs
        calls = {"encode": partial(codec.encode, self.audio), "decode": partial(codec.decode, self.codes)}
        with torch.inference_mode():
            self.products = {way: products_of(codec, call) for way, call in calls.items()}

    def _compiled(self, codec: Codec, dtype: torch.dtype, name: str) -> Codec:
        start = time.perf_counter()
        compiled = prepare_for_inference(codec, dtype, compile=True)
        compiled.decode(compiled.encode(self.audio))
        self.compile_seconds[name] = time.perf_counter() - start
        return compiled

    @torch.inference_mode()
    def _snr(self, reference: Tensor, codec: Codec) -> float:
        """Of audio decoded from the same codes, in dB."""
        error = codec.decode(self.codes) - reference
        return 10 * float(torch.log10(reference.square().sum() / error.square().sum()))

    @torch.inference_mode()
    def measure(self, rounds: int) -> dict[str, Seconds]:
        """Seconds of "NAME.encode" and "NAME.decode" for each codec and limit, and of "peak.DTYPE"."""
        calls: dict[str, Callable[[], object]] = {}
        for name, codec in self.codecs.items():
            calls |= {
                f"{name}.encode": partial(codec.encode, self.audio),
                f"{name}.decode": partial(codec.decode, self.codes),
            }
        for name, dtype in dtypes().items():
            calls |= {f"limit-{name}.{way}": Products(self.products[way], dtype) for way in WAYS}
            calls[f"peak-{name}"] = Products([PEAK], dtype)
        return interleaved_seconds(calls, rounds)

    def multiplications(self, way: str) -> int:
        return sum(product.multiplications for product in self.products[way])


def report(label: str, comparison: Comparison, seconds: dict[str, Seconds]) -> dict[str, float]:
    """Print the table of one configuration; its figures."""
    audio = comparison.audio_seconds
    for name in dtypes():
        rate = seconds[f"peak-{name}"].best / PEAK.multiplications
        for way in WAYS:
            ideal = rate * comparison.multiplications(way)
            seconds[f"peak-{name}.{way}"] = Seconds(ideal, ideal)

    def total(name: str) -> Seconds:
        encode, decode = (seconds[f"{name}.{way}"] for way in WAYS)
        return Seconds(encode.best + decode.best, encode.median + decode.median)

    rows = [*comparison.codecs, *(f"{kind}-{name}" for name in dtypes() for kind in ("limit", "peak"))]
    plain = total("plain")
    print(f"\n{label}: {comparison.multiplications('encode') / 1e9:.2f} + ", end="")
    print(f"{comparison.multiplications('decode') / 1e9:.2f} billion multiplications")
    columns = ("encode ms", "decode ms", "total ms", "RTF", "speedup", "by median", "SNR dB")
    print(f"{'':<20}" + "".join(f"{column:>11}" for column in columns))
    for name in rows:
        encode, decode = (seconds[f"{name}.{way}"].best * 1e3 for way in WAYS)
        sums = total(name)
        snr = f"{comparison.snr[name]:>11.1f}" if name in comparison.snr else ""
        print(
            f"{name:<20}{encode:>11.1f}{decode:>11.1f}{sums.best * 1e3:>11.1f}{sums.best / audio:>11.4f}"
            f"{plain.best / sums.best:>11.2f}{plain.median / sums.median:>11.2f}{snr}"
        )
    figures = {f"{label}.rtf.plain": plain.best / audio}
    for name in dtypes():
        ours = total(name)
        figures |= {
            f"{label}.rtf.{name}": ours.best / audio,
            f"{label}.speedup.{name}": plain.best / ours.best,
            f"{label}.over_limit.{name}": ours.best / total(f"limit-{name}").best,
            f"{label}.over_peak.{name}": ours.best / total(f"peak-{name}").best,
        }
    for name, needed in comparison.compile_seconds.items():
        print(f"compiled-{name}: first call of encode and decode took {needed:.0f} s")
        figures[f"{label}.compile_seconds.{name}"] = needed
    return figures


def print_targets(figures: dict[str, float], label: str) -> None:
    """Whether the stated configuration meets its targets."""
    for name in dtypes():
        target = SPEEDUP_TARGETS[name]
        speedup = figures[f"{label}.speedup.{name}"]
        met = "met" if speedup >= target else "MISSED"
        print(f"{label}: {name} {speedup:.2f} times as fast as plain, target {target}: {met}")
    over = figures[f"{label}.over_limit.float32"]
    met = "met" if over <= LIMIT_TARGET else "MISSED"
    print(f"{label}: float32 takes {over:.2f} times the limit, target {LIMIT_TARGET}: {met}")


def report_quality(root: Path, count: int) -> dict[str, float]:
    """Print what bfloat16 does to speech; its figures."""
    scored, fitted_on = load_speech(root, count, load_codec("tiny").sample_rate)
    print(
        f"\nbfloat16 instead of float32: the trained backbone tiny, {len(scored)} utterances; change with 95 % interval"
    )
    figures = {}
    for name, codec in trained_codecs(fitted_on).items():
        change = change_by_bfloat16(codec, scored)
        print(f"{name}: audio from the same codes {change.snr:.1f} dB above the difference")
        figures[f"{name}.snr"] = change.snr
        if change.codes is not None:
            print(f"{name}: codes that differ {change.codes:.2%}", end="")
            print(f" (float32 from the codec itself: {change.codes_float32:.2%})")
            figures[f"{name}.codes_differ"] = change.codes
        for metric, (before, interval) in change.scores.items():
            mean, low, high = (math.nan if end is None else end for end in (interval.mean, interval.low, interval.high))
            print(f"{name}: {metric} {before:.4f}, change {mean:+.5f} [{low:+.5f}, {high:+.5f}]")
            figures[f"{name}.{metric}_change"] = mean
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codec", description=__doc__)
    parser.add_argument("--size", default="wavtokenizer", help="of the backbone (default: %(default)s)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="of wavtokenizer-75 (default: 1 8)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a clip (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="counted, after one to warm up (default: 10)")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too, at batch 1 (minutes)")
    parser.add_argument("--root", type=Path, help="folder of LibriSpeech/test-clean: PESQ and STOI of bfloat16 too")
    parser.add_argument("--training-rounds", type=int, default=3, help="of the training step; 0: skip (default: 3)")
    parser.add_argument("--utterances", type=int, default=60, help="scored with --root (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    print(hardware())
    print(f"clips of {options.seconds:g} s; wall time, fastest of {options.rounds} rounds; SNR: decoded audio")
    figures: dict[str, float] = {}
    stated = [("wavtokenizer-75", batch) for batch in options.batch]
    others = [(name, 1) for name in SETTINGS if name != "wavtokenizer-75"] if options.size == "wavtokenizer" else []
    for name, batch in stated + others:
        gc.collect()
        label = f"{name}.batch{batch}"
        compiled = options.compile and (name, batch) == ("wavtokenizer-75", 1)
        comparison = Comparison(SETTINGS[name], options.size, batch, options.seconds, compiled)
        figures |= report(label, comparison, comparison.measure(options.rounds))
        if options.size == "wavtokenizer" and batch == 1:
            print(f"published code on another machine with two cores: RTF {SETTINGS[name].published}")
        if (name, batch) in stated:
            print_targets(figures, label)
        del comparison
    if options.root and "bfloat16" in dtypes():
        figures |= report_quality(options.root, options.utterances)
    if options.training_rounds:
        gc.collect()
        print()
        figures |= training_step.report(options.size, 2, 1.0, options.training_rounds)
    print()
    for figure, value in figures.items():
        print_figure(f"codec.{figure}", value)


if __name__ == "__main__":
    main()
