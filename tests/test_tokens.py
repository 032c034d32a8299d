"""Token files: what is saved comes back, and nothing damaged, inconsistent or foreign is taken for codes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import q2d2.tokens as tokens_module
from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import load_codec, save_codec
from q2d2.codec import Codec, CodecConfig
from q2d2.tokens import (
    SUFFIXES,
    Source,
    TokenError,
    Tokens,
    check_codec,
    identify_codec,
    load_tokens,
    save_tokens,
)
from tests.small_tokens import CODEC, SOURCE, tokens_of


def contents(tokens: Tokens) -> dict[str, Any]:
    values = {field.name: getattr(tokens, field.name) for field in dataclasses.fields(tokens)}
    return values | {"codes": tokens.codes.tolist()}


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(frames=st.integers(1, 200), cut=st.integers(0, 11))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_saved_comes_back(tmp_path: Path, suffix: str, frames: int, cut: int) -> None:
    tokens = tokens_of(frames, length=frames * 12 - cut)
    path = tmp_path / f"x{suffix}"
    save_tokens(path, tokens)
    loaded = load_tokens(path)
    assert contents(loaded) == contents(tokens)
    assert loaded.codes.dtype == torch.int64
    assert loaded.sha256 == tokens.sha256
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


def test_files_are_open_to_other_programs(tmp_path: Path) -> None:
    tokens = tokens_of()
    save_tokens(tmp_path / "x.safetensors", tokens)
    save_tokens(tmp_path / "x.npz", tokens)
    with safe_open(tmp_path / "x.safetensors", framework="np") as file:
        np.testing.assert_array_equal(file.get_tensor("codes"), tokens.codes.numpy())
        assert file.metadata()["codec_sha256"] == CODEC.sha256
        assert json.loads(file.metadata()["codebook_sizes"]) == [85, 41]
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["codes"].dtype == np.int64
        np.testing.assert_array_equal(arrays["codes"], tokens.codes.numpy())
        assert json.loads(str(arrays["metadata"]))["length"] == tokens.length


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_damage_goes_unnoticed(tmp_path: Path, suffix: str) -> None:
    """Bytes changed and the file cut, all over it: an error in one line, or the very same contents."""
    path = tmp_path / f"x{suffix}"
    tokens = tokens_of()
    save_tokens(path, tokens)
    whole = path.read_bytes()
    damaged = [whole[:place] + bytes([whole[place] ^ 0x11]) + whole[place + 1 :] for place in range(0, len(whole), 3)]
    damaged += [whole[:length] for length in range(0, len(whole), 3)]
    complaints = []
    for data in damaged:
        path.write_bytes(data)
        try:
            loaded = load_tokens(path)
        except TokenError as error:
            complaints.append(str(error))
        else:
            assert contents(loaded) == contents(tokens)
    assert len(complaints) > 0.8 * len(damaged)
    for complaint in complaints:
        assert complaint.startswith(f"{path}: ")
        assert "\n" not in complaint


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"codes": torch.zeros(2, 10, dtype=torch.int32)}, "expected int64"),
        ({"codes": torch.zeros(10, dtype=torch.int64)}, r"shape \(10,\): expected int64 \(quantizers, frames\)"),
        ({"codes": torch.zeros(3, 10, dtype=torch.int64)}, "3 quantizers for 2 codebooks"),
        ({"codes": torch.full((2, 10), 41)}, "quantizer 1 has codes from 41 to 41, its codebook 0 to 40"),
        ({"codes": torch.full((2, 10), -1)}, "quantizer 0 has codes from -1"),
        ({"length": 121}, "10 frames of 12 samples cannot hold exactly 121 samples"),
        ({"length": 108}, "cannot hold exactly 108"),
        ({"length": 0}, "length is 0"),
        ({"sample_rate": 8000.5}, "sample_rate is 8000.5"),
        ({"source": Source("a", 0, 5, "")}, "source sample_rate is 0"),
    ],
)
def test_parts_that_do_not_fit_are_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        tokens_of(**changes)


WRITE = """
import sys
from pathlib import Path
from q2d2.tokens import save_tokens
from tests.small_tokens import tokens_of
for name in sys.argv[1:]:
    save_tokens(Path(name), tokens_of())
