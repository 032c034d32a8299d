"""Scoring by the published procedure against `evalkit score`, cold and warm, on the same files in one run.

    python -m benchmarks.scoring --root ~/corpora

Five folders of decoded audio are made from the references (24 kHz, 16 bits): 8- and 5-bit mu-law, noise at 20 and
10 dB, a 3.4 kHz low-pass. The published procedure is that of the evaluation scripts of WavTokenizer and Q2D2: one
process with torch's own number of threads, file by file, the reference worked out anew for every system, PESQ and V/UV
F1 (torchcrepe) on signals resampled to 16 kHz, STOI at 24 kHz. Ours is the command, from its start to its end, tables
and plots included: once with an empty cache, three times with the cache that it left and a new folder (the median
counts).

The published side takes minutes per file. Each of its scores is kept in --out with its seconds, so that a run can be
stopped and gone on with; the seconds are then those of several calls.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
import torchaudio.functional

from benchmarks.timing import hardware, print_figure
from evalkit.datasets import DatasetError, Utterance, load_corpus, read_audio
from evalkit.run.systems import WhiteNoise

DECODED_RATE = 24_000
SCORED_RATE = 16_000
METRICS = ("pesq", "stoi", "vuv_f1")
WARM_RUNS = 3


def mu_law(audio: np.ndarray, bits: int) -> np.ndarray:
    """`audio` through mu-law companding with 2**bits levels."""
    top = 2**bits - 1
    compressed = np.sign(audio) * np.log1p(255 * np.abs(audio)) / np.log(256)
    levels = np.rint((compressed + 1) / 2 * top) / top * 2 - 1
    return np.sign(levels) * np.expm1(np.abs(levels) * np.log(256)) / 255


def noisy(audio: np.ndarray, snr_db: float) -> np.ndarray:
    """`audio` with white noise; 10 dB is that of the known-answer system, other levels the same noise scaled."""
    noise = WhiteNoise().reconstruct(audio, DECODED_RATE, "").audio - audio
    return audio + noise * 10 ** ((WhiteNoise.SNR_DB - snr_db) / 20)


def low_passed(audio: np.ndarray) -> np.ndarray:
    """`audio` as an 8 kHz channel leaves it."""
    narrow = torchaudio.functional.resample(torch.from_numpy(audio), DECODED_RATE, 8000)
    return torchaudio.functional.resample(narrow, 8000, DECODED_RATE).numpy()[: audio.size]


SYSTEMS = {
    "mulaw-8bit": lambda audio: mu_law(audio, 8),
    "mulaw-5bit": lambda audio: mu_law(audio, 5),
    "noise-20db": lambda audio: noisy(audio, 20),
    "noise-10db": lambda audio: noisy(audio, 10),
    "low-pass": low_passed,
}


def make_folders(utterances: list[Utterance], out: Path) -> None:
    """Write the references and five folders of estimates below `out`."""
    for utterance in utterances:
        audio, rate = read_audio(utterance.path)
        decoded = torchaudio.functional.resample(torch.from_numpy(audio), rate, DECODED_RATE).numpy()
        for name, made in {"reference": None, **SYSTEMS}.items():
            path = out / name / f"{utterance.id}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            if made is None:
                soundfile.write(path, audio, rate, subtype="PCM_16")
            else:
                soundfile.write(path, made(decoded).clip(-1, 1), DECODED_RATE, subtype="PCM_16")


def published_scores(reference_path: Path, estimate_path: Path) -> dict[str, float]:
    """PESQ, STOI and V/UV F1 of one pair as the published scripts compute them."""
    from pesq import pesq
    from pystoi import stoi

    signals = []
    for path in (reference_path, estimate_path):
        audio, rate = soundfile.read(path, dtype="float32")
        signals.append((torch.from_numpy(audio), rate))
    at_16k = [torchaudio.functional.resample(audio, rate, SCORED_RATE) for audio, rate in signals]
    at_24k = [torchaudio.functional.resample(audio, rate, DECODED_RATE) for audio, rate in signals]
    length = min(audio.numel() for audio in at_16k)
    reference, estimate = (audio[:length] for audio in at_16k)
    stored = min(audio.numel() for audio in at_24k)
    return {
        "pesq": float(pesq(SCORED_RATE, reference.numpy(), estimate.numpy(), "wb")),
        "stoi": float(stoi(at_24k[0][:stored].numpy(), at_24k[1][:stored].numpy(), DECODED_RATE, extended=False)),
        "vuv_f1": voicing_f1(voiced(reference), voiced(estimate)),
    }


def voiced(audio: torch.Tensor) -> np.ndarray:
    """Which frames of `audio` (samples,) at 16 kHz torchcrepe hears as voiced."""
    import torchcrepe

    _, periodicity = torchcrepe.predict(
        audio[None], SCORED_RATE, hop_length=160, fmin=50, fmax=550, model="full", decoder=torchcrepe.decode.viterbi,
        return_periodicity=True, batch_size=100_000, device="cpu", pad=False,
    )  # fmt: skip
    periodicity = torchcrepe.threshold.Silence(-60.0)(
        periodicity, audio[None], sample_rate=SCORED_RATE, hop_length=160, pad=False
    )
    return (periodicity[0] >= 0.21).numpy()


def voicing_f1(reference: np.ndarray, estimate: np.ndarray) -> float:
    """F1 of the voiced frames."""
    hits = float((reference & estimate).sum())
    return 2 * hits / float(reference.sum() + estimate.sum())


def run_published(utterances: list[Utterance], out: Path) -> list[dict[str, Any]]:
    """Score everything that `out` does not hold yet, and return all of it."""
    journal = out / "published.jsonl"
    done = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    known = {(row["system"], row["utterance"]) for row in done}
    for system in SYSTEMS:
        for utterance in utterances:
            if (system, utterance.id) in known:
                continue
            names = [out / folder / f"{utterance.id}.flac" for folder in ("reference", system)]
            start = time.perf_counter()
            scores = published_scores(*names)
            row = {"system": system, "utterance": utterance.id, "seconds": time.perf_counter() - start, **scores}
            done.append(row)
            with journal.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"published: {system:11} {utterance.id:20} {row['seconds']:6.1f} s", flush=True)
    return done


def run_ours(out: Path, cache: Path, name: str, workers: int) -> tuple[float, pd.DataFrame]:
    """Seconds of the whole command, and its rows."""
    run = out / name
    shutil.rmtree(run, ignore_errors=True)
    folders = [str(out / folder) for folder in ("reference", *SYSTEMS)]
    options = ["--metrics", ",".join(METRICS), "--protocol", "paper", "--device", "cpu", "--out", str(run)]
    options += ["--workers", str(workers)]
    command = [sys.executable, "-m", "evalkit", "score", *folders, *options]
    start = time.perf_counter()
    subprocess.run(command, env=os.environ | {"EVALKIT_CACHE": str(cache)}, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, pd.read_parquet(run / "utterances.parquet")


def largest_differences(published: list[dict[str, Any]], ours: pd.DataFrame) -> dict[str, float]:
    """Metric -> largest difference of any score."""
    values = ours.set_index(["system", "utterance", "metric"])["value"]
    pairs = [(row["system"], row["utterance"], row) for row in published]
    return {m: max(abs(row[m] - values[system, utterance, m]) for system, utterance, row in pairs) for m in METRICS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of LibriSpeech; default: EVALKIT_LIBRISPEECH_ROOT")
    parser.add_argument("--utterances", type=int, default=10, help="how many, the shortest of test-clean")
    parser.add_argument("--workers", type=int, default=2, help="processes of ours")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-scoring"))
    arguments = parser.parse_args()
    try:
        corpus = load_corpus("librispeech", "test-clean", arguments.root)
    except DatasetError as error:
        print(f"no LibriSpeech ({error}): the bundled synthetic sample instead")
        corpus = load_corpus("sample", "test")
    chosen = sorted(corpus.utterances, key=lambda utterance: (utterance.seconds, utterance.id))[: arguments.utterances]
    seconds = sum(utterance.seconds for utterance in chosen)
    print(hardware())
    print(f"{corpus.name} {corpus.part}: {len(chosen)} utterances, {seconds:.1f} s; {len(SYSTEMS)} systems")
    make_folders(chosen, arguments.out)
    published = run_published(chosen, arguments.out)
    cache = arguments.out / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    cold, rows = run_ours(arguments.out, cache, "cold", arguments.workers)
    warm = [run_ours(arguments.out, cache, "warm", arguments.workers) for _ in range(WARM_RUNS)]
    assert all(again["value"].equals(rows["value"]) for _, again in warm), "warm scores differ from cold ones"
    total, warm_seconds = sum(row["seconds"] for row in published), statistics.median(taken for taken, _ in warm)
    print(f"published procedure, {torch.get_num_threads()} threads: {total:.1f} s")
    print(f"evalkit score, {arguments.workers} processes: cold {cold:.1f} s, warm {warm_seconds:.1f} s")
    for metric, difference in largest_differences(published, rows).items():
        print_figure(f"scoring.max_difference_{metric}", difference)
    print_figure("scoring.cold_speedup", total / cold)
    print_figure("scoring.warm_speedup", total / warm_seconds)


if __name__ == "__main__":
    main()
