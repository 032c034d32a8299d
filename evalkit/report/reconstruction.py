"""The audio of a finished run: what it kept, and what can be made again from its own folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile

from evalkit.report.extremes import Key, Progress, ignored
from evalkit.report.sound import ORIGINAL, Unheard, decode_flac, told, too_long
from evalkit.run.saved_run import SavedRun
from evalkit.scoring.protocol import GROUND_TRUTH

if TYPE_CHECKING:
    from evalkit.report.again import AudioAgain


class RunAudio:
    """The audio of one run, kept or made again on the CPU.

    Args:
        run: finished.
        trust_code: whether classes that its experiment names may be imported.
    """

    def __init__(self, run: SavedRun, trust_code: bool = False) -> None:
        self.run = run
        self._trust_code = trust_code
        try:
            self._kept = run.examples()
        except OSError:  # a name may be longer than any file's: nothing was kept under it
            self._kept = {}
        self._kept_dataset = (run.description.get("test") or {}).get("dataset")
        rows = run.utterances.drop_duplicates(["system", "dataset", "utterance"])
        self._scored: dict[Key, list[str]] = {}
        for system, dataset, utterance in zip(rows["system"], rows["dataset"], rows["utterance"], strict=True):
            self._scored.setdefault((dataset, utterance), []).append(system)

    @property
    def kept(self) -> list[Key]:
        """The utterances whose audio the run kept."""
        return [key for utterance in self._kept if (key := (str(self._kept_dataset), utterance)) in self._scored]

    def has(self, key: Key) -> bool:
        """Whether the run has scores of an utterance."""
        return key in self._scored

    def why_not(self, key: Key) -> str:
        """Why there is no audio of an utterance that the run has; empty where there is some."""
        if kept := self._kept_of(key):
            return too_long(_duration(next(iter(kept.values()))))
        return self._why_never or self._again.why_not(key)

    def _kept_of(self, key: Key) -> dict[str, Path]:
        dataset, utterance = key
        return self._kept.get(utterance, {}) if dataset == self._kept_dataset else {}

    @cached_property
    def _why_never(self) -> str:
        """Why nothing can be made again, where run.json and the names of folders tell."""
        experiment, folders = (self.run.description.get(name) for name in ("experiment", "folders"))
        if not experiment:
            return "" if folders else "a sweep keeps no audio of its trials"
        systems = experiment.get("systems") or {}  # of another version, perhaps
        trained = [name for name, spec in systems.items() if spec.get("bottleneck") is not None]
        checkpoints = self.run.folder / "checkpoints"
        if len(trained) < len(systems) or any((checkpoints / name).is_dir() for name in trained):
            return ""
        return "the run's folder has no checkpoints; a published run has none"

    @cached_property
    def _again(self) -> AudioAgain:
        from evalkit.report.again import AudioAgain  # seconds: it loads torch

        return AudioAgain(self.run, self._trust_code)

    def sounds(self, keys: Sequence[Key], progress: Progress = ignored) -> dict[tuple[Key, str], bytes | Unheard]:
        """(utterance, system) -> FLAC of 16 bits, or why there is none, for all systems that have scores of it.

        The recording itself is there as `ORIGINAL` where ground-truth was not scored. Each system is loaded once.
        """
        found: dict[tuple[Key, str], bytes | Unheard] = {}
        wanted: dict[str, list[Key]] = {}  # of each system, what is to be made again
        for key in keys:
            kept = self._kept_of(key)
            scored = self._scored.get(key, [])
            systems = [ORIGINAL, *scored] if scored and GROUND_TRUTH not in scored else scored
            again = [system for system in systems if system not in kept]
            found |= {(key, system): _checked(kept[system]) for system in systems if system in kept}
            if again and (reason := self._why_never or self._again.why_not(key)):
                found |= {(key, system): Unheard(reason) for system in again}
                continue
            for system in again:
                wanted.setdefault(system, []).append(key)
        for done, (system, whose) in enumerate(wanted.items()):
            progress(done, len(wanted))
            found |= {(key, system): sound for key, sound in self._again.sounds(system, whose)}
        progress(len(wanted), len(wanted))
        return {place: found[place] for place in found if place[1] != ORIGINAL or isinstance(found[place], bytes)}


def _checked(path: Path) -> bytes | Unheard:
    """A kept file whole, if it is audio."""
    try:
        coded = path.read_bytes()
        decode_flac(coded)
    except (soundfile.LibsndfileError, OSError) as error:
        reason = error.error_string if isinstance(error, soundfile.LibsndfileError) else told(error)
        return Unheard(f"{path.name}, which the run kept, cannot be read: {reason.rstrip('.')}")
    return coded


def _duration(path: Path) -> float:
    try:
        return float(soundfile.info(path).duration)
    except (soundfile.LibsndfileError, OSError):
        return 0.0  # the row of the system says what is wrong with it
