"""bfloat16 on a CPU: found wrong where it is, and then refused with the way out."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from q2d2 import bfloat16
from q2d2.bfloat16 import WrongArithmetic, check_bfloat16
from q2d2.bottleneck import build_bottleneck
from q2d2.codec import Codec
from q2d2.codec.inference import prepare_for_inference
from q2d2.training.processes import launch
from tests.small_training import SMALL


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that is wrong by 10 % in bfloat16, as long as the test runs."""

    def conv1d(signal, weight, stride):
        right = torch.nn.functional.conv1d(signal, weight, stride=stride)
        return right * 1.1 if signal.dtype == torch.bfloat16 else right

    check_bfloat16.cache_clear()
    monkeypatch.setattr(bfloat16, "conv1d", conv1d)
    yield
    check_bfloat16.cache_clear()


def test_it_is_right_here():
    check_bfloat16()


def test_nothing_is_prepared_or_trained_in_it_where_it_is_wrong(wrong):
    codec = Codec(SMALL, build_bottleneck("null", SMALL.dimension))
    with pytest.raises(WrongArithmetic, match="ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16, or compute in float32"):
        prepare_for_inference(codec, torch.bfloat16)
    prepare_for_inference(codec)
    with pytest.raises(WrongArithmetic):
        launch("cpu", "bf16-mixed")
    launch("cpu", "32-true")


def test_a_result_that_is_not_finite_is_wrong(monkeypatch, wrong):
    monkeypatch.setattr(bfloat16, "conv1d", lambda signal, weight, stride: torch.full((1,), float("nan")))
    with pytest.raises(WrongArithmetic):
        check_bfloat16()


def test_with_all_instructions_it_is_right_or_refused():
    """The check must see what makes the real encoder wrong, on whatever processor this is."""
    code = (
        "import torch; from q2d2.checkpoints import load_codec; from q2d2.bfloat16 import *;\n"
        "codec = load_codec('tiny'); torch.manual_seed(0); audio = 0.1 * torch.randn(1, 16000)\n"
        "with torch.inference_mode():\n"
        "    right = codec.latents(audio)\n"
        "    with torch.autocast('cpu', torch.bfloat16): made = codec.latents(audio).float()\n"
        "error = float((made - right).norm() / right.norm())\n"
        "try: check_bfloat16()\n"
        "except WrongArithmetic: print('refused', error)\n"
        "else: print('right', error)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "ONEDNN_MAX_CPU_ISA"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    verdict, error = done.stdout.split()
    assert verdict == "refused" or float(error) < 0.2
