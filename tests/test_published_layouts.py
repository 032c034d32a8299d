"""Published weights as they lie about: wrapped, renamed, in other types; or what a file holds instead, by name."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from q2d2.checkpoints import CheckpointError, read_side_file
from q2d2.published_files import UNUSED, read_state
from q2d2.published_layouts import as_float32, find_state, published_name
from tests.command import evalkit
from tests.published_models import random_state, small_description, write_yaml

WINDOW = "head.istft.window"
INITED = "feature_extractor.encodec.quantizer.vq.layers.0._codebook.inited"
ENCODER = "feature_extractor.encodec.encoder.model.0.conv.conv"
STATE = {
    f"{ENCODER}.weight_g": torch.ones(2, 1, 1), f"{ENCODER}.weight_v": torch.randn(2, 1, 3),
    "backbone.norm.weight": torch.rand(4), "head.out.bias": torch.rand(2), WINDOW: torch.hann_window(16),
}  # fmt: skip
SHAPES = {name: tuple(tensor.shape) for name, tensor in STATE.items()}


def test_every_order_of_prefixes_comes_off() -> None:
    prefixes = ("module.", "_orig_mod.", "model.", "generator.")
    for count in range(4):
        for chosen in itertools.permutations(prefixes, count):
            assert published_name("".join(chosen) + "head.out.bias") == "head.out.bias"
    encoder = "feature_extractor.encodec.encoder.model.0.conv.conv"
    assert published_name(f"{encoder}.weight_g") == f"{encoder}.weight_g"
    assert published_name(f"module.{encoder}.parametrizations.weight.original0") == f"{encoder}.weight_g"
    assert published_name(f"{encoder}.parametrizations.weight.original1") == f"{encoder}.weight_v"
    assert published_name("backbone._orig_mod.norm.module.weight") == "backbone.norm.weight"


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    return {".".join(names.get(piece, piece) for piece in name.split(".")): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda state: state, "the top"),
        (lambda state: prefixed("module._orig_mod.model.", state), "the top"),
        (lambda state: {"model": prefixed("_orig_mod.module.", state), "epoch": 1}, "model"),
        (lambda state: {"generator": state, "discriminator": {"a": torch.ones(1)}}, "generator"),
        (lambda state: {"model": {"state_dict": state}}, "model.state_dict"),
        (lambda state: {"state_dict": renamed(state)}, "state_dict"),
    ],
)
def test_wrapped_weights_are_found(wrap: Any, place: str) -> None:
    found = find_state(wrap(STATE))
    assert found.place == place
    assert found.tensors.keys() == STATE.keys()
    assert all(found.tensors[name] is tensor for name, tensor in STATE.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_converted_and_counted(dtype: torch.dtype) -> None:
    rounded = {name: tensor.to(dtype) for name, tensor in STATE.items()}
    state, converted = as_float32(rounded | {"more": torch.ones(1, dtype=dtype)}, SHAPES)
    assert converted == {str(dtype).removeprefix("torch."): len(STATE)}
    assert state["more"].dtype == dtype
    assert torch.equal(state[WINDOW], STATE[WINDOW])  # a constant: exact again
    for name in STATE.keys() - {WINDOW}:
        assert state[name].dtype == torch.float32
        assert torch.equal(state[name], rounded[name].float())
    assert as_float32(STATE, SHAPES) == (STATE, {})


def test_what_is_not_the_window_stays_so() -> None:
    other = torch.hamming_window(16).half()
    assert torch.equal(as_float32({WINDOW: other}, SHAPES)[0][WINDOW], other.float())


def test_a_flag_may_be_a_flag_and_a_claim_is_not_followed() -> None:
    state, converted = as_float32({INITED: torch.tensor([True])}, {INITED: (1,)})
    assert torch.equal(state[INITED], torch.ones(1))
    assert converted == {"bool": 1}
    endless = torch.ones(1).half().expand(10**6, 10**6)
    assert as_float32({"head.out.bias": endless}, SHAPES)[0]["head.out.bias"] is endless


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"params": {"backbones.embed.weight": torch.ones(2, 3)}, "epoch": 7},
            ["at its top are params (mapping of 1), epoch (int)", "such as backbones.embed.weight (2, 3)",
             "the nearest name is backbones.embed.weight"],
        ),
        ({"model": {"x.weight": torch.ones(5)}}, ["at its top are model (mapping of 1)", "x.weight (5,)"]),
        (torch.ones(2), ["it holds tensor (2,)"]),
        ({}, ["an empty mapping"]),
        ({f"name{number}\n": number for number in range(99)}, [r"'name0\n' (int)", "and 93 more"]),
        ({"model": {"head.a": torch.ones(1)}, "generator": {"head.a": torch.ones(1)}}, ["under model and generator"]),
        ({"head.a": torch.ones(1), "module.head.a": torch.ones(1)}, ["for head.a: head.a and module.head.a"]),
    ],
)  # fmt: skip
def test_what_is_there_instead_is_named(tmp_path: Path, content: Any, words: list[str]) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError) as caught:
        read_state(tmp_path / "x.ckpt")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "x.ckpt") in str(caught.value)
    assert len(str(caught.value)) < 900
    for word in words:
        assert word in str(caught.value)


def test_the_terminal_says_what_was_done(tmp_path: Path) -> None:
    config = write_yaml(tmp_path / "x.yaml", small_description("q2d2"))
    state = random_state(config, "q2d2")
    state["head.out.bias"] = state["head.out.bias"].half()
    state[WINDOW] = state[WINDOW].half()
    torch.save({"generator": prefixed("module.", state)}, tmp_path / "x.ckpt")
    done = evalkit("import", "q2d2", tmp_path / "x.ckpt", "--config", config, "-o", tmp_path / "out")
    assert done.status == 0
    assert ", weights under generator" in done.out
    assert "converted   to float32: 2 from float16" in done.out
    kept = read_side_file(tmp_path / "out", UNUSED)
    assert kept is not None
    assert torch.equal(kept[WINDOW], torch.hann_window(len(state[WINDOW])))