"""


def test_the_same_tokens_are_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At another time, in another process, with other seeds for hashes."""
    names = [f"x{suffix}" for suffix in SUFFIXES]
    for name in names:
        save_tokens(tmp_path / name, tokens_of())
    before = {name: (tmp_path / name).read_bytes() for name in names}
    now = time.time()
    with monkeypatch.context() as later:
        later.setattr(time, "time", lambda: now + 10**6)
        for name in names:
            save_tokens(tmp_path / name, tokens_of())
            assert (tmp_path / name).read_bytes() == before[name]
    root = Path(__file__).resolve().parent.parent
    arguments = [sys.executable, "-c", WRITE, *(str(tmp_path / name) for name in names)]
    subprocess.run(arguments, cwd=root, env=os.environ | {"PYTHONHASHSEED": "7"}, check=True)
    assert {name: (tmp_path / name).read_bytes() for name in names} == before


def test_files_written_before_are_read(tmp_path: Path) -> None:
    """As the libraries' own writers make them: the texts in any order, the time in the archive."""
    tokens = tokens_of()
    described = tokens_module._describe(tokens) | {"sha256": tokens.sha256}
    np.savez_compressed(tmp_path / "x.npz", codes=tokens.codes.numpy(), metadata=np.array(json.dumps(described)))
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in described.items()}
    save_file({"codes": tokens.codes}, tmp_path / "x.safetensors", texts)
    for suffix in SUFFIXES:
        assert contents(load_tokens(tmp_path / f"x{suffix}")) == contents(tokens)


