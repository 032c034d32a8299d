"""Checkpoints: saved and loaded to the bit, whole or not at all, damage named; warm start."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import q2d2
from q2d2 import checkpoints
from q2d2.bottleneck import BOTTLENECKS as REGISTRY
from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import (
    CONFIG,
    WEIGHTS,
    CheckpointError,
    find_checkpoint,
    full_spec,
    load_backbone,
    load_codec,
    read_description,
    read_side_file,
    save_codec,
)
from q2d2.codec import Codec, CodecConfig
from q2d2.files import write_atomically

SMALL = CodecConfig(
    sample_rate=8000, ratios=(2, 2), num_filters=2, dimension=8, lstm_layers=1, decoder_dim=64,
    decoder_intermediate=8, decoder_layers=1,
)  # fmt: skip
BOTTLENECKS: dict[str, dict[str, Any]] = {
    "null": {},
    "q2d2": {"tiling": "hexagonal", "levels": [5, 4], "gradient": "published"},
    "vq": {"codebook_size": 5, "codebook_dim": 3},
    "rvq": {"codebook_size": 5, "num_quantizers": 2},
    "fsq": {"levels": [5, 4]},
}


def trained(bottleneck: str, seed: int = 0) -> Codec:
    torch.manual_seed(seed)
    codec = Codec(SMALL, build_bottleneck(bottleneck, SMALL.dimension, **BOTTLENECKS[bottleneck]))
    codec.train()(torch.randn(1, 200))  # initializes codebooks
    return codec.eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_codec(trained("q2d2"), tmp_path / "saved", {"steps": 7})
    return tmp_path / "saved"


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_saved_codec_loads_to_the_bit(bottleneck: str, tmp_path: Path) -> None:
    codec = trained(bottleneck)
    save_codec(codec, tmp_path / "deep" / "folder", {"note": "ü"})
    loaded = load_codec(tmp_path / "deep" / "folder")
    assert not loaded.training
    assert loaded.bottleneck.spec == full_spec(codec.bottleneck)
    assert loaded.config == codec.config
    assert loaded.state_dict().keys() == codec.state_dict().keys()
    for name, tensor in codec.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    audio = torch.randn(2, 123)
    assert torch.equal(codec(audio).audio, loaded(audio).audio)
    assert read_description(tmp_path / "deep" / "folder")["metadata"] == {"note": "ü"}
    assert sorted(os.listdir(tmp_path / "deep" / "folder")) == [CONFIG, WEIGHTS]


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_description_names_every_option(bottleneck: str, tmp_path: Path) -> None:
    """A default that changes later changes no checkpoint."""
    codec = trained(bottleneck)
    save_codec(codec, tmp_path)
    spec = read_description(tmp_path)["bottleneck"]
    cls = REGISTRY.resolve(bottleneck)
    assert list(spec) == ["name", *(option for option in inspect.signature(cls).parameters if option != "dim")]
    assert spec.items() >= json.loads(json.dumps(codec.bottleneck.spec)).items()


def test_description_says_what_the_codec_is(tmp_path: Path) -> None:
    codec = Codec(SMALL, build_bottleneck("q2d2", SMALL.dimension))
    save_codec(codec, tmp_path, {"corpora": ["sample/train"]})
    described = read_description(tmp_path)
    assert described["version"] == q2d2.__version__
    assert described["backbone"]["sample_rate"] == 8000
    assert described["backbone"]["ratios"] == [2, 2]
    assert described["bottleneck"]["tiling"] == "rhombic"
    assert described["bottleneck"]["levels"] == [9, 9, 7, 7, 7, 7]
    assert described["metadata"]["corpora"] == ["sample/train"]
    assert "side_files" not in described


def test_files_of_an_older_version_load(folder: Path) -> None:
    """Without version, and with the options alone that were given."""
    described = json.loads((folder / CONFIG).read_text())
    del described["version"]
    described["bottleneck"] = {"name": "q2d2", **BOTTLENECKS["q2d2"]}
    (folder / CONFIG).write_text(json.dumps(described))
    assert load_codec(folder).bottleneck.spec == described["bottleneck"]


def test_side_files_are_kept_to_the_bit_and_compared(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3), "b": torch.arange(4)}
    save_codec(trained("q2d2"), tmp_path, dtype=torch.float16, side_files={"more.safetensors": tensors})
    kept = read_side_file(tmp_path, "more.safetensors")
    assert kept is not None
    assert kept.keys() == tensors.keys()
    assert all(torch.equal(kept[name], tensor) for name, tensor in tensors.items())
    assert read_side_file(tmp_path, "other.safetensors") is None
    load_codec(tmp_path)
    (tmp_path / "more.safetensors").write_bytes(b"?")
    with pytest.raises(CheckpointError, match=r"more\.safetensors is damaged: sha256"):
        read_side_file(tmp_path, "more.safetensors")
    (tmp_path / "more.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"more\.safetensors cannot be read"):
        read_side_file(tmp_path, "more.safetensors")
    load_codec(tmp_path)  # which needs none


@pytest.mark.parametrize("name", ["../x.safetensors", "/x.safetensors", "x.json", "", "a/x.safetensors"])
def test_side_files_lie_in_the_folder(folder: Path, name: str) -> None:
    described = json.loads((folder / CONFIG).read_text()) | {"side_files": {name: "0" * 64}}
    (folder / CONFIG).write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=r"side file .*: expected the name of a safetensors file"):
        load_codec(folder)


def test_another_checkpoint_is_kept_on_demand(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    save_codec(trained("q2d2"), folder, {"steps": 7}, replace=False)  # the same
    for other, message in (("vq", "bottleneck differs"), ("q2d2", "weights_sha256 differs")):
        with pytest.raises(CheckpointError, match=rf"holds another checkpoint \({message}\): choose another folder"):
            save_codec(trained(other, seed=1), folder, replace=False)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (folder / CONFIG).write_text("{")
    with pytest.raises(CheckpointError, match=r"cannot be read: .*choose another folder"):
        save_codec(trained("q2d2"), folder, replace=False)
    save_codec(trained("vq"), folder)
    assert load_codec(folder).bottleneck.spec["name"] == "vq"


def test_half_precision_files_load_as_float32(tmp_path: Path) -> None:
    codec = trained("vq")
    save_codec(codec, tmp_path / "full")
    save_codec(codec, tmp_path / "half", dtype=torch.float16)
    assert (tmp_path / "half" / WEIGHTS).stat().st_size < 0.7 * (tmp_path / "full" / WEIGHTS).stat().st_size
    stored = load_file(tmp_path / "half" / WEIGHTS)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16, torch.bool}  # bool: "initialized"
    loaded = load_codec(tmp_path / "half")
    for name, tensor in loaded.state_dict().items():
        expected = codec.state_dict()[name]
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor, expected.half().float() if expected.is_floating_point() else expected), name
    assert all(tensor.dtype != torch.float16 for tensor in codec.state_dict().values())  # the codec itself is unchanged


def test_description_comes_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever writing stops, a folder with a description holds a whole checkpoint, also over an older one."""
    moved: list[str] = []
    replace = os.replace

    def stop_at(number: int) -> Callable[[Any, Any], None]:
        def step(source: Any, target: Any) -> None:
            moved.append(Path(target).name)
            if len(moved) == number:
                raise KeyboardInterrupt
            replace(source, target)

        return step

    other = trained("q2d2", seed=1)
    for number in (1, 2):
        moved.clear()
        monkeypatch.setattr(os, "replace", stop_at(number))
        with pytest.raises(KeyboardInterrupt):
            save_codec(other, folder)
        assert moved == [WEIGHTS, CONFIG][:number]
        with pytest.raises(CheckpointError, match="no checkpoint"):
            load_codec(folder)
        monkeypatch.setattr(os, "replace", replace)
        save_codec(trained("q2d2"), folder)
        load_codec(folder)


