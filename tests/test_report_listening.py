"""The listening panel: which utterances it offers, where their audio comes from, and why there is none."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image

from evalkit.report import sound
from evalkit.report.extremes import Extreme, Extremes, find_extremes, in_turn
from evalkit.report.listening import ListeningPanel, listening_panel
from evalkit.report.reconstruction import RunAudio
from evalkit.report.sound import HEIGHT, ORIGINAL, WIDTH, Unheard
from evalkit.run.saved_run import SavedRun, load_run
from evalkit.scoring.protocol import KNOWN_ANSWERS
from tests.command import TINY, evalkit, write_experiment
from tests.decoded_folders import make_folders, score
from tests.finished_run import Run, copied_run, leave_out_plots
from tests.report_runs import write_hostile_run

RESULTS = Path(__file__).parents[1] / "results"


SYSTEMS = ("rhombic", "fsq")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two bottlenecks, hardly trained, on two utterances, of which the first was kept."""
    folder = tmp_path_factory.mktemp("listening")
    systems = {name: TINY["systems"][name] for name in SYSTEMS}
    train = TINY["train"] | {"steps": 1, "warmup_steps": 0, "num_workers": 0}
    written = write_experiment(folder / "trial.yaml", systems=systems, train=train)
    with pytest.MonkeyPatch.context() as patched:
        leave_out_plots(patched)
        patched.setattr("evalkit.run.runner.send_results", lambda *arguments: None)
        outcome = evalkit("run", written, "--out", folder / "run", "--workers", 1)
    assert outcome.status == 0, outcome.err
    return Run(written, folder / "run", outcome)


@pytest.fixture(scope="module")
def run(finished: Run) -> SavedRun:
    return load_run(finished.folder)


@pytest.fixture(scope="module")
def keys(run: SavedRun) -> tuple[tuple[str, str], tuple[str, str]]:
    """The utterance whose audio was kept, and the other one."""
    first, second = dict.fromkeys(run.utterances["utterance"])
    return ("sample/test", first), ("sample/test", second)


@pytest.fixture(scope="module")
def panel(run: SavedRun) -> ListeningPanel:
    return made([run], 2)


def made(runs: list[SavedRun], choose: int) -> ListeningPanel:
    names = {
        (place, system): f"{place}: {system}" if len(runs) > 1 else system
        for place, run in enumerate(runs)
        for system in run.systems["system"]
    }
    panel = listening_panel(runs, names, choose)
    assert panel is not None
    json.dumps(panel.index, allow_nan=False)
    json.dumps(panel.audio, allow_nan=False)
    return panel


def reasons(panel: ListeningPanel, utterance: str) -> dict[str, str]:
    """System -> why there is no audio of it."""
    entry = next(each for each in panel.index["utterances"] if each["name"] == utterance)
    return {panel.index["systems"][row["system"]]: row["reason"] for row in entry["rows"]}


def samples(coded: bytes | Unheard) -> tuple[int, np.ndarray]:
    assert isinstance(coded, bytes), coded
    audio, rate = soundfile.read(io.BytesIO(coded), dtype="int16")
    return rate, audio


def scores(*lines: tuple[str, str, str, float | None]) -> pd.DataFrame:
    """Rows of (system, utterance, metric, value); None for one that failed."""
    return pd.DataFrame(
        [
            {
                "system": system, "kind": "anchor" if system in KNOWN_ANSWERS else "codec", "dataset": "d",
                "utterance": utterance, "key": metric, "value": value, "status": "failed" if value is None else "ok",
            }
            for system, utterance, metric, value in lines
        ]
    ).astype({"value": "float64"})  # fmt: skip


