"""Push and pull against a hub on this machine, with huggingface_hub's own client: by hash, in one commit, one line."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save

from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import CONFIG, WEIGHTS, CheckpointError, load_codec, read_description, save_codec
from q2d2.codec import Codec, CodecConfig
from q2d2.errors import UserError
from q2d2.hub import HubError, HubUnreachable, fetch, pull, push
from q2d2.published_files import UNUSED
from tests.hub_server import Hub, Repository, hub_of_this_test

SMALL = CodecConfig(
    sample_rate=8000, ratios=(2, 2), num_filters=2, dimension=8, lstm_layers=1, decoder_dim=64,
    decoder_intermediate=8, decoder_layers=1,
)  # fmt: skip
REPO = "me/codec"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_of_this_test(tmp_path, monkeypatch) as running:
        yield running


def saved(folder: Path, seed: int = 0, **changes: Any) -> Path:
    torch.manual_seed(seed)
    codec = Codec(SMALL, build_bottleneck("q2d2", SMALL.dimension, levels=[5, 5]))
    save_codec(codec, folder, {"corpora": ["sample/train: 24 utterances"], "version": "0.1+gabc"}, **changes)
    return folder


def held(hub: Hub, revision: str = "main") -> dict[str, bytes]:
    repository = hub.repositories[REPO]
    return repository.commits[repository.branches.get(revision, revision)]


def test_what_is_pushed_is_what_is_pulled(hub: Hub, tmp_path: Path) -> None:
    folder = saved(tmp_path / "own", side_files={UNUSED: {"x": torch.randn(3)}})
    done = push(folder, REPO)
    assert set(done.files) == {CONFIG, WEIGHTS, UNUSED, "README.md"}
    assert done.url == f"{hub.url}/{REPO}"
    assert len(hub.repositories[REPO].commits) == 2  # the empty repository's, and one
    pulled = pull(REPO, tmp_path / "deep" / "copy")
    assert pulled.commit == done.commit
    for name in (CONFIG, WEIGHTS, UNUSED):
        assert (pulled.folder / name).read_bytes() == (folder / name).read_bytes() == held(hub)[name]
    assert sorted(os.listdir(pulled.folder)) == sorted([CONFIG, WEIGHTS, UNUSED])
    assert pulled.weights_sha256 == read_description(folder)["weights_sha256"]


def test_from_pretrained_takes_folders_names_and_repositories(hub: Hub, tmp_path: Path) -> None:
    folder = saved(tmp_path / "own")
    push(folder, REPO)
    audio = torch.randn(1, 100)
    expected = load_codec(folder)(audio).audio
    for source in (folder, str(folder), REPO):
        codec = Codec.from_pretrained(source)
        assert not codec.training
        assert torch.equal(codec(audio).audio, expected)
    assert Codec.from_pretrained("tiny").sample_rate == 16000
    for source in ("no-such-name", tmp_path / "nowhere", tmp_path):
        with pytest.raises(CheckpointError, match="no checkpoint"):
            Codec.from_pretrained(source)


def test_a_commit_gives_the_same_weights_ever_after(hub: Hub, tmp_path: Path) -> None:
    first = push(saved(tmp_path / "own"), REPO).commit
    old = (tmp_path / "own" / WEIGHTS).read_bytes()
    second = push(saved(tmp_path / "own", seed=1), REPO).commit
    assert first != second
    assert pull(REPO, tmp_path / "first", revision=first).commit == first
    assert (tmp_path / "first" / WEIGHTS).read_bytes() == old
    assert pull(REPO, tmp_path / "newest").commit == second
    assert (tmp_path / "newest" / WEIGHTS).read_bytes() != old
    hub.requests.clear()
    fetch(REPO, revision=first)
    assert hub.requests == []  # a commit that the cache holds needs no network


def test_branches(hub: Hub, tmp_path: Path) -> None:
    push(saved(tmp_path / "main"), REPO)
    trial = push(saved(tmp_path / "trial", seed=1), REPO, revision="trial")
    assert held(hub)[WEIGHTS] == (tmp_path / "main" / WEIGHTS).read_bytes()
    assert held(hub, "trial")[WEIGHTS] == (tmp_path / "trial" / WEIGHTS).read_bytes()
    assert pull(REPO, tmp_path / "copy", revision="trial").commit == trial.commit


def test_the_card_says_what_the_checkpoint_knows_and_respects_another(hub: Hub, tmp_path: Path) -> None:
    folder = saved(tmp_path / "own")
    push(folder, REPO)
    card = held(hub)["README.md"].decode()
    for words in (
        "8,000 Hz", "tiling rhombic, levels 5,5", "sample/train: 24 utterances", "0.1+gabc", "kbit/s",
        read_description(folder)["weights_sha256"], f'Codec.from_pretrained("{REPO}")',
    ):  # fmt: skip
        assert words in card
    hub.repositories[REPO].commit("main", held(hub) | {"README.md": b"by hand"})
    push(saved(tmp_path / "own", seed=1), REPO)
    assert held(hub)["README.md"] == b"by hand"
    (folder / "README.md").write_text("from the folder")
    push(folder, REPO)
    assert held(hub)["README.md"] == b"from the folder"


def test_a_side_file_of_an_older_checkpoint_goes(hub: Hub, tmp_path: Path) -> None:
    push(saved(tmp_path / "own", side_files={UNUSED: {"x": torch.randn(3)}}), REPO)
    push(saved(tmp_path / "own", seed=1), REPO)
    assert UNUSED not in held(hub)
    assert pull(REPO, tmp_path / "copy").folder.is_dir()


def test_the_same_again_makes_no_commit(hub: Hub, tmp_path: Path) -> None:
    folder = saved(tmp_path / "own")
    first = push(folder, REPO)
    second = push(folder, REPO)
    assert second.commit == first.commit
    assert len(hub.repositories[REPO].commits) == 2
    assert len([request for request in hub.requests if request.startswith("PUT")]) == 1
    assert pull(REPO, tmp_path / "copy").commit == pull(REPO, tmp_path / "copy").commit


def test_pull_keeps_another_checkpoint(hub: Hub, tmp_path: Path) -> None:
    push(saved(tmp_path / "own"), REPO)
    other = saved(tmp_path / "other", seed=1)
    before = (other / WEIGHTS).read_bytes()
    with pytest.raises(CheckpointError, match=r"holds another checkpoint \(weights_sha256 differs\).*--force"):
        pull(REPO, other)
    assert (other / WEIGHTS).read_bytes() == before
    pull(REPO, other, replace=True)
    assert (other / WEIGHTS).read_bytes() == (tmp_path / "own" / WEIGHTS).read_bytes()
    load_codec(other)


def test_damage_on_the_way_up_is_noticed(hub: Hub, tmp_path: Path) -> None:
    hub.damage = True
    with pytest.raises(HubError, match=rf"{WEIGHTS} is not what was sent; push again"):
        push(saved(tmp_path / "own"), REPO)


def test_wrong_bytes_on_the_hub_are_noticed_and_leave_nothing(hub: Hub, tmp_path: Path) -> None:
    push(saved(tmp_path / "own"), REPO)
    files = held(hub)
    hub.repositories[REPO].commit("main", files | {WEIGHTS: files[WEIGHTS][:-1] + b"?"})
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS} is damaged: sha256 \w+, {CONFIG} says"):
        pull(REPO, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_weights_that_are_no_numbers_are_refused_and_leave_nothing(hub: Hub, tmp_path: Path) -> None:
    """Neither a folder, nor its parents, nor files in the cache; what the cache held before stays."""
    good = push(saved(tmp_path / "own"), REPO).commit
    folder = saved(tmp_path / "bad", seed=1)
    described = json.loads((folder / CONFIG).read_text())
    weights = load_file(folder / WEIGHTS)
    for name, tensor, fault in (
        (WEIGHTS, torch.full((64,), torch.nan), r"decoder\.embed\.bias: 64 of 64 values are not finite"),
        (WEIGHTS, torch.ones(64).long(), r"decoder\.embed\.bias: int64, expected float32"),
        (UNUSED, torch.full((64,), torch.inf), rf"{UNUSED}: decoder\.embed\.bias: 64 of 64 values are not finite"),
    ):
        content = save({**(weights if name == WEIGHTS else {}), "decoder.embed.bias": tensor})
        digests = {WEIGHTS: described["weights_sha256"], name: hashlib.sha256(content).hexdigest()}
        wrong = described | {"weights_sha256": digests.pop(WEIGHTS), "side_files": digests}
        files = {WEIGHTS: (folder / WEIGHTS).read_bytes(), name: content, CONFIG: json.dumps(wrong).encode()}
        for cached in (False, True):
            hub.repositories[REPO].branches["main"] = good
            if cached:
                fetch(REPO)
            before = everything(tmp_path)
            hub.repositories[REPO].commit("main", files)
            with pytest.raises(CheckpointError, match=fault):
                pull(REPO, tmp_path / "deep" / "copy")
            assert everything(tmp_path) == before
            if cached:
                shutil.rmtree(tmp_path / "cache")


def everything(folder: Path) -> dict[str, bytes]:
    marks = ("cache", ".locks", "CACHEDIR.TAG")  # the cache's own
    paths = (path for path in folder.rglob("*") if path.name not in marks)
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in paths}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_is_interrupted_leaves_nothing(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    push(saved(tmp_path / "own", side_files={UNUSED: {"x": torch.randn(3)}}), REPO)
    fetch(REPO)
    before = everything(tmp_path)
    other = saved(tmp_path / "other", seed=1)
    kept = everything(other)
    for last in (1, 2, 3):
        for target in (tmp_path / "deep" / "copy", other):
            calls: list[Path] = []

            def copy(source: Path, target: Path, calls: list[Path] = calls, last: int = last) -> None:
                calls.append(target)
                target.write_bytes(source.read_bytes()[:9])
                if len(calls) == last:
                    raise error

            with monkeypatch.context() as patch:
                patch.setattr(shutil, "copyfile", copy)
                with pytest.raises(type(error)):
                    pull(REPO, target, replace=True)
        assert everything(other) == kept
        assert not (tmp_path / "deep").exists()
    shutil.rmtree(other)
    assert everything(tmp_path) == before


def test_a_damaged_cache_mends_itself(hub: Hub, tmp_path: Path) -> None:
    push(saved(tmp_path / "own"), REPO)
    cached = fetch(REPO).folder / WEIGHTS
    good = cached.read_bytes()
    os.chmod(cached.resolve(), 0o644)
    cached.resolve().write_bytes(good[:-1] + b"?")
    assert (fetch(REPO).folder / WEIGHTS).read_bytes() == good


def test_damaged_checkpoints_are_not_pushed(hub: Hub, tmp_path: Path) -> None:
    folder = saved(tmp_path / "own")
    (folder / WEIGHTS).write_bytes(b"?")
    with pytest.raises(CheckpointError, match="is damaged"):
        push(folder, REPO)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, f"has no {CONFIG}: it is no checkpoint of this package"),
        ({CONFIG: b"{"}, f"{CONFIG} cannot be read"),
        ({CONFIG: b'{"format": 2}'}, "format 2, this version reads 1"),
        ({CONFIG: b'{"format": 1}'}, "lacks backbone"),
    ],
)
def test_unexpected_contents_are_refused(hub: Hub, tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    hub.repositories[REPO] = Repository(private=False)
    hub.repositories[REPO].commit("main", files)
    with pytest.raises(UserError, match=message):
        pull(REPO, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_no_file_is_written_outside_the_folder(hub: Hub, tmp_path: Path) -> None:
    push(saved(tmp_path / "own"), REPO)
    described = json.loads(held(hub)[CONFIG]) | {"side_files": {"../evil.safetensors": "0" * 64}}
    hub.repositories[REPO].commit("main", held(hub) | {CONFIG: json.dumps(described).encode()})
    with pytest.raises(CheckpointError, match=r"side file '\.\./evil\.safetensors': expected the name"):
        pull(REPO, tmp_path / "copy")


class TestRefusals:
    def test_no_token(self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(HubError, match="no token for the hub: set HF_TOKEN or run `hf auth login`"):
            push(saved(tmp_path / "own"), REPO)
        assert hub.requests == []

    def test_wrong_token(self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
        self.is_one_line(lambda: push(saved(tmp_path / "own"), REPO), "401|no repository")
        assert REPO not in hub.repositories

    def test_missing_repository_and_revision(self, hub: Hub, tmp_path: Path) -> None:
        self.is_one_line(lambda: pull(REPO, tmp_path / "x"), f"no repository {REPO} on {hub.url}, or it is private")
        push(saved(tmp_path / "own"), REPO)
        for revision in ("absent", "0" * 40):
            self.is_one_line(lambda: pull(REPO, tmp_path / "x", revision=revision), f"no revision '{revision}'")  # noqa: B023
        self.is_one_line(lambda: Codec.from_pretrained("me/absent"), "no repository me/absent")
        assert not (tmp_path / "x").exists()

    @pytest.mark.parametrize("name", ["codec", "me/", "me/co dec", "a/b/c", "../x"])
    def test_malformed_names(self, hub: Hub, tmp_path: Path, name: str) -> None:
        self.is_one_line(lambda: pull(name, tmp_path / "x"), "expected OWNER/NAME")
        self.is_one_line(lambda: push(saved(tmp_path / "own"), name), "expected OWNER/NAME")
        assert hub.requests == []

    def test_private_ones(self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = saved(tmp_path / "own")
        push(folder, REPO, private=True)
        assert hub.repositories[REPO].private
        pull(REPO, tmp_path / "copy")
        push(folder, "me/public")
        self.is_one_line(lambda: push(folder, "me/public", private=True), "me/public exists and is public")
        monkeypatch.delenv("HF_TOKEN")
        self.is_one_line(lambda: pull(REPO, tmp_path / "other"), "or it is private: check the name, or run `hf auth")

    def test_a_hub_that_refuses(self, hub: Hub, tmp_path: Path) -> None:
        hub.refuse = 403
        self.is_one_line(lambda: pull(REPO, tmp_path / "x"), "status 403; the token lacks permission")
        self.is_one_line(lambda: push(saved(tmp_path / "own"), REPO), "status 403; the token lacks permission")

    def test_a_hub_that_is_not_there(self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        commit = push(saved(tmp_path / "own"), REPO).commit
        fetch(REPO)
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(HubUnreachable, match=f"{REPO} on http://127.0.0.1:9 cannot be reached: "):
            pull(REPO, tmp_path / "x")
        with pytest.raises(HubUnreachable, match="cannot be reached"):
            push(tmp_path / "own", REPO)
        with pytest.raises(HubUnreachable, match="cannot be reached"):
            Codec.from_pretrained("me/never-seen")
        with pytest.warns(UserWarning, match=f"using commit {commit} from the cache"):
            assert Codec.from_pretrained(REPO).sample_rate == 8000
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert Codec.from_pretrained(REPO, revision=commit).sample_rate == 8000

    def test_offline_mode(self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        self.is_one_line(lambda: pull(REPO, tmp_path / "x"), r"offline mode is on \(HF_HUB_OFFLINE\)")

    def is_one_line(self, action: Any, message: str) -> None:
        with pytest.raises(UserError, match=message) as caught:
            action()
        assert "\n" not in str(caught.value)
