"""Encodec, DAC, Mimi and X-Codec: small random models on disk, against the same models run by transformers itself."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from baselines.codecs import CODECS, CodecError, WholeCodec, build_codec, codec_class
from baselines.codecs.pretrained import bandwidths
from baselines.codecs.weights import WeightsMissing
from q2d2.errors import UserError
from tests.small_codecs import ALL, CODES, FEW, SMALL, noise, save_small

COMMIT = "0123456789abcdef0123456789abcdef01234567"
each = pytest.mark.parametrize("name", list(SMALL))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def models(root: Path) -> dict[str, Any]:
    """The models as transformers made them, and saved in `root`/NAME."""
    return {name: save_small(name, root / name) for name in SMALL}


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Equal but for rounding, at the scale of the signal."""
    scale = float(expected.abs().max())
    assert scale > 0
    torch.testing.assert_close(found, expected, atol=1e-5 * scale, rtol=0)


def built(name: str, root: Path, **options: Any) -> WholeCodec:
    return build_codec(name, root, **options)


@pytest.fixture
def copy(models: dict[str, Any], root: Path, tmp_path: Path) -> Path:
    """A root whose files a test may damage."""
    return Path(shutil.copytree(root, tmp_path / "copy"))


@each
@pytest.mark.parametrize("count", [FEW, None])
def test_rates_are_those_of_the_configuration(models: dict[str, Any], root: Path, name: str, count: int | None) -> None:
    codec, small, used = built(name, root, num_quantizers=count), SMALL[name], count or ALL
    assert (codec.sample_rate, codec.frame_rate) == (small.sample_rate, small.frame_rate)
    assert codec.codebook_sizes == (CODES,) * used
    assert codec.tokens_per_second == used * small.frame_rate
    assert codec.bitrate == pytest.approx(used * 6 * small.frame_rate)
    assert codec.num_parameters == sum(parameter.numel() for parameter in models[name].parameters())
    assert codec.module is not None
    assert not codec.module.training
    assert {parameter.dtype for parameter in codec.module.parameters()} == {torch.float32}


@each
def test_any_length(models: dict[str, Any], root: Path, name: str) -> None:
    codec = built(name, root, num_quantizers=FEW)
    for samples in (1, 2, 101, codec.sample_rate, codec.sample_rate + 1):
        audio = noise(samples)
        codes = codec.encode(audio)
        assert codes.shape == (2, FEW, math.ceil(samples * SMALL[name].frame_rate / codec.sample_rate))
        assert codes.dtype == torch.int64
        assert codes.min() >= 0
        assert codes.max() < CODES
        decoded = codec.decode(codes, samples)
        assert decoded.shape == audio.shape
        assert not decoded.requires_grad
        assert decoded.isfinite().all()
        assert torch.equal(codec.encode(audio[:1]), codes[:1])
        assert_close(codec.decode(codes[:1], samples), decoded[:1])
    whole = codec.decode(codes)
    assert torch.equal(whole[:, :samples], decoded[:, : whole.shape[-1]])
    with pytest.raises(ValueError, match=r"length \d+ asked of codes that hold \d+ samples"):
        codec.decode(codes, 10 * samples)
    for wrong in (torch.zeros(2, 0), torch.zeros(5)):
        with pytest.raises(ValueError, match=r"expected \(batch, samples\) with samples > 0"):
            codec.encode(wrong)


@each
@pytest.mark.parametrize("count", [1, FEW, ALL])
def test_the_round_trip_is_that_of_transformers(models: dict[str, Any], root: Path, name: str, count: int) -> None:
    codec = built(name, root, num_quantizers=count)
    audio = noise(4800)  # whole frames of all codecs but Mimi: as DAC's and X-Codec's own feature extractors pad
    with torch.no_grad():
        expected = SMALL[name].run(models[name], audio.unsqueeze(1), count)
    codes = codec.encode(audio)
    assert torch.equal(codes, expected.audio_codes.reshape(codes.shape))
    assert not torch.equal(codes[0], codes[1])
    values = expected.audio_values.reshape(2, -1)
    assert_close(codec.decode(codes, 4800)[:, : values.shape[-1]], values)


