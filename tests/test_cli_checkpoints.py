"""evalkit import, export, push and pull: what they print, what they leave, and mistakes in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from evalkit.run.experiment import load_experiment
from evalkit.run.plan import make_plan
from q2d2.checkpoints import CONFIG, WEIGHTS, load_codec, read_description
from q2d2.published_files import UNUSED
from tests.command import evalkit, write_experiment
from tests.hub_server import Hub, hub_of_this_test
from tests.published_models import random_state, small_description, write_ckpt, write_yaml


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_of_this_test(tmp_path, monkeypatch) as running:
        yield running


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.ckpt and model.yaml of a small Q2D2."""
    folder = tmp_path_factory.mktemp("published")
    config = write_yaml(folder / "model.yaml", small_description("q2d2"))
    write_ckpt(folder / "model.ckpt", random_state(config, "q2d2"))
    return folder


def import_arguments(published: Path, *more: object) -> list[object]:
    return ["import", "q2d2", published / "model.ckpt", "--config", published / "model.yaml", *more]


def test_help_shows_examples() -> None:
    for command, words in (
        ("import", ("evalkit import wavtokenizer", "--config", "Every published entry")),
        ("export", ("evalkit export runs/imported/q2d2-3k -o", "--config-out", "equal to the bit")),
        ("push", ("evalkit push runs/mine/checkpoints/rhombic --repo me/rhombic", "--private", "HF_TOKEN")),
        ("pull", ("evalkit pull --repo me/rhombic -o", "--revision", "commit is printed")),
    ):
        shown = " ".join(evalkit(command, "--help").out.split())
        for word in words:
            assert word in shown
    assert all(command in evalkit("--help").out for command in ("import", "export", "push", "pull"))


