"""Every difference between a run and the protocol of a paper, computed from what the run says of itself.

The paper's side is data: its test set and metrics are those of `evalkit.papers`, its backbone, data, training and
bottleneck those of the built-in experiment `published`, which does what its published code does. What its procedure
does to scores, whatever the run, is in docs/published-protocol.md, where each point is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from evalkit.papers import Paper, read_paper
from evalkit.report.facts import overrides
from evalkit.run.experiment import ExperimentError, load_experiment
from evalkit.run.saved_run import SavedRun
from evalkit.tables.summary import metric_format
from evalkit.text import first_sentence
from q2d2.plain_values import parse_json, shortened
from q2d2.training.config import recipe_values, train_config

PAPER = "q2d2"
PUBLISHED_TRAINING = "published"
# Of these settings no result depends.
SILENT = ("recipe", "checkpoint_every", "log_every", "num_workers")
RTF = "rtf"
PROCEDURE = {
    "pesq": ("PESQ that fails", "a failed row with a reason, left out of the mean and counted",
             "the library's error value is averaged in"),
    "vuv_f1": ("V/UV F1 of an estimate without voice", "0", "NaN, dropped from the mean without a count"),
    "rtf": ("Real-time factor", "over the audio's duration, after a warm-up, median of repeats",
            "over samples at 24 kHz divided by the original rate: 1.5 times too fast at 16 kHz"),
    "codes": ("Use of the codes", "counted from the codes as the quantizer gives them",
              "entropy over the set of codes that occur, grids one level off"),
}  # fmt: skip


class Departure(NamedTuple):
    """One difference: what, as it is here, as it is in the paper."""

    subject: str
    here: str
    paper: str


def departures(run: SavedRun) -> tuple[Paper, list[Departure]]:
    """The paper that `run` names, or that of Q2D2, and all differences from its protocol."""
    experiment = _experiment(run)
    paper = read_paper(experiment.get("paper") or PAPER)
    found = [*_test_set(run, paper), *_protocol(run, paper), *_metrics(run, paper), *_procedure(run)]
    if paper.name == PAPER:
        try:
            found += _systems(run, experiment)
        except ValueError as error:
            here = f"the experiment in run.json is not one of this version of evalkit: {shortened(error)}"
            found.append(Departure("Systems", here, "trained by the authors"))
    return paper, found


def _experiment(run: SavedRun) -> Mapping[str, Any]:
    """The resolved experiment; of a sweep as this version has it, as a sweep keeps its name and changes alone."""
    told = run.description
    if experiment := told.get("experiment"):
        return experiment
    sweep = told.get("sweep") or {}
    if isinstance(sweep.get("experiment"), str):
        try:
            return load_experiment(sweep["experiment"], overrides(sweep)).resolved()
        except (ExperimentError, OSError):  # it was a file that is not here
            return {}
    return {}


def _test_set(run: SavedRun, paper: Paper) -> Iterator[Departure]:
    for dataset, rows in run.utterances.groupby("dataset", sort=False):
        count = rows["utterance"].nunique()
        if dataset != paper.dataset or count != paper.n:
            yield Departure("Test set", f"{dataset}, {count:,} utterances", f"{paper.dataset}, {paper.n:,} utterances")


def _protocol(run: SavedRun, paper: Paper) -> Iterator[Departure]:
    label = str((run.description.get("protocol") or {}).get("label", "not recorded"))
    if label == paper.protocol:
        return
    yield Departure("Protocol", label, f"as here under the name {paper.protocol}")
    if label.startswith("strict"):
        yield Departure("Signals", "float, as the systems give them", "16-bit files")
        yield Departure("Lengths and delays", "looked for and reported", "not looked at")
    if label.endswith("+align"):
        yield Departure("A constant delay", "compensated", "left as it is")


def _metrics(run: SavedRun, paper: Paper) -> Iterator[Departure]:
    published = list(dict.fromkeys(metric for system in paper.systems.values() for metric in system.values))
    told = run.description.get("unavailable") or {}
    for metric in published:
        rows = run.utterances[run.utterances["metric"] == metric]
        if metric == RTF or (rows["status"] == "ok").any():
            continue
        if rows.empty:
            why = "not asked for"
        else:
            details = rows["detail"].dropna()
            reason = told.get(metric) or (details.iloc[0] if len(details) else "no reason given")
            why = f"without any score: {first_sentence(str(reason))}"
        yield Departure(metric_format(metric).label, why, "reported")
    failed = run.utterances[run.utterances["status"] == "failed"]
    for name, rows in failed[failed["metric"].isin(published)].groupby("metric", sort=False):
        yield Departure(f"{metric_format(str(name)).label}, failed scores", f"{len(rows):,} left out", "not reported")
    scored = dict.fromkeys(run.utterances["metric"])
    further = [metric_format(str(each)).label for each in scored if each not in published]
    if further:
        yield Departure("Further metrics", ", ".join(further), "not reported")


def _procedure(run: SavedRun) -> Iterator[Departure]:
    scored = set(run.utterances.loc[run.utterances["status"] == "ok", "metric"])
    if run.systems[["rtf_encode", "rtf_decode"]].notna().any().any():
        scored.add("rtf")
    if len(run.codes) or ("utilization" in run.systems and run.systems["utilization"].notna().any()):
        scored.add("codes")
    for key, (subject, here, published) in PROCEDURE.items():
        if key in scored:
            yield Departure(subject, here, published)


def _systems(run: SavedRun, experiment: Mapping[str, Any]) -> Iterator[Departure]:
    specs = experiment.get("systems") or {}
    trained = {name: spec["bottleneck"] for name, spec in specs.items() if spec.get("bottleneck")}
    if run.description.get("sweep"):
        trained = {
            name: _spec(text) for name, text in zip(run.systems["system"], run.systems["bottleneck"], strict=True)
        }
    if not specs and not trained:
        yield Departure("Systems", "decoded audio; how it was made is not known here", "trained by the authors")
        return
    loaded = [name for name in specs if name not in trained and not run.description.get("sweep")]
    if loaded:
        yield Departure(
            "Loaded, not trained here", ", ".join(loaded), "Q2D2 trained by the authors, others as published"
        )
    if not trained or "backbone" not in experiment:
        return
    published = load_experiment(PUBLISHED_TRAINING).resolved()
    yield from _backbone(experiment["backbone"], published["backbone"])
    yield from _data(run, experiment, published)
    yield from _training(experiment.get("train") or {}, published["train"])
    (reference,) = (spec["bottleneck"] for spec in published["systems"].values())
    own = {name: spec for name, spec in trained.items() if spec.get("name") == reference["name"]}
    yield from _bottlenecks(own, reference)


def _spec(text: object) -> dict[str, Any]:
    return parse_json(text) if isinstance(text, str) else {}


def _backbone(here: Mapping[str, Any], published: Mapping[str, Any]) -> Iterator[Departure]:
    from q2d2.codec.config import codec_config  # its package imports torch

    ours = codec_config(here["size"], **(here.get("changes") or {}))
    theirs = codec_config(published["size"], **(published.get("changes") or {}))
    labels = {
        "sample_rate": ("Sample rate", "{:,} Hz"), "frame_rate": ("Frames per second", "{:.4g}"),
        "num_filters": ("Encoder, first channels", "{}"), "dimension": ("Channels of the latents", "{}"),
        "lstm_layers": ("LSTM layers", "{}"), "decoder_dim": ("Decoder, channels", "{:,}"),
        "decoder_intermediate": ("Decoder, inner channels", "{:,}"), "decoder_layers": ("Decoder, blocks", "{}"),
    }  # fmt: skip
    for key, (label, form) in labels.items():
        mine, other = getattr(ours, key), getattr(theirs, key)
        if mine != other:
            yield Departure(f"Backbone: {label}", form.format(mine), form.format(other))


def _data(run: SavedRun, experiment: Mapping[str, Any], published: Mapping[str, Any]) -> Iterator[Departure]:
    named = [_corpus(corpus) for corpus in (experiment.get("data") or {}).get("train") or []]
    theirs = [_corpus(corpus) for corpus in published["data"]["train"]]
    told = run.description.get("train")
    used = [f"{corpus['corpus']}: {corpus['coverage']}" for corpus in told] if isinstance(told, list) else []
    if named != theirs or any("partial" in text for text in used):
        yield Departure("Training data", "; ".join(used or named) or "none", "; ".join(theirs))


def _corpus(corpus: Mapping[str, Any]) -> str:
    return "/".join(str(part) for part in (corpus["name"], corpus.get("part")) if part)


def _training(here: Mapping[str, Any], published: Mapping[str, Any]) -> Iterator[Departure]:
    # A run from before a setting existed did what its default does.
    ours = train_config(**{"recipe": "corrected"}).to_dict() | recipe_values({"recipe": "spectral"} | dict(here))
    for key, theirs in published.items():
        mine = ours.get(key)
        if key in SILENT or _plain(mine) == _plain(theirs):
            continue
        written = str if key == "seed" else _written  # a name, no quantity
        yield Departure(f"Training: {key.replace('_', ' ')}", written(mine), written(theirs))


def _bottlenecks(own: Mapping[str, Mapping[str, Any]], reference: Mapping[str, Any]) -> Iterator[Departure]:
    defaults = {"gradient": "unit"}
    for key, theirs in reference.items():
        values: dict[str, list[str]] = {}
        for name, spec in own.items():
            mine = spec.get(key, defaults.get(key))
            if _plain(mine) != _plain(theirs):
                values.setdefault(_written(mine), []).append(name)
        for written, names in values.items():
            who = f"{len(names)} systems" if len(names) > 6 else ", ".join(names)
            yield Departure(f"Q2D2: {key}", f"{written} ({who})", _written(theirs))


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _written(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {each:g}" for key, each in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
