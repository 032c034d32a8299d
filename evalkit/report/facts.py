"""What was run on what: the facts of a run's description, as pairs of plain text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from evalkit.run.saved_run import SavedRun
from evalkit.tables.notes import units
from evalkit.tables.summary import metric_format

Fact = tuple[str, str]
UNKNOWN = "not recorded"


def run_facts(run: SavedRun) -> list[Fact]:
    """Test set, systems, training, protocol, versions and machine, in the same order for every run."""
    told = run.description
    return [
        ("Run", f"{run.title}" if run.title == run.name else f"{run.title} ({run.name})"),
        ("Systems", _systems(run.systems)),
        ("Test set", _test_set(run)),
        ("Speakers", _speakers(run.utterances)),
        ("Metrics", _metrics(run.utterances)),
        ("Protocol", str((told.get("protocol") or {}).get("label", UNKNOWN))),
        ("Intervals", _intervals(run)),
        (
            "Compared with",
            "see What the sweep found" if "sweep" in told else str(told.get("baseline") or "no baseline"),
        ),
        ("Training", _training(told)),
        ("Training data", _training_data(told)),
        ("Seed", _seed(told)),
        ("Finished", str(told.get("finished") or UNKNOWN).replace("T", " ")),
        ("Version", _version(told)),
        ("Machine", _machine(told.get("hardware") or {})),
        ("Weights", _weights(told)),
    ]


def run_notes(run: SavedRun) -> list[str]:
    """What a reader of the run's table must know, sentences of plain text as the run itself puts them under it."""
    told = run.description
    if "notes" in told:
        return [str(note) for note in told["notes"]]
    # Runs made before run.json kept them.
    notes = [str(note) for note in (told.get("experiment") or told.get("sweep") or {}).get("notes") or []]
    corpus = told.get("test_corpus") or {}
    if coverage := corpus.get("coverage"):
        notes.append(f"Test set: {(told.get('test') or {}).get('dataset')}, {coverage}.")
    if left_out := corpus.get("left_out"):
        notes.append(f"Left out, unusable: {'; '.join(map(str, left_out))}.")
    if (told.get("training") or {}).get("bottleneck"):
        notes.append(f"Training: {_training(told)}, on {_training_data(told)}, seed {_seed(told)}.")
    return notes


def package_facts(run: SavedRun) -> list[Fact]:
    """Python and the packages that numbers can depend on."""
    packages = run.description.get("packages") or {}
    return [("Python", str(run.description.get("python", UNKNOWN))), *((str(k), str(v)) for k, v in packages.items())]


def protocol_facts(run: SavedRun) -> list[Fact]:
    """The settings of the protocol, in words where they are known."""
    protocol = run.description.get("protocol") or {}
    words: dict[str, tuple[str, Mapping[Any, str]]] = {
        "signals": (
            "Signals",
            {"float": "in float, as systems give them", "pcm16": "rounded to 16 bits, as in a file"},
        ),
        "checked": ("Lengths and delays", {True: "looked for and reported", False: "not looked at"}),
        "aligned": ("A constant delay", {True: "is compensated", False: "is left as it is"}),
        "crop": ("Unequal lengths", {"shorter": "both end with the shorter"}),
        "hop_seconds": ("A difference in length is reported from (s)", {}),
        "max_delay_seconds": ("Delays are looked for up to (s)", {}),
        "max_mismatch": ("A pair is refused where more than this part is missing", {}),
        "version": ("Version of the protocol's code", {}),
    }
    facts = [("Name", str(protocol.get("label", UNKNOWN)))]
    for key, (label, texts) in words.items():
        if key in protocol:
            value = protocol[key]
            facts.append((label, texts.get(value, str(value))))
    resampler = protocol.get("resampler")
    if isinstance(resampler, Mapping):
        facts.append(("Resampling", ", ".join(f"{key} {value}" for key, value in resampler.items())))
    return facts


def metric_facts(run: SavedRun) -> list[tuple[str, str, str]]:
    """Metric, the rate that it is computed at, and its version."""
    protocol = run.description.get("protocol") or {}
    rates, versions = protocol.get("rates") or {}, protocol.get("versions") or {}
    if not rates and "version" in run.utterances:  # a sweep keeps them in the rows only
        scored = run.utterances[run.utterances["status"] == "ok"].drop_duplicates("metric")
        versions = dict(zip(scored["metric"], scored["version"].fillna(UNKNOWN), strict=True))
    return [
        (str(name), f"{rate:,} Hz" if isinstance(rate, int) else str(rate or UNKNOWN), str(versions.get(name, UNKNOWN)))
        for name, rate in {name: rates.get(name) for name in [*rates, *versions]}.items()
    ]


def overrides(sweep: Mapping[str, Any]) -> list[str]:
    """What a sweep changes in its experiment, as on the command line: KEY=VALUE."""
    return [f"{key}={json.dumps(value)}" for key, value in (sweep.get("set") or {}).items()]


def _intervals(run: SavedRun) -> str:
    over = units(run.utterances)
    if "sweep" in run.description:
        return f"95 %; of configurations over seeds and {over.split()[-1]} together, of trials over {over}"
    return f"95 %, over {over}"


