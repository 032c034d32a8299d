"""The listening panel of the report: utterances to choose from, what every system made of them, worst and best."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from evalkit.report.extremes import Extremes, Key, Progress, find_extremes, ignored, in_turn
from evalkit.report.reconstruction import RunAudio
from evalkit.report.sound import ORIGINAL, Unheard, decode_flac, describe_sound, draw_spectrograms
from evalkit.run.saved_run import SavedRun
from evalkit.tables import metric_keys
from evalkit.tables.cells import format_number
from evalkit.tables.summary import MetricFormat, metric_format
from evalkit.text import shortened

LABEL_LENGTH = 60
ANY = -1


@dataclass(frozen=True)
class ListeningPanel:
    """What `listening.html.j2` and `listening.js` show, in plain values for JSON.

    Attributes:
        index: all but the audio.
            `metrics`: label, unit, arrow of each.
            `systems`: names; `labels`: short ones for running text.
            `utterances`: name, label (short), dataset, speaker, audio (place in `audio`, or null), reason (why there is
            none), rows: system (place in `systems`), cells (a text a metric; a place in `failures`; or null for none),
            reason (why there is no audio).
            `failures`: status and reason.
            `extremes`: system as text, "-1" for any -> [metric, worst, best], each of the two system, utterance, text.
        audio: an utterance each: `seconds`, `kilohertz`, `floor`, `ceiling` (dB) of the spectrograms; `sounds`, FLAC in
            base64, each once; `rows`: sound (place in `sounds`), image (PNG in base64), text; or null.
        size: how many utterances have their audio in the page, and what that takes of it.
        notes: sentences above the panel.
    """

    styles: ClassVar = ("report/listening.css",)
    scripts: ClassVar = ("report/player.js", "report/listening_parts.js", "report/listening.js")

    index: dict[str, Any]
    audio: tuple[dict[str, Any], ...]
    size: str
    notes: tuple[str, ...]


def listening_panel(
    runs: Sequence[SavedRun],
    names: Mapping[tuple[int, str], str],
    choose: int,
    progress: Progress = ignored,
    trust_code: bool = False,
) -> ListeningPanel | None:
    """The panel of `runs`; None for no panel.

    Args:
        runs: finished; of several, one utterance of one data set stands once, with the systems of all.
        names: (position of the run, system) -> its name on the page, in the page's order.
        choose: utterances whose audio is put into the page, at most: those whose audio was kept (half of them, where
            others can be had), then worst and best of any system by each metric in turn, then of each system. 0: no
            panel, as where there is neither kept audio nor a score of a codec.
        progress: told of the systems of each run whose audio is made again.
        trust_code: whether classes that an experiment names may be imported to make audio again.

    Audio that a run did not keep is made again from its folder, on the CPU; where that cannot be, a reason stands in
    its place. Nothing is raised for it.
    """
    rows = _all_rows(runs, names)
    if not choose or rows.empty:
        return None
    extremes = find_extremes(rows)
    sources = [RunAudio(run, trust_code) for run in runs]
    kept = list(dict.fromkeys(key for source in sources for key in source.kept))
    candidates = in_turn(kept, extremes, choose)
    if not candidates:
        return None
    why_not: dict[Key, str] = {}
    embedded: list[Key] = []
    for key in candidates:
        if len(embedded) == choose:
            break
        why_not[key] = _why_not(sources, key)
        if not why_not[key]:
            embedded.append(key)
    sounds = _sounds(sources, names, embedded, progress)
    for key in list(embedded):
        lost = [sound.reason for sound in sounds[key].values() if isinstance(sound, Unheard)]
        if len(lost) == len(sounds[key]):
            embedded.remove(key)
            why_not[key] = "; ".join(dict.fromkeys(lost))
            del sounds[key]
    listed = list(dict.fromkeys([*embedded, *candidates]))
    nothing = f"it is not among the {len(embedded)} whose audio was chosen; evalkit report --listen N takes more"
    reasons = {key: why_not.get(key) or ("" if key in embedded else nothing) for key in listed}
    index, audio = _plain(rows, list(names.values()), listed, extremes, sounds, reasons)
    scored = len(rows.drop_duplicates(["dataset", "utterance"]))
    size = f"{len(audio)} of {scored:,} utterances, {_megabytes(audio):.1f} MB"
    return ListeningPanel(index, audio, size, tuple(_notes(embedded, why_not)))


def _all_rows(runs: Sequence[SavedRun], names: Mapping[tuple[int, str], str]) -> pd.DataFrame:
    """Rows of all runs under the systems' names on the page, with `kind`, and `key` as summaries call the metric."""
    frames = []
    for position, run in enumerate(runs):
        kinds = dict(zip(run.systems["system"], run.systems["kind"], strict=True))
        shown = {system: name for (of_run, system), name in names.items() if of_run == position}
        systems = run.utterances["system"]
        frame = run.utterances.assign(kind=systems.map(kinds), system=systems.map(shown))
        frames.append(frame[frame["system"].notna()])
    rows = pd.concat(frames, ignore_index=True)
    return rows.assign(key=metric_keys(rows))


