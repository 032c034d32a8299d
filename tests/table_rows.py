"""Rows of systems.parquet and utterances.parquet for tests of tables."""

from __future__ import annotations

DATASET = "librispeech/test-clean"


def system_row(name: str, kind: str = "codec", bits: float | None = 19.0, **values: object) -> dict[str, object]:
    row = {
        "system": name,
        "kind": kind,
        "bits_per_frame": bits,
        "bitrate": bits * 50 if bits else None,
        "tokens_per_second": 150.0 if bits else None,
        "utilization": 0.9 if bits else None,
        "normalized_entropy": 0.95 if bits else None,
        "entropy_bitrate": bits * 45 if bits else None,
        "rtf_encode": 0.01,
        "rtf_decode": 0.02,
        "rtf_detail": "batch 1, 5 s, 2 threads",
        "parameters": 4_123_456,
    }
    return row | values


def score_rows(system: str, metric: str, values: list[float | None], dataset: str = DATASET) -> list[dict[str, object]]:
    return [
        {
            "system": system,
            "dataset": dataset,
            "utterance": f"u{number}",
            "speaker": None,
            "metric": metric,
            "value": value,
            "status": "failed" if value is None else "ok",
            "detail": "no utterance detected" if value is None else "",
            "seconds": 0.1,
        }
        for number, value in enumerate(values)
    ]
