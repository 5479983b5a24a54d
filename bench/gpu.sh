#!/bin/sh
# Everything that a machine with a GPU should answer, in one call of under eight minutes and one file:
#     sh bench/gpu.sh [FILE]        (default: gpu-results.json; PYTHON=... to choose an interpreter; LETHE_DATA=... for real images)
# First the tests that need a GPU, then `bench.gpu`: correctness, roofline, throughput, projection; then how cost grows. Needs torch, torchvision, timm, numpy,
# pandas, pyarrow, scikit-learn, jaxtyping and pytest; no DuckDB, no Streamlit.
set -u
cd "$(dirname "$0")/.." || exit 1
FILE="${1:-gpu-results.json}"
PYTHON="${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}"
LOG="${FILE%.json}.tests.txt"
# without the options of pyproject.toml, which name packages that a bare GPU machine may lack
timeout 120 "$PYTHON" -m pytest -q -o addopts=--import-mode=importlib -o filterwarnings= -o timeout=0 -m gpu tests/gpu >"$LOG" 2>&1
TESTS=$?
tail -n 3 "$LOG"
timeout 290 "$PYTHON" -m bench.gpu --out "$FILE" --tests "$TESTS" --log "$LOG" --seconds 270
timeout 60 "$PYTHON" -m bench.growth --device cuda | tee "${FILE%.json}.growth.md"
