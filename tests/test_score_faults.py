"""`evalkit score` on bad files, full disks, at once with another, and killed: one failed row each, nothing lost."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from tests import warm
from tests.command import evalkit
from tests.decoded_folders import FAST, RATE, failed, make_folders, score
from tests.finished_run import journal, leave_out_plots, rows
from tests.obstacles import full_disk, held


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    return make_folders(tmp_path)


class TestFaults:
    """One bad file is one failed row with its reason; everything else is as without it."""

    @pytest.mark.parametrize(("fault", "reason"), [
        ("corrupt", "corrupt or not audio"),
        ("cut", "cut off"),
        ("empty", "empty file (0 bytes)"),
        ("silent", "silent: peak"),
        ("short", "too short: 10 ms"),
        ("nan", "1 samples are NaN or infinite"),
        ("clipped", "clipped"),
        ("rate", "another utterance, or a wrong sample rate"),
        ("other", "another utterance, or a wrong sample rate"),
    ])  # fmt: skip
    @pytest.mark.parametrize("side", ["good", "originals"])
    def test_bad_file(self, folders: Path, undrawn: None, side: str, fault: str, reason: str) -> None:
        assert score(folders).status == 0
        before = rows(folders / "run", "utterances").drop(columns="seconds")
        damage(folders / side / "clip2.wav", fault)
        outcome = score(folders)
        assert outcome.status == 1
        systems = ["good"] if side == "good" else ["ground-truth", "good", "bad"]
        if side == "originals" and fault in ("rate", "other"):
            systems.remove("ground-truth")  # it is as long as itself
        lost = failed(folders)
        assert list(lost) == [(system, "clip2") for system in systems]
        assert all(reason in detail for detail in lost.values()), lost
        assert all(detail in outcome.out for detail in lost.values())
        after = rows(folders / "run", "utterances").drop(columns="seconds")
        unharmed = before["utterance"] != "clip2"
        pd.testing.assert_frame_equal(after[unharmed], before[unharmed])

    def test_stereo_is_averaged_and_said(self, folders: Path, undrawn: None) -> None:
        path = folders / "good" / "clip2.wav"
        mono = soundfile.read(path)[0]
        soundfile.write(path, np.stack([mono, mono], 1), RATE, subtype="PCM_16")
        outcome = score(folders)
        assert outcome.status == 0
        frame = rows(folders / "run", "utterances").set_index(["system", "utterance"])["detail"]
        assert set(frame["good", "clip2"]) == {"estimate: mean of 2 channels"}
        assert "clip2: estimate: mean of 2 channels" in outcome.out

    def test_a_header_that_promises_too_much(self, folders: Path, undrawn: None) -> None:
        path = folders / "good" / "clip2.flac"
        soundfile.write(path, soundfile.read(folders / "good" / "clip2.wav")[0], RATE)
        (folders / "good" / "clip2.wav").unlink()
        raw = bytearray(path.read_bytes())
        raw[21] |= 0x0F  # the upper bits of the number of samples
        raw[22:26] = b"\xff\xff\xff\xf0"
        path.write_bytes(raw)
        assert score(folders).status == 1
        ((case, reason),) = failed(folders).items()
        assert case == ("good", "clip2")
        expected = r"estimate: the header promises 68,\d{3},\d{3},\d{3} samples, more than [\d,]+ bytes can hold"
        assert re.fullmatch(expected, reason)

    def test_problems_of_a_reference_are_told_as_its_own(self, folders: Path, undrawn: None) -> None:
        path = folders / "originals" / "clip2.wav"
        mono = soundfile.read(path)[0]
        mono[1000:1010] = 1
        soundfile.write(path, np.stack([mono, mono], 1), RATE, subtype="PCM_16")
        assert score(folders).status == 0
        details = rows(folders / "run", "utterances").set_index(["system", "utterance"])["detail"]
        expected = "reference: mean of 2 channels; reference: 10 samples at or beyond full scale"
        assert set(details["good", "clip2"]) == {expected}

    def test_a_lower_rate_is_scored(self, folders: Path, undrawn: None) -> None:
        import torch
        import torchaudio.functional

        for path in (folders / "bad").iterdir():
            audio = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
            soundfile.write(path, torchaudio.functional.resample(audio, RATE, 8000).numpy(), 8000)
        assert score(folders).status == 0

    def test_unavailable_is_no_failure_unless_required(
        self, folders: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EVALKIT_WEIGHTS", str(folders / "weights"))
        outcome = score(folders, "--metrics", "stoi,utmos")
        assert outcome.status == 0
        frame = rows(folders / "run", "utterances")
        utmos = frame[frame["metric"] == "utmos"]
        assert len(utmos) == 12
        assert set(utmos["status"]) == {"unavailable"}
        for text in ("38aa51ab79e2a4e0", "411,179,119", "evalkit weights fetch utmos", str(folders / "weights")):
            assert text in outcome.out
        again = (folders / "run" / "journal.jsonl").read_bytes()
        assert score(folders, "--metrics", "stoi,utmos").status == 0
        assert (folders / "run" / "journal.jsonl").read_bytes() == again  # it is not tried again for nothing
        refused = score(folders, "--metrics", "stoi,utmos", "--require", "utmos")
        assert refused.complaint.startswith("utmos is required: ")
        assert "pesq is required but not among the metrics" in score(folders, "--require", "pesq").complaint


def damage(path: Path, fault: str) -> None:
    audio = soundfile.read(path, dtype="float32")[0]
    if fault == "corrupt":
        path.write_bytes(b"RIFF" + bytes(range(256)) * 20)
    elif fault == "cut":
        path.write_bytes(path.read_bytes()[:20_000])
    elif fault == "empty":
        path.write_bytes(b"")
    elif fault == "silent":
        soundfile.write(path, np.zeros_like(audio), RATE)
    elif fault == "short":
        soundfile.write(path, audio[:160], RATE)
    elif fault == "nan":
        audio[100] = np.nan
        soundfile.write(path, audio, RATE, subtype="FLOAT")
    elif fault == "clipped":
        soundfile.write(path, (audio * 200).clip(-1, 1), RATE)
    elif fault == "rate":
        soundfile.write(path, audio, 2 * RATE)
    elif fault == "other":
        soundfile.write(path, np.tile(audio, 2), RATE)
    else:
        raise ValueError(fault)


class TestInterrupted:
    def test_two_runs_at_once_on_one_folder(self, folders: Path, undrawn: None) -> None:
        assert score(folders).status == 0
        before = (folders / "run" / "journal.jsonl").read_bytes()
        with held(folders / "run"):
            assert "is in use by another run" in score(folders).complaint
        assert (folders / "run" / "journal.jsonl").read_bytes() == before

    def test_full_disk(self, folders: Path, undrawn: None) -> None:
        with full_disk(3_000):
            assert "File too large" in score(folders, "--no-cache").complaint
        assert len(journal(folders / "run")) > 2
        assert score(folders).status == 0
        assert len(rows(folders / "run", "utterances")) == 3 * 4 * 2

    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        """A file system of 1 MiB."""
        place = tmp_path / "small"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("a small file system cannot be mounted here (needs root)")
        yield place
        subprocess.run(["umount", "-l", str(place)], check=True)

    def test_full_file_system(self, folders: Path, small_disk: Path, undrawn: None) -> None:
        arguments = ("score", folders / "originals", folders / "good", *FAST, "--out", small_disk / "run")
        filler = small_disk / "filler"
        filler.write_bytes(bytes(2**20 - 12_000))
        outcome = evalkit(*arguments)
        assert "No space left on device" in outcome.complaint
        assert "make room and run the same command again" in outcome.complaint
        kept = len(journal(small_disk / "run"))
        filler.unlink()
        outcome = evalkit(*arguments)
        assert outcome.status == 0, outcome
        assert len(rows(small_disk / "run", "utterances")) == 2 * 4 * 2
        assert len(journal(small_disk / "run")) == 1 + 2 * 4
        assert kept <= 9

    @pytest.mark.slow
    def test_kill_at_any_moment_changes_nothing(self, folders: Path, undrawn: None) -> None:
        assert score(folders, "--no-cache").status == 0
        expected = rows(folders / "run", "utterances").drop(columns="seconds")
        shutil.rmtree(folders / "run")
        command = ["score", folders / "originals", folders / "good", folders / "bad", "--out", folders / "run", *FAST]
        environment = os.environ | {"EVALKIT_CACHE": str(folders / "cache")}
        moments = random.Random(0)
        kills = 0
        while kills < 12:
            process = warm.start(score_undrawn, command, output=folders / "output", environment=environment)
            process.join(moments.uniform(0.05, 2))
            if process.is_alive():
                kills += 1
                process.kill()  # its workers end by themselves
                process.join()
            else:
                # It came to its end first: begin anew, with a cache or without.
                assert process.exitcode == 0, (folders / "output").read_text()
                shutil.rmtree(folders / "run")
                if moments.random() < 0.5:
                    shutil.rmtree(folders / "cache")
        assert score(folders).status == 0
        pd.testing.assert_frame_equal(rows(folders / "run", "utterances").drop(columns="seconds"), expected)
        seen = [entry["utterance_record"] for entry in journal(folders / "run")[1:]]
        assert len({(record["system"], record["utterance"]) for record in seen}) == len(seen) == 12


def score_undrawn(arguments: list[object]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        leave_out_plots(patch)
        assert evalkit(*arguments).status == 0
