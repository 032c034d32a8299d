"""One run: train or load every system, reconstruct the test set, score it, write rows, tables and plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from rich.console import Console

from baselines.codecs import CodecError
from baselines.codecs.weights import WeightsDamaged
from evalkit.datasets import Utterance
from evalkit.run.evaluation import Evaluation, digest, evaluate, report_damage
from evalkit.run.outputs import RunResult, ScoredSystem, scored_system, write_outputs
from evalkit.run.plan import Plan
from evalkit.run.planned import Planned, PlannedBottleneck, PlannedCodec, PlannedFolder, open_system
from evalkit.run.store import RunStore
from evalkit.run.systems import Audio, CodecSystem, System, UnavailableSystem, anchors
from evalkit.run.tracking import send_results
from evalkit.run.training import train_system
from evalkit.scoring.workers import Scorer
from evalkit.speed import Rtf, measure_rtf
from q2d2.audio import AudioError, read_audio
from q2d2.checkpoints import read_description
from q2d2.denormals import denormals_flushed
from q2d2.trackers import Tracking
from q2d2.training.loop import Watch


@denormals_flushed()  # as in training: a call that trains and a later one that only scores must compute alike
def run(
    plan: Plan, console: Console, device: torch.device, scorer: Scorer, tracking: Tracking | None = None
) -> RunResult:
    """Do what is missing of `plan` and write everything anew that follows from the rows.

    Args:
        plan: what to do.
        console: for progress.
        device: where codecs are trained and run; see `evalkit.machine`.
        scorer: scores the reconstructions.
        tracking: which trackers follow the trainings, and are sent the results of each system once it is scored; None
            for trainings in TensorBoard and no results.

    Raises:
        TrainingError, StoreError, CheckpointError, OSError: what was computed before is kept.
    """
    with RunStore(plan.folder) as store:
        report_damage(store, console)
        systems = (*anchors(plan.test_rate), *plan.systems)
        done = score_systems(plan, store, systems, console, device, scorer, tracking=tracking)
        return write_outputs(plan.evaluation, store, done)


@denormals_flushed()
def score_systems(
    plan: Plan,
    store: RunStore,
    systems: Sequence[System | Planned],
    console: Console,
    device: torch.device,
    scorer: Scorer,
    watch: Watch | None = None,
    tracking: Tracking | None = None,
) -> list[ScoredSystem]:
    """Train or load each of `systems`, score it, and note in run.json what was run.

    Args:
        plan: of the run.
        store: its folder, open.
        systems: those of the plan, and known-answer systems.
        console, device, scorer: as in `run`.
        watch: as in `q2d2.training.loop.train`, which then draws no progress bar.
        tracking: as in `run`.

    Raises:
        TrainingError, StoreError, CheckpointError, OSError: what was computed before is kept.
    """
    description = plan.evaluation.describe() | _describe(plan)
    store.write_run(description)
    done: list[ScoredSystem] = []
    for planned in systems:
        if isinstance(planned, Planned):
            system, described = _open(plan, planned, device, watch, tracking)
        else:
            system, described = planned, None
        on = _evaluation_of(plan.evaluation, planned)
        records = evaluate(on, store, system, scorer, console)
        works = any(score.status == "ok" for record in records for score in record.scores)
        speed = _measure_speed(plan, store, system) if isinstance(system, CodecSystem) and works else None
        done.append(scored_system(on, system, records, described, speed))
        if tracking is not None:
            send_results(tracking, plan.folder, done[-1], console)
    weights = {system.name: system.row["checkpoint_sha256"] for system in done}
    store.write_run(description | {"weights_sha256": {name: sha for name, sha in weights.items() if sha}})
    return done


def _open(
    plan: Plan, planned: Planned, device: torch.device, watch: Watch | None, tracking: Tracking | None
) -> tuple[System, dict[str, Any] | None]:
    """The system itself, trained first where it has to be, and its checkpoint's description if it has one."""
    if isinstance(planned, PlannedBottleneck):
        if planned.checkpoint is None:
            train_system(plan, planned, device.type, watch, tracking)
        return open_system(planned, plan.folder, device), read_description(planned.folder(plan.folder))
    if isinstance(planned, PlannedCodec) and planned.missing:
        return UnavailableSystem(planned.name, "codec", planned.missing), None
    try:
        return open_system(planned, plan.folder, device), None
    except (CodecError, WeightsDamaged) as error:  # the systems after it are none the worse for it
        return UnavailableSystem(planned.name, "codec", str(error), "failed"), None


def _evaluation_of(evaluation: Evaluation, planned: System | Planned) -> Evaluation:
    """That of the run, or, for decoded audio with references of its own, on these."""
    if isinstance(planned, PlannedFolder) and planned.references is not None:
        dataset, utterances = planned.references
        return replace(evaluation, dataset=dataset, utterances=utterances, examples=0)
    return evaluation


def _measure_speed(plan: Plan, store: RunStore, system: CodecSystem) -> dict[str, Any] | None:
    settings = plan.experiment.speed
    key = digest(system.identity, system.device.type)
    known = store.speed(system.name, key)
    if known is not None and known["settings"] == settings.model_dump():
        return known
    clip, rate = _clip(plan.test_utterances, settings.seconds)
    if not len(clip):
        return None  # no utterance could be read: failed rows name them all
    try:
        timed = _time(system, clip, rate, settings.repeats)
    except Exception:  # as in evaluation: it may fail on this clip alone, and must not end a run
        return None
    values = {
        "rtf_encode": timed.encode, "rtf_decode": timed.decode, "rtf_detail": timed.detail,
        "settings": settings.model_dump(),
    }  # fmt: skip
    store.append_speed(system.name, key, values)
    return values


@torch.inference_mode()
def _time(system: CodecSystem, clip: Audio, rate: int, repeats: int) -> Rtf:
    signal = system.prepare(clip, rate)
    codes = system.coder.encode(signal)
    return measure_rtf(
        lambda: system.coder.encode(signal), lambda: system.coder.decode(codes), len(clip) / rate, repeats,
        synchronize=torch.cuda.synchronize if system.device.type == "cuda" else None, device=system.device.type,
    )  # fmt: skip


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


def _describe(plan: Plan) -> dict[str, Any]:
    return {
        "experiment": plan.experiment.resolved(),
        "seed": plan.experiment.train.seed,
        "training": plan.training,
        "train": [
            {"corpus": f"{c.name}/{c.part}", "coverage": c.coverage, "seconds": round(c.seconds, 1),
             "left_out": [str(problem) for problem in c.problems]} for c in plan.train
        ],
        "test_corpus": {
            "coverage": plan.test.coverage, "left_out": [str(problem) for problem in plan.test.problems],
        },
    }  # fmt: skip
