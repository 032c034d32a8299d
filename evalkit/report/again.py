"""The audio of a finished run made again from its own folder, on the CPU. Nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalkit.report.extremes import Key
from evalkit.report.material import open_material
from evalkit.report.sound import ORIGINAL, Unheard, told, too_long
from evalkit.run.evaluation import file_digest
from evalkit.run.folders import FolderSystem
from evalkit.run.saved_run import SavedRun
from evalkit.run.systems import CodecSystem, System, anchors
from evalkit.scoring.protocol import GROUND_TRUTH
from q2d2.audio import AudioError, encode_flac, read_audio
from q2d2.denormals import denormals_flushed

ANCHORS: dict[str, System] = {system.name: system for system in anchors(None)}


class AudioAgain:
    """What the systems of one run make of its recordings.

    Args:
        run: finished.
        trust_code: whether classes that its experiment names may be imported.
    """

    def __init__(self, run: SavedRun, trust_code: bool = False) -> None:
        self._weights = run.description.get("weights_sha256") or {}
        self._material = open_material(run, trust_code)
        signals = run.signals[["system", "dataset", "utterance", "reference_sha256", "estimate"]]
        self._estimates = {(s, (d, u)): made for s, d, u, _, made in signals.itertuples(index=False, name=None)}
        self._references = {(d, u): digest for _, d, u, digest, _ in signals.itertuples(index=False, name=None)}

    def why_not(self, key: Key) -> str:
        """Why no system can be given the recording of an utterance; empty where it can."""
        if self._material.reason:
            return self._material.reason
        if (recording := self._material.recordings.get(key)) is None:
            return "its recording is not among those of the test set as it is here"
        if key in self._references and file_digest(recording.path) != self._references[key]:
            return "its recording has another content than the one that was scored"
        return too_long(recording.seconds)

    @denormals_flushed()  # as while scoring: what is made again must equal what was kept
    def sounds(self, name: str, keys: Sequence[Key]) -> list[tuple[Key, bytes | Unheard]]:
        """What the system `name`, or nothing where it is `ORIGINAL`, makes of utterances without a `why_not`."""
        return list(self._sounds(name, keys))

    def _sounds(self, name: str, keys: Sequence[Key]) -> Iterator[tuple[Key, bytes | Unheard]]:
        try:
            system = self._open(name)
        except Exception as error:  # a codec may be anybody's, and a page is not to fail for it
            system = Unheard(told(error))
        for key in keys:
            yield key, system if isinstance(system, Unheard) else self._made(system, name, key)

    def _open(self, name: str) -> System | Unheard:
        if name in self._material.lost:
            return Unheard(self._material.lost[name])
        if name in self._material.openers:
            return self._material.openers[name]()
        known = ANCHORS.get(GROUND_TRUTH if name == ORIGINAL else name)
        return known or Unheard("it is no system of the experiment in run.json")

    def _made(self, system: System, name: str, key: Key) -> bytes | Unheard:
        recording = self._material.recordings[key]
        if reason := self._another(system, name, key):
            return Unheard(reason)
        try:
            made = system.reconstruct(*read_audio(recording.path), recording.id)
            return encode_flac(made.audio, made.sample_rate)
        except AudioError as error:
            return Unheard(error.reason)
        except Exception as error:  # as where it was scored: its scores are failed rows
            return Unheard(told(error))

    def _another(self, system: System, name: str, key: Key) -> str:
        """Why `system` is not what was scored; empty where it is, or where an older run does not tell."""
        if (name, key) in self._estimates:
            if system.fingerprint(key[1]) == (self._estimates[name, key] or ""):
                return ""
            what = "its file" if isinstance(system, FolderSystem) else "the codec (weights, options or code)"
            return f"{what} is no longer what was scored"
        weights = self._weights.get(name)
        if weights and isinstance(system, CodecSystem) and system.weights_sha256 != weights:
            return "its weights are no longer those that were scored"
        return ""
