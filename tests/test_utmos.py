"""UTMOS with random weights: both layouts of the published files, strictly loaded, against two other readings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from evalkit.datasets.corpus import find_audio
from evalkit.metrics import Unavailable, Unscorable, utmos
from evalkit.metrics.utmos import Utmos, UtmosNetwork, empty_model
from evalkit.metrics.utmos_layouts import UnknownLayout, to_package_layout, to_speechmos_layout
from evalkit.metrics.weights import WeightFile, find_weights
from q2d2.audio import read_audio

RATE = 16_000
EMPTY = np.empty(0, np.float32)
REMNANT = "feature_extractors.0.ssl_model.mask_emb"  # of pretraining: in both published files, in no score

State = dict[str, Tensor]


def speechmos_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights as SpeechMOS's source builds its network (utmos22/strong, fairseq_alt.py)."""
    shapes: dict[str, tuple[int, ...]] = {"domain_emb": (1, 128), "judge_emb": (1, 128), "wav2vec2.mask_emb": (768,)}

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes.update({f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)})

    def norm(name: str, channels: int) -> None:
        shapes.update({f"{name}.weight": (channels,), f"{name}.bias": (channels,)})

    for index, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        shapes[f"wav2vec2.feature_extractor.conv_layers.{index}.0.weight"] = (512, 512 if index else 1, kernel)
    norm("wav2vec2.feature_extractor.conv_layers.0.2", 512)
    norm("wav2vec2.layer_norm", 512)
    linear("wav2vec2.post_extract_proj", 512, 768)
    conv = "wav2vec2.encoder.pos_conv.0"
    shapes.update({f"{conv}.weight_g": (1, 1, 128), f"{conv}.weight_v": (768, 768 // 16, 128), f"{conv}.bias": (768,)})
    norm("wav2vec2.encoder.layer_norm", 768)
    for index in range(12):
        layer = f"wav2vec2.encoder.layers.{index}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{layer}.self_attn.{part}", 768, 768)
        norm(f"{layer}.self_attn_layer_norm", 768)
        linear(f"{layer}.fc1", 768, 3072)
        linear(f"{layer}.fc2", 3072, 768)
        norm(f"{layer}.final_layer_norm", 768)
    for direction in ("", "_reverse"):
        shapes[f"blstm.weight_ih_l0{direction}"] = (4 * 512, 768 + 128 + 128)
        shapes[f"blstm.weight_hh_l0{direction}"] = (4 * 512, 512)
        shapes[f"blstm.bias_ih_l0{direction}"] = shapes[f"blstm.bias_hh_l0{direction}"] = (4 * 512,)
    linear("projection.0", 1024, 2048)
    linear("projection.2", 2048, 1)
    return shapes


def speechmos_score(state: State, clip: Tensor) -> Tensor:
    """What SpeechMOS computes of a clip (1, samples), written down from its source over its names."""

    def take(name: str) -> State:
        return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, **take(name))

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], **take(name))

    x = clip.unsqueeze(1)
    for index, stride in enumerate((5, 2, 2, 2, 2, 2, 2)):
        name = f"wav2vec2.feature_extractor.conv_layers.{index}"
        x = F.conv1d(x, state[f"{name}.0.weight"], stride=stride)
        x = F.gelu(x if index else F.group_norm(x, 512, **take(f"{name}.2")))
    x = linear(norm(x.transpose(1, 2), "wav2vec2.layer_norm"), "wav2vec2.post_extract_proj")
    conv = take("wav2vec2.encoder.pos_conv.0")
    weight = conv["weight_g"] * conv["weight_v"] / conv["weight_v"].square().sum((0, 1), keepdim=True).sqrt()
    positions = F.conv1d(x.transpose(1, 2), weight, conv["bias"], padding=64, groups=16)[..., :-1]
    x = norm(x + F.gelu(positions).transpose(1, 2), "wav2vec2.encoder.layer_norm")
    for index in range(12):  # a frame that makes their number even is masked in attention: left out here
        layer = f"wav2vec2.encoder.layers.{index}"
        query, key, value = (
            linear(x, f"{layer}.self_attn.{part}_proj").unflatten(2, (12, 64)).transpose(1, 2) for part in "qkv"
        )
        weights = (query @ key.transpose(2, 3) / 8).softmax(dim=3)
        attended = linear((weights @ value).transpose(1, 2).flatten(2), f"{layer}.self_attn.out_proj")
        x = norm(x + attended, f"{layer}.self_attn_layer_norm")
        x = norm(x + linear(F.gelu(linear(x, f"{layer}.fc1")), f"{layer}.fc2"), f"{layer}.final_layer_norm")
    frames = x.shape[1]
    x = torch.cat([x, state["domain_emb"].expand(1, frames, -1), state["judge_emb"].expand(1, frames, -1)], dim=2)
    blstm = torch.nn.LSTM(1024, 512, batch_first=True, bidirectional=True)
    blstm.load_state_dict(take("blstm"))
    x = linear(F.relu(linear(blstm(x)[0], "projection.0")), "projection.2")
    return x.mean(dim=(1, 2)) * 2 + 3


