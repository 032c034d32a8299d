#!/bin/sh
# Guards a codec: scores what it decoded, compares that with a run that is known to be good, and ends with
# 0 same or better, 1 worse, 2 not comparable or broken.
#
#   BASELINE   folder of the good run: run.json and the .parquet files of an earlier OUT/run, committed
#   ORIGINALS  folder of the original recordings; what is scored and what BASELINE was scored on must be the same files
#   DECODED    folder of what the codec decoded, under the same names
#   GATE       gate.yaml; default: the built-in thresholds
#   METRICS    default: pesq,stoi,mel_distance,si_sdr
#   OUT        where the run and comparison.md are written; default: codec-gate
#
# The first time, and whenever the codec is meant to change, make the baseline:
#   evalkit score ORIGINALS DECODED --metrics METRICS --out OUT/run
#   mkdir -p BASELINE && cp OUT/run/run.json OUT/run/*.parquet BASELINE/
set -eu

: "${BASELINE:?folder of the good run}" "${ORIGINALS:?folder of the originals}" "${DECODED:?folder of decoded audio}"
OUT=${OUT:-codec-gate}
rm -f "$OUT/comparison.md" # of an earlier call

# Scores that fail are rows with a reason: whether they are new is for the comparison to say.
evalkit score "$ORIGINALS" "$DECODED" --metrics "${METRICS:-pesq,stoi,mel_distance,si_sdr}" \
    --out "$OUT/run" --allow-failures 1000000 || exit 2

set -- "$BASELINE" "$OUT/run" ${GATE:+--gate "$GATE"}
evalkit compare "$@" --format markdown --out "$OUT/comparison.md" >/dev/null || true
evalkit compare "$@"
