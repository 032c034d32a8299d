"""What the tensors in a file have to be before anything is computed with them: one check, whoever wrote the file."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from q2d2.errors import UserError, printable, shown

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# Of 60 bytes a tensor, as that of the largest whole codec has; the library itself takes 100 MB.
MAX_HEADER_BYTES = 16 * 2**20
_LISTED = 5


class UnreadableTensors(UserError, ValueError):
    """A file of tensors that cannot be read; the message names it and says why."""


def tensor_faults(
    given: Mapping[str, object],
    expected: Mapping[str, Tensor],
    *,
    floats: Collection[torch.dtype] = FLOATS,
    without_values: Collection[str] = (),
) -> list[str]:
    """What keeps `given` from being the weights `expected`, a phrase for each fault; empty where nothing does.

    All names have to be there and no others, each a dense tensor of the right shape that holds numbers: of `floats`,
    and finite in the expected type, where floating-point numbers are expected, else of that very type (flags).

    Args:
        given: as read from a file.
        expected: shapes and types, such as a module's state dict; on the device meta they need no memory.
        floats: the types that may stand for floating-point numbers.
        without_values: names that may be on the device meta.
    """
    missing = sorted(expected.keys() - given.keys())
    faults = [f"missing {name}" for name in missing]
    for name in sorted(given.keys() - expected.keys()):
        close = difflib.get_close_matches(name, missing[:_LISTED], n=1) if len(name) < 200 and len(faults) < 99 else []
        faults.append(f"unexpected {printable(name)}" + (f" (like {close[0]})" if close else ""))
    for name in sorted(expected.keys() & given.keys()):
        faults += [f"{name}: {fault}" for fault in _faults(given[name], expected[name], floats, name in without_values)]
    return faults


def value_faults(tensors: Mapping[str, Tensor], integers: Collection[str] = ()) -> list[str]:
    """As `tensor_faults` where no shapes are known: all are finite floating-point numbers, but for `integers`."""
    expected = {name: tensor if name in integers else _like(tensor) for name, tensor in tensors.items()}
    return tensor_faults(tensors, expected)


def listed(faults: list[str]) -> str:
    """The first few faults as one text."""
    more = f"; and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
    return "; ".join(faults[:_LISTED]) + more


def short_name(dtype: torch.dtype) -> str:
    """float32 for torch.float32."""
    return str(dtype).removeprefix("torch.")


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a .safetensors file, mapped into memory, and the texts of its header.

    Raises:
        UnreadableTensors: there is no such file, it is damaged, or its header is beyond any bound.
    """
    try:
        with path.open("rb") as raw:
            claimed = int.from_bytes(raw.read(8), "little")
        if claimed > MAX_HEADER_BYTES:
            raise ValueError(f"its header claims {claimed:,} bytes, at most {MAX_HEADER_BYTES:,} are read")
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except _UNREADABLE as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UnreadableTensors(f"{path} cannot be read as a .safetensors file: {printable(reason)}") from error


# What safetensors and torch raise on damage; the last three for types that this torch has not.
_UNREADABLE = (
    OSError, SafetensorError, ValueError, TypeError, RuntimeError, OverflowError, MemoryError, KeyError, AttributeError,
)  # fmt: skip


def _like(tensor: object) -> Tensor:
    shape = tensor.shape if isinstance(tensor, Tensor) else ()
    return torch.empty(shape, device="meta")


def _faults(value: object, expected: Tensor, floats: Collection[torch.dtype], may_be_empty: bool) -> list[str]:
    if not isinstance(value, Tensor):
        return [f"{type(value).__name__}, expected a tensor"]
    if value.shape != expected.shape:
        return [f"shape {shown(tuple(value.shape))}, expected {tuple(expected.shape)}"]
    allowed = tuple(floats) if expected.is_floating_point() else (expected.dtype,)
    if value.dtype not in allowed:
        first, *others = map(short_name, allowed)
        return [f"{short_name(value.dtype)}, expected {first}" + (f" (or {', '.join(others)})" if others else "")]
    if value.layout != torch.strided:
        return [f"{str(value.layout).removeprefix('torch.')}, expected a dense tensor"]
    if value.is_meta:
        return [] if may_be_empty else ["a shape without values (device meta)"]
    if not value.is_floating_point() or value.numel() == 0:
        return []
    extremes = torch.stack(value.detach().aminmax())  # takes no memory, and nan wins in both
    if extremes.to(expected.dtype).isfinite().all():
        return []
    return [f"{int((~value.to(expected.dtype).isfinite()).sum()):,} of {value.numel():,} values are not finite"]
