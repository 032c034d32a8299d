"""The published WavTokenizer and Q2D2 as whole codecs: files of another model, damaged or ambiguous are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from baselines.codecs import CodecError, build_codec
from baselines.codecs.weights import files_sha256
from tests.published_models import description, write_ckpt, write_yaml
from tests.small_published import CONTENT, SIZES, SmallPublished, write_models


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def q2d2(models: Path, tmp_path: Path) -> SmallPublished:
    return SmallPublished("q2d2", models, tmp_path)


@pytest.fixture
def wavtokenizer(models: Path, tmp_path: Path) -> SmallPublished:
    return SmallPublished("wavtokenizer", models, tmp_path)


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


Q2D2_YAMLS: dict[str, tuple[dict[str, Any], str]] = {
    "ratios": (
        description("q2d2", (2, 3), "rhombic", (5, 5, 7, 7), **SIZES),
        r"ratios \[2, 3\], not \[2, 2\]; hop_length 6, not 4",
    ),
    "order": (description("q2d2", (4, 1), "rhombic", (5, 5, 7, 7), **SIZES), r"ratios \[4, 1\], not \[2, 2\]"),
    "tiling": (
        description("q2d2", (2, 2), "hexagon", (5, 5, 7, 7), **SIZES),
        "another configuration than q2d2-3k: tiling hexagonal, not rhombic",
    ),
    "levels": (
        description("q2d2", (2, 2), "rhombic", (7, 7, 7, 7), **SIZES),
        r"levels \[7, 7, 7, 7\], not \[5, 5, 7, 7\]",
    ),
    "decoder": (
        description("q2d2", (2, 2), "rhombic", (5, 5, 7, 7), **SIZES | {"dim": 128}),
        "decoder_dim 128, not 256",
    ),
}


@pytest.mark.parametrize("what", Q2D2_YAMLS)
def test_a_yaml_of_another_configuration_is_named(q2d2: SmallPublished, what: str) -> None:
    content, words = Q2D2_YAMLS[what]
    path = write_yaml(q2d2.folder / "their.yaml", content)
    with pytest.raises(CodecError, match=words) as caught:
        q2d2.cls(q2d2.folder)
    message = one_line(caught)
    assert f"evalkit import q2d2 {q2d2.ckpt} --config {path}" in message


def test_a_yaml_of_another_codebook_or_family_is_named(wavtokenizer: SmallPublished) -> None:
    small = wavtokenizer
    write_yaml(small.folder / "their.yaml", description("wavtokenizer", (2, 2), bins=32, **SIZES))
    with pytest.raises(CodecError, match="codebook_size 32, not 16"):
        small.cls(small.folder)
    write_yaml(small.folder / "their.yaml", CONTENT["q2d2"])
    with pytest.raises(CodecError, match=r"^wavtokenizer-75: .*their\.yaml.*import it as q2d2") as caught:
        small.cls(small.folder)
    one_line(caught)


@pytest.mark.parametrize(
    ("name", "window", "words"),
    [
        ("wavtokenizer-75", 2400, r"frames have 600 samples, as those of wavtokenizer-40 have, where 320 are expected"),
        ("q2d2-3k", 288, r"frames have 72 samples, as those of q2d2-6k have, where 144 are expected"),
        ("q2d2-3k", 400, r"frames have 100 samples, where 144"),
        ("q2d2-6k", 288, r"missing backbone\..*and \d+ more"),
    ],
)
def test_a_file_of_another_hop_is_named(name: str, window: int, words: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    write_ckpt(tmp_path / name / "x.ckpt", {"head.istft.window": torch.hann_window(window)})
    with pytest.raises(CodecError, match=words) as caught:
        build_codec(name, tmp_path)
    assert str(tmp_path / name / "x.ckpt") in one_line(caught)


def test_a_file_of_the_other_family_is_named(q2d2: SmallPublished, models: Path) -> None:
    q2d2.ckpt.unlink()
    q2d2.ckpt.symlink_to(models / "wavtokenizer.ckpt")
    words = r"^q2d2-3k: .*anything\.ckpt: .*missing feature_extractor\.encodec\.quantizer"
    with pytest.raises(CodecError, match=words) as caught:
        q2d2.cls(q2d2.folder)
    one_line(caught)


DAMAGES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "no checkpoint": (lambda path, whole: path.write_bytes(b"?"), "is damaged, or was not written by torch.save"),
    "half": (lambda path, whole: path.write_bytes(whole.read_bytes()[:9999]), "is damaged, or was not"),
    "other entries": (lambda path, whole: torch.save({"x": torch.ones(1)}, path), "holds no state_dict"),
    "code": (lambda path, whole: torch.save({"state_dict": {}, "x": Path("x")}, path), "objects beside its tensors"),
    "gone": (lambda path, whole: None, "own holds no .ckpt"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named(q2d2: SmallPublished, damage: str) -> None:
    change, words = DAMAGES[damage]
    q2d2.ckpt.unlink()
    change(q2d2.ckpt, q2d2.source)
    with pytest.raises(CodecError, match=words) as caught:
        q2d2.cls(q2d2.folder)
    message = one_line(caught)
    assert message.startswith("q2d2-3k: ")
    assert message.count(str(q2d2.folder)) >= 1


def test_several_files_are_named(q2d2: SmallPublished) -> None:
    small, second = q2d2, q2d2.folder / "other.ckpt"
    second.symlink_to(q2d2.source)
    with pytest.raises(
        CodecError, match=r"own holds several \.ckpt: anything\.ckpt, other\.ckpt\. Leave one"
    ) as caught:
        small.cls(small.folder)
    one_line(caught)
    second.unlink()
    for name in ("a.yaml", "b.yml"):
        write_yaml(small.folder / name, CONTENT[small.family])
    with pytest.raises(CodecError, match=r"several \.yaml or \.yml: a\.yaml, b\.yml"):
        small.cls(small.folder)


def test_the_published_name_is_taken_among_several(wavtokenizer: SmallPublished) -> None:
    """A snapshot of the hub's repository holds the files of both models."""
    small = wavtokenizer
    published, yaml = small.cls.published_names
    (small.folder / "WavTokenizer_small_600_24k_4096.ckpt").write_bytes(b"?")
    small.ckpt.rename(small.folder / published)
    write_yaml(small.folder / yaml, CONTENT["wavtokenizer"])
    write_yaml(small.folder / "frame40.yaml", CONTENT["q2d2"])
    assert small.cls(small.folder).weights_sha256 == files_sha256(small.folder, (published,))
