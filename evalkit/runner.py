"""One run: train or load every system, reconstruct the test set, score it, write rows, tables and plots."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from evalkit.codes import CodeUsage
from evalkit.datasets import Utterance
from evalkit.metrics import METRICS, RESAMPLER
from evalkit.outputs import RunResult, count_codes, example_path, system_row, write_outputs
from evalkit.plan import Plan, PlannedSystem
from evalkit.scoring import Pair, score_pairs
from evalkit.speed import hardware_fingerprint, measure_rtf
from evalkit.store import RunStore, UtteranceRecord
from evalkit.systems import Audio, CodecSystem, System, anchors
from q2d2 import __version__
from q2d2.audio import AudioError, read_audio
from q2d2.checkpoints import file_sha256, load_codec, read_description
from q2d2.training.loop import train

PACKAGES = (
    "torch",
    "torchaudio",
    "numpy",
    "pandas",
    "pesq",
    "pystoi",
    "vector-quantize-pytorch",
    "lightning",
    "soundfile",
)


def run(plan: Plan, console: Console, device: str = "auto", workers: int | None = None) -> RunResult:
    """Do what is missing of `plan` and write everything anew that follows from the rows.

    Args:
        plan: what to do.
        console: for progress.
        device: "auto", "cpu" or "cuda".
        workers: scoring processes; by default one per core.

    Raises:
        TrainingError, StoreError, CheckpointError, AudioError: see there; what was computed before is kept.
    """
    chosen = _device(device)
    with RunStore(plan.folder) as store:
        store.write_run(_describe(plan))
        test_digest = _corpus_digest(plan.test_utterances)
        keys: dict[str, str] = {}
        rows: list[dict[str, Any]] = []
        usages: dict[str, CodeUsage] = {}
        for system in [*anchors(plan.test_rate), *plan.systems]:
            if isinstance(system, PlannedSystem):
                described, ready = _train_or_load(plan, system, device, chosen)
            else:
                described, ready = None, system
            key = _digest(
                test_digest,
                system.name,
                described and described["weights_sha256"],
                _metric_versions(plan),
                str(RESAMPLER),
            )
            keys[system.name] = key
            _score_system(plan, store, ready, key, console, workers or os.cpu_count() or 1)
            speed = None
            if isinstance(ready, CodecSystem):
                speed = _measure_speed(plan, store, ready, key)
                _keep_examples(plan, ready)
            usage = usages[system.name] = count_codes(plan, store, ready, key)
            rows.append(system_row(plan.dataset, ready, usage, described, speed))
        return write_outputs(plan, store, keys, rows, usages)


def _train_or_load(
    plan: Plan, system: PlannedSystem, device: str, chosen: torch.device
) -> tuple[dict[str, Any], CodecSystem]:
    folder = system.checkpoint
    if folder is None:
        folder = train(
            system.backbone, system.bottleneck, plan.train_files, plan.experiment.train,
            plan.folder / "checkpoints" / system.name, name=system.name, device=device,
            metadata={
                "corpora": [f"{c.name}/{c.part}: {c.coverage}" for c in plan.train],
                "version": code_version(),
                "hardware": hardware_fingerprint(),
            },
        )  # fmt: skip
        (plan.folder / "training").mkdir(exist_ok=True)
        shutil.copyfile(folder / "log.csv", plan.folder / "training" / f"{system.name}.csv")
    return read_description(folder), CodecSystem(system.name, load_codec(folder), chosen)


def _score_system(plan: Plan, store: RunStore, system: System, key: str, console: Console, workers: int) -> None:
    """Score the utterances that have no complete record yet."""
    done = [u for u in plan.test_utterances if (r := store.record(system.name, key, u.id)) is not None and r.complete]
    missing = [u for u in plan.test_utterances if u not in set(done)]
    if not missing:
        return
    codes: dict[str, np.ndarray | None] = {}

    def pairs() -> Iterator[Pair]:
        for utterance in missing:
            try:
                audio, rate = read_audio(utterance.path)
            except AudioError as error:
                codes[utterance.id] = None
                yield Pair.without_audio(utterance.id, error.reason)
                continue
            made = system.reconstruct(audio, rate)
            codes[utterance.id] = made.codes
            yield Pair(utterance.id, audio, rate, made.audio, made.sample_rate)

    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"score {system.name}", total=len(plan.test_utterances), completed=len(done))
        for pair, scores in score_pairs(pairs(), plan.experiment.metrics, workers):
            record = UtteranceRecord(system.name, key, pair.utterance, tuple(scores), codes.pop(pair.utterance))
            store.append(record)
            progress.advance(task)


def _measure_speed(plan: Plan, store: RunStore, system: CodecSystem, key: str) -> dict[str, Any]:
    settings = plan.experiment.speed
    known = store.speed(system.name, key)
    if known is not None and known["settings"] == settings.model_dump():
        return known
    clip, rate = _clip(plan.test_utterances, settings.seconds)
    with torch.inference_mode():
        signal = system.prepare(clip, rate)
        codes = system.codec.encode(signal)
        timed = measure_rtf(
            lambda: system.codec.encode(signal), lambda: system.codec.decode(codes), len(clip) / rate, settings.repeats,
            synchronize=torch.cuda.synchronize if system.device.type == "cuda" else None, device=system.device.type,
        )  # fmt: skip
    values = {
        "rtf_encode": timed.encode, "rtf_decode": timed.decode, "rtf_detail": timed.detail,
        "settings": settings.model_dump(),
    }  # fmt: skip
    store.append_speed(system.name, key, values)
    return values


def _clip(utterances: tuple[Utterance, ...], seconds: float) -> tuple[Audio, int]:
    """The first `seconds` of the test set's speech at its first utterance's rate."""
    rate = utterances[0].sample_rate
    parts: list[Audio] = []
    for utterance in utterances:
        if utterance.sample_rate == rate and sum(map(len, parts)) < seconds * rate:
            try:
                parts.append(read_audio(utterance.path)[0])
            except AudioError:
                continue  # its scores are failed rows that name it
    return np.concatenate(parts)[: round(seconds * rate)], rate


def _keep_examples(plan: Plan, system: CodecSystem) -> None:
    """Write the reconstructions of the first utterances, for listening and for the spectrograms."""
    for utterance in plan.test_utterances[: plan.experiment.examples]:
        path = example_path(plan.folder, utterance.id, system.name)
        original = example_path(plan.folder, utterance.id, "ground-truth")
        try:
            audio, rate = read_audio(utterance.path)
        except AudioError:
            continue  # its scores are failed rows that name it
        made = system.reconstruct(audio, rate)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, made.audio.clip(-1, 1), made.sample_rate)
        if not original.exists():
            soundfile.write(original, audio, rate)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: no CUDA device is usable here; use --device cpu or auto")
    return torch.device(name)


def _metric_versions(plan: Plan) -> dict[str, str]:
    return {name: METRICS.resolve(name)().version for name in plan.experiment.metrics}


def _corpus_digest(utterances: tuple[Utterance, ...]) -> str:
    return _digest([(u.id, file_sha256(u.path)) for u in utterances])


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _describe(plan: Plan) -> dict[str, Any]:
    return {
        "experiment": plan.experiment.resolved(),
        "seed": plan.experiment.train.seed,
        "version": code_version(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "hardware": hardware_fingerprint(),
        "metrics": _metric_versions(plan),
        "resampler": str(RESAMPLER),
        "train": [
            {"corpus": f"{c.name}/{c.part}", "coverage": c.coverage, "seconds": round(c.seconds, 1),
             "left_out": [str(problem) for problem in c.problems]} for c in plan.train
        ],
        "test": {
            "corpus": plan.dataset, "coverage": plan.test.coverage, "scored": len(plan.test_utterances),
            "files_sha256": _corpus_digest(plan.test_utterances),
            "left_out": [str(problem) for problem in plan.test.problems],
        },
    }  # fmt: skip


def code_version() -> str:
    """The package's version, with the commit where this is a git checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return __version__
    return f"{__version__}+g{described.stdout.strip()}"
