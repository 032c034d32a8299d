"""Whole codecs and decoded audio in an experiment, published numbers beside them, and a run in shards."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import soundfile

from evalkit.datasets import load_corpus
from tests.command import evalkit, write_experiment
from tests.finished_run import leave_out_plots, rows

SYSTEMS: dict[str, Any] = {
    "opus-8": {"codec": {"name": "opus", "kbps": 8}},
    "encodec": {"codec": {"name": "encodec", "num_quantizers": 8}, "published": "encodec", "differs": "a test"},
    "backbone": {"checkpoint": "tiny", "published": "wavtokenizer"},
}


@pytest.fixture(autouse=True)
def no_weights_and_no_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty-cache"))
    leave_out_plots(monkeypatch)


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    data = {"test": {"name": "sample", "part": "test", "limit": 3}}
    return write_experiment(
        tmp_path / "table.yaml", data=data, systems=SYSTEMS, paper="q2d2", protocol="paper", examples=0
    )


@pytest.fixture
def decoded(tmp_path: Path) -> tuple[Path, Path]:
    """Two utterances of the sample corpus as decoded audio, and their originals, in folders of their own."""
    folders = tmp_path / "decoded", tmp_path / "originals"
    for utterance in load_corpus("sample", "test").utterances[:2]:
        audio, rate = soundfile.read(utterance.path)
        for folder, gain in zip(folders, (0.9, 1.0), strict=True):
            folder.mkdir(exist_ok=True)
            soundfile.write(folder / f"{utterance.path.stem}.wav", gain * audio, rate)
    return folders


class TestReproduce:
    def test_every_row_has_a_number_or_the_reason(
        self, experiment: Path, decoded: tuple[Path, Path], tmp_path: Path
    ) -> None:
        outcome = evalkit(
            "reproduce", experiment, "--out", tmp_path / "run", "--workers", 1,
            "--decoded", f"encodec={decoded[0]},{decoded[1]}", width=120,
        )  # fmt: skip
        assert outcome.status == 0, outcome
        assert "unavailable: encodec; what to get is said above" in outcome.out
        assert "Fetch them: evalkit weights fetch encodec." in outcome.out
        frame, systems = rows(tmp_path / "run", "utterances"), rows(tmp_path / "run", "systems").set_index("system")
        status = frame.groupby("system")["status"].unique()
        assert list(status["encodec"]) == ["unavailable"]
        assert list(status["opus-8"]) == list(status["backbone"]) == list(status["encodec-decoded"]) == ["ok"]
        assert frame.loc[frame["system"] == "encodec", "value"].isna().all()

        # A stream's rate is measured; the decoded files are a data set of their own.
        assert 3000 < systems.loc["opus-8", "bitrate"] < 12000
        assert pd.isna(systems.loc["opus-8", "bits_per_frame"])
        assert systems.loc["opus-8", "rtf_encode"] > 0
        datasets = frame.groupby("system")["dataset"].unique()
        assert list(datasets["encodec-decoded"]) == [f"{tmp_path.name}/originals"]
        assert list(datasets["opus-8"]) == ["sample/test"]

        table = pd.read_csv(tmp_path / "run" / "tables" / "published.csv").set_index(["system", "metric"])
        assert list(table.index.get_level_values("system").unique()) == [
            "ground-truth", "encodec", "encodec-decoded", "backbone"
        ]  # fmt: skip
        assert "weights are missing" in table.loc[("encodec", "pesq"), "remarks"]
        assert table.loc[("encodec-decoded", "pesq"), "n"] == 2
        assert "decoded elsewhere, folder decoded" in table.loc[("encodec-decoded", "pesq"), "remarks"]
        assert table.loc[("backbone", "pesq"), "published"] == 2.63
        comparison = (tmp_path / "run" / "tables" / "comparison.md").read_text()
        assert "PESQ, STOI, unavailable: encodec 3: encodec: the weights are missing" in comparison
        assert "of opus-8: measured, packets without their container" in comparison

    def test_an_experiment_without_paper_is_refused(self, tmp_path: Path) -> None:
        plain = write_experiment(tmp_path / "plain.yaml")
        assert "has no published numbers (key paper): use evalkit run" in evalkit("reproduce", plain).complaint

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ("encodec", "expected SYSTEM=DIR or SYSTEM=DIR,ORIGINALS"),
            ("encode=x", "nothing published of 'encode'. Did you mean 'encodec'?"),
            ("opus-8=x", "nothing published of 'opus-8'"),
        ],
    )
    def test_decoded_audio_that_fits_nothing(self, experiment: Path, given: str, words: str) -> None:
        assert words in evalkit("reproduce", experiment, "--decoded", given, "--dry-run").complaint

    def test_the_table_of_q2d2_is_planned_whole_without_any_weights(self) -> None:
        outcome = evalkit(
            "reproduce", "q2d2-table", "--set", "data.test={name: sample, part: test}", "--dry-run", width=200
        )
        assert outcome.status == 0, outcome
        for system in ("dac", "encodec", "q2d2-6k", "xcodec", "mimi", "q2d2-3k", "bigcodec", "wavtokenizer"):
            assert any(line.startswith(f"{system} ") and "unavailable" in line for line in outcome.out.splitlines()), (
                system
            )
        assert outcome.out.count("--weights-root") >= 8


class TestSystems:
    @pytest.mark.parametrize(
        ("system", "words"),
        [
            ({"codec": {"name": "opus", "kbps": 3}}, "systems.x: opus: kbps 3 is not in 6..256"),
            ({"codec": {"name": "opus"}}, "missing a required argument: 'kbps'"),
            ({"codec": {"name": "opsu"}}, "unknown codec 'opsu'. Did you mean 'opus'?"),
            ({"codec": {"name": "no.such.module:Codec"}}, "cannot be imported: ModuleNotFoundError"),
            ({"codec": {"name": "json:Codec"}}, "cannot be imported: AttributeError"),
            ({"codec": "opus"}, "expected a name with options: {name: opus}"),
            (
                {"codec": {"name": "tests.small_whole_codec:OutOfRange"}},
                "codes 0 to 255 of quantizer 0, whose codebook has",
            ),
            ({"codec": {"name": "tests.small_whole_codec:Short"}}, "decodes (1, 8000) samples to (1, 4000)"),
            ({"codec": {"name": "tests.small_whole_codec:Nameless"}}, "sets no sample_rate"),
            ({"folder": {"path": "/nowhere"}}, "/nowhere: no such folder"),
            ({"codec": {"name": "json:loads"}}, "is no subclass of baselines.codecs.WholeCodec"),
            ({"codec": {"kbps": 8}}, "codec needs a name"),
            ({"checkpoint": "tiny", "codec": {"name": "opus"}}, "give either bottleneck"),
            ({"checkpoint": "tiny", "published": "encodecs"}, "q2d2 has no 'encodecs'. Did you mean 'encodec'?"),
        ],
    )
    def test_what_cannot_be_is_refused_before_anything_runs(
        self, tmp_path: Path, system: dict[str, Any], words: str
    ) -> None:
        data = {"test": {"name": "sample", "part": "test", "limit": 1}}
        path = write_experiment(tmp_path / "x.yaml", data=data, systems={"x": system}, paper="q2d2")
        assert words in evalkit("run", path, "--trust-code", "--out", tmp_path / "run").complaint
        assert not (tmp_path / "run").exists()

    def test_an_edited_codec_is_scored_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = (Path(__file__).parent / "small_whole_codec.py").read_text()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
        data = {"test": {"name": "sample", "part": "test", "limit": 1}}
        systems = {"mine": {"codec": {"name": "edited_codec:Halved"}}}
        path = write_experiment(tmp_path / "x.yaml", data=data, systems=systems, metrics=["stoi"])
        scores = []
        for code in (source, source.replace("127.5", "7.5")):
            (tmp_path / "edited_codec.py").write_text(code)
            importlib.invalidate_caches()
            sys.modules.pop("edited_codec", None)
            shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
            assert evalkit("run", path, "--trust-code", "--out", tmp_path / "run", "--workers", 1).status == 0
            frame = rows(tmp_path / "run", "utterances").set_index("system")
            scores.append(frame.loc["mine", "value"])
        assert scores[1] < scores[0]

    def test_damaged_weights_fail_their_row_and_the_rest_goes_on(self, tmp_path: Path) -> None:
        folder = tmp_path / "weights" / "encodec"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"no weights")
        data = {"test": {"name": "sample", "part": "test", "limit": 1}}
        systems = {"broken": {"codec": {"name": "encodec"}}, "opus": {"codec": {"name": "opus", "kbps": 8}}}
        path = write_experiment(tmp_path / "x.yaml", data=data, systems=systems, metrics=["stoi"])
        outcome = evalkit(
            "run", path, "--out", tmp_path / "run", "--workers", 1, "--weights-root", tmp_path / "weights"
        )
        assert outcome.status == 1, "a broken system is no success"
        status = rows(tmp_path / "run", "utterances").set_index("system")["status"]
        assert (status["broken"], status["opus"]) == ("failed", "ok")
        comparison = (tmp_path / "run" / "tables" / "comparison.md").read_text()
        assert "broken: weights from a folder of one's own" in comparison

    def test_anybodys_class(self, tmp_path: Path) -> None:
        """The codec of another package, by its place."""
        data = {"test": {"name": "sample", "part": "test", "limit": 2}}
        systems = {"own": {"codec": {"name": "tests.small_whole_codec:Halved"}}}
        path = write_experiment(tmp_path / "x.yaml", data=data, systems=systems)
        outcome = evalkit("run", path, "--trust-code", "--out", tmp_path / "run", "--workers", 1)
        assert outcome.status == 0, outcome
        row = rows(tmp_path / "run", "systems").set_index("system").loc["own"]
        assert (row["frame_rate"], row["bits_per_frame"], row["bitrate"]) == (8000.0, 8.0, 64000.0)
        assert row["utilization"] > 0

    def test_a_class_in_the_current_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = (Path(__file__).parent / "small_whole_codec.py").read_text()
        (tmp_path / "codec_of_mine.py").write_text(source)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.path", [*sys.path])
        data = {"test": {"name": "sample", "part": "test", "limit": 1}}
        systems = {"mine": {"codec": {"name": "codec_of_mine:Halved"}}}
        path = write_experiment(tmp_path / "x.yaml", data=data, systems=systems)
        outcome = evalkit("run", path, "--trust-code", "--dry-run")
        assert "load codec_of_mine:Halved" in outcome.out

    @pytest.mark.parametrize("seconds", [3.1, 1.0])
    def test_one_that_raises_fails_row_by_row(self, tmp_path: Path, seconds: float) -> None:
        data = {"test": {"name": "sample", "part": "test"}}
        picky = {"codec": {"name": "tests.small_whole_codec:Picky", "seconds": seconds}}
        path = write_experiment(tmp_path / "x.yaml", data=data, systems={"picky": picky}, metrics=["stoi"])
        outcome = evalkit("run", path, "--trust-code", "--out", tmp_path / "run", "--workers", 1, width=160)
        assert outcome.status == 1
        assert "RuntimeError: too long for me" in outcome.out
        frame = rows(tmp_path / "run", "utterances").set_index("utterance")
        failed = set(frame.index[(frame["system"] == "picky") & (frame["status"] == "failed")])
        long = {each.id for each in load_corpus("sample", "test").utterances if each.seconds > seconds}
        assert failed == long
        assert failed

    def test_decoded_audio_of_the_test_set(self, tmp_path: Path, decoded: tuple[Path, Path]) -> None:
        data = {"test": {"name": "sample", "part": "test"}}
        systems = {"mine": {"folder": {"path": str(decoded[0])}}}
        path = write_experiment(tmp_path / "x.yaml", data=data, systems=systems)
        outcome = evalkit("run", path, "--out", tmp_path / "run", "--workers", 1, width=160)
        assert outcome.status == 1, "utterances without a file are failed rows"
        frame = rows(tmp_path / "run", "utterances")
        counts = frame[frame["metric"] == "pesq"].groupby(["system", "status"]).size()
        assert counts["mine", "ok"] == 2
        assert counts["mine", "failed"] == len(load_corpus("sample", "test").utterances) - 2


class TestShards:
    def test_merged_shards_are_the_whole_run(self, experiment: Path, tmp_path: Path) -> None:
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        assert evalkit("run", experiment, "--out", whole, "--workers", 1).status == 0
        for number in (1, 2):
            outcome = evalkit("run", experiment, "--out", parts, "--workers", 1, "--shard", f"{number}/2")
            assert outcome.status == 0, outcome
        scored = [rows(parts / "shards" / f"{number}-of-2", "utterances") for number in (1, 2)]
        assert not set(scored[0]["utterance"]) & set(scored[1]["utterance"])
        assert evalkit("merge", parts, "--workers", 1).status == 0
        left, right = (rows(folder, "utterances").drop(columns="seconds") for folder in (whole, parts))
        pd.testing.assert_frame_equal(left, right)
        numbers = ["system", "bits_per_frame", "bitrate", "utilization", "entropy_bitrate", "checkpoint_sha256"]
        pd.testing.assert_frame_equal(rows(whole, "systems")[numbers], rows(parts, "systems")[numbers])
        assert (parts / "tables" / "published.md").is_file()

    def test_merging_scores_nothing_again(
        self, experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in (1, 2):
            evalkit("run", experiment, "--out", tmp_path / "run", "--workers", 1, "--shard", f"{number}/2")
        monkeypatch.setattr("evalkit.run.evaluation._reconstruct", lambda *_: pytest.fail("scored again"))
        assert evalkit("merge", tmp_path / "run", "--workers", 1).status == 0

    def test_what_is_missing_or_differs_is_named(self, experiment: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        assert "no shards; they are made by" in evalkit("merge", run).complaint
        evalkit("run", experiment, "--out", run, "--workers", 1, "--shard", "2/2")
        assert "not run yet: --shard 1/2" in evalkit("merge", run).complaint
        shutil.copytree(run / "shards" / "2-of-2", run / "shards" / "1-of-2")
        changed = run / "shards" / "1-of-2" / "run.json"
        described = json.loads(changed.read_text())
        described["experiment"]["metrics"] = ["pesq"]
        changed.write_text(json.dumps(described))
        assert 'was run with metrics ["pesq", "stoi"], not ["pesq"]' in evalkit("merge", run).complaint
        shutil.copytree(run / "shards" / "2-of-2", run / "shards" / "3-of-3")
        assert "holds shards of 2 and of 3" in evalkit("merge", run).complaint

    def test_a_shard_goes_on_with_the_same_settings_only(self, experiment: Path, tmp_path: Path) -> None:
        shard = ["run", experiment, "--out", tmp_path / "run", "--workers", 1, "--shard", "2/2"]
        assert evalkit(*shard).status == 0
        complaint = evalkit(*shard, "--set", "data.test.limit=4").complaint
        assert "was begun with data.test.limit 3, not 4." in complaint

    def test_machines_may_keep_their_weights_elsewhere(self, experiment: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        for number, more in ((1, []), (2, ["--weights-root", tmp_path / "elsewhere"])):
            shard = ["--out", tmp_path / "run", "--workers", 1, "--shard", f"{number}/2", *more]
            assert evalkit("run", experiment, *shard).status == 0
        assert evalkit("merge", tmp_path / "run", "--workers", 1).status == 0

    @pytest.mark.parametrize("given", ["0/2", "3/2", "1", "1/0", "a/b"])
    def test_no_such_part(self, experiment: Path, given: str) -> None:
        assert "expected I/N with I in 1..N" in evalkit("run", experiment, "--shard", given).complaint

    def test_more_shards_than_utterances(self, experiment: Path) -> None:
        assert "4 shards of 3 utterances" in evalkit("run", experiment, "--shard", "1/4").complaint

    def test_systems_are_trained_before(self, tmp_path: Path) -> None:
        path = write_experiment(tmp_path / "trial.yaml")
        complaint = evalkit("run", path, "--out", tmp_path / "run", "--shard", "1/2").complaint
        assert "train unquantized first: evalkit train" in complaint
