#!/bin/bash
# Measures on a CUDA machine without network: installs what benchmarks/gpu_wheels.sh brought along into a directory of its
# own, checks the versions against pyproject.toml, and runs benchmarks/gpu.py with the options given.
#     benchmarks/gpu.sh --minutes 9 --out runs/gpu
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
SITE=${SITE:-$(mktemp -d)}
WHEELS=${WHEELS:-wheels}
if compgen -G "$WHEELS/*.whl" > /dev/null; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$SITE" \
        "$WHEELS"/*.whl
    export PYTHONPATH="$SITE${PYTHONPATH:+:$PYTHONPATH}"
fi
"$PYTHON" - << 'CHECK'
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from packaging.requirements import Requirement

with open("pyproject.toml", "rb") as file:
    needed = tomllib.load(file)["project"]["dependencies"]
wrong = []
for one in map(Requirement, needed):
    try:
        found = version(one.name)
    except PackageNotFoundError:
        found = None
    if found is None or not one.specifier.contains(found, prereleases=True):
        wrong.append(f"{one} (here: {found or 'none'})")
if wrong:
    sys.exit(f"expected {', '.join(wrong)}: benchmarks/gpu_wheels.sh NAME==VERSION brings more along")
CHECK
exec "$PYTHON" benchmarks/gpu.py "$@"
