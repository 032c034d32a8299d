"""A published .ckpt and its YAML into a checkpoint folder and out again: equal to the bit, or refused by name."""

from __future__ import annotations

import json
import pickle
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import CONFIG, WEIGHTS, CheckpointError, load_backbone, load_codec, read_description, save_codec
from q2d2.codec import Codec, codec_config
from q2d2.errors import UserError
from q2d2.published import CheckpointMismatch, published_shapes
from q2d2.published_config import PublishedConfigError, published_config
from q2d2.published_files import UNUSED, export_checkpoint, import_checkpoint, read_state
from tests.published_models import description, random_state, small_description, write_ckpt, write_yaml


class Files(NamedTuple):
    family: str
    ckpt: Path
    config: Path
    state: dict[str, Tensor]


@pytest.fixture(scope="module", params=["wavtokenizer", "q2d2"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Files:
    family, folder = request.param, tmp_path_factory.mktemp("published")
    config = write_yaml(folder / "model.yaml", small_description(family))
    state = random_state(config, family)
    return Files(family, write_ckpt(folder / "model.ckpt", state), config, state)


@pytest.fixture(scope="module")
def imported(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported") / "deep" / "folder"
    import_checkpoint(files.family, files.ckpt, files.config, folder)
    return folder


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def test_an_import_is_a_checkpoint(files: Files, tmp_path: Path) -> None:
    done = import_checkpoint(files.family, files.ckpt, files.config, tmp_path / "folder")
    assert (done.num_read, done.num_training) == (len(files.state), 2)
    assert done.num_unused == {"wavtokenizer": 63, "q2d2": 67}[files.family]
    codec = load_codec(tmp_path / "folder")
    audio = torch.randn(1, 200)
    assert torch.equal(codec(audio).audio, done.codec(audio).audio)
    assert torch.equal(codec(audio).codes, done.codec(audio).codes)
    described = read_description(tmp_path / "folder")
    assert described["metadata"]["imported"] == {
        "family": files.family, "file": "model.ckpt", "sha256": done.file_sha256, "config": "model.yaml",
    }  # fmt: skip
    assert str(files.ckpt.parent) not in (tmp_path / "folder" / CONFIG).read_text()  # nobody's business
    fresh = Codec(codec.config, build_bottleneck("null", 512))
    load_backbone(fresh, tmp_path / "folder")  # init_from
    assert torch.equal(fresh.encoder.model[0].conv.weight, codec.encoder.model[0].conv.weight)


def test_what_was_imported_is_exported_to_the_bit(files: Files, imported: Path, tmp_path: Path) -> None:
    done = export_checkpoint(imported, tmp_path / "sub" / "out.ckpt", tmp_path / "other" / "out.yml")
    assert done.kept_unused
    exported = load(tmp_path / "sub" / "out.ckpt")
    assert list(exported) == ["state_dict"]
    assert exported["state_dict"].keys() == files.state.keys()
    assert done.num_entries == len(files.state)
    for name, tensor in files.state.items():
        assert exported["state_dict"][name].dtype == tensor.dtype
        assert torch.equal(exported["state_dict"][name], tensor), name
    import_checkpoint(files.family, done.file, done.config, tmp_path / "again")
    for name in (WEIGHTS, UNUSED):
        assert (tmp_path / "again" / name).read_bytes() == (imported / name).read_bytes()
    assert sorted(path.name for path in tmp_path.rglob("*.part")) == []


@pytest.mark.parametrize(
    ("bottleneck", "options"),
    [("vq", {"codebook_size": 8}), *[("q2d2", {"tiling": each, "levels": [5, 5, 7, 7]}) for each in
     ("rectangular", "rhombic", "hexagonal")]],
)  # fmt: skip
def test_what_was_trained_here_comes_back_equal(bottleneck: str, options: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = codec_config("wavtokenizer", ratios=(2, 2), decoder_dim=64, decoder_intermediate=8, decoder_layers=2)
    codec = Codec(sizes, build_bottleneck(bottleneck, 512, **options))
    codec.train()(torch.randn(1, 400))  # initializes a codebook
    save_codec(codec.eval(), tmp_path / "own")
    done = export_checkpoint(tmp_path / "own", tmp_path / "x.ckpt")
    assert done.config == tmp_path / "x.yaml"
    assert not done.kept_unused
    assert {name: tuple(each.shape) for name, each in load(done.file)["state_dict"].items()} == published_shapes(codec)
    family = published_config(codec).family
    back = import_checkpoint(family, done.file, done.config, tmp_path / "back").codec
    audio = torch.randn(2, 300)
    assert torch.equal(back(audio).audio, codec(audio).audio)
    assert torch.equal(back(audio).codes, codec(audio).codes)


def test_another_configuration_is_a_misfit(files: Files, tmp_path: Path) -> None:
    wrong = small_description(files.family)
    if files.family == "q2d2":
        wrong["model"]["init_args"]["feature_extractor"]["init_args"]["codebook_dim"] = [7, 7, 7, 7, 7, 7]
        message = r"vq\.project_in\.0\.weight: shape \(4, 512\), expected \(6, 512\)"
    else:
        wrong["model"]["init_args"]["feature_extractor"]["init_args"]["vq_bins"] = 4096
        message = r"_codebook\.embed: shape \(16, 512\), expected \(4096, 512\)"
    with pytest.raises(CheckpointMismatch, match=message) as caught:
        import_checkpoint(files.family, files.ckpt, write_yaml(tmp_path / "wrong.yaml", wrong), tmp_path / "x")
    assert f"{files.ckpt} with {tmp_path / 'wrong.yaml'}" in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_another_checkpoint_is_kept(files: Files, imported: Path, tmp_path: Path) -> None:
    import_checkpoint(files.family, files.ckpt, files.config, imported)  # the same again
    own = Codec(codec_config("tiny"), build_bottleneck("null", 32))
    save_codec(own, tmp_path / "own")
    before = (tmp_path / "own" / CONFIG).read_bytes()
    with pytest.raises(CheckpointError, match=r"holds another checkpoint \(backbone differs\)"):
        import_checkpoint(files.family, files.ckpt, files.config, tmp_path / "own")
    assert (tmp_path / "own" / CONFIG).read_bytes() == before
    import_checkpoint(files.family, files.ckpt, files.config, tmp_path / "own", replace=True)
    assert load_codec(tmp_path / "own").config != own.config


def test_existing_files_are_kept(imported: Path, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("mine")
    with pytest.raises(CheckpointError, match=r"x\.yaml exists: choose another name, or overwrite it with --force"):
        export_checkpoint(imported, tmp_path / "x.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]
    export_checkpoint(imported, tmp_path / "x.ckpt", replace=True)
    with pytest.raises(CheckpointError, match=r"x\.ckpt exists"):
        export_checkpoint(imported, tmp_path / "x.ckpt", tmp_path / "y.yaml")
    with pytest.raises(CheckpointError, match="would be both weights and YAML"):
        export_checkpoint(imported, tmp_path / "z.yaml")


def test_what_no_published_model_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PublishedConfigError, match=r"tiny: the published code cannot build this codec: num_filters 8"):
        export_checkpoint("tiny", tmp_path / "x.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_damaged_side_file_is_named(files: Files, tmp_path: Path) -> None:
    import_checkpoint(files.family, files.ckpt, files.config, tmp_path / "x")
    (tmp_path / "x" / UNUSED).write_bytes(b"?")
    with pytest.raises(CheckpointError, match=f"{UNUSED} is damaged"):
        export_checkpoint(tmp_path / "x", tmp_path / "x.ckpt")
    described = json.loads((tmp_path / "x" / CONFIG).read_text())
    del described["side_files"]
    (tmp_path / "x" / CONFIG).write_text(json.dumps(described))
    assert not export_checkpoint(tmp_path / "x", tmp_path / "x.ckpt").kept_unused


class Payload:
    """Runs code when it is unpickled: it makes the file named by `target`."""

    target = Path("never")

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.target,))


class TestReading:
    def test_a_bare_state_dict_is_taken(self, tmp_path: Path) -> None:
        torch.save({"backbone.x": torch.ones(2)}, tmp_path / "bare.bin")
        assert torch.equal(read_state(tmp_path / "bare.bin")["backbone.x"], torch.ones(2))

    def test_the_older_format_is_taken(self, tmp_path: Path) -> None:
        state = {"state_dict": {"backbone.x": torch.ones(2)}}
        torch.save(state, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
        assert torch.equal(read_state(tmp_path / "old.ckpt")["backbone.x"], torch.ones(2))

    @pytest.mark.parametrize("zipped", [True, False])
    def test_objects_are_refused_and_never_run(self, tmp_path: Path, zipped: bool) -> None:
        Payload.target = tmp_path / "ran"
        content = {"state_dict": {"backbone.x": torch.ones(2)}, "callbacks": Payload()}
        torch.save(content, tmp_path / "x.ckpt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError) as caught:
            read_state(tmp_path / "x.ckpt")
        assert not Payload.target.exists()
        assert "\n" not in str(caught.value)
        assert "objects beside its tensors" in str(caught.value)
        for words in ("If you trust", "weights_only=False", f"{tmp_path / 'x.ckpt'} tensors.ckpt"):
            assert words in str(caught.value)

    def test_the_advice_works(self, tmp_path: Path) -> None:
        content = {"state_dict": {"backbone.x": torch.ones(2)}, "callbacks": UserError("an object")}
        torch.save(content, tmp_path / "x.ckpt")
        with pytest.raises(CheckpointError, match=r"q2d2\.errors\.UserError") as caught:
            read_state(tmp_path / "x.ckpt")
        command = shlex.split(str(caught.value).partition("installed: ")[2])
        root = Path(__file__).resolve().parent.parent
        subprocess.run([sys.executable, *command[1:-1], str(tmp_path / "clean.ckpt")], cwd=root, check=True)
        assert torch.equal(read_state(tmp_path / "clean.ckpt")["backbone.x"], torch.ones(2))

    @pytest.mark.parametrize(
        "content", [b"", b"PK\x03\x04", b"\x80\x02.", b"text\n" * 99, pickle.dumps({"a": 1}, protocol=2)]
    )
    def test_what_is_no_such_file_is_one_line(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.ckpt").write_bytes(content)
        for path in (tmp_path / "x.ckpt", tmp_path / "absent.ckpt", tmp_path):
            with pytest.raises(CheckpointError) as caught:
                read_state(path)
            assert str(path) in str(caught.value)
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("length", [100, 2000, -1, -30])
    def test_truncated_files_are_one_line(self, tmp_path: Path, length: int) -> None:
        torch.save({"state_dict": {"backbone.x": torch.ones(999)}}, tmp_path / "x.ckpt")
        whole = (tmp_path / "x.ckpt").read_bytes()
        (tmp_path / "x.ckpt").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"is damaged, or was not written by torch\.save"):
            read_state(tmp_path / "x.ckpt")

    @pytest.mark.parametrize(
        "content", [{"weights": 1}, {"state_dict": {"a": 1}}, {"state_dict": 3}, [1], torch.ones(2)]
    )
    def test_files_without_a_codec_are_named(self, tmp_path: Path, content: Any) -> None:
        torch.save(content, tmp_path / "x.ckpt")
        with pytest.raises(CheckpointError, match="holds no state_dict with entries feature_extractor"):
            read_state(tmp_path / "x.ckpt")


def test_levels_beyond_any_grid_are_one_line(tmp_path: Path) -> None:
    config = write_yaml(tmp_path / "x.yaml", description("q2d2", (2,), "rhombic", (9999, 9999, 9999, 9999)))
    with pytest.raises(PublishedConfigError, match=r"q2d2 configuration: .*exceed"):
        import_checkpoint("q2d2", tmp_path / "absent.ckpt", config, tmp_path / "y")