def test_import_says_what_it_built(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = evalkit(*import_arguments(published))
    assert outcome.status == 0
    folder = tmp_path / "runs" / "imported" / "model"
    lines = dict(re.split("  +", line, maxsplit=1) for line in outcome.out.splitlines())
    assert lines["audio"] == "24,000 Hz, 2 samples a frame (ratios 2)"
    assert lines["bottleneck"] == "q2d2: tiling hexagonal, levels 5,5,7,7, gradient published"
    assert lines["rate"].startswith("10.26 bits/frame x 12000.00 frames/s = 123.")
    parameters = sum(each.numel() for each in load_codec(folder).parameters())
    assert lines["parameters"] == f"{parameters / 1e6:.2f} M"
    state = random_state(published / "model.yaml", "q2d2")
    assert lines["entries"] == f"{len(state)} read, 67 of them unused and kept for export; 2 of training left out"
    assert lines["written"].endswith(f"(sha256 {read_description(folder)['weights_sha256']})")


def test_import_and_export_are_inverse(published: Path, tmp_path: Path) -> None:
    assert evalkit(*import_arguments(published, "-o", tmp_path / "in")).status == 0
    out = tmp_path / "out.ckpt"
    outcome = evalkit("export", tmp_path / "in", "-o", out, "--config-out", tmp_path / "c.yaml")
    assert outcome.status == 0
    assert "as they were imported" in outcome.out
    state = random_state(published / "model.yaml", "q2d2")
    exported = torch.load(out, weights_only=True)["state_dict"]
    assert all(torch.equal(exported[name], tensor) for name, tensor in state.items())
    again = evalkit("import", "q2d2", out, "--config", tmp_path / "c.yaml", "-o", tmp_path / "in")
    assert again.status == 0
    assert "exists: choose another name" in evalkit("export", tmp_path / "in", "-o", out).complaint
    assert evalkit("export", tmp_path / "in", "-o", out, "--force").status == 0


def test_an_imported_checkpoint_can_be_used_by_an_experiment(published: Path, tmp_path: Path) -> None:
    evalkit(*import_arguments(published, "-o", tmp_path / "in"))
    backbone = {"size": "wavtokenizer", "changes": {
        "ratios": [2], "decoder_dim": 32, "decoder_intermediate": 8, "decoder_layers": 1,
    }}  # fmt: skip
    systems = {
        "imported": {"checkpoint": str(tmp_path / "in")},
        "tuned": {"bottleneck": {"name": "fsq", "levels": [5, 5]}},
    }
    experiment = write_experiment(
        tmp_path / "x.yaml", systems=systems, backbone=backbone,
        train={"steps": 1, "segment_seconds": 0.1, "init_from": str(tmp_path / "in")},
    )  # fmt: skip
    plan = make_plan(load_experiment(str(experiment), []), tmp_path / "run")
    assert {system.name for system in plan.systems} == {"imported", "tuned"}


def test_mistakes_are_one_line(published: Path, tmp_path: Path) -> None:
    content = small_description("q2d2")
    content["model"]["init_args"]["feature_extractor"]["init_args"]["vq_type"] = "hexagonal"
    wrong = write_yaml(tmp_path / "wrong.yaml", content)
    model = published / "model.ckpt"
    for arguments, words in (
        (["q2d2", model, "--config", wrong], "vq_type is 'hexagonal': unknown tiling. Did you mean 'hexagon'?"),
        (["q2d", model, "--config", wrong], "unknown family 'q2d': expected one of wavtokenizer, q2d2"),
        (["wavtokenizer", model, "--config", published / "model.yaml"], "import it as q2d2"),
        (["q2d2", tmp_path / "no.ckpt", "--config", published / "model.yaml"], "no.ckpt cannot be read: No such file"),
        (["q2d2", model, "--config", tmp_path / "no.yaml"], "no.yaml cannot be read: No such file"),
    ):
        assert words in evalkit("import", *arguments, "-o", tmp_path / "x").complaint
    assert not (tmp_path / "x").exists()
    assert "num_filters 8 (it has 32)" in evalkit("export", "tiny", "-o", tmp_path / "x.ckpt").complaint
    assert "no checkpoint 'absent'" in evalkit("export", "absent", "-o", tmp_path / "x.ckpt").complaint


def test_missing_and_extra_entries_are_named(published: Path, tmp_path: Path) -> None:
    state = random_state(published / "model.yaml", "q2d2")
    lost = "feature_extractor.encodec.decoder.model.0.conv.conv.bias"
    state["head.extra"] = state.pop(lost)
    write_ckpt(tmp_path / "bad.ckpt", state)
    complaint = evalkit("import", "q2d2", tmp_path / "bad.ckpt", "--config", published / "model.yaml").complaint
    assert f"missing {lost}; unexpected head.extra" in complaint


def test_push_and_pull(published: Path, hub: Hub, tmp_path: Path) -> None:
    evalkit(*import_arguments(published, "-o", tmp_path / "in"))
    pushed = evalkit("push", tmp_path / "in", "--repo", "me/codec", "--private")
    assert pushed.status == 0
    repository = hub.repositories["me/codec"]
    assert repository.private
    commit = repository.branches["main"]
    assert commit in pushed.out
    assert f"verified  {CONFIG}, {WEIGHTS}, {UNUSED}, README.md" in pushed.out

    pulled = evalkit("pull", "--repo", "me/codec", "-o", tmp_path / "copy")
    assert pulled.status == 0
    assert f"me/codec at commit {commit}" in pulled.out
    assert "tiling hexagonal, levels 5,5,7,7" in pulled.out
    for name in (CONFIG, WEIGHTS, UNUSED):
        assert (tmp_path / "copy" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
    assert evalkit("pull", "--repo", "me/codec", "--revision", commit, "-o", tmp_path / "copy").status == 0
    exported = evalkit("export", tmp_path / "copy", "-o", tmp_path / "back.ckpt")
    assert "as they were imported" in exported.out

    evalkit("push", "tiny", "--repo", "me/tiny")
    assert "holds another checkpoint" in evalkit("pull", "--repo", "me/tiny", "-o", tmp_path / "copy").complaint
    assert evalkit("pull", "--repo", "me/tiny", "-o", tmp_path / "copy", "--force").status == 0
    assert load_codec(tmp_path / "copy").sample_rate == 16000
    assert "no repository me/absent" in evalkit("pull", "--repo", "me/absent", "-o", tmp_path / "y").complaint
    assert "expected OWNER/NAME" in evalkit("push", "tiny", "--repo", "tiny").complaint