def _systems(systems: pd.DataFrame) -> str:
    words = {
        "anchor": ("known answer", "known answers"), "codec": ("codec", "codecs"),
        "folder": ("folder of decoded audio", "folders of decoded audio"),
    }  # fmt: skip
    counts = systems["kind"].value_counts(sort=False)
    told = (f"{count:,} {words.get(str(kind), (kind, kind))[count != 1]}" for kind, count in counts.items())
    return f"{len(systems):,}: {', '.join(told)}"


def _test_set(run: SavedRun) -> str:
    test = run.description.get("test") or {}
    corpus = run.description.get("test_corpus") or {}
    parts = []
    for dataset, rows in run.utterances.groupby("dataset", sort=False):
        count = f"{dataset}: n = {rows['utterance'].nunique():,} utterances"
        covered = corpus.get("coverage") if dataset == test.get("dataset") else None
        parts.append(f"{count}, of the corpus {covered}" if covered else count)
    text = "; ".join(parts) or "nothing was scored"
    if seconds := run.signals.drop_duplicates(["dataset", "utterance"])["seconds"].sum():
        text += f"; {seconds / 60:.1f} minutes"
    if left_out := corpus.get("left_out"):
        text += f"; left out: {', '.join(map(str, left_out))}"
    if digest := test.get("files_sha256"):
        text += f"; SHA-256 of the files {str(digest)[:16]}"
    return text


def _speakers(utterances: pd.DataFrame) -> str:
    parts = []
    for dataset, rows in utterances.groupby("dataset", sort=False):
        count = rows["speaker"].nunique()
        parts.append(f"{dataset}: {count:,}" if count else f"{dataset}: {UNKNOWN}")
    return "; ".join(parts) or UNKNOWN


def _metrics(utterances: pd.DataFrame) -> str:
    by_metric = utterances.groupby("metric", sort=False)["status"].apply(lambda rows: bool((rows == "ok").any()))
    scored = [metric_format(str(name)).label for name, some in by_metric.items() if some]
    lost = [metric_format(str(name)).label for name, some in by_metric.items() if not some]
    return ", ".join(scored) + (f"; without any score: {', '.join(lost)}" if lost else "")


def _training(told: Mapping[str, Any]) -> str:
    train = (told.get("training") or {}).get("train") or {}
    trained = (told.get("training") or {}).get("bottleneck")
    if sweep := told.get("sweep"):
        changed = overrides(sweep)
        base = f"each trial as in experiment {sweep.get('experiment')}"
        return f"{base} with {', '.join(changed)}" if changed else base
    if not trained:
        return "nothing was trained in this run"
    backbone = told["training"].get("backbone") or {}
    start = f"starting from {train['init_from']}" if train.get("init_from") else "from scratch"
    return (
        f"{len(trained)} bottlenecks under backbone {backbone.get('size')}, {train.get('steps'):,} steps of "
        f"{train.get('batch_size')} x {train.get('segment_seconds')} s, {start}"
    )


def _training_data(told: Mapping[str, Any]) -> str:
    corpora = told.get("train") or []
    if not isinstance(corpora, list) or not corpora:
        return "none" if not told.get("sweep") else UNKNOWN
    return "; ".join(
        f"{corpus.get('corpus')}: {corpus.get('coverage')}, {float(corpus.get('seconds') or 0) / 3600:.2f} h"
        + (f", {len(corpus['left_out'])} files left out" if corpus.get("left_out") else "")
        for corpus in corpora
    )


def _seed(told: Mapping[str, Any]) -> str:
    if sweep := told.get("sweep"):
        return ", ".join(map(str, sweep.get("seeds") or [])) or UNKNOWN
    return str(told.get("seed", UNKNOWN))


def _version(told: Mapping[str, Any]) -> str:
    version = str(told.get("version", UNKNOWN))
    commit = re.search(r"\+g([0-9a-f]+)(.*)", version)
    if not commit:
        return version
    changed = ", with changes that were not committed" if commit[2] else ""
    return f"{version.partition('+')[0]}, commit {commit[1]}{changed}"


def _machine(hardware: Mapping[str, Any]) -> str:
    if not hardware:
        return UNKNOWN
    gpu = f"{hardware.get('gpus')} x {hardware['gpu']}" if hardware.get("gpu") else "no GPU"
    counted = (("cores", "cores"), ("threads", "threads"), ("ram_gib", "GiB"))
    known = [f"{hardware[key]} {unit}" for key, unit in counted if hardware.get(key) is not None]
    text = ", ".join([str(hardware.get("cpu", "CPU not recorded")), *known, gpu])
    return re.sub(r"\b1 (core|thread)s\b", r"1 \1", text)


def _weights(told: Mapping[str, Any]) -> str:
    weights = told.get("weights_sha256")
    if isinstance(weights, Mapping):
        return "; ".join(f"{name} {str(digest)[:16]}" for name, digest in weights.items()) or "none"
    return str(weights) if weights else UNKNOWN