def test_text_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, "old")

    def fail(source: Any, target: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"


@pytest.mark.parametrize("position", [0, 100, -1])
def test_one_damaged_byte_is_noticed(folder: Path, position: int) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[position] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    for load in (load_codec, lambda source: load_backbone(trained("null"), source)):
        with pytest.raises(CheckpointError, match=rf"{WEIGHTS} is damaged: sha256 \w+, {CONFIG} says"):
            load(folder)


def rewritten(folder: Path, **changes: torch.Tensor) -> None:
    """Other weights in a checkpoint, with their right digest."""
    weights = load_file(folder / WEIGHTS) | {name.replace("__", "."): tensor for name, tensor in changes.items()}
    save_file(weights, folder / WEIGHTS)
    described = json.loads((folder / CONFIG).read_text())
    described["weights_sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / CONFIG).write_text(json.dumps(described))


@pytest.mark.parametrize(
    ("tensor", "fault"),
    [
        (torch.full((64,), torch.nan), "64 of 64 values are not finite"),
        (torch.full((64,), 1e300, dtype=torch.float64), "64 of 64 values are not finite"),
        (torch.ones(64, dtype=torch.int32), "int32, expected float32"),
        (torch.ones(64, dtype=torch.complex64), "complex64, expected float32"),
        (torch.ones(64).to(torch.float8_e4m3fn), "float8_e4m3fn, expected float32"),
        (torch.ones(65), r"shape \(65,\), expected \(64,\)"),
    ],
)
def test_weights_that_are_no_numbers_are_refused_by_name(folder: Path, tensor: torch.Tensor, fault: str) -> None:
    rewritten(folder, decoder__embed__bias=tensor)
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS} does not fit .*{CONFIG}: decoder\.embed\.bias: {fault}"):
        Codec.from_pretrained(folder)
    with pytest.raises(CheckpointError, match=rf"embed\.bias: {fault}"):  # warm start
        load_backbone(trained("null"), folder)


def test_flags_of_a_codebook_are_no_numbers_to_check(tmp_path: Path) -> None:
    save_codec(trained("vq"), tmp_path)
    rewritten(tmp_path)
    flag = next(name for name, tensor in load_codec(tmp_path).state_dict().items() if tensor.dtype == torch.bool)
    rewritten(tmp_path, **{flag.replace(".", "__"): torch.tensor(1.0)})
    with pytest.raises(CheckpointError, match="float32, expected bool"):
        load_codec(tmp_path)


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS} cannot be read"):
        load_codec(folder)


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"no checkpoint .*nowhere.*expected a folder with {CONFIG}"):
        find_checkpoint(tmp_path / "nowhere")