def test_dac_s_lost_samples_are_zeros(models: dict[str, Any], root: Path) -> None:
    codec = built("dac", root)
    audio = noise(3200)
    assert codec.decode(codec.encode(audio)).shape[-1] == 3200 - 8  # stride 5 loses one sample of 8
    assert codec.decode(codec.encode(audio), 3200)[:, -8:].count_nonzero() == 0


def test_mimi_s_first_quantizers_are_semantic_then_acoustic(models: dict[str, Any], root: Path) -> None:
    audio = noise(4800)
    codes = {count: built("mimi", root, num_quantizers=count).encode(audio) for count in (1, FEW, ALL)}
    quantizer = models["mimi"].quantizer
    with torch.no_grad():
        latents = models["mimi"].encoder(audio.unsqueeze(1)).latents
        semantic = quantizer.semantic_residual_vector_quantizer.encode(latents).transpose(0, 1)
        acoustic = quantizer.acoustic_residual_vector_quantizer.encode(latents).transpose(0, 1)
    for count, found in codes.items():
        assert torch.equal(found, torch.cat([semantic, acoustic], 1)[:, :count])


def test_mimi_s_codebooks_move_along(models: dict[str, Any], root: Path) -> None:
    codec = built("mimi", root)
    codec.encode(noise(100))  # computes them
    codec.to(torch.device("meta"))
    assert codec.module is not None
    codebooks = [module.embed for module in codec.module.modules() if hasattr(module, "_embed")]
    assert {codebook.device.type for codebook in codebooks} == {"meta"}
    assert len(codebooks) == ALL


@each
def test_a_cache_of_the_hub_serves_as_well(models: dict[str, Any], root: Path, tmp_path: Path, name: str) -> None:
    weights = codec_class(name).weights
    assert weights is not None
    repository = tmp_path / f"models--{weights.repo.replace('/', '--')}"
    shutil.copytree(root / name, repository / "snapshots" / (weights.revision or COMMIT))
    if weights.revision is None:
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
    codec, other = built(name, tmp_path), built(name, root)
    assert codec.weights_sha256 == other.weights_sha256
    assert torch.equal(codec.encode(noise(500)), other.encode(noise(500)))


def test_the_published_models_have_the_published_numbers_of_quantizers() -> None:
    import transformers as hf

    with torch.device("meta"):
        encodec, xcodec = hf.EncodecModel(hf.EncodecConfig()), hf.XcodecModel(hf.XcodecConfig())
    assert bandwidths(encodec) == {2: 1.5, 4: 3, 8: 6, 16: 12, 32: 24}  # EnCodec, section 4.1
    assert bandwidths(xcodec) == {1: 0.5, 2: 1, 3: 1.5, 4: 2, 8: 4}


def test_published_weights_are_pinned_or_said_not_to_be() -> None:
    for name in SMALL | {"dac-24khz": None}:
        weights = codec_class(name).weights
        assert weights is not None
        assert weights.revision is None or re.fullmatch("[0-9a-f]{40}", weights.revision)


def test_encodec_s_published_names_of_weight_norm_are_read(copy: Path) -> None:
    before = built("encodec", copy)
    path = copy / "encodec" / "model.safetensors"
    renamed = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for key, tensor in load_file(path).items()
    }
    assert any(key.endswith("weight_g") for key in renamed)
    save_file(renamed, path, metadata={"format": "pt"})
    after = built("encodec", copy)
    assert torch.equal(before.encode(noise(2000)), after.encode(noise(2000)))
    assert before.weights_sha256 != after.weights_sha256