def written(path: Path, tokens: Tokens, **changes: Any) -> Path:
    """A token file that says something else of itself, under a digest that fits."""
    described = tokens_module._describe(tokens) | changes
    codes = changes.pop("codes", tokens.codes.numpy())
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode() + codes.astype("<i8").tobytes()).hexdigest()
    np.savez_compressed(path, codes=codes, metadata=np.array(json.dumps(described | {"sha256": digest})))
    return path


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"length": 10**400}, "length is a number of about 401 digits: expected an integer"),
        ({"length": True}, "length is True"),
        ({"hop_length": 10**300, "length": 10**301 - 5}, "expected an integer of at least 1"),
        ({"codebook_sizes": [85.0, 41]}, r"codebook sizes are \(85\.0, 41\): expected integers"),
        ({"codebook_sizes": [85, 10**30]}, "codebook sizes are"),
        ({"codebook_sizes": 7}, "not iterable"),
        ({"source": {"name": 3, "sample_rate": 1, "length": 1, "sha256": ""}}, "the source is"),
        ({"source": {"a\nb": 1}}, "unexpected keyword"),
        ({"bottleneck": 3}, "not iterable"),
        ({"format": "x" * 10**5}, "token format 'xxx"),
        ({"sample_rate": -1}, "sample_rate is -1"),
    ],
)
def test_what_a_file_says_of_itself_is_checked(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = written(tmp_path / "x.npz", tokens_of(), **changes)
    with pytest.raises(TokenError, match=reason) as caught:
        load_tokens(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 400 + len(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["<i4", "<u8", "<f8", ">i8", "<c8", "?", "<U3"])
def test_codes_of_another_type_are_refused(tmp_path: Path, dtype: str) -> None:
    described = tokens_module._describe(tokens_of()) | {"sha256": ""}
    codes = tokens_of().codes.numpy().astype(dtype)
    np.savez_compressed(tmp_path / "x.npz", codes=codes, metadata=np.array(json.dumps(described)))
    with pytest.raises(TokenError) as caught:
        load_tokens(tmp_path / "x.npz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "metadata", [np.array(7), np.array(["{}"]), np.array("[" * 10**5), np.array("7"), np.array('{"a": ' + "7" * 5000)]
)
def test_metadata_of_another_kind_is_refused(tmp_path: Path, metadata: Any) -> None:
    np.savez_compressed(tmp_path / "x.npz", codes=np.zeros((1, 1), int), metadata=metadata)
    with pytest.raises(TokenError, match="cannot be read as a token file") as caught:
        load_tokens(tmp_path / "x.npz")
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_foreign_files_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match=r"x\.pt: a token file ends in .safetensors or .npz"):
        save_tokens(tmp_path / "x.pt", tokens_of())
    with pytest.raises(TokenError, match="No such file"):
        load_tokens(tmp_path / "x.npz")
    save_file({"codes": torch.zeros(2, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(TokenError, match="token format None, this version reads 1"):
        load_tokens(tmp_path / "x.safetensors")
    save_file({"codes": torch.zeros(2, 2)}, tmp_path / "x.safetensors", {"format": "1"})
    with pytest.raises(TokenError, match="no entry 'length'"):
        load_tokens(tmp_path / "x.safetensors")
    np.savez(tmp_path / "x.npz", codes=np.zeros(3))
    with pytest.raises(TokenError, match="metadata"):
        load_tokens(tmp_path / "x.npz")
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    with pytest.raises(TokenError, match="cannot be read as a token file"):
        load_tokens(tmp_path / "x.npz")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npz"
    save_tokens(path, tokens_of())
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokens_module, "write_npz", fail)
    with pytest.raises(OSError, match="No space"):
        save_tokens(path, tokens_of(20))
    assert path.read_bytes() == before


def test_tokens_of_another_codec_are_refused(tmp_path: Path) -> None:
    config = CodecConfig(
        sample_rate=8000, ratios=(3, 4), num_filters=2, dimension=8, lstm_layers=1, decoder_dim=64,
        decoder_intermediate=16, decoder_layers=1,
    )  # fmt: skip
    for name, seed, tiling in (("one", 0, "rhombic"), ("two", 1, "rhombic"), ("three", 0, "hexagonal")):
        torch.manual_seed(seed)
        save_codec(Codec(config, build_bottleneck("q2d2", 8, tiling=tiling, levels=[7, 7])), tmp_path / name)
    identities = {name: identify_codec(tmp_path / name) for name in ("one", "two", "three")}
    # Equal weights, another tiling: another codec.
    assert identities["one"].sha256 == identities["three"].sha256 != identities["two"].sha256
    assert identities["one"].is_same(dataclasses.replace(identities["one"], name="renamed"))

    codec = load_codec(tmp_path / "one")
    codes = codec.encode(torch.randn(1, 120))[0]
    tokens = Tokens(codes, 120, 8000, 12, codec.bottleneck.codebook_sizes, identities["one"], SOURCE)
    path = Path("x.npz")
    check_codec(path, tokens, codec, identities["one"])
    other = load_codec(tmp_path / "two")
    with pytest.raises(TokenError, match=r"x\.npz: tokens of 'one' \(weights .*\), not of 'two' \(weights .*--force"):
        check_codec(path, tokens, other, identities["two"])
    check_codec(path, tokens, other, identities["two"], force=True)
    three = load_codec(tmp_path / "three")
    with pytest.raises(TokenError, match=r"bottleneck .*rhombic.*, not of 'three' .*bottleneck .*hexagonal"):
        check_codec(path, tokens, three, identities["three"])
    # Codebooks of another size cannot be decoded at all.
    with pytest.raises(TokenError, match=r"'three' .* cannot decode tokens of 'one' .*sizes \(85,\), not \(49,\)"):
        check_codec(path, tokens, three, identities["three"], force=True)
