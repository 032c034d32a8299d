"""A whole run: what it leaves and shows, what bad audio does to it, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from evalkit.metrics import load_metric
from evalkit.scoring.protocol import KNOWN_ANSWERS
from q2d2.training.state import STATE
from tests.command import TINY, evalkit, write_experiment
from tests.finished_run import Run, copied_run, journal, rows
from tests.obstacles import full_disk, held

SYSTEMS = [*KNOWN_ANSWERS, *TINY["systems"]]


class TestFinished:
    def test_succeeds_and_shows_plan_first_then_table_and_paths(self, finished: Run) -> None:
        status, out, _ = finished.outcome
        assert status == 0, finished.outcome
        marks = ["Trial [of all]", "train on", "hexagonal-regular", "known answer", "score ground-truth", "score rvq",
                 "tokens/s", "tables:", "comparison.md", "quality-vs-bitrate.png", "evalkit report"]  # fmt: skip
        places = [out.find(mark) for mark in marks]
        assert -1 not in places, dict(zip(marks, places, strict=True))
        assert places == sorted(places)

    def test_fits_the_terminal(self, finished: Run) -> None:
        for line in finished.outcome.out.splitlines():
            assert len(line) <= 80 or str(finished.folder) in line, line

    def test_every_promised_file_is_there(self, finished: Run) -> None:
        left = {path.relative_to(finished.folder).as_posix() for path in finished.folder.rglob("*") if path.is_file()}
        expected = {"run.json", "journal.jsonl", "utterances.parquet", "systems.parquet", "codes.parquet"}
        expected |= {f"tables/comparison.{suffix}" for suffix in ("csv", "md", "tex")}
        plots = ["quality-vs-bitrate", "distributions", "usage-rhombic", "usage-curves", "spectrograms", "tilings"]
        expected |= {f"plots/{name}.{suffix}" for name in [*plots, "training-curves"] for suffix in ("svg", "png")}
        expected |= {f"training/{name}.csv" for name in TINY["systems"]}
        expected |= {f"checkpoints/{name}/codec.safetensors" for name in TINY["systems"]}
        assert expected <= left, expected - left
        assert not [name for name in left if name.endswith((".part", STATE))]
        for path in expected:
            assert not path.startswith("plots") or f"{path[:-4]}.png" in finished.outcome.out

    def test_utterance_rows(self, finished: Run) -> None:
        frame = finished.rows("utterances")
        columns = ["system", "dataset", "utterance", "speaker", "metric", "value", "status", "detail", "seconds"]
        assert list(frame.columns) == [*columns, "protocol", "version"]
        assert set(frame["protocol"]) == {"strict"}
        assert set(frame.loc[frame["metric"] == "pesq", "version"]) == {load_metric("pesq").version}
        assert len(frame) == len(SYSTEMS) * 2 * 2
        assert list(dict.fromkeys(frame["system"])) == SYSTEMS
        assert set(frame["dataset"]) == {"sample/test"}
        assert set(frame["status"]) == {"ok"}
        assert frame["value"].dtype == np.float64
        assert frame["value"].notna().all()
        assert frame["speaker"].notna().all()

    def test_known_answers_are_in_their_ranges(self, finished: Run) -> None:
        means = finished.rows("utterances").groupby(["system", "metric"])["value"].mean()
        assert means["ground-truth", "pesq"] == pytest.approx(4.644, abs=1e-3)
        assert means["ground-truth", "stoi"] == pytest.approx(1, abs=1e-6)
        assert 3 < means["mulaw-8bit", "pesq"] < 4.4
        assert 0.98 < means["mulaw-8bit", "stoi"] < 1
        assert 1 < means["noise-10db", "pesq"] < 1.6
        assert 0.7 < means["noise-10db", "stoi"] < 0.95

    def test_system_rows(self, finished: Run) -> None:
        frame = finished.rows("systems").set_index("system")
        assert list(frame.index) == SYSTEMS
        assert list(frame["kind"]) == ["anchor"] * 3 + ["codec"] * 8
        assert frame["bitrate"]["mulaw-8bit"] == 128_000
        assert frame["bitrate"]["rvq"] == 750
        assert frame["tokens_per_second"]["rvq"] == 250
        assert frame["bitrate"]["fsq"] == pytest.approx(250 * np.log2(5))
        assert pd.isna(frame["bitrate"]["unquantized"])
        assert pd.isna(frame["utilization"]["mulaw-8bit"])
        trained = frame.loc[list(TINY["systems"])]
        assert (trained["train_steps"] == 12).all()
        assert trained[["rtf_encode", "rtf_decode", "parameters", "checkpoint_sha256"]].notna().all(axis=None)
        assert trained["rtf_detail"].str.contains("batch 1 x 1.00 s").all()
        assert frame.loc[list(KNOWN_ANSWERS), "rtf_encode"].isna().all()

    def test_codes_add_up(self, finished: Run) -> None:
        codes = finished.rows("codes")
        systems = finished.rows("systems").set_index("system").to_dict("index")
        assert set(codes["system"]) == set(TINY["systems"]) - {"unquantized"}
        for (system, quantizer), group in codes.groupby(["system", "quantizer"]):
            assert len(group) == systems[system]["codebook_sizes"][quantizer]
            assert group["count"].sum() == systems[system]["frames_counted"] > 0

    def test_description_is_enough_to_run_again(self, finished: Run) -> None:
        described = json.loads((finished.folder / "run.json").read_text())
        assert described["schema_version"] == 2
        assert described["experiment"]["systems"]["vq"]["bottleneck"] == {"name": "vq", "codebook_size": 16}
        assert described["seed"] == 0
        assert described["packages"]["torch"]
        assert described["hardware"]["cores"] >= 1
        assert described["test"]["scored"] == 2
        shas = finished.rows("systems").set_index("system")["checkpoint_sha256"]
        assert described["weights_sha256"] == {name: shas[name] for name in TINY["systems"]}

    def test_examples_are_kept(self, finished: Run) -> None:
        (folder,) = (finished.folder / "audio").iterdir()
        assert {path.stem for path in folder.iterdir()} == set(SYSTEMS)
        lengths = {soundfile.info(path).frames for path in folder.iterdir()}
        assert len(lengths) == 1

    def test_a_damaged_example_is_made_again(self, finished: Run, tmp_path: Path) -> None:
        copied = copied_run(finished, tmp_path)
        paths = list((copied.folder / "audio").rglob("*.flac"))
        whole = [path.read_bytes() for path in paths]
        for path, content in zip(paths, whole, strict=True):
            path.write_bytes(content[: len(content) // 2])  # its comment says still what it was
        assert evalkit("run", copied.experiment, "--out", copied.folder, "--workers", 1).status == 0
        assert [path.read_bytes() for path in paths] == whole


def speech(path: Path, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    """Speech-like audio: bursts of harmonics, 1.5 s."""
    time_axis = np.arange(round(1.5 * rate)) / rate
    voice = sum(np.sin(2 * np.pi * 140 * k * time_axis) / k for k in range(1, 20))
    audio = (0.1 * voice * (np.sin(2 * np.pi * 3 * time_axis) > -0.3)).astype(np.float32)
    soundfile.write(path, audio if channels == 1 else np.stack([audio] * channels, 1), rate, subtype="FLOAT")
    return audio


@pytest.fixture
def troubled(finished: Run, tmp_path: Path) -> tuple[Path, Path]:
    """An experiment that loads a trained system and tests on a folder of good and bad files."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name, rate, channels in (("a-good", 16_000, 1), ("b-stereo", 16_000, 2), ("c-odd", 22_050, 1)):
        speech(corpus / f"{name}.wav", rate, channels)
    soundfile.write(corpus / "d-silent.wav", np.zeros(24_000, np.float32), 16_000)
    broken = speech(corpus / "e-nan.wav")
    broken[100:103] = np.nan
    soundfile.write(corpus / "e-nan.wav", broken, 16_000, subtype="FLOAT")
    soundfile.write(corpus / "f-cut.flac", np.random.default_rng(0).uniform(-0.1, 0.1, 24_000), 16_000)
    whole = (corpus / "f-cut.flac").read_bytes()
    (corpus / "f-cut.flac").write_bytes(whole[: len(whole) // 2])
    (corpus / "g-empty.wav").write_bytes(b"")
    experiment = write_experiment(
        tmp_path / "troubled.yaml",
        data={"test": {"name": "folder", "root": str(corpus)}},
        systems={"loaded": {"checkpoint": str(finished.folder / "checkpoints" / "rhombic")}},
        examples=4,
    )
    return experiment, tmp_path / "run"


class TestBadAudio:
    def test_is_handled_or_a_failed_row_with_its_reason(self, troubled: tuple[Path, Path], undrawn: None) -> None:
        experiment, folder = troubled
        outcome = evalkit("run", experiment, "--out", folder, "--workers", 1)
        assert outcome.status == 1, outcome
        assert "left out" in outcome.out
        assert "g-empty.wav: empty file" in outcome.out
        assert "load " in outcome.out
        assert "f-cut.flac: cut off" in outcome.out
        assert "16 of 40 scores failed" in outcome.out
        frame = rows(folder, "utterances")
        ok = frame[frame["status"] == "ok"]
        assert set(ok["utterance"]) == {"a-good", "b-stereo", "c-odd"}
        assert len(ok) == 4 * 3 * 2
        failed = frame[frame["status"] == "failed"]
        assert len(failed) == 4 * 2 * 2
        assert failed["value"].isna().all()
        reasons = failed.groupby("utterance")["detail"].agg(lambda details: "/".join(sorted(set(details))))
        assert "silent" in reasons["d-silent"]
        assert reasons["e-nan"] == "reference: 3 samples are NaN or infinite"
        assert all(reason in outcome.out for reason in reasons)
        assert "g-empty.wav: empty file" in (folder / "tables" / "comparison.md").read_text()
        systems = rows(folder, "systems").set_index("system")
        assert systems["bitrate"].notna().tolist() == [False, False, False, True]  # mu-law: two sample rates
        assert systems["frames_counted"]["loaded"] == 3 * 188

        again = len(journal(folder))
        assert evalkit("run", experiment, "--out", folder, "--workers", 1).status == 1
        assert len(journal(folder)) == again + 4 * 2  # tried again, and only these

    def test_nothing_readable_at_all(self, troubled: tuple[Path, Path], undrawn: None) -> None:
        experiment, folder = troubled
        for name in ("a-good", "b-stereo", "c-odd"):
            (folder.parent / "corpus" / f"{name}.wav").unlink()
        outcome = evalkit("run", experiment, "--out", folder, "--workers", 1)
        assert outcome.status == 1
        assert "16 of 16 scores failed" in outcome.out
        assert rows(folder, "systems")["rtf_encode"].isna().all()


class TestRefused:
    def test_second_run_on_one_folder(self, finished: Run, tmp_path: Path) -> None:
        copied = copied_run(finished, tmp_path)
        before = {path: path.read_bytes() for path in copied.folder.rglob("*") if path.is_file()}
        with held(copied.folder):
            outcome = evalkit("run", copied.experiment, "--out", copied.folder)
        assert outcome.complaint == f"{copied.folder} is in use by another run; wait for it or choose another --out"
        assert {path: path.read_bytes() for path in copied.folder.rglob("*") if path.is_file()} == before

    def test_device_that_is_not_there(self, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        for device, words in (("cuda", "no CUDA device"), ("tpu", "expected auto, cpu or cuda")):
            outcome = evalkit("run", finished.experiment, "--out", tmp_path / "run", "--device", device)
            assert words in outcome.complaint
        assert not (tmp_path / "run").exists()

    def test_out_that_cannot_be_a_folder(self, finished: Run, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        outcome = evalkit("run", finished.experiment, "--out", tmp_path / "file" / "run")
        assert "Not a directory" in outcome.complaint
        assert str(tmp_path / "file") in outcome.complaint

    def test_full_disk(self, troubled: tuple[Path, Path], undrawn: None) -> None:
        experiment, folder = troubled
        with full_disk(8_000):
            outcome = evalkit("run", experiment, "--out", folder, "--workers", 1)
        assert "File too large" in outcome.complaint
        assert len(journal(folder)) > 2