def test_half_precision_files_run_in_single(copy: Path) -> None:
    path, config = copy / "dac" / "model.safetensors", copy / "dac" / "config.json"
    save_file({key: tensor.half() for key, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float16"}))
    codec = built("dac", copy)
    assert codec.decode(codec.encode(noise(400)), 400).dtype == torch.float32


@each
def test_weights_that_are_no_numbers_are_refused_by_name(copy: Path, name: str) -> None:
    path = copy / name / "model.safetensors"
    tensors = load_file(path)
    key = next(key for key in sorted(tensors) if key.endswith("bias"))
    for wrong, fault in (
        (tensors[key] / 0, "values are not finite"),
        (tensors[key].long(), "int64, expected float32"),
        (tensors[key].to(torch.float8_e4m3fn), "float8_e4m3fn, expected float32"),
    ):
        save_file(tensors | {key: wrong}, path, metadata={"format": "pt"})
        with pytest.raises(CodecError, match=rf"model\.safetensors: {re.escape(key)}: .*{fault}") as caught:
            built(name, copy)
        assert "\n" not in str(caught.value)


@each
def test_other_weights_have_another_digest(copy: Path, root: Path, name: str) -> None:
    path = copy / name / "model.safetensors"
    tensors = load_file(path)
    key = next(key for key in sorted(tensors) if key.endswith("bias"))
    save_file(tensors | {key: tensors[key] + 1}, path, metadata={"format": "pt"})
    assert built(name, copy).weights_sha256 != built(name, root).weights_sha256


class TestRefusals:
    @each
    @pytest.mark.parametrize("count", [0, 3.0, 5, "2"])
    def test_impossible_numbers(self, models: dict[str, Any], root: Path, name: str, count: Any) -> None:
        message = rf"num_quantizers={count!r}: the model in \S+ can be run with {SMALL[name].counts}$"
        self.is_one_line(lambda: built(name, root, num_quantizers=count), message)

    def test_unknown_options_and_names(self, models: dict[str, Any], root: Path) -> None:
        message = "codec 'dac' has no option 'bandwidth'. Its options: num_quantizers"
        self.is_one_line(lambda: built("dac", root, bandwidth=6), message)
        self.is_one_line(lambda: built("encodek", root), "Did you mean 'encodec'")

    @pytest.mark.parametrize("option", [{"normalize": True}, {"chunk_length_s": 1.0}, {"audio_channels": 2}])
    def test_an_encodec_that_is_more_than_codes(self, tmp_path: Path, option: dict[str, Any]) -> None:
        import transformers as hf

        config = SMALL["encodec"].config(hf).to_dict() | option
        hf.EncodecModel(hf.EncodecConfig(**config)).save_pretrained(tmp_path / "encodec")
        ((key, value),) = option.items()
        self.is_one_line(lambda: built("encodec", tmp_path), rf"config\.json: {key} {value!r}, expected")

    @each
    def test_faulty_files(self, copy: Path, name: str) -> None:
        path, config = copy / name / "model.safetensors", copy / name / "config.json"
        whole, tensors, described = path.read_bytes(), load_file(path), config.read_text()
        key = next(key for key in sorted(tensors) if key.endswith("bias"))
        others = {other: tensor for other, tensor in tensors.items() if other != key}
        metadata = {"format": "pt"}
        save_file(others, path, metadata=metadata)
        self.is_one_line(lambda: built(name, copy), r"model\.safetensors lacks tensors of the model .*bias")
        save_file(tensors | {"extra.weight": torch.ones(1)}, path, metadata=metadata)
        self.is_one_line(lambda: built(name, copy), r"holds tensors that the model has not .*: extra\.weight\.")
        save_file(others | {key: torch.ones(99)}, path, metadata=metadata)
        self.is_one_line(lambda: built(name, copy), "holds tensors of other shapes than the model .*bias")
        path.write_bytes(whole[:-100])
        self.is_one_line(lambda: built(name, copy), rf"cannot be loaded as {SMALL[name].architecture}: \S")
        path.write_bytes(whole)
        config.write_text(described[:40])
        self.is_one_line(lambda: built(name, copy), r"config\.json is no model's configuration")
        config.write_text(json.dumps(json.loads(described) | {"model_type": "vocos"}))
        self.is_one_line(lambda: built(name, copy), "model_type 'vocos', expected '")
        path.unlink()
        with pytest.raises(WeightsMissing, match=r"lacks model\.safetensors of"):
            built(name, copy)

    def test_no_transformers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [module for module in sys.modules if module.startswith("baselines.codecs.")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "transformers", None)
        self.is_one_line(
            lambda: codec_class("mimi"), r"transformers is not installed.* pip install 'codec-bottlenecks\[codecs\]'"
        )

    def is_one_line(self, action: Callable[[], Any], message: str) -> None:
        with pytest.raises(UserError, match=message) as caught:
            action()
        assert isinstance(caught.value, CodecError | ValueError)
        assert "\n" not in str(caught.value)


def test_importing_the_modules_imports_no_transformers() -> None:
    modules = ", ".join(sorted({CODECS.require(name).partition(":")[0] for name in SMALL}))
    done = f"import sys, {modules}; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", done], check=False).returncode == 0
