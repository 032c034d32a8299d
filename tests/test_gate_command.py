"""`evalkit compare` as people call it: real audio and metrics, every exit status, and the recipes of docs/examples."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml

from evalkit.cli.compare import Format
from evalkit.datasets import load_corpus, read_audio
from evalkit.gate.formats import FORMATS
from evalkit.run.saved_run import load_run
from tests.command import Outcome, evalkit
from tests.gate_runs import base_scores, make_run, noisy, uneven, write_run

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples"
GUARD = ROOT / "results" / "guard"
RATE = 16_000
FAST = ("--metrics", "stoi,si_sdr", "--workers", "1")


def compare(*arguments: object) -> Outcome:
    return evalkit("compare", *arguments)


def line(outcome: Outcome) -> str:
    """The one line on standard error of a broken call."""
    assert outcome.status == 2, outcome
    (only,) = outcome.err.strip().splitlines()
    return only


def white(clip: np.ndarray, snr: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(clip.size)
    return clip + noise * np.sqrt(np.mean(clip**2) / np.mean(noise**2) / 10 ** (snr / 10))


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """originals/, decoded/ (a coarse codec), noisy/ (the same and white noise at 30 dB SNR).

    baseline/ is a run of decoded/; codec-gate/run one of noisy/, made by the shell recipe, whose exit status and output
    are beside it.
    """
    root = tmp_path_factory.mktemp("gate")
    for name in ("originals", "decoded", "noisy"):
        (root / name).mkdir()
    for number, utterance in enumerate(load_corpus("sample", "test").utterances):
        clip = read_audio(utterance.path)[0][: 3 * RATE // 2]
        # Names without speakers: six of them would be too few for a test of two metrics.
        coded = np.round(clip * 256) / 256
        for name, audio in (("originals", clip), ("decoded", coded), ("noisy", white(coded, 30, number))):
            soundfile.write(root / name / f"clip{number}.wav", audio.clip(-1, 1), RATE, subtype="FLOAT")
    assert evalkit("score", root / "originals", root / "decoded", "--out", root / "baseline", *FAST).status == 0
    done = shell(
        [str(EXAMPLES / "codec-gate.sh")], root,
        BASELINE="baseline", ORIGINALS="originals", DECODED="noisy", METRICS="stoi,si_sdr",
    )  # fmt: skip
    (root / "shell.json").write_text(json.dumps([done.returncode, done.stdout, done.stderr]))
    return root


def shell(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run in `folder`, with an `evalkit` of this interpreter first on the path."""
    (folder / "bin").mkdir(exist_ok=True)
    shim = folder / "bin" / "evalkit"
    if not shim.exists():
        shim.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m evalkit "$@"\n')
        shim.chmod(0o755)
    path = f"{shim.parent}{os.pathsep}{os.environ['PATH']}"
    own = os.environ | {"PATH": path, "COLUMNS": "80"} | variables
    return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Made-up: good, another as good, a worse one."""
    scores = base_scores()
    worse = scores | {("fsq", "pesq"): scores["fsq", "pesq"] - uneven(0.2)}
    made = {"good": scores, "noise": noisy(scores, 1), "worse": worse}
    root = tmp_path_factory.mktemp("runs")
    return [write_run(make_run(values), root / name) for name, values in made.items()]


class TestRealAudio:
    def test_the_same_audio_passes(self, scored):
        outcome = compare(scored / "baseline", scored / "baseline")
        assert outcome.status == 0
        assert outcome.out.startswith("same: no regression in 2 comparisons of 12 utterances")

    def test_white_noise_at_30_db_is_caught(self, scored):
        outcome = compare(scored / "baseline", scored / "codec-gate" / "run")
        assert outcome.status == 1, outcome
        assert "noisy is compared with decoded" in " ".join(outcome.out.split())
        assert re.search(r"worse\n +- decoded: (STOI|SI-SDR)", outcome.out)
        assert compare(scored / "codec-gate" / "run", scored / "baseline").status == 0

    def test_swapped_files_are_named_and_a_missing_one_is_a_failed_score(self, scored, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        shutil.copytree(scored / "decoded", tmp_path / "elsewhere" / "decoded")
        files = [tmp_path / "elsewhere" / "decoded" / f"clip{number}.wav" for number in (2, 5)]
        files[0].rename(tmp_path / "third.wav")
        files[1].rename(files[0])
        (tmp_path / "third.wav").rename(files[1])
        (files[0].parent / "clip4.wav").unlink()
        folders = (scored / "originals", tmp_path / "elsewhere" / "decoded")
        # Lengths differ too much for a score in places: that is for the comparison to see.
        evalkit("score", *folders, "--out", tmp_path / "run", *FAST, "--allow-failures", 99)
        for pair in ((scored / "baseline", tmp_path / "run"), (tmp_path / "run", scored / "baseline")):
            outcome = compare(*pair)
            assert outcome.status == 2
            shown = " ".join(outcome.out.split())
            assert "not comparable: 1 reason" in shown
            assert "clip2 and clip5 are swapped (decoded audio of decoded)" in shown
        lost = load_run(tmp_path / "run").utterances.set_index(["system", "utterance"]).loc[("decoded", "clip4")]
        assert set(lost["status"]) == {"failed"}


class TestExitStatus:
    """Zero and one on made-up runs; two for everything that is wrong, a defect included."""

    def test_zero_and_one(self, runs):
        good, noise, worse = runs
        assert (compare(good, noise).status, compare(good, worse).status, compare(worse, good).status) == (0, 1, 0)

    @pytest.mark.parametrize("form", Format)
    def test_out_holds_the_report_and_the_terminal_the_decision(self, runs, tmp_path, form):
        printed = compare(*runs[::2], "--format", form)
        outcome = compare(*runs[::2], "--format", form, "--out", tmp_path / "report")
        assert printed.status == outcome.status == 1
        written = (tmp_path / "report").read_text(encoding="utf-8")
        assert [each.rstrip() for each in printed.out.splitlines()] == written.splitlines()
        assert outcome.out.startswith("regression: 1 regression in 12 comparisons")
        assert len(outcome.out.splitlines()) == 1

    def test_a_run_that_cannot_be_read_is_reported_in_every_format(self, runs, tmp_path):
        broken = tmp_path / "broken"
        shutil.copytree(runs[0], broken)
        (broken / "utterances.parquet").unlink()
        for candidate, why in ((tmp_path / "none", "no such folder"), (broken, "utterances.parquet is missing")):
            outcome = compare(runs[0], candidate, "--format", "json")
            assert outcome.status == 2
            (reason,) = json.loads(outcome.out)["reasons"]
            assert reason.startswith("candidate: ")
            assert why in reason
        (broken / "utterances.parquet").write_bytes(b"PAR1 damaged PAR1")
        assert compare(runs[0], broken).status == 2

    def test_mistakes_are_one_line_and_two(self, runs, tmp_path):
        gate = tmp_path / "gate.yaml"
        gate.write_text("treshold: {}")
        assert "treshold is not a known key" in line(compare(*runs[:2], "--gate", gate))
        assert "cannot be read" in line(compare(*runs[:2], "--gate", tmp_path / "none.yaml"))
        assert "--system fsk" in line(compare(*runs[:2], "--system", "fsk"))
        assert "No such file or directory" in line(compare(*runs[:2], "--out", tmp_path / "none" / "report"))

    def test_bad_options_are_two(self, runs):
        for arguments in (runs[:1], [*runs[:2], "--format", "html"], [*runs[:2], "--gates", "x"], []):
            assert compare(*arguments).status == 2

    def test_a_defect_is_two_and_shows_where(self, runs, monkeypatch):
        monkeypatch.setattr("evalkit.gate.comparison.compare_scores", lambda *args: 1 / 0)
        outcome = compare(*runs[:2])
        assert outcome.status == 2
        assert "ZeroDivisionError" in outcome.err

    def test_a_name_in_a_mistake_is_shown_as_text(self, tmp_path):
        scores = base_scores()["fsq", "pesq"]
        run = write_run(make_run({("a\x1b[31m\nb", "pesq"): scores}), tmp_path / "run")
        assert "It has: a\\x1b[31m\\nb" in line(compare(run, run, "--system", "c"))

    def test_every_format_can_be_asked_for(self):
        assert list(Format) == list(FORMATS)

    def test_help_tells_the_statuses(self):
        shown = " ".join(compare("--help").out.split())
        for words in ("0 same or better, 1 regression, 2 not comparable or broken", "--format markdown"):
            assert words in shown


class TestGuard:
    def test_the_committed_baseline_is_comparable_with_itself(self):
        outcome = compare(GUARD, GUARD, "--gate", GUARD / "gate.yaml")
        assert outcome.status == 0, outcome

    def test_tells_no_path_of_the_machine_that_made_it(self):
        for path in GUARD.iterdir():
            text = pd.read_parquet(path).to_csv() if path.suffix == ".parquet" else path.read_text(encoding="utf-8")
            assert not re.search(r"/(home|root|work|tmp|Users)/", text), path

    def test_a_change_of_one_trained_score_is_found(self, tmp_path):
        shutil.copytree(GUARD, tmp_path / "guard")
        path = tmp_path / "guard" / "utterances.parquet"
        frame = pd.read_parquet(path)
        row = frame.index[(frame["system"] == "rhombic") & (frame["metric"] == "pesq")][3]
        frame.loc[row, "value"] += 0.2
        frame.to_parquet(path)
        outcome = compare(GUARD, tmp_path / "guard", "--gate", GUARD / "gate.yaml")
        assert outcome.status == 1
        assert "rhombic: pesq 1 of 12 utterances beyond the tolerance of 0.05" in " ".join(outcome.out.split())


class TestExamples:
    def test_the_workflow_is_yaml_pinned_and_may_do_little(self):
        text = (EXAMPLES / "codec-gate.yml").read_text(encoding="utf-8")
        workflow = yaml.safe_load(text)
        assert workflow["permissions"] == {}
        assert workflow[True] == "pull_request"  # YAML reads the bare key `on` as true, GitHub does not
        jobs = workflow["jobs"]
        assert {name: job["permissions"] for name, job in jobs.items()} == {
            "compare": {"contents": "read"},
            "comment": {"pull-requests": "write"},
        }
        steps = [step for job in jobs.values() for step in job["steps"]]
        for uses in (step["uses"] for step in steps if "uses" in step):
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", uses), uses
        # Nothing that others write (titles, reports) is pasted into a script.
        assert not any("${{" in step.get("run", "") for step in steps)

    def test_the_workflows_comparison_ends_with_the_commands_status(self, scored, tmp_path):
        """The command itself for a regression; one that only ends so for the other statuses."""
        workflow = yaml.safe_load((EXAMPLES / "codec-gate.yml").read_text(encoding="utf-8"))
        (script,) = (step["run"] for step in workflow["jobs"]["compare"]["steps"] if step.get("id") == "gate")
        (tmp_path / "gate.yaml").write_text("thresholds: {stoi: 0.001}\n")
        (tmp_path / "baseline").symlink_to(scored / "baseline")
        (tmp_path / "run").symlink_to(scored / "codec-gate" / "run")
        assert self.steps(script, tmp_path, "regression") == (1, "### ❌ regression")
        for status in (0, 2):
            self.ends_with(tmp_path, status, "### told")
            assert self.steps(script, tmp_path, f"status {status}") == (status, "### told")
        self.ends_with(tmp_path, 2)
        assert self.steps(script, tmp_path, "no report") == (2, "The comparison itself failed; see the log.")

    def test_the_shell_recipe_runs(self, scored):
        status, out, err = json.loads((scored / "shell.json").read_text())
        assert status == 1, out + err
        assert "regression: " in out
        report = (scored / "codec-gate" / "comparison.md").read_text(encoding="utf-8")
        assert report.startswith("### ❌ regression")

    def test_the_shell_recipe_leaves_no_earlier_report_where_it_cannot_score(self, tmp_path):
        self.ends_with(tmp_path, 1)
        (tmp_path / "codec-gate").mkdir()
        (tmp_path / "codec-gate" / "comparison.md").write_text("### same")
        done = shell([str(EXAMPLES / "codec-gate.sh")], tmp_path, BASELINE="a", ORIGINALS="b", DECODED="c")
        assert done.returncode == 2
        assert not (tmp_path / "codec-gate" / "comparison.md").exists()

    def test_the_shell_recipe_says_what_it_needs(self, tmp_path):
        done = shell([str(EXAMPLES / "codec-gate.sh")], tmp_path)
        assert done.returncode == 2
        assert "BASELINE: folder of the good run" in done.stderr

    def ends_with(self, folder: Path, status: int, report: str = "") -> None:
        """An `evalkit` that only writes `report`, if any, to comparison.md and ends with `status`."""
        (folder / "bin").mkdir(exist_ok=True)
        write = f"echo '{report}' > comparison.md" if report else "rm -f comparison.md"
        (folder / "bin" / "evalkit").write_text(f"#!/bin/sh\n{write}\nexit {status}\n")
        (folder / "bin" / "evalkit").chmod(0o755)

    def steps(self, script: str, folder: Path, name: str) -> tuple[int, str]:
        """Exit status of a step, and the start of the report's first line, the same in its output and the summary."""
        output, summary = folder / f"{name}.output", folder / f"{name}.summary"
        files = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
        status = shell(["bash", "-e", "-c", script], folder, **files).returncode
        first, *report, last = output.read_text(encoding="utf-8").splitlines()
        assert first == f"report<<{last}"
        assert report == summary.read_text(encoding="utf-8").splitlines()
        return status, report[0].partition(":")[0]