def _why_not(sources: Sequence[RunAudio], key: Key) -> str:
    """Why no run has audio of an utterance; empty where one has."""
    reasons = [source.why_not(key) for source in sources if source.has(key)]
    return "" if "" in reasons else "; ".join(dict.fromkeys(reasons))


def _sounds(
    sources: Sequence[RunAudio], names: Mapping[tuple[int, str], str], keys: Sequence[Key], progress: Progress
) -> dict[Key, dict[str, bytes | Unheard]]:
    """Utterance -> name on the page -> FLAC, or why there is none; the recording first where it is no system."""
    found: dict[Key, dict[str, bytes | Unheard]] = {key: {} for key in keys}
    for position, source in enumerate(sources):
        for (key, system), sound in source.sounds(keys, progress).items():
            if name := ORIGINAL if system == ORIGINAL else names.get((position, system)):
                found[key][name] = sound
    order = {name: place for place, name in enumerate([ORIGINAL, *names.values()])}
    return {key: dict(sorted(each.items(), key=lambda item: order[item[0]])) for key, each in found.items()}


def _notes(embedded: Sequence[Key], why_not: Mapping[Key, str]) -> Iterable[str]:
    refused = dict.fromkeys(reason for reason in why_not.values() if reason)
    if not embedded:
        yield f"No audio is in this page: {'; '.join(refused)}." if refused else "No audio is in this page."
    elif refused:
        number = sum(map(bool, why_not.values()))
        yield f"No audio of {number} further utterance{'s' if number > 1 else ''}: {'; '.join(refused)}."


def _megabytes(audio: Iterable[Mapping[str, Any]]) -> float:
    texts = (text for each in audio for text in (*each["sounds"], *(row["image"] for row in each["rows"] if row)))
    return sum(map(len, texts)) / 1e6


