#!/bin/bash
# Downloads what a CUDA machine without network lacks, into wheels/ (which git ignores): diffusers, and the few packages
# that are not found beside torch and transformers. For Python 3.12 on x86-64 Linux.
#     benchmarks/gpu_wheels.sh [PACKAGE==VERSION ...]    further packages that the machine lacks
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
PACKAGES=(
    diffusers==0.42.1 importlib_metadata==10.2.0 lazy-importer==0.1.0
    pydantic==2.14.3 pydantic_core==2.50.4 annotated-types==0.8.0 typing-inspection==0.4.5
    typing-extensions==4.16.0 cmaes==0.13.1
)
rm -rf wheels && mkdir wheels
"$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: --dest wheels --python-version 3.12 \
    --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 "${PACKAGES[@]}" "$@"
ls -l wheels