def test_shipped_checkpoints_go_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "PRETRAINED", folder.parent)
    assert find_checkpoint("saved") == folder
    with pytest.raises(CheckpointError, match="or a shipped one: saved"):
        find_checkpoint("sawed")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d | {"format": 99}, "format 99, this version reads 1"),
        (lambda d: [d], "format None, this version reads 1"),
        (lambda d: {"format": 1, "metadata": {}}, "lacks backbone, bottleneck, weights_sha256"),
        (lambda d: d | {"backbone": d["backbone"] | {"depth": 3}}, "backbone: .*depth"),
        (lambda d: d | {"backbone": d["backbone"] | {"ratios": [0]}}, r"backbone: ratios \(0,\)"),
        (lambda d: d | {"bottleneck": {"name": "qed"}}, "unknown bottleneck 'qed'"),
        (lambda d: d | {"bottleneck": {"name": "q2d2", "levels": [5]}}, "even number of levels"),
        (lambda d: d | {"bottleneck": {"name": "q2d2", "levels": [5, 4, 5, 4]}}, "(?s)does not fit .*project_in"),
        (lambda d: d | {"bottleneck": {"name": "null"}}, "(?s)does not fit .*project_in"),
    ],
)
def test_wrong_descriptions_are_named(folder: Path, change: Callable[[Any], Any], message: str) -> None:
    described = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(change(described)))
    with pytest.raises(CheckpointError, match=message):
        load_codec(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_damaged_description_is_named(folder: Path, content: bytes) -> None:
    (folder / CONFIG).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{CONFIG} cannot be read"):
        load_codec(folder)


@pytest.mark.parametrize("bottleneck", ["null", "vq", "fsq", "q2d2"])
def test_warm_start_takes_the_backbone_and_leaves_the_bottleneck(folder: Path, bottleneck: str) -> None:
    source, codec = load_codec(folder), trained(bottleneck, seed=5)
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    load_backbone(codec, folder)
    for name, tensor in codec.state_dict().items():
        own = name.startswith("bottleneck.")
        assert torch.equal(tensor, before[name] if own else source.state_dict()[name]), name
    # What was there before differed, or the lines above would show nothing.
    name = "decoder.embed.weight"
    assert not torch.equal(before[name], source.state_dict()[name])


def test_warm_start_from_another_shape_names_the_difference(folder: Path) -> None:
    config = CodecConfig(**SMALL.to_dict() | {"ratios": (4, 1), "decoder_layers": 2})
    codec = Codec(config, build_bottleneck("null", config.dimension))
    with pytest.raises(
        CheckpointError, match=r"another backbone: ratios \[2, 2\], not \[4, 1\]; decoder_layers 1, not 2"
    ):
        load_backbone(codec, folder)