def _plain(
    rows: pd.DataFrame,
    names: list[str],
    listed: Sequence[Key],
    extremes: Mapping[str | None, Sequence[Extremes]],
    sounds: Mapping[Key, Mapping[str, bytes | Unheard]],
    reasons: Mapping[Key, str],
) -> tuple[dict[str, Any], tuple[dict[str, Any], ...]]:
    """`ListeningPanel.index` and `.audio`."""
    scored = rows[rows["status"] == "ok"]
    metrics = [metric_format(str(key)) for key in dict.fromkeys(scored["key"])]  # others have a cell in the table
    systems = [ORIGINAL, *names]
    failures: dict[tuple[str, str], int] = {}
    several = rows["dataset"].nunique() > 1
    of_listed = rows[pd.MultiIndex.from_frame(rows[["dataset", "utterance"]]).isin(listed)]
    groups = {(str(d), str(u)): group for (d, u), group in of_listed.groupby(["dataset", "utterance"], sort=False)}
    utterances, audio = [], []
    for key in listed:
        heard = sounds.get(key, {})
        cells = _cells(groups[key], metrics, failures)
        shown = [name for name in systems if name in cells or name in heard]
        if heard:
            audio.append(_audio({name: heard.get(name) for name in shown}))
        lines = [
            {
                "system": systems.index(name),
                "cells": cells.get(name, [None] * len(metrics)),
                "reason": sound.reason if isinstance(sound := heard.get(name), Unheard) else "",
            }
            for name in shown
        ]
        speakers = groups[key]["speaker"].dropna()
        utterances.append(
            {
                "name": key[1],
                "label": shortened(f"{key[1]} ({key[0]})" if several else key[1], LABEL_LENGTH),
                "dataset": key[0],
                "speaker": str(speakers.iloc[0]) if len(speakers) else "",
                "audio": len(audio) - 1 if heard else None,
                "reason": reasons[key],
                "rows": lines,
            }
        )
    places = {key: place for place, key in enumerate(listed)}
    told = {
        str(ANY if system is None else systems.index(system)): [
            _told(each, metrics, systems, places) for each in of_system
        ]
        for system, of_system in extremes.items()
    }
    index = {
        "metrics": [{"label": each.label, "unit": each.unit, "arrow": each.arrow} for each in metrics],
        "systems": systems,
        "labels": [shortened(name, LABEL_LENGTH) for name in systems],
        "utterances": utterances,
        "failures": [list(failure) for failure in failures],
        "extremes": told,
    }
    return index, tuple(audio)


def _cells(
    rows: pd.DataFrame, metrics: Sequence[MetricFormat], failures: dict[tuple[str, str], int]
) -> dict[str, list[str | int | None]]:
    """System -> what is printed of each metric of one utterance; `failures` grows by those that are new."""
    place = {metric.name: number for number, metric in enumerate(metrics)}
    cells: dict[str, list[str | int | None]] = {name: [None] * len(metrics) for name in dict.fromkeys(rows["system"])}
    for row in rows[rows["key"].isin(list(place))].to_dict("records"):
        number = place[row["key"]]
        if row["status"] == "ok":
            cells[row["system"]][number] = format_number(float(row["value"]), metrics[number].decimals)
        else:
            failure = (str(row["status"]), str(row["detail"] or ""))
            cells[row["system"]][number] = failures.setdefault(failure, len(failures))
    return cells


def _told(
    each: Extremes, metrics: Sequence[MetricFormat], systems: Sequence[str], places: Mapping[Key, int]
) -> list[Any]:
    number = next(number for number, metric in enumerate(metrics) if metric.name == each.metric)
    ends = [
        [systems.index(end.system), places[end.key], format_number(end.value, metrics[number].decimals)]
        for end in (each.worst, each.best)
    ]
    return [number, *ends]


def _audio(heard: Mapping[str, bytes | Unheard | None]) -> dict[str, Any]:
    """One of `ListeningPanel.audio`, of which at least one is heard."""
    coded = {name: sound for name, sound in heard.items() if isinstance(sound, bytes)}
    once = list(dict.fromkeys(coded.values()))
    signals = {name: decode_flac(sound) for name, sound in coded.items()}
    drawn = draw_spectrograms(signals)
    return {
        "seconds": drawn.seconds,
        "kilohertz": drawn.kilohertz,
        "floor": round(drawn.floor_db),
        "ceiling": round(drawn.ceiling_db),
        "sounds": [base64.b64encode(sound).decode() for sound in once],
        "rows": [
            {
                "sound": once.index(coded[name]),
                "image": base64.b64encode(drawn.images[name]).decode(),
                "text": describe_sound(*signals[name]),
            }
            if name in coded
            else None
            for name in heard
        ],
    }
