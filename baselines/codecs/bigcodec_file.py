"""The published file of BigCodec: its entries, and the network filled from them; strict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from baselines.codecs import CodecError
from baselines.codecs.bigcodec_model import BigCodecNetwork, BigCodecSizes
from q2d2.tensors import listed, tensor_faults
from q2d2.torch_files import TorchFileError, read_torch

Shapes = dict[str, tuple[int, ...]]

# The state dicts in the file; what else it may hold is passed over, as the published code does.
PARTS = {"CodecEnc": "encoder", "generator": "decoder"}
_GAIN, _DIRECTION = "_g", "_v"
_NORMALIZED = (nn.Conv1d, nn.ConvTranspose1d, nn.Linear)
_WAY_OUT = "Fetch the published one: evalkit weights fetch bigcodec"


def published_shapes(module: nn.Module) -> Shapes:
    """Names and shapes of what the file holds for an encoder or a decoder: gain and direction for a normalized weight.

    Weight normalization (arXiv 1602.07868) is over all but the first dimension.
    """
    shapes: Shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    for name in _normalized(module):
        shape = shapes.pop(name)
        shapes |= {name + _GAIN: shape[:1] + (1,) * (len(shape) - 1), name + _DIRECTION: shape}
    return shapes


def load_network(file: Path, sizes: BigCodecSizes | None = None) -> BigCodecNetwork:
    """The network with the weights of `file`, float32, in eval mode, on the CPU.

    Args:
        file: as the authors published it: {"CodecEnc": state dict, "generator": state dict}. Nothing but tensors and
            plain values is ever loaded (`weights_only`).
        sizes: of its network; None: the published ones.

    Raises:
        CodecError: no such file, damaged, or objects beside tensors; an entry is missing, unknown, no float32, of
            another shape, or gives weights that are not finite. The message names the file and the entries.
    """
    content = _read(file)
    with torch.device("meta"):  # nothing to initialize: every weight comes from the file
        network = BigCodecNetwork(sizes)
    states: dict[str, Mapping[str, Tensor]] = {}
    faults: list[str] = []
    for part, attribute in PARTS.items():
        state = content.get(part)
        if not isinstance(state, Mapping):
            faults.append(f"missing {part}, a state dict")
            continue
        states[part] = {str(name): value for name, value in state.items()}
        shapes = published_shapes(network.get_submodule(attribute))
        faults += tensor_faults(
            {f"{part}.{name}": value for name, value in states[part].items()},
            {f"{part}.{name}": torch.empty(shape, device="meta") for name, shape in shapes.items()},
            floats=(torch.float32,),
        )
    _refuse(file, faults)
    network.to_empty(device="cpu")
    for part, attribute in PARTS.items():
        faults += [f"not finite: {part}.{name}" for name in _fill(network.get_submodule(attribute), states[part])]
    _refuse(file, faults)
    return network.eval().requires_grad_(False)


def _normalized(module: nn.Module) -> list[str]:
    """Names of the weights that the file holds as gain and direction."""
    return [f"{name}.weight" for name, child in module.named_modules() if isinstance(child, _NORMALIZED)]


def _read(file: Path) -> Mapping[Any, Any]:
    try:
        content = read_torch(file)
    except TorchFileError as error:
        raise CodecError(f"{error}. {_WAY_OUT}") from error
    if not isinstance(content, Mapping):
        raise CodecError(f"{file} holds {type(content).__name__}, expected {' and '.join(PARTS)}. {_WAY_OUT}")
    return content


def _refuse(file: Path, faults: list[str]) -> None:
    if faults:
        raise CodecError(f"{file} is not of this BigCodec: {listed(faults)}. {_WAY_OUT}")


@torch.no_grad()
def _fill(module: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Copy the checked `state` into `module`; names of the weights that are then not finite."""
    normalized = set(_normalized(module))
    wrong = []
    for name, target in module.state_dict().items():
        if name in normalized:
            gain, direction = state[name + _GAIN], state[name + _DIRECTION]
            norm = torch.linalg.vector_norm(direction, dim=tuple(range(1, direction.dim())), keepdim=True)
            target.copy_(direction * (gain / norm))
        else:
            target.copy_(state[name])
        if not bool(target.isfinite().all()):
            wrong.append(name)
    return wrong