class TestExtremes:
    def test_go_by_the_better_direction(self):
        found = find_extremes(
            scores(
                ("a", "u0", "pesq", 2.0), ("a", "u1", "pesq", 3.0), ("b", "u0", "pesq", 1.5), ("b", "u1", "pesq", 1.2),
                ("a", "u0", "mel_distance", 2.0), ("a", "u1", "mel_distance", 3.0),
            )
        )  # fmt: skip
        assert found["a"] == [
            Extremes("pesq", Extreme("a", ("d", "u0"), 2.0), Extreme("a", ("d", "u1"), 3.0)),
            Extremes("mel_distance", Extreme("a", ("d", "u1"), 3.0), Extreme("a", ("d", "u0"), 2.0)),
        ]
        assert found["b"] == [Extremes("pesq", Extreme("b", ("d", "u1"), 1.2), Extreme("b", ("d", "u0"), 1.5))]
        assert found[None][0] == Extremes("pesq", Extreme("b", ("d", "u1"), 1.2), Extreme("a", ("d", "u1"), 3.0))

    def test_of_equal_scores_the_first_counts(self):
        found = find_extremes(scores(*(("a", f"u{number}", "pesq", 2.0) for number in range(4))))
        assert found["a"] == [Extremes("pesq", Extreme("a", ("d", "u0"), 2.0), Extreme("a", ("d", "u0"), 2.0))]

    def test_failures_and_known_answers_have_no_place(self):
        found = find_extremes(
            scores(
                ("noise-10db", "u0", "pesq", 1.0), ("a", "u0", "pesq", None), ("a", "u1", "pesq", 2.0),
                ("a", "u2", "pesq", 2.5), ("b", "u0", "pesq", None),
            )
        )  # fmt: skip
        assert set(found) == {None, "a"}
        assert found[None] == found["a"]
        assert found["a"][0].worst == Extreme("a", ("d", "u1"), 2.0)

    def test_a_metric_without_a_direction_has_none(self):
        assert find_extremes(scores(("a", "u0", "somebody_elses", 1.0)))[None] == []

    def test_half_of_the_page_is_for_what_was_kept(self):
        def both(worst: str, best: str) -> Extremes:
            return Extremes("pesq", Extreme("a", ("d", worst), 1.0), Extreme("a", ("d", best), 2.0))

        kept = [("d", f"k{number}") for number in range(4)]
        order = in_turn(kept, {None: [both("u0", "u1"), both("u0", "k3")], "a": [both("u2", "u0")]}, 4)
        assert [name for _, name in order] == ["k0", "k1", "u0", "u1", "k3", "k2", "u2"]


