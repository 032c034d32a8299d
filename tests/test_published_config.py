"""The published YAML files: all seven configurations, both shapes of the file, and every contradiction by name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from q2d2.bottleneck import build_bottleneck
from q2d2.codec import Codec, codec_config
from q2d2.published import load_published, published_shapes
from q2d2.published_config import (
    FIXED,
    TILINGS,
    PublishedConfigError,
    published_config,
    read_published_config,
)
from q2d2.published_files import build_published
from tests.published_models import SEVEN, SMALL_DECODER, description, random_state, small_description, write_yaml

QUANTIZER = "feature_extractor.encodec.quantizer."
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(params=SEVEN)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def arguments(content: dict[str, Any], section: str) -> dict[str, Any]:
    found: dict[str, Any] = content["model"]["init_args"][section]["init_args"]
    return found


class TestTheSeven:
    def test_build_what_the_paper_says(self, tmp_path: Path, name: str) -> None:
        family, ratios, tiling, levels, bits, kbps = SEVEN[name]
        path = write_yaml(tmp_path / "x.yaml", description(family, ratios, tiling, levels))
        config = read_published_config(path, family)
        assert config.backbone == codec_config("wavtokenizer", ratios=ratios)
        codec = build_published(config)
        assert codec.bottleneck.bits_per_frame == pytest.approx(bits, abs=0.005)
        assert codec.bitrate / 1000 == pytest.approx(kbps, abs=0.0005)
        assert len(published_shapes(codec)) == {"wavtokenizer": 289, "q2d2": 293}[family]

    def test_are_written_as_they_are_read(self, tmp_path: Path, name: str) -> None:
        family, ratios, tiling, levels, *_ = SEVEN[name]
        content = description(family, ratios, tiling, levels)
        config = read_published_config(write_yaml(tmp_path / "x.yaml", content), family)
        (tmp_path / "again.yaml").write_text(config.to_yaml())
        assert read_published_config(tmp_path / "again.yaml", family) == config
        written = yaml.safe_load(config.to_yaml())
        for section in ("feature_extractor", "backbone", "head"):
            assert arguments(written, section) == arguments(content, section)
            assert (
                written["model"]["init_args"][section]["class_path"]
                == content["model"]["init_args"][section]["class_path"]
            )

    def test_quantize_as_published(self, tmp_path: Path, name: str) -> None:
        family, _, tiling, levels, *_ = SEVEN[name]
        path = write_yaml(tmp_path / "x.yaml", description(family, (2,), tiling, levels, **SMALL_DECODER))
        state = random_state(path, family)
        codec = build_published(read_published_config(path, family)).eval()
        load_published(codec, state)
        latents = 3 * torch.randn(1, 512, 400, generator=torch.Generator().manual_seed(1))
        quantizer = {key.removeprefix(QUANTIZER): each.double() for key, each in state.items() if QUANTIZER in key}
        codes, features = published_quantizer(quantizer, latents[0].T.double(), tiling, levels)
        output = codec.bottleneck(latents)
        found = output.codes[0, 0] if tiling is None else codec.bottleneck.frame_index(output.codes)[0]
        clear = found == codes
        assert clear.double().mean() > 0.99  # float32 may go the other way at the border of a cell
        torch.testing.assert_close(output.quantized[0].T[clear].double(), features[clear], atol=1e-4, rtol=0)


def published_quantizer(
    state: dict[str, Tensor], latents: Tensor, tiling: str | None, levels: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Codes (frames,) and features (frames, 512) of latents likewise, in the words of the published source: all
    distances to all points of the grids that it lays out point by point."""
    if tiling is None:
        table = state["vq.layers.0._codebook.embed"]
        codes = torch.cdist(latents, table).argmin(dim=1)
        return codes, table[codes]
    unit = torch.tanh(latents @ state["quantizer.vq.project_in.0.weight"].T + state["quantizer.vq.project_in.0.bias"])
    spans = torch.tensor([(level - 1) / 2 for level in levels], dtype=torch.float64)
    index, stride, snapped = torch.zeros(len(latents), dtype=torch.int64), 1, []
    for pair in range(0, len(levels), 2):
        grid = published_grid(tiling, *levels[pair : pair + 2])
        nearest = torch.cdist((unit * spans * 1.001)[:, pair : pair + 2], grid).argmin(dim=1)
        index, stride = index + nearest * stride, stride * len(grid)
        snapped.append(grid[nearest])
    divided = torch.cat(snapped, dim=1) / torch.tensor([level // 2 for level in levels])
    return index, divided @ state["quantizer.vq.project_out.weight"].T + state["quantizer.vq.project_out.bias"]


def published_grid(tiling: str, lx: int, ly: int) -> Tensor:
    xs, ys = ([i - (level - 1) / 2 for i in range(level)] for level in (lx, ly))
    corners = [(x, y) for x in xs for y in ys]
    points = {
        "rectangle": corners,
        "rhombic": corners + [(x + 0.5, y + 0.5) for x in xs[:-1] for y in ys[:-1]],
        "hexagon": [(x + (-0.25 if row % 2 else 0.25), y) for row, y in enumerate(ys) for x in xs],
    }
    return torch.tensor(points[tiling], dtype=torch.float64)


@pytest.mark.parametrize("family", ["wavtokenizer", "q2d2"])
def test_flat_files_say_the_same(tmp_path: Path, family: str) -> None:
    content = small_description(family)
    nested = read_published_config(write_yaml(tmp_path / "nested.yaml", content), family)
    sections = ("feature_extractor", "backbone", "head")
    flat = {section: content["model"]["init_args"][section] for section in sections}
    assert read_published_config(write_yaml(tmp_path / "flat.yaml", flat), family) == nested


def test_tiling_and_levels_come_from_the_file(tmp_path: Path) -> None:
    for published, ours in TILINGS.items():
        content = description("q2d2", (2,), published, (5, 5, 3, 3), **SMALL_DECODER)
        config = read_published_config(write_yaml(tmp_path / "x.yaml", content), "q2d2")
        assert config.bottleneck == {"name": "q2d2", "tiling": ours, "levels": [5, 5, 3, 3], "gradient": "published"}


def test_defaults_of_the_published_classes_that_decide_nothing(tmp_path: Path) -> None:
    content = small_description("wavtokenizer")
    whole = read_published_config(write_yaml(tmp_path / "x.yaml", content), "wavtokenizer")
    for key in ("encodec_model", "bandwidths", "train_codebooks", "num_quantizers", "vq_kmeans"):
        del arguments(content, "feature_extractor")[key]
    del arguments(content, "head")["padding"]
    arguments(content, "backbone")["layer_scale_init_value"] = 0.1
    assert read_published_config(write_yaml(tmp_path / "x.yaml", content), "wavtokenizer") == whole


def put(section: str, **values: Any) -> Change:
    return lambda content: arguments(content, section).update(values)


def drop(section: str, key: str) -> Change:
    return lambda content: arguments(content, section).pop(key)


EXTRACTOR = "model.init_args.feature_extractor.init_args"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("feature_extractor", "vq_type"), f"{EXTRACTOR} lacks vq_type: expected one of rectangle, rhom"),
        (drop("feature_extractor", "codebook_dim"), f"{EXTRACTOR} lacks codebook_dim: expected [9, 9, 7, 7, 7, 7]"),
        (drop("feature_extractor", "dowmsamples"), f"{EXTRACTOR} lacks dowmsamples"),
        (drop("backbone", "dim"), "backbone.init_args lacks dim"),
        (drop("backbone", "adanorm_num_embeddings"), "lacks adanorm_num_embeddings"),
        (drop("head", "n_fft"), "head.init_args lacks n_fft"),
        (put("feature_extractor", vq_type="hexagonal"), "'hexagonal': unknown tiling. Did you mean 'hexagon'?"),
        (put("feature_extractor", vq_type="rombic"), "Did you mean 'rhombic'? Known: rectangle, rhombic, hexagon"),
        (put("feature_extractor", vq_type=["rhombic"]), "vq_type is ['rhombic']: unknown tiling"),
        (put("feature_extractor", codebook_dim=6), "codebook_dim is 6: expected positive integers such as"),
        (put("feature_extractor", codebook_dim=[7, 7]), "levels [7, 7]: the published quantizer needs an even number"),
        (put("feature_extractor", codebook_dim=[7, 7, 7]), "levels [7, 7, 7]: the published quantizer needs an even"),
        (put("feature_extractor", codebook_dim=[7, 7, 8, 8]), "levels [7, 7, 8, 8]: 8 is not odd and above 1"),
        (put("feature_extractor", codebook_dim=[7, 7, 1, 1]), "1 is not odd and above 1"),
        (put("feature_extractor", codebook_dim=[7, 5, 5, 5]), "[7, 5, 5, 5]: the published hexagon ignores the second"),
        (put("feature_extractor", codebook_dim=[7, 7.0]), "codebook_dim is [7, 7.0]: expected positive integers"),
        (put("feature_extractor", dowmsamples=[3]), "head.hop_length is 2, but feature_extractor.dowmsamples [3]"),
        (put("feature_extractor", dowmsamples=[0]), "dowmsamples is [0]: expected positive integers such as"),
        (put("feature_extractor", dowmsamples=[]), "dowmsamples is []: expected positive integers"),
        (put("feature_extractor", num_quantizers=2), "num_quantizers is 2: only 1 is known here"),
        (put("feature_extractor", encodec_model="x"), "encodec_model is 'x': only 'encodec_24khz' is known here"),
        (put("feature_extractor", downsamples=[2]), "unknown key 'downsamples'. Did you mean 'dowmsamples'?"),
        (put("feature_extractor", vq_bins=4096), "has an unknown key 'vq_bins'"),
        (put("backbone", input_channels=256), "input_channels is 256: only 512 is known here"),
        (put("backbone", dim=33), "decoder_dim 33: expected a multiple of 32"),
        (put("backbone", num_layers=True), "num_layers is True: expected a positive integer"),
        (put("backbone", adanorm_num_embeddings=None), "adanorm_num_embeddings is None: expected a positive integer"),
        (put("head", n_fft=16), "head.n_fft is 16: expected four hops of 2, 8"),
        (put("head", dim=64), "head.dim is 64, but backbone.dim is 32"),
        (put("head", padding="center"), "padding is 'center': only 'same' is known here"),
        (put("head", hop_lenght=3), "unknown key 'hop_lenght'"),
        (lambda c: c["model"].update(class_path="decoder.experiment.VocosExp"), "model.class_path is"),
        (lambda c: c["model"].pop("init_args"), "model has no mapping init_args"),
        (lambda c: c["model"]["init_args"].pop("head"), "model.init_args.head is missing"),
        (lambda c: c["model"]["init_args"]["head"].update(class_path="a.IMDCTHead"), "expected a class ISTFTHead"),
        (lambda c: c["model"]["init_args"].update(sample_rate="24k"), "sample_rate is '24k': expected a number of Hz"),
        (lambda c: c.pop("model"), "feature_extractor is missing"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_value(tmp_path: Path, change: Change, message: str) -> None:
    content = small_description("q2d2")
    change(content)
    path = write_yaml(tmp_path / "x.yaml", content)
    with pytest.raises(PublishedConfigError) as caught:
        read_published_config(path, "q2d2")
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("family", "other"), [("wavtokenizer", "q2d2"), ("q2d2", "wavtokenizer")])
def test_the_other_family_is_told(tmp_path: Path, family: str, other: str) -> None:
    path = write_yaml(tmp_path / "x.yaml", small_description(family))
    with pytest.raises(PublishedConfigError, match=f"as the models of {family} have: import it as {family}"):
        read_published_config(path, other)
    with pytest.raises(PublishedConfigError, match="unknown family 'vocos': expected one of wavtokenizer, q2d2"):
        read_published_config(path, "vocos")


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\x00", b"- 1", b"", b"text"])
def test_what_is_no_such_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    for broken in (path, tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(PublishedConfigError) as caught:
            read_published_config(broken, "q2d2")
        assert str(broken) in str(caught.value)
        assert "\n" not in str(caught.value)


values = (
    st.none() | st.booleans() | st.integers(-3, 10) | st.text(max_size=3) | st.lists(st.integers(-1, 9), max_size=3)
)


@settings(max_examples=150)
@given(data=st.data())
def test_no_value_anywhere_is_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any entry of the file replaced by anything: read, or refused by name."""
    content = small_description("q2d2")
    place: Any = content
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or data.draw(st.integers(0, 9)) == 0:
            break
        place = place[key]
    place[key] = data.draw(values)
    path = write_yaml(tmp_path_factory.getbasetemp() / "any.yaml", content)
    with contextlib.suppress(PublishedConfigError):
        read_published_config(path, "q2d2")


class TestOfACodec:
    @pytest.mark.parametrize("tiling", TILINGS.values())
    def test_q2d2_and_vq(self, tiling: str) -> None:
        backbone = codec_config("wavtokenizer", ratios=(2,), decoder_dim=32, decoder_intermediate=8, decoder_layers=1)
        options = {"tiling": tiling, "levels": [5, 5, 3, 3]}
        config = published_config(Codec(backbone, build_bottleneck("q2d2", 512, **options)))
        assert config.family == "q2d2"
        assert config.bottleneck.items() >= options.items()
        config = published_config(Codec(backbone, build_bottleneck("vq", 512, codebook_size=16)))
        assert config.family == "wavtokenizer"
        assert arguments(yaml.safe_load(config.to_yaml()), "feature_extractor")["vq_bins"] == 16

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("null", {}, "bottleneck 'unquantized' is in no published model"),
            ("fsq", {"levels": [5, 5]}, "bottleneck 'fsq' is in no published model"),
            ("rvq", {"codebook_size": 4, "num_quantizers": 2}, "bottleneck 'rvq' is in no published model"),
            ("vq", {"codebook_size": 4, "codebook_dim": 3}, "vq with codebook_dim is in no published model"),
            ("q2d2", {"tiling": "hexagonal-regular"}, "tiling 'hexagonal-regular' is in no published model"),
            ("q2d2", {"levels": [5, 5]}, "levels [5, 5]: the published quantizer needs"),
            ("q2d2", {"tiling": "hexagonal", "levels": [7, 5, 5, 5]}, "the published hexagon ignores"),
            ("q2d2", {"levels": [8, 8, 8, 8]}, "8 is not odd"),
        ],
    )
    def test_others_are_refused(self, name: str, options: dict[str, Any], message: str) -> None:
        backbone = codec_config("wavtokenizer", ratios=(2,), decoder_dim=32, decoder_intermediate=8, decoder_layers=1)
        codec = Codec(backbone, build_bottleneck(name, 512, **options))
        with pytest.raises(PublishedConfigError) as caught:
            published_config(codec)
        assert message in str(caught.value)

    @pytest.mark.parametrize("key", FIXED)
    def test_other_sizes_are_refused(self, key: str) -> None:
        sizes = {"ratios": (2,), "decoder_dim": 32, "decoder_intermediate": 8, "decoder_layers": 1, key: 8}
        backbone = codec_config("wavtokenizer", **sizes)
        codec = Codec(backbone, build_bottleneck("q2d2", backbone.dimension))
        with pytest.raises(PublishedConfigError, match=rf"cannot build this codec: {key} 8 \(it has {FIXED[key]}\)"):
            published_config(codec)
