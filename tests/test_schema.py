"""evalkit.schema: one strict base and one describer for every file of ours; the same mistakes in all kinds of file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evalkit.gate import load_gate
from evalkit.history.publication import read_publication
from evalkit.run.experiment import load_experiment
from evalkit.run.saved_run import load_run
from evalkit.sweeps.claim_files import load_claims
from evalkit.sweeps.families import families
from evalkit.sweeps.folder import SweepFolder
from evalkit.sweeps.schema import load_sweep
from evalkit.sweeps.state import read_state
from q2d2.checkpoints import read_description
from q2d2.errors import UserError
from tests.command import TINY
from tests.yaml_bomb import BOMB

ROOT = Path(__file__).parents[1]
families()  # imports all bottlenecks, once: seconds that are no one's fault
SWEEP = {"name": "mine", "experiment": "quick", "points": [{"grid": {"train.steps": [5]}}]}
GATE = yaml.safe_load((ROOT / "evalkit" / "gate" / "default.yaml").read_text(encoding="utf-8"))
CLAIMS = yaml.safe_load((ROOT / "evalkit" / "papers" / "q2d2-claims.yaml").read_text(encoding="utf-8"))
YAML: dict[str, tuple[dict[str, Any], Callable[[str], Any]]] = {
    "experiment": (TINY, load_experiment),
    "sweep": (SWEEP, load_sweep),
    "gate": (GATE, load_gate),
    "claims": (CLAIMS, load_claims),
}
JSON: dict[str, Callable[[Path], Any]] = {
    "run.json": load_run,
    "sweep.json": SweepFolder.read,
    "publication.json": read_publication,
    "codec.json": read_description,
}


def refusal(read: Callable[[Any], Any], given: Any) -> str:
    """The message with which it is refused: one printable line of bounded length, within a second."""
    started = time.process_time()
    with pytest.raises(UserError) as caught:
        read(given)
    assert time.process_time() - started < 1
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("kind", YAML)
class TestYaml:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (BOMB, "more than 30,000 values"),
            ("[" * 10_000, "nested more than 64 deep"),
            ("a: " + "9" * 5000, "a number of 5,000 digits"),
            ("a: !!int many", "not valid YAML"),
            ("a: !!timestamp x", "not valid YAML"),
            ("a: 1\na: 2\n", "the key 'a' is there twice"),
            ("a: \0", "holds NUL"),
            ("", "found NoneType"),
        ],
        ids=["bomb", "deep", "digits", "tag", "time", "twice", "NUL", "empty"],
    )
    def test_a_text_that_is_not_read(self, tmp_path: Path, kind: str, text: str, words: str) -> None:
        path = tmp_path / "file.yaml"
        path.write_text(text, encoding="utf-8")
        message = refusal(YAML[kind][1], str(path))
        assert words in message
        assert str(path) in message

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (10**30, "expected a number of at most 64 bits"),
            (float("nan"), "is nan: expected a finite number"),
            ({1: 2}, "expected text as a key, found 1"),
            ("\ud800", "expected text"),
        ],
        ids=["huge", "nan", "key", "surrogate"],
    )
    def test_a_value_that_no_key_has(self, tmp_path: Path, kind: str, value: Any, words: str) -> None:
        values, read = YAML[kind]
        path = tmp_path / "file.yaml"
        key = next(iter(values))
        path.write_text(yaml.safe_dump(values | {key: value}), encoding="utf-8")
        message = refusal(read, str(path))
        assert words in message
        assert str(path) in message
        assert key in message

    def test_an_unknown_key_is_cut(self, tmp_path: Path, kind: str) -> None:
        values, read = YAML[kind]
        path = tmp_path / "file.yaml"
        path.write_text(yaml.safe_dump(values | {"\x1b[31m" + "a" * 5000: 1}), encoding="utf-8")
        assert "is not a known key" in refusal(read, str(path))

    def test_what_is_no_file(self, tmp_path: Path, kind: str) -> None:
        folder = tmp_path / "folder.yaml"
        folder.mkdir()
        assert "Is a directory" in refusal(YAML[kind][1], str(folder))
        assert "is no regular file" in refusal(YAML[kind][1], "/dev/zero")


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[" * 100_000, '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": ' + "9" * 5000 + "}", "[]", "5", "null",
        '"\\ud800"',
        '{"a":' * 300 + "1" + "}" * 300,
    ],
    ids=range(11),
)  # fmt: skip
def test_a_damaged_json_file_is_one_line_that_names_it(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert str(tmp_path / name) in refusal(JSON[name], tmp_path)


class TestKinds:
    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("train.steps=true", "train.steps: expected a number, found true"),
            ("train.learning_rate=yes", "train.learning_rate: expected a number, found true"),
            ("train.betas=[0.9, true]", "train.betas.1: expected a number, found true"),
            ("train.losses.mel=no", "train.losses.mel: expected a number, found false"),
            ("data.test.limit=true", "data.test.limit: expected a number, found true"),
            ("speed.repeats=true", "speed.repeats: expected a number, found true"),
            ("align=1", "align: expected true or false, found 1"),
            ("align='yes'", "align: expected true or false, found 'yes'"),
            ("train.compile=1", "train.compile: expected true or false, found 1"),
            ("name=2026-01-31", "name: .*found a date: put it in quotes"),
            ("notes=[!!binary aGk=]", "notes.0: .*found binary data"),
        ],
    )
    def test_of_an_experiment(self, override: str, words: str) -> None:
        with pytest.raises(UserError, match=f"experiment quick: {words}"):
            load_experiment("quick", [override])

    @pytest.mark.parametrize(
        ("override", "words"),
        [
            (f"train.steps={10**30}", "train.steps: expected a number of at most 64 bits"),
            (f"train.steps={10**12}", "train.steps is 1000000000000: expected at most 1,000,000,000"),
            ("train.batch_size=1000000", "train.batch_size is 1000000: expected at most 65,536"),
            ("train.segment_seconds=1000000", "train.segment_seconds is 1000000.0: expected at most 600"),
            ("train.losses.mel=.inf", "train.losses.mel is inf"),
            ("train.losses.mel=-1", "train.losses.mel is -1.0: expected a number in 0"),
            ("speed.seconds=.inf", "speed.seconds is inf"),
            ("speed.seconds=1000000", "speed.seconds: Input should be less than or equal to 600"),
            (f"data.test.limit={10**12}", "data.test.limit: Input should be less than or equal to"),
            ("name=" + "a" * 300, "name: String should have at most 200"),
        ],
    )
    def test_sizes_of_an_experiment_have_limits(self, override: str, words: str) -> None:
        with pytest.raises(UserError, match=words) as caught:
            load_experiment("quick", [override])
        assert len(str(caught.value)) < 300

    @pytest.mark.parametrize(
        ("key", "value", "words"),
        [
            ("seeds", [True], "seeds.0: expected a number, found true"),
            ("seeds", [-1], "seeds.0: Input should be greater than or equal to 0"),
            ("points", [{"grid": {"a": [1] * 1000, "b": [2] * 1000}}], "points: 1,000,000 trials .* at most 100,000"),
            (
                "points",
                [{"matched": {"families": ["e8"], "bits_per_frame": [1e300]}}],
                "bits_per_frame.0: Input",
            ),
            (
                "points",
                [{"matched": {"families": ["fsq"], "bits_per_frame": [9], "channels": 10**9}}],
                "channels.*less than or equal to 1024",
            ),
        ],
    )
    def test_of_a_sweep(self, tmp_path: Path, key: str, value: Any, words: str) -> None:
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump(SWEEP | {key: value}))
        with pytest.raises(UserError, match=words):
            load_sweep(str(path))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"experiment": 5}, "experiment"),
        ({"experiment": {"systems": {"a": []}}}, "experiment.systems.a"),
        ({"baseline": ["a"]}, "baseline"),
        ({"protocol": "strict"}, "protocol"),
        ({"test": {"dataset": {}}}, "test.dataset"),
        ({"training": {"train": {"steps": "x"}}}, "training.train.steps"),
        ({"folders": {"a": 1}}, "folders.a"),
        ({"hardware": [1]}, "hardware"),
    ],
)
def test_a_run_that_says_something_of_another_kind_is_refused_with_the_key(
    tmp_path: Path, change: dict[str, Any], key: str
) -> None:
    described = json.loads((ROOT / "results" / "tiny" / "run.json").read_text(encoding="utf-8"))
    (tmp_path / "run.json").write_text(json.dumps(described | change))
    assert f"run.json is damaged: {key}: " in refusal(load_run, tmp_path)


def test_what_moves_the_cursor_is_shown_in_the_message(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(TINY | {"systems": {"a": {"bottleneck": "\x1b[31mred"}}}))
    message = refusal(load_experiment, tmp_path / "e.yaml")
    assert message.isprintable()
    assert "[31mred" in message


def test_a_trial_that_names_a_path_is_refused(tmp_path: Path) -> None:
    described = json.loads((ROOT / "results" / "q2d2-ablation" / "sweep.json").read_text(encoding="utf-8"))
    described["trials"][0]["id"] = "../../elsewhere"
    (tmp_path / "sweep.json").write_text(json.dumps(described))
    assert "trials.0.id: String should match" in refusal(SweepFolder.read, tmp_path)


@pytest.mark.parametrize("text", ["{}", "[]", '{"status": "done"}', '{"status": 5, "reason": 1}', "[" * 5000, ""])
def test_a_damaged_result_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    assert read_state(tmp_path).state == "waiting"