class TestMadeAgain:
    def test_equals_what_was_kept_to_the_bit(self, run, finished, tmp_path, keys):
        copy = copied_run(finished, tmp_path)
        shutil.rmtree(copy.folder / "audio")
        again = RunAudio(load_run(copy.folder)).sounds([keys[0]])
        assert len(again) == len(run.systems) == len(KNOWN_ANSWERS) + len(SYSTEMS)
        for system, path in run.examples()[keys[0][1]].items():
            rate, kept = samples(path.read_bytes())
            rate_again, made_again = samples(again[keys[0], system])
            assert rate_again == rate
            np.testing.assert_array_equal(made_again, kept, err_msg=system)

    def test_what_was_kept_is_taken_as_it_is(self, run, keys):
        sounds = RunAudio(run).sounds([keys[0]])
        for system, path in run.examples()[keys[0][1]].items():
            assert sounds[keys[0], system] == path.read_bytes()

    def test_not_of_another_recording(self, run, keys):
        other = replace(run, signals=run.signals.assign(reference_sha256="of other content"))
        assert "another content than the one that was scored" in RunAudio(other).why_not(keys[1])
        assert RunAudio(other).why_not(keys[0]) == "", "it was kept"
        assert RunAudio(run).why_not(keys[1]) == ""

    def test_not_by_other_weights(self, run, keys):
        changed = run.signals.assign(
            estimate=run.signals["estimate"].where(run.signals["system"] != "rhombic", "of other weights")
        )
        sounds = RunAudio(replace(run, signals=changed)).sounds([keys[1]])
        assert "no longer what was scored" in sounds[keys[1], "rhombic"].reason
        assert isinstance(sounds[keys[1], "fsq"], bytes)

    def test_not_by_other_weights_of_a_run_that_kept_no_digests(self, run, keys):
        weights = run.description["weights_sha256"] | {"rhombic": "of other weights"}
        old = replace(run, signals=run.signals.iloc[:0], description=run.description | {"weights_sha256": weights})
        sounds = RunAudio(old).sounds([keys[1]])
        assert "weights are no longer" in sounds[keys[1], "rhombic"].reason
        assert isinstance(sounds[keys[1], "fsq"], bytes)

    def test_a_checkpoint_that_is_missing_or_damaged_is_a_reason_of_its_system(self, finished, tmp_path, keys):
        copy = copied_run(finished, tmp_path)
        shutil.rmtree(copy.folder / "checkpoints" / "rhombic")
        (copy.folder / "checkpoints" / "fsq" / "codec.safetensors").write_bytes(b"nothing")
        panel = made([load_run(copy.folder)], 2)
        told = reasons(panel, keys[1][1])
        assert "checkpoints/rhombic" in told.pop("rhombic")
        assert "codec.safetensors" in told.pop("fsq")
        assert set(told.values()) == {""}
        assert not (copy.folder / "checkpoints" / "rhombic").exists(), "nothing was trained"

    def test_a_corpus_that_is_not_here_is_a_reason(self, finished, tmp_path, keys):
        copy = copied_run(finished, tmp_path)
        description = json.loads((copy.folder / "run.json").read_text())
        description["experiment"]["data"]["test"]["root"] = str(tmp_path / "gone")
        (copy.folder / "run.json").write_text(json.dumps(description))
        panel = made([load_run(copy.folder)], 2)
        assert len(panel.audio) == 1, "what was kept"
        entry = next(each for each in panel.index["utterances"] if each["name"] == keys[1][1])
        assert entry["audio"] is None
        assert "manifest.json is missing" in entry["reason"]
        assert panel.notes[0].startswith("No audio of 1 further utterance: ")
        assert "manifest.json is missing" in panel.notes[0]
        assert set(reasons(panel, keys[1][1]).values()) == {""}, "said once"

    def test_an_experiment_of_another_version_is_a_reason(self, run, keys):
        experiment = run.description["experiment"] | {"unheard_of": 1}
        other = replace(run, description=run.description | {"experiment": experiment})
        assert "not one of this version" in RunAudio(other).why_not(keys[1])

    def test_names_too_long_for_a_file_leave_scores(self, tmp_path):
        panel = made([load_run(write_hostile_run(tmp_path / "run"))], 6)
        assert panel.audio == ()
        assert panel.notes[0].startswith("No audio is in this page: ")

    def test_kept_audio_that_is_broken_is_a_reason(self, finished, tmp_path, keys):
        copy = copied_run(finished, tmp_path)
        for kept in (copy.folder / "audio").rglob("*.flac"):
            kept.write_bytes(b"nothing")
        panel = made([load_run(copy.folder)], 1)
        entry = next(each for each in panel.index["utterances"] if each["name"] == keys[0][1])
        assert entry["audio"] is None
        assert "which the run kept, cannot be read" in entry["reason"]
        assert panel.audio == ()

    def test_to_say_that_there_is_none_loads_no_torch(self):
        program = (
            "import sys; from evalkit import load_run; from evalkit.report.listening import listening_panel; "
            "run = load_run(sys.argv[1]); names = {(0, name): name for name in run.systems['system']}; "
            "assert listening_panel([run], names, 6).notes; sys.exit('torch' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", program, RESULTS / "tiny"], check=False).returncode == 0

    @pytest.mark.parametrize("name", ["tiny", "q2d2-table"])
    def test_a_published_run_has_scores_only(self, name):
        panel = made([load_run(RESULTS / name)], 6)
        assert panel.audio == ()
        assert panel.notes[0].startswith("No audio is in this page: ")
        assert all(each["reason"] for each in panel.index["utterances"])

    def test_a_sweep_has_scores_only(self, run, keys):
        sweep = replace(run, folder=run.folder / "none", description={"sweep": {"name": "s"}, "test": {}})
        assert "sweep" in RunAudio(sweep).why_not(keys[1])

    def test_nothing_too_long_for_a_page(self, run, keys, monkeypatch):
        monkeypatch.setattr(sound, "MAX_SECONDS", 1.0)
        source = RunAudio(run)
        assert source.why_not(keys[0]) == source.why_not(keys[1]) == "it is longer than 1 s, too much for one page"

    def test_the_recording_stands_first_where_it_is_no_system(self, run, keys):
        rows = run.utterances[run.utterances["system"] != "ground-truth"]
        systems = run.systems[run.systems["system"] != "ground-truth"]
        panel = made([replace(run, utterances=rows, systems=systems)], 2)
        (entry,) = [each for each in panel.index["utterances"] if each["name"] == keys[1][1]]
        assert panel.index["systems"][entry["rows"][0]["system"]] == ORIGINAL
        assert panel.audio[entry["audio"]]["rows"][0] is not None
        assert set(entry["rows"][0]["cells"]) == {None}


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_folders(tmp_path_factory.mktemp("decoded"))
    with pytest.MonkeyPatch.context() as patched:
        leave_out_plots(patched)
        assert score(folder, "--metrics", "stoi").status == 0
    return folder


