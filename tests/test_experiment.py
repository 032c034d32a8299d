"""Experiment files: what is valid, what a mistake says, overrides, and what is checked before anything is computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.run.experiment import (
    Experiment,
    ExperimentError,
    built_in_experiments,
    load_experiment,
)
from evalkit.run.plan import Plan, make_plan
from evalkit.scoring.protocol import KNOWN_ANSWERS
from q2d2.checkpoints import CheckpointError
from q2d2.errors import UserError
from q2d2.training.config import PRECISIONS, RECIPES, train_config
from tests.command import TINY, write_experiment

FROM_SCRATCH = Experiment.model_validate(TINY).train


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_experiment(tmp_path / "trial.yaml")


def planned(path: Path, *overrides: str, folder: Path | None = None) -> Plan:
    return make_plan(load_experiment(str(path), overrides), folder or path.parent / "run")


def test_every_built_in_experiment_is_valid_and_builds() -> None:
    assert {"quick", "librispeech", "tiny", "backbone"} <= set(built_in_experiments())
    for name in built_in_experiments():
        experiment = load_experiment(name, ["data.test={name: sample}", "data.train=[{name: sample, part: train}]"])
        assert experiment.name == name
        assert experiment.title
        assert make_plan(experiment.model_copy(update={"train": FROM_SCRATCH}), Path("absent")).systems


def test_resolved_is_enough_to_run_again(path: Path) -> None:
    experiment = load_experiment(str(path), ["train.steps=7", "metrics=[stoi]"])
    again = Experiment.model_validate(json.loads(json.dumps(experiment.resolved())))
    assert again == experiment
    assert again.train.steps == 7


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "read"),
        [
            ("train.steps=7", lambda e: e.train.steps == 7),
            ("train.learning_rate=1e-3", lambda e: e.train.learning_rate == 1e-3),
            ("train.losses.mel=2", lambda e: e.train.losses == RECIPES["spectral"]["losses"] | {"mel": 2.0}),
            ("train.losses={mel: 2}", lambda e: e.train.losses == {"mel": 2.0}),
            ("data.test.root=/data=1", lambda e: e.data.test.root == Path("/data=1")),
            ("data.train.0.root=/data", lambda e: e.data.train[0].root == Path("/data")),
            ("data.train=[]", lambda e: e.data.train == []),
            ("systems.vq.bottleneck.codebook_size=32", lambda e: e.systems["vq"].bottleneck["codebook_size"] == 32),
            ("notes=[one, two]", lambda e: e.notes == ["one", "two"]),
            ("train.init_from=", lambda e: e.train.init_from is None),
        ],
    )
    def test_reach_every_depth(self, path: Path, override: str, read: Any) -> None:
        assert read(load_experiment(str(path), [override]))

    @pytest.mark.parametrize("order", [1, -1])
    def test_a_recipe_comes_before_single_losses_of_it(self, path: Path, order: int) -> None:
        train = load_experiment(str(path), ["train.recipe=published", "train.losses.mpd=2"][::order]).train
        assert train.losses == RECIPES["published"]["losses"] | {"mpd": 2.0}
        assert train.faults == ("frozen_dac_discriminator", "two_generator_forwards")
        assert train.gradient_clip is None
        assert train.steps == 12  # the file's own values win over the recipe's

    def test_corrected_is_the_recipe_where_none_is_named(self, tmp_path: Path) -> None:
        nothing_said = write_experiment(tmp_path / "plain.yaml", train={"steps": 5})
        assert load_experiment(str(nothing_said)).train == train_config("corrected", steps=5)
        again = Experiment.model_validate(load_experiment(str(nothing_said), ["train.recipe=published"]).resolved())
        assert again.train == train_config("published", steps=5)

    def test_later_ones_win(self, path: Path) -> None:
        assert load_experiment(str(path), ["train.steps=7", "train.steps=8"]).train.steps == 8

    def test_fill_an_empty_section(self, tmp_path: Path) -> None:
        empty = write_experiment(tmp_path / "empty.yaml", train=None)
        assert load_experiment(str(empty), ["train.steps=7"]).train.steps == 7

    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("train.steps", "expected key=value"),
            ("=7", "expected key=value"),
            ("train..steps=7", "expected key=value"),
            ("train.steps.more=7", "'steps' holds a single value"),
            ("data.train.root=/data", "'root' is no entry of a list of 1"),
            ("data.train.1.root=/data", "'1' is no entry of a list of 1"),
            ("notes=[open", "not valid YAML"),
        ],
    )
    def test_malformed(self, path: Path, override: str, words: str) -> None:
        with pytest.raises(ExperimentError, match=words) as caught:
            load_experiment(str(path), [override])
        assert override in str(caught.value)


class TestMistakes:
    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("tran.steps=3", "tran is not a known key. Did you mean 'train'? Known: name, title,"),
            ("train.stepz=3", "train.stepz is not a known key. Did you mean 'steps'?"),
            ("data.test.prat=x", "data.test.prat is not a known key. Did you mean 'part'?"),
            ("data.train.0.lmit=3", "data.train.0.lmit is not a known key. Did you mean 'limit'?"),
            ("systems.vq.botleneck=x", "systems.vq.botleneck is not a known key. Did you mean 'bottleneck'?"),
            ("speed.repeat=2", "Did you mean 'repeats'?"),
            ("train.steps=0", "train.steps is 0: expected a positive number"),
            ("train.steps=many", "train.steps: Input should be a valid integer"),
            ("train.steps=1.5", "train.steps: "),
            ("train.learning_rate=.nan", "train.learning_rate is nan: expected a finite number"),
            ("train.num_workers=-1", "train.num_workers is -1"),
            ("train.seed=-1", "train.seed is -1"),
            ("train.betas=[0.9, 1.0]", "train.betas is"),
            ("train.gradient_clip=0", "train.gradient_clip is 0"),
            ("train.gain_db=[3, -6]", "train.gain_db is"),
            ("train.precision=fp8", "train.precision is 'fp8': expected one of 32-true"),
            ("train.ema_decay=1", "train.ema_decay is 1"),
            ("train.recipe=publishd", "train.recipe is 'publishd': no such recipe. Did you mean 'published'?"),
            ("train.faults=[frozen]", "train.faults is 'frozen': expected names among frozen_dac_discriminator"),
            ("train.accumulate=0", "train.accumulate is 0"),
            ("train.discriminator_width=2", "train.discriminator_width is 2"),
            ("train.spectral_steps=-1", "train.spectral_steps is -1"),
            ("data.test.limit=0", "data.test.limit: Input should be greater than or equal to 1"),
            ("data.test=", "data.test: "),
            ("metrics=[]", "metrics: List should have at least 1 item"),
            ("metrics=[pesq, stoi, pesq]", "metrics: listed twice: pesq"),
            ("systems={}", "systems: "),
            ("systems.vq={}", "systems.vq: give either bottleneck"),
            ("systems.vq.checkpoint=x", "systems.vq: give either bottleneck"),
            ("systems.vq.bottleneck={codebook_size: 8}", "systems.vq: bottleneck needs a name"),
            ("systems.vq.bottleneck.name=null", "systems.vq: null without quotes"),
            ("systems={null: {bottleneck: {name: vq}}}", "systems: null without quotes"),
            ("systems={../x: {bottleneck: {name: vq}}}", "system name '../x'"),
            ("systems={ground-truth: {bottleneck: {name: vq}}}", "'ground-truth' is taken"),
            ("name=a/b", "name: "),
            ("examples=-1", "examples: "),
        ],
    )
    def test_name_the_key_and_the_way_out(self, path: Path, override: str, words: str) -> None:
        with pytest.raises(ExperimentError) as caught:
            load_experiment(str(path), [override])
        message = str(caught.value)
        assert words in message
        assert "\n" not in message
        assert str(path) in message

    def test_unknown_experiment_suggests(self) -> None:
        with pytest.raises(ExperimentError, match=r"no experiment 'quik'. Did you mean 'quick'.*YAML file"):
            load_experiment("quik")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (None, "cannot be read: No such file"),
            (b"name: [", "not valid YAML"),
            (b"- a\n- b\n", "expected keys and values, found list"),
            (b"", "expected keys and values, found NoneType"),
            (b"\xff\xfe\xfa", "not text in UTF-8"),
            (b"name: x\n", "data: Field required.*systems: Field required"),
        ],
    )
    def test_files(self, tmp_path: Path, content: bytes | None, words: str) -> None:
        path = tmp_path / "x.yaml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ExperimentError, match=words):
            load_experiment(str(path))

    def test_known_answers_are_those_that_runs_add(self) -> None:
        from evalkit.run.systems import anchors

        assert tuple(system.name for system in anchors(16_000)) == KNOWN_ANSWERS

    def test_precisions_are_those_that_training_takes(self) -> None:
        from lightning_fabric import Fabric

        for precision in PRECISIONS:
            Fabric(accelerator="cpu", devices=1, precision=precision)  # type: ignore[arg-type]


class TestPlan:
    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("metrics=[pesk]", "unknown metric 'pesk'. Did you mean 'pesq'"),
            ("data.test.name=samples", "unknown dataset 'samples'. Did you mean 'sample'"),
            ("data.test.part=tset", "no part 'tset'. Did you mean 'test'"),
            ("data.train=[]", "data.train is empty"),
            ("systems.vq.bottleneck.name=rvqq", "systems.vq: unknown bottleneck 'rvqq'. Did you mean 'rvq'"),
            ("systems.vq.bottleneck.codebok_size=8", "systems.vq: .*codebok_size"),
            ("systems.rhombic.bottleneck.levels=[5]", "systems.rhombic: "),
            ("systems.rhombic.bottleneck.levels=5", "systems.rhombic: "),
            ("systems.rhombic.bottleneck.levels=abc", "systems.rhombic: "),
            ("systems.rhombic.bottleneck.tiling=rombic", "systems.rhombic: .*'rombic'"),
            ("backbone.size=tinny", "backbone: unknown codec size 'tinny'"),
            ("backbone.changes.dimensions=8", "backbone: .*has no dimensions"),
            ("backbone.changes.num_filters=-2", "backbone: "),
            ("backbone.changes.decoder_dim=40", "backbone: decoder_dim 40"),
            ("backbone.changes.ratios=[4, 0]", "backbone: ratios"),
            ("backbone.changes.num_filters=many", "backbone: "),
            ("train.losses.mell=1", "train.losses .*unknown loss 'mell'"),
            ("train.segment_seconds=0.01", "train.segment_seconds: .*"),
            ("train.init_from=absent", "no checkpoint 'absent'"),
            ("systems.vq={checkpoint: absent}", "no checkpoint 'absent'"),
        ],
    )
    def test_refuses_before_anything_is_computed(self, path: Path, override: str, words: str) -> None:
        with pytest.raises(UserError, match=words) as caught:
            planned(path, override)
        assert "\n" not in str(caught.value)
        assert not (path.parent / "run").exists()

    def test_start_from_another_backbone_is_refused(self, path: Path) -> None:
        from q2d2.bottleneck import build_bottleneck
        from q2d2.checkpoints import save_codec
        from q2d2.codec import Codec, CodecConfig

        config = planned(path).systems[0].backbone
        other = CodecConfig(**config.to_dict() | {"num_filters": 4})
        save_codec(Codec(other, build_bottleneck("null", other.dimension)), path.parent / "other")
        with pytest.raises(UserError, match=r"train\.init_from: .*num_filters 4, not 2"):
            planned(path, f"train.init_from={path.parent / 'other'}")

    def test_damaged_checkpoint_is_refused(self, path: Path, tmp_path: Path) -> None:
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / "codec.json").write_text("{")
        with pytest.raises(CheckpointError, match=r"codec\.json cannot be read"):
            planned(path, f"systems={{vq: {{checkpoint: {tmp_path / 'broken'}}}}}")

    def test_limit_is_the_same_for_every_order_and_spreads(self, path: Path) -> None:
        four = [u.id for u in planned(path, "data.test.limit=4").test_utterances]
        two = [u.id for u in planned(path).test_utterances]
        assert len(four) == 4
        assert set(two) < set(four)
        assert four == sorted(four)
        assert len({name.split("_")[0] for name in four}) > 1

    def test_rates_are_computed(self, path: Path) -> None:
        systems = {system.name: system for system in planned(path).systems}
        assert systems["fsq"].bitrate == pytest.approx(125 * 2 * 2.321928, rel=1e-6)
        assert systems["rvq"].bitrate == 125 * 6
        assert systems["unquantized"].bitrate == 0

    def test_folder_trained_otherwise_is_refused_and_named(self, path: Path, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        (folder / "checkpoints" / "vq").mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"training": planned(path).training}))
        planned(path, folder=folder)
        planned(path, "systems.fsq.bottleneck.levels=[3, 3]", folder=folder)  # not begun there
        planned(path, "metrics=[stoi]", "data.test.limit=3", folder=folder)
        for override, words in (
            ("train.steps=9", "train.steps 12, not 9"),
            ("systems.vq.bottleneck.codebook_size=9", "bottleneck.vq.codebook_size 16, not 9"),
            ("backbone.changes.num_filters=4", "backbone.changes"),
            ("data.train.0.limit=3", "trained on other files"),
        ):
            with pytest.raises(ExperimentError, match=f"{words}.*--out"):
                planned(path, override, folder=folder)
