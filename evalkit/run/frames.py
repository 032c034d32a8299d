"""Frames as Parquet files: written whole, and every page with a checksum that is verified when it is read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from q2d2.files import whole


def write_parquet(frame: pd.DataFrame, path: Path) -> bool:
    """Write a frame without its index; False where the file held the same rows already and is left as it is.

    Raises:
        OSError: it cannot be written; the message names `path`.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    if path.is_file():
        try:
            if pq.read_table(path, page_checksum_verification=True).equals(table):
                return False
        except (OSError, ValueError):  # damaged: written anew
            pass
    with whole(path) as part:
        pq.write_table(table, part, write_page_checksum=True)
    return True


def read_parquet(path: Path) -> pd.DataFrame:
    """The rows of a file, also of one written before pages had checksums.

    Raises:
        OSError: it cannot be read, or a page is damaged.
        ValueError: it is no Parquet file.
    """
    frame: pd.DataFrame = pd.read_parquet(path, page_checksum_verification=True)
    return frame