class TestFolders:
    def test_are_read_again(self, scored):
        sounds = RunAudio(load_run(scored / "run")).sounds([("x", "y"), (f"{scored.name}/originals", "clip3")])
        by_system = {system: samples(sound)[1] for (_, system), sound in sounds.items()}
        assert set(by_system) == {"ground-truth", "good", "bad"}
        for system, folder in (("ground-truth", "originals"), ("good", "good"), ("bad", "bad")):
            np.testing.assert_array_equal(
                by_system[system], soundfile.read(scored / folder / "clip3.wav", dtype="int16")[0]
            )

    def test_changed_or_gone_is_a_reason(self, scored, tmp_path):
        shutil.copytree(scored, tmp_path / "moved")
        folder = tmp_path / "moved"
        run = load_run(folder / "run")
        (folder / "decoded").mkdir()
        (folder / "good").rename(folder / "decoded" / "good")
        run.description["folders"] = {"good": str(folder / "decoded" / "good"), "bad": str(folder / "bad")}
        run.description["originals"] = str(folder / "originals")
        key = (run.description["test"]["dataset"], "clip3")
        assert isinstance(RunAudio(run).sounds([key])[key, "good"], bytes), "originals are found wherever they lie"
        shutil.copyfile(folder / "decoded" / "good" / "clip2.wav", folder / "decoded" / "good" / "clip3.wav")
        shutil.rmtree(folder / "bad")
        sounds = RunAudio(run).sounds([key])
        assert sounds[key, "good"].reason == "its file is no longer what was scored"
        assert "no such folder" in sounds[key, "bad"].reason
        shutil.rmtree(folder / "originals")
        assert "originals" in RunAudio(run).why_not(key)
        assert "not found" in RunAudio(run).why_not(key)


