"""What bfloat16 changes on real speech: scores, codes and audio of the trained backbone that ships."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from evalkit.datasets import Utterance, load_corpus
from evalkit.metrics.pesq import Pesq
from evalkit.metrics.stoi import Stoi
from evalkit.scoring.protocol import get_protocol
from evalkit.stats.bootstrap import Interval, paired_difference
from q2d2.audio import read_audio
from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import load_codec
from q2d2.codec import Codec
from q2d2.codec.inference import prepare_for_inference

FITTED_ON, PESQ_RATE = 10, 16000
METRICS = ("pesq", "stoi")


class Change(NamedTuple):
    """bfloat16 against float32, both prepared for inference.

    codes: share of codes that differ; codes_float32: likewise between float32 and the codec itself. None without codes.
    snr: dB of float32 audio to the difference, decoded from the same codes.
    scores: metric -> mean in float32, and the mean change with its interval over speakers.
    """

    codes: float | None
    codes_float32: float | None
    snr: float
    scores: dict[str, tuple[float, Interval]]


class Recording(NamedTuple):
    """An utterance at the codec's rate, (samples,)."""

    name: str
    speaker: str | None
    samples: NDArray[np.float32]


def load_speech(root: Path, count: int, rate: int) -> tuple[list[Recording], list[Recording]]:
    """At most `count` utterances of LibriSpeech test-clean to score, and others to fit on, spread over all speakers.

    Raises:
        DatasetError: there is no such corpus below `root`.
    """
    everything = list(load_corpus("librispeech", "test-clean", root).utterances)
    fitted_on = spread(everything, FITTED_ON)
    scored = spread([utterance for utterance in everything if utterance not in fitted_on], count)
    resample = get_protocol("strict").resampler

    def load(utterance: Utterance) -> Recording:
        samples, found = read_audio(utterance.path)
        return Recording(utterance.id, utterance.speaker, resample(samples, found, rate))

    return [load(utterance) for utterance in scored], [load(utterance) for utterance in fitted_on]


def spread(utterances: list[Utterance], count: int) -> list[Utterance]:
    """`count` of them, or all, at even distances."""
    step = max(1.0, len(utterances) / count)
    return [utterances[int(index * step)] for index in range(min(count, len(utterances)))]


def trained_codecs(fitted_on: list[Recording]) -> dict[str, Codec]:
    """The backbone `tiny`, trained without a bottleneck: as it is, and with Q2D2 fitted to all its channels."""
    null, codec = load_codec("tiny"), load_codec("tiny")
    dim = codec.config.dimension
    bottleneck = build_bottleneck("q2d2", dim, tiling="rhombic", levels=(9,) * dim)
    with torch.no_grad():
        latents = [codec.latents(torch.from_numpy(recording.samples)[None]) for recording in fitted_on]
        bottleneck.fit(torch.cat(latents, dim=-1))
    codec.bottleneck = bottleneck.eval()
    return {"null": null, "q2d2": codec}


@torch.inference_mode()
def change_by_bfloat16(codec: Codec, recordings: list[Recording]) -> Change:
    """Encode and decode the recordings in both types, and score them."""
    codecs = {"float32": prepare_for_inference(codec), "bfloat16": prepare_for_inference(codec, torch.bfloat16)}
    scores: dict[str, dict[str, dict[str, float]]] = {metric: {name: {} for name in codecs} for metric in METRICS}
    resample, rate = get_protocol("strict").resampler, codec.sample_rate
    differing = differing_float32 = num_codes = 0
    power = error = 0.0
    for recording in recordings:
        audio = torch.from_numpy(recording.samples)[None]
        codes = {name: fast.encode(audio) for name, fast in codecs.items()}
        differing_float32 += int((codec.encode(audio) != codes["float32"]).sum())
        differing += int((codes["bfloat16"] != codes["float32"]).sum())
        num_codes += codes["float32"].numel()
        same = codecs["float32"].decode(codes["float32"])
        power += float(same.square().sum())
        error += float((codecs["bfloat16"].decode(codes["float32"]) - same).square().sum())
        for name, fast in codecs.items():
            decoded = fast.decode(codes[name], len(recording.samples))[0].numpy()
            narrow = [resample(signal, rate, PESQ_RATE) for signal in (recording.samples, decoded)]
            scores["pesq"][name][recording.name] = Pesq().score(narrow[0], narrow[1], PESQ_RATE)
            scores["stoi"][name][recording.name] = Stoi().score(recording.samples, decoded, rate)
    speakers = {recording.name: recording.speaker for recording in recordings}
    has_codes = bool(codec.bottleneck.codebook_sizes)
    return Change(
        differing / num_codes if has_codes else None,
        differing_float32 / num_codes if has_codes else None,
        10 * math.log10(power / error),
        {
            metric: (
                math.fsum(by["float32"].values()) / len(recordings),
                paired_difference(by["bfloat16"], by["float32"], clusters=speakers),
            )
            for metric, by in scores.items()
        },
    )