@pytest.fixture(scope="module")
def package_state() -> State:
    """Random weights, none of them equal to another, such that scores of clips differ by more than rounding."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = empty_model().state_dict()
        for name, tensor in state.items():
            if tensor.ndim == 1:
                tensor.add_(torch.randn_like(tensor), alpha=0.2)
            elif name.endswith("net.3.weight"):
                tensor.mul_(20)
    return {**state, REMNANT: torch.full((768,), torch.nan)}


@pytest.fixture(scope="module")
def network(package_state: State) -> UtmosNetwork:
    return UtmosNetwork(package_state)


@pytest.fixture(scope="module")
def speechmos_file(package_state: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("weights") / "speechmos.pt"
    torch.save(to_speechmos_layout(package_state), path)
    yield path
    path.unlink()  # 400 MB; pytest would keep the last three


def clips(count: int, seconds: float = 0.3) -> Tensor:
    """Noise (count, samples) of levels from 0.02 to 0.2."""
    noise = torch.randn(count, int(RATE * seconds), generator=torch.Generator().manual_seed(count))
    return noise * torch.linspace(0.02, 0.2, count).unsqueeze(1)


def accept(monkeypatch: pytest.MonkeyPatch, path: Path, content: bytes | None = None) -> WeightFile:
    """Have UTMOS look for `path`, expecting `content` in it (None: what it holds)."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256") if content is None else hashlib.sha256(content)
    accepted = WeightFile(path.name, "https://example.org/w.pt", None, digest.hexdigest(), "made here")
    monkeypatch.setattr(utmos, "WEIGHT_FILES", (accepted,))
    monkeypatch.setenv("EVALKIT_WEIGHTS", str(path.parent))
    return accepted


