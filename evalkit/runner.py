"""One run: train or load every system, reconstruct the test set, score it, write rows, tables and plots."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from evalkit.datasets import Utterance
from evalkit.metrics import RESAMPLER, Unavailable, load_metric
from evalkit.outputs import RunResult, ScoredSystem, example_path, scored_system, write_outputs
from evalkit.plan import Plan, PlannedSystem
from evalkit.scoring import Pair, score_pairs
from evalkit.speed import hardware_fingerprint, measure_rtf
from evalkit.store import RunStore, UtteranceRecord
from evalkit.systems import Audio, CodecSystem, System, anchors
from q2d2 import __version__
from q2d2.audio import AudioError, read_audio
from q2d2.checkpoints import file_sha256, load_codec, read_description
from q2d2.errors import UserError
from q2d2.training.loop import denormals_flushed, train

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


class DeviceError(UserError, RuntimeError):
    """The device asked for is not there; the message says which are."""


@denormals_flushed()  # as in training: a call that trains and a later one that only scores must compute alike
def run(plan: Plan, console: Console, device: str = "auto", workers: int | None = None) -> RunResult:
    """Do what is missing of `plan` and write everything anew that follows from the rows.

    Args:
        plan: what to do.
        console: for progress.
        device: "auto", "cpu" or "cuda".
        workers: scoring processes; by default one per core that may be used.

    Raises:
        DeviceError: `device` is unknown or not usable here; nothing was done then.
        TrainingError, StoreError, CheckpointError, OSError: what was computed before is kept.
    """
    chosen = select_device(device)
    with RunStore(plan.folder) as store:
        files = {utterance.id: _file_digest(utterance.path) for utterance in plan.test_utterances}
        description = _describe(plan, files)
        store.write_run(description)
        done: list[ScoredSystem] = []
        todo: list[System | PlannedSystem] = [*anchors(plan.test_rate), *plan.systems]
        for system in todo:
            described: dict[str, Any] | None = None
            if isinstance(system, PlannedSystem):
                described, system = _train_or_load(plan, system, chosen.type, chosen)
            key = _digest(described and described["weights_sha256"], _metric_versions(plan), str(RESAMPLER))
            keys = {utterance: _digest(key, digest) for utterance, digest in files.items()}
            fresh = _score_system(plan, store, system, keys, console, workers or joblib.cpu_count())
            _keep_examples(plan, system, fresh)
            speed = _measure_speed(plan, store, system, key) if isinstance(system, CodecSystem) else None
            records = [store.record(system.name, keys[u.id], u.id) for u in plan.test_utterances]
            whole = [record for record in records if record is not None]
            done.append(scored_system(plan.dataset, system, whole, described, speed))
        weights = {system.name: system.row["checkpoint_sha256"] for system in done}
        store.write_run(description | {"weights_sha256": {name: sha for name, sha in weights.items() if sha}})
        return write_outputs(plan, store, done)


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
        if (folder / "log.csv").is_file():  # a short training may end before its first row
            (plan.folder / "training").mkdir(exist_ok=True)
            shutil.copyfile(folder / "log.csv", plan.folder / "training" / f"{system.name}.csv")
    return read_description(folder), CodecSystem(system.name, load_codec(folder), chosen)


def _score_system(
    plan: Plan, store: RunStore, system: System, keys: Mapping[str, str], console: Console, workers: int
) -> bool:
    """Score the utterances that have no complete record of their key yet; says whether there were any."""
    records = {u.id: store.record(system.name, keys[u.id], u.id) for u in plan.test_utterances}
    missing = [u for u in plan.test_utterances if (record := records[u.id]) is None or not record.complete]
    if not missing:
        return False
    codes: dict[str, np.ndarray | None] = {}

    def pairs() -> Iterator[Pair]:
        for utterance in missing:
            codes[utterance.id] = None
            try:
                audio, rate = read_audio(utterance.path)
            except AudioError as error:
                yield Pair.without_audio(utterance.id, error.reason)
                continue
            made = system.reconstruct(audio, rate)
            codes[utterance.id] = made.codes
            yield Pair(utterance.id, audio, rate, made.audio, made.sample_rate)

    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        before = len(plan.test_utterances) - len(missing)
        task = progress.add_task(f"score {system.name:18}", total=len(plan.test_utterances), completed=before)
        for pair, scores in score_pairs(pairs(), plan.experiment.metrics, workers):
            name = pair.utterance
            store.append(UtteranceRecord(system.name, keys[name], name, tuple(scores), codes.pop(name)))
            progress.advance(task)
    return True


def _measure_speed(plan: Plan, store: RunStore, system: CodecSystem, key: str) -> dict[str, Any] | None:
    settings = plan.experiment.speed
    known = store.speed(system.name, key)
    if known is not None and known["settings"] == settings.model_dump():
        return known
    clip, rate = _clip(plan.test_utterances, settings.seconds)
    if not len(clip):
        return None  # no utterance could be read: failed rows name them all
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
    """The first `seconds` of the test set's speech at its first utterance's rate; empty where none can be read."""
    rate = utterances[0].sample_rate
    wanted = round(seconds * rate)
    clip = np.empty(0, np.float32)
    for utterance in utterances:
        if len(clip) >= wanted:
            break
        if utterance.sample_rate == rate:
            try:
                clip = np.concatenate([clip, read_audio(utterance.path)[0]])
            except AudioError:
                continue  # its scores are failed rows that name it
    return clip[:wanted], rate


def _keep_examples(plan: Plan, system: System, fresh: bool) -> None:
    """Write the reconstructions of the first utterances, for listening and for the spectrograms.

    `fresh` says that those of an earlier call may be of other weights.
    """
    for utterance in plan.test_utterances[: plan.experiment.examples]:
        path = example_path(plan.folder, utterance.id, system.name)
        if path.exists() and not fresh:
            continue
        try:
            made = system.reconstruct(*read_audio(utterance.path))
        except AudioError:
            continue  # its scores are failed rows that name it
        path.parent.mkdir(parents=True, exist_ok=True)
        coded = io.BytesIO()  # soundfile would hide the reason of a write that fails
        soundfile.write(coded, made.audio.clip(-1, 1), made.sample_rate, format="FLAC")
        part = path.with_name(path.name + ".part")
        part.write_bytes(coded.getbuffer())
        os.replace(part, path)


def select_device(name: str) -> torch.device:
    """The device called "auto" (a GPU where there is one), "cpu" or "cuda".

    Raises:
        DeviceError: another name, or there is no GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"--device {name}: expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: no CUDA device is usable here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _metric_versions(plan: Plan) -> dict[str, str]:
    versions = {}
    for name in plan.experiment.metrics:
        try:
            versions[name] = load_metric(name).version
        except (Unavailable, ImportError):
            versions[name] = "unavailable"  # its rows say why
    return versions


def _file_digest(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:
        return "unreadable"  # reading it for scoring fails as well, and that row says why


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _describe(plan: Plan, files: Mapping[str, str]) -> dict[str, Any]:
    return {
        "experiment": plan.experiment.resolved(),
        "seed": plan.experiment.train.seed,
        "version": code_version(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "hardware": hardware_fingerprint(),
        "metrics": _metric_versions(plan),
        "resampler": str(RESAMPLER),
        "training": plan.training,
        "train": [
            {"corpus": f"{c.name}/{c.part}", "coverage": c.coverage, "seconds": round(c.seconds, 1),
             "left_out": [str(problem) for problem in c.problems]} for c in plan.train
        ],
        "test": {
            "corpus": plan.dataset, "coverage": plan.test.coverage, "scored": len(plan.test_utterances),
            "files_sha256": _digest(files),
            "left_out": [str(problem) for problem in plan.test.problems],
        },
    }  # fmt: skip


def code_version() -> str:
    """The package's version, with the commit where this is a checkout of its repository."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():  # installed, perhaps below somebody else's repository
        return __version__
    command = ["git", "describe", "--always", "--dirty"]
    try:
        described = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return __version__
    return f"{__version__}+g{described.stdout.strip()}"
