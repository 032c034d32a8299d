"""A kind whose reader is at fault, to see that the driver counts it."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz.driver import Silent


class Careless:
    """Raises, takes nonsense for data, or speaks in two lines."""

    name = "careless"
    count = 4

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, rng: random.Random, number: int) -> None:
        if number == 0:
            raise Silent("half of it")
        if number == 1:
            raise KeyError(number)
        if number == 2:
            raise OSError("two\nlines")
        if number == 3:
            bytearray(2**30 + 2**28)[:: 2**12] = bytes((2**30 + 2**28) // 2**12)
        if number == 4:
            while True:
                pass