def test_names_and_shapes_of_speechmos_are_covered_exactly(package_state: State) -> None:
    shapes = speechmos_shapes()
    assert len(shapes) == 225
    assert {name: tuple(value.shape) for name, value in to_speechmos_layout(package_state).items()} == shapes
    mapped = to_package_layout({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    expected = {name: value.shape for name, value in package_state.items() if name != REMNANT}
    assert {name: value.shape for name, value in mapped.items()} == expected


def test_there_and_back_changes_nothing_but_unused_rows(package_state: State) -> None:
    speechmos = to_speechmos_layout(package_state)
    back = to_package_layout(speechmos)
    assert all(torch.equal(value, speechmos[name]) for name, value in to_speechmos_layout(back).items())
    judges = back["output_layers.0.judge_embedding.weight"]
    assert judges.isfinite().all(dim=1).nonzero().tolist() == [[288]]
    assert torch.equal(judges[288], package_state["output_layers.0.judge_embedding.weight"][288])


def test_metric_on_a_speechmos_file_equals_the_package_layout_to_the_bit(
    speechmos_file: Path, network: UtmosNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = accept(monkeypatch, speechmos_file)
    metric = Utmos()
    assert metric.version == f"utmos22 strong, utmos-pytorch 0.1.0, weights {accepted.sha256[:12]}"
    clip = clips(1)
    assert metric.score(EMPTY, clip[0].numpy(), RATE) == float(network.scores(clip))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_scores_equal_those_of_the_package_to_the_bit(
    package_state: State, network: UtmosNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    from utmos_pytorch.utmos_torch import UTMOSScoreTorch

    def load(*args: Any, **options: Any) -> State:
        return package_state

    monkeypatch.setattr(torch, "load", load)
    package = UTMOSScoreTorch(ckpt_path=__file__)
    clip = clips(1)
    assert float(package.score(clip)) == float(network.scores(clip))


@pytest.mark.parametrize("seconds", [0.3, 0.32])  # 14 and 15 frames: the latter are padded by one inside
def test_scores_equal_another_reading_of_speechmos(package_state: State, network: UtmosNetwork, seconds: float) -> None:
    clip = clips(1, seconds)
    with torch.inference_mode():
        expected = speechmos_score(to_speechmos_layout(package_state), clip)
    torch.testing.assert_close(network.scores(clip), expected, rtol=0, atol=1e-4)


def test_batch_of_equal_lengths_equals_one_at_a_time_but_padding_shifts(network: UtmosNetwork) -> None:
    batch = clips(3)
    together = network.scores(batch)
    alone = torch.cat([network.scores(clip[None]) for clip in batch])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert together.std() > 1e-2  # so that the comparison says something
    padded = network.scores(F.pad(batch[:1], (0, RATE // 5)))
    assert (padded - alone[0]).abs() > 1e-3


@pytest.mark.parametrize("layout", ["package", "speechmos"])
def test_missing_unknown_and_misshapen_weights_are_named(package_state: State, layout: str) -> None:
    state = package_state if layout == "package" else to_speechmos_layout(package_state)
    name = next(name for name in state if name.endswith("layers.7.fc1.bias"))
    others = {other: value for other, value in state.items() if other != name}
    with pytest.raises(Unavailable, match=r"Missing key.*layers\.7\.fc1\.bias"):
        UtmosNetwork(others)
    with pytest.raises(Unavailable, match=r"something\.else"):
        UtmosNetwork(state | {"something.else": torch.zeros(1)})
    with pytest.raises(Unavailable, match=r"size mismatch.*layers\.7\.fc1\.bias"):
        UtmosNetwork(others | {name: torch.zeros(7)})


def test_nothing_at_all_is_no_layout() -> None:
    with pytest.raises(Unavailable, match="Missing key"):
        UtmosNetwork({})
    with pytest.raises(UnknownLayout, match="judge_emb has shape"):
        to_package_layout({"judge_emb": torch.zeros(2, 128)})


def saved(state: State, path: Path) -> bytes:
    torch.save(state, path)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["empty", "truncated", "other"])
def test_file_that_is_not_the_published_one_is_never_loaded(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pt"
    whole = saved({"domain_emb": torch.zeros(1, 128)}, path)
    # The package's own loader takes the last one: a file without weights.
    path.write_bytes({"empty": b"", "truncated": whole[:-7], "other": saved({}, path)}[kind])
    accepted = accept(monkeypatch, path, whole)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    metric = Utmos()

    def never(*args: object, **options: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(torch, "load", never)
    reason = f"expected {accepted.sha256}, got {found}"
    for _ in range(2):
        with pytest.raises(Unavailable, match=reason):
            metric.score(EMPTY, clips(1)[0].numpy(), RATE)
        path.unlink(missing_ok=True)  # what was found is remembered: no second reading


def test_absent_weights_are_unavailable_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_WEIGHTS", str(tmp_path))
    with pytest.raises(Unavailable) as caught:
        Utmos()
    for fact in (
        "evalkit weights fetch utmos",
        "https://github.com/tarepan/SpeechMOS/releases/download/v1.0.0/utmos22_strong_step7459_v1.pt",
        "411,179,119 bytes",
        "38aa51ab79e2a4e09a1449758a4b37e9cbb2e8235a49662a732d33a9ba1e9bff",
        str(tmp_path / "utmos22_strong_step7459_v1.pt"),
    ):
        assert fact in str(caught.value)


@pytest.mark.parametrize(
    ("signal", "rate", "reason"),
    [
        (np.full(RATE // 5, 0.1, np.float32), RATE, "lasts 0.200 s"),
        (np.full(61 * RATE, 0.1, np.float32), RATE, "lasts 61.000 s"),
        (np.full(RATE, 0.1, np.float32), 24_000, "needs 16000 Hz, got 24000 Hz"),
        (np.zeros(RATE, np.float32), RATE, "silent"),
        (np.full(RATE, np.nan, np.float32), RATE, "NaN"),
    ],
)
def test_what_has_no_score(
    signal: np.ndarray, rate: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"")
    accept(monkeypatch, path)
    with pytest.raises(Unscorable, match=reason):
        Utmos().score(EMPTY, signal, rate)


def test_published_weights_hear_the_noise(speech_root: Path) -> None:
    if find_weights("utmos") is None:
        pytest.skip("no weights of UTMOS here (evalkit weights fetch utmos)")
    metric = Utmos()
    speech, rate = read_audio(next(find_audio(speech_root / "LibriSpeech")))
    noise = np.random.default_rng(0).standard_normal(speech.size).astype(np.float32)
    noisy = speech + noise * np.sqrt(np.mean(speech**2) / 10)
    clean_score, noisy_score = (metric.score(EMPTY, signal, rate) for signal in (speech, noisy))
    assert 3 < clean_score < 5
    assert 1 < noisy_score < clean_score - 0.5
