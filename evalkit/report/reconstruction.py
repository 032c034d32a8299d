"""The audio of a finished run: what it kept, and what can be made again from its own folder. Nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import soundfile

from evalkit.evaluation import file_digest
from evalkit.folders import FolderSystem
from evalkit.report.material import Key, Material, open_material, told
from evalkit.report.sound import decode_flac, encode_flac
from evalkit.saved_run import SavedRun
from evalkit.systems import CodecSystem, GroundTruth, System, anchors
from q2d2.audio import AudioError, read_audio

# A page is opened whole: a lecture in ten codecs would be hundreds of megabytes.
MAX_SECONDS = 40.0
ANCHORS: dict[str, System] = {system.name: system for system in anchors(None)}
# The recording, of a data set on which ground-truth was not scored.
ORIGINAL = "original recording"  # no system of an experiment can have a space in its name


class Unheard(NamedTuple):
    """Why there is no audio of a system."""

    reason: str


class RunAudio:
    """The audio of one run, kept or made again on the CPU.

    Args:
        run: finished.
    """

    def __init__(self, run: SavedRun) -> None:
        self.run = run
        try:
            self._kept = run.examples()
        except OSError:  # a name may be longer than any file's: nothing was kept under it
            self._kept = {}
        self._kept_dataset = (run.description.get("test") or {}).get("dataset")
        rows = run.utterances.drop_duplicates(["system", "dataset", "utterance"])
        self._scored: dict[Key, list[str]] = {}
        for system, dataset, utterance in zip(rows["system"], rows["dataset"], rows["utterance"], strict=True):
            self._scored.setdefault((dataset, utterance), []).append(system)
        signals = run.signals[["system", "dataset", "utterance", "reference_sha256", "estimate"]]
        self._digests = {(s, (d, u)): (ref, est) for s, d, u, ref, est in signals.itertuples(index=False, name=None)}
        self._references = {key: reference for (_, key), (reference, _) in self._digests.items()}

    @cached_property
    def material(self) -> Material:
        return open_material(self.run)

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
            return _too_long(_duration(next(iter(kept.values()))))
        return self._why_not_again(key)

    def _why_not_again(self, key: Key) -> str:
        if self.material.reason:
            return self.material.reason
        if (recording := self.material.recordings.get(key)) is None:
            return "its recording is not among those of the test set as it is here"
        if key in self._references and file_digest(recording.path) != self._references[key]:
            return f"its recording, {recording.path.name}, has another content than the one that was scored"
        return _too_long(recording.seconds)

    def _kept_of(self, key: Key) -> dict[str, Path]:
        dataset, utterance = key
        return self._kept.get(utterance, {}) if dataset == self._kept_dataset else {}

    def sounds(self, keys: Sequence[Key]) -> dict[tuple[Key, str], bytes | Unheard]:
        """(utterance, system) -> FLAC of 16 bits, or why there is none, for all systems that have scores of it.

        The recording itself is there as `ORIGINAL` where ground-truth was not scored. Each system is loaded once.
        """
        found: dict[tuple[Key, str], bytes | Unheard] = {}
        again: dict[str, list[Key]] = {}
        for key in keys:
            kept = self._kept_of(key)
            for system in self._scored.get(key, []):
                if system in kept:
                    found[key, system] = _checked(kept[system])
                else:
                    again.setdefault(system, []).append(key)
            if key in self._scored and GroundTruth.name not in self._scored[key]:
                again.setdefault(ORIGINAL, []).append(key)
        refused = {key: self._why_not_again(key) for key in dict.fromkeys(key for ks in again.values() for key in ks)}
        for system, wanted in again.items():
            found |= {(key, system): Unheard(refused[key]) for key in wanted if refused[key]}
            if possible := [key for key in wanted if not refused[key]]:
                from q2d2.training.loop import denormals_flushed  # seconds: it loads Lightning

                with denormals_flushed():  # as while scoring: what is made again must equal what was kept
                    found |= {(key, system): sound for key, sound in self._make(system, possible)}
        return {place: found[place] for place in found if place[1] != ORIGINAL or isinstance(found[place], bytes)}

    def _make(self, name: str, keys: Sequence[Key]) -> list[tuple[Key, bytes | Unheard]]:
        if name in self.material.lost:
            return [(key, Unheard(self.material.lost[name])) for key in keys]
        try:
            opener = self.material.openers.get(name)
            system = opener() if opener else ANCHORS.get(GroundTruth.name if name == ORIGINAL else name)
        except Exception as error:  # a codec may be anybody's, and a page is not to fail for it
            return [(key, Unheard(told(error))) for key in keys]
        if system is None:
            return [(key, Unheard("it is no system of the experiment in run.json")) for key in keys]
        return [(key, self._made(system, name, key)) for key in keys]

    def _made(self, system: System, name: str, key: Key) -> bytes | Unheard:
        recording = self.material.recordings[key]
        if reason := self._another(system, name, key):
            return Unheard(reason)
        try:
            made = system.reconstruct(*read_audio(recording.path), recording.id)
        except AudioError as error:
            return Unheard(error.reason)
        except Exception as error:  # as where it was scored: its scores are failed rows
            return Unheard(told(error))
        return encode_flac(made.audio, made.sample_rate)

    def _another(self, system: System, name: str, key: Key) -> str:
        """Why `system` is not what was scored; empty where it is, or where an older run does not tell."""
        if (name, key) in self._digests:
            if system.fingerprint(key[1]) == (self._digests[name, key][1] or ""):
                return ""
            what = "its file" if isinstance(system, FolderSystem) else "the codec (weights, options or code)"
            return f"{what} is no longer what was scored"
        weights = (self.run.description.get("weights_sha256") or {}).get(name)
        if weights and isinstance(system, CodecSystem) and system.weights_sha256 != weights:
            return "its weights are no longer those that were scored"
        return ""


def _checked(path: Path) -> bytes | Unheard:
    """A kept file whole, if it is audio."""
    try:
        coded = path.read_bytes()
        decode_flac(coded)
    except (soundfile.LibsndfileError, OSError) as error:
        return Unheard(f"{path.name}, which the run kept, cannot be read: {told(error)}")
    return coded


def _duration(path: Path) -> float:
    try:
        return float(soundfile.info(path).duration)
    except (soundfile.LibsndfileError, OSError):
        return 0.0  # the row of the system says what is wrong with it


def _too_long(seconds: float) -> str:
    return "" if seconds <= MAX_SECONDS else f"it is longer than {MAX_SECONDS:g} s, too much for one page"
