"""Put a trained backbone into the package as a named float16 checkpoint.

python tools/ship_checkpoint.py runs/backbone/checkpoints/unquantized tiny
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from q2d2.checkpoints import PRETRAINED, WEIGHTS, load_codec, read_description, save_codec

MAX_BYTES = 5_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="checkpoint folder of a run")
    parser.add_argument("name", help="name it ships under")
    arguments = parser.parse_args()
    target = PRETRAINED / arguments.name
    save_codec(load_codec(arguments.source), target, read_description(arguments.source)["metadata"], torch.float16)
    size = (target / WEIGHTS).stat().st_size
    if size > MAX_BYTES:
        raise SystemExit(f"{target / WEIGHTS} has {size:,} bytes, more than {MAX_BYTES:,}: not for the package")
    print(f"{target}: {size:,} bytes; describe it in {target / 'README.md'}")


if __name__ == "__main__":
    main()
