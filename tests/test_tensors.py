"""Tensors from files: each fault by the name of the tensor, flags and counters known, nothing taken on trust."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from q2d2.tensors import UnreadableTensors, listed, read_safetensors, tensor_faults, value_faults

EXPECTED = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()


def changed(name: str, tensor: object) -> list[str]:
    return tensor_faults(EXPECTED | {name: tensor}, EXPECTED)  # type: ignore[arg-type]


def test_healthy_weights_have_no_faults() -> None:
    assert tensor_faults(EXPECTED, EXPECTED) == []
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert changed("0.weight", EXPECTED["0.weight"].to(dtype)) == []
    assert tensor_faults({"a": torch.empty(0, 3)}, {"a": torch.empty(0, 3)}) == []


@pytest.mark.parametrize(
    ("name", "tensor", "fault"),
    [
        ("0.bias", torch.tensor([1, torch.nan, 2]), "0.bias: 1 of 3 values are not finite"),
        ("0.bias", torch.tensor([torch.inf, -torch.inf, 2]), "0.bias: 2 of 3 values are not finite"),
        ("0.bias", torch.tensor([1e300, 1, 2], dtype=torch.float64), "0.bias: 1 of 3 values are not finite"),
        ("0.bias", torch.ones(3, dtype=torch.int64), "0.bias: int64, expected float32 (or float16, bfloat16, float64)"),
        ("0.bias", torch.ones(3, dtype=torch.bool), "0.bias: bool, expected float32"),
        ("0.bias", torch.ones(3, dtype=torch.complex64), "0.bias: complex64, expected float32"),
        ("0.bias", torch.ones(3).to(torch.float8_e4m3fn), "0.bias: float8_e4m3fn, expected float32"),
        ("0.bias", torch.ones(3, device="meta"), "0.bias: a shape without values (device meta)"),
        ("0.bias", torch.ones(3).to_sparse(), "0.bias: sparse_coo, expected a dense tensor"),
        ("0.bias", torch.ones(1).expand(10**6, 10**6, 10**6), "0.bias: shape (1000000, 1000000, 1000000), "),
        ("0.bias", [1.0], "0.bias: list, expected a tensor"),
        ("1.num_batches_tracked", torch.tensor(1.0), "1.num_batches_tracked: float32, expected int64"),
        ("0.bias\nx", torch.ones(3), "unexpected '0.bias\\nx'"),
    ],
)  # fmt: skip
def test_faults_are_named(name: str, tensor: Tensor, fault: str) -> None:
    faults = changed(name, tensor)
    assert len(faults) == 1
    assert faults[0].startswith(fault)


def test_missing_entries_name_the_nearest() -> None:
    state = dict(EXPECTED)
    state["0.weights"] = state.pop("0.weight")
    assert tensor_faults(state, EXPECTED) == [
        "missing 0.weight",
        "unexpected 0.weights (like 0.weight)",
    ]
    assert listed([str(number) for number in range(7)]) == "0; 1; 2; 3; 4; and 2 more"


def test_without_shapes_all_but_the_named_are_numbers() -> None:
    state = {"a": torch.ones(2), "flag": torch.tensor(True), "b": torch.tensor([torch.nan])}
    assert value_faults(state, {"flag"}) == ["b: 1 of 1 values are not finite"]
    assert "flag: bool" in value_faults(state)[1]


def test_files_come_back_with_their_texts(tmp_path: Path) -> None:
    save_file({"a": torch.arange(3)}, tmp_path / "x.safetensors", {"note": "ü"})
    tensors, texts = read_safetensors(tmp_path / "x.safetensors")
    assert torch.equal(tensors["a"], torch.arange(3))
    assert texts == {"note": "ü"}


def header(content: object, claimed: int | None = None, data: bytes = b"") -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"", b"1234", header(b"", 2**63), header(b"{", 10**9), header(b"[" * 10**5), header({"a": 1}),
        header({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, data=b"1234"),
        header({"a": {"dtype": "F77", "shape": [1], "data_offsets": [0, 4]}}, data=b"1234"),
        header({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in "ab"}, data=b"1234"),
    ],
)  # fmt: skip
def test_headers_that_lie_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(UnreadableTensors, match=r"x\.safetensors cannot be read as a \.safetensors file: .") as caught:
        read_safetensors(tmp_path / "x.safetensors")
    assert "\n" not in str(caught.value)
    with pytest.raises(UnreadableTensors, match="No such file"):
        read_safetensors(tmp_path / "absent.safetensors")