class TestPanel:
    def test_none_where_none_is_asked_for(self, run):
        assert listening_panel([run], {(0, system): system for system in run.systems["system"]}, 0) is None

    def test_none_where_there_is_nothing_to_choose(self, run, tmp_path):
        names = {(0, system): system for system in run.systems["system"]}
        lost = run.utterances.assign(status="unavailable", value=np.nan, detail="weights are missing")
        assert listening_panel([replace(run, folder=tmp_path, utterances=lost)], names, 6) is None

    def test_embeds_as_many_as_asked_and_lists_the_others(self, run, keys):
        panel = made([run], 1)
        assert [each["name"] for each in panel.index["utterances"]] == [keys[0][1], keys[1][1]]
        assert [each["audio"] for each in panel.index["utterances"]] == [0, None]
        assert "--listen N" in panel.index["utterances"][1]["reason"]

    def test_has_every_system_and_what_the_rows_say(self, panel, run, keys):
        assert panel.notes == ()
        assert panel.size.startswith("2 of 2 utterances, ")
        for place, entry in enumerate(panel.index["utterances"]):
            assert [panel.index["systems"][row["system"]] for row in entry["rows"]] == list(run.systems["system"])
            assert entry["audio"] == place
        metrics = [each["label"] for each in panel.index["metrics"]]
        assert metrics == ["PESQ", "STOI"]
        row = panel.index["utterances"][0]["rows"][0]
        assert row["cells"][1] == "1.000", "ground-truth's STOI"

    def test_sounds_are_those_of_their_rows_and_each_is_there_once(self, panel, run, keys):
        audio = panel.audio[0]
        kept = run.examples()[keys[0][1]]
        for system, row in zip(run.systems["system"], audio["rows"], strict=True):
            assert base64.b64decode(audio["sounds"][row["sound"]]) == kept[system].read_bytes()
            assert Image.open(io.BytesIO(base64.b64decode(row["image"]))).size == (WIDTH, HEIGHT)
            assert "0 to 8 kHz" in row["text"]
        assert len(set(audio["sounds"])) == len(audio["sounds"])
        assert audio["seconds"] == pytest.approx(len(samples(kept["ground-truth"].read_bytes())[1]) / 16_000)

    def test_failures_are_told_and_are_no_numbers(self, run, keys):
        rows = run.utterances.copy()
        lost = (rows["system"] == "fsq") & (rows["metric"] == "pesq")
        rows.loc[lost, ["value", "status", "detail"]] = [np.nan, "failed", "no speech"]
        panel = made([replace(run, utterances=rows)], 1)
        fsq = list(run.systems["system"]).index("fsq")
        cell = panel.index["utterances"][0]["rows"][fsq]["cells"][0]
        assert panel.index["failures"][cell] == ["failed", "no speech"]
        of_fsq = panel.index["extremes"][str(panel.index["systems"].index("fsq"))]
        assert [panel.index["metrics"][metric]["label"] for metric, _, _ in of_fsq] == ["STOI"]

    def test_extremes_lead_to_the_utterance_and_the_system(self, panel, run):
        rows = run.utterances[(run.utterances["metric"] == "pesq") & (run.utterances["system"] == "fsq")]
        lowest = rows.loc[rows["value"].idxmin()]
        place = str(panel.index["systems"].index("fsq"))
        (metric, worst, _), *_ = panel.index["extremes"][place]
        assert panel.index["metrics"][metric]["label"] == "PESQ"
        assert panel.index["systems"][worst[0]] == "fsq"
        assert panel.index["utterances"][worst[1]]["name"] == lowest["utterance"]
        assert worst[2] == f"{lowest['value']:.2f}"
        of_codecs = run.systems.loc[run.systems["kind"] == "codec", "system"]
        expected = {"-1", *(str(panel.index["systems"].index(system)) for system in of_codecs)}
        assert set(panel.index["extremes"]) == expected

    def test_several_runs_share_an_utterance_and_its_recording(self, run, finished, tmp_path):
        other = load_run(copied_run(finished, tmp_path).folder)
        panel = made([run, other], 1)
        entry = panel.index["utterances"][0]
        assert len(entry["rows"]) == 2 * len(run.systems)
        rows = panel.audio[0]["rows"]
        assert rows[0]["sound"] == rows[len(run.systems)]["sound"]
        assert len(panel.audio[0]["sounds"]) <= len(run.systems)
