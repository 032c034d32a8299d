"""Token files: what is saved comes back, and nothing damaged, inconsistent or foreign is taken for codes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import load_codec, save_codec
from q2d2.codec import Codec, CodecConfig
from q2d2.tokens import (
    SUFFIXES,
    CodecIdentity,
    Source,
    TokenError,
    Tokens,
    check_codec,
    identify_codec,
    load_tokens,
    save_tokens,
)

CODEC = CodecIdentity("a", "ab" * 32, {"name": "q2d2", "tiling": "rhombic", "levels": [7, 7, 5, 5]})
SOURCE = Source("höhe.flac", 44100, 4410, "cd" * 32)


def tokens_of(frames: int = 10, **changes: Any) -> Tokens:
    sizes = (85, 41)
    generator = torch.Generator().manual_seed(frames)
    codes = torch.stack([torch.randint(size, (frames,), generator=generator) for size in sizes])
    given_: dict[str, Any] = {
        "codes": codes, "length": frames * 12 - 5, "sample_rate": 8000, "hop_length": 12, "codebook_sizes": sizes,
        "codec": CODEC, "source": SOURCE,
    }  # fmt: skip
    return Tokens(**(given_ | changes))


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

    monkeypatch.setattr(np, "savez_compressed", fail)
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
