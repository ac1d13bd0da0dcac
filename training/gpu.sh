#!/bin/bash
# Trains the bundled models further, each for MINUTES, from their present weights, and keeps what is better on the dev
# prompts (cifar10: by FID); nothing is overwritten by what is not. Says what it kept, with figures.
#     training/gpu.sh MINUTES [--only NAME] [--tiny] [--speed] [--work DIR] [--models DIR] [--data DIR]
# NAME: shapes (with its text encoder), shapes-clip, shapes-reward, cifar10. --data: CIFAR-10's parquet files.
# --speed: train only. --tiny: on the CPU, at a size at which nothing is learned, to see that it runs.
set -uo pipefail
cd "$(dirname "$0")/.."
usage() { sed -n '2,6s/^# //p' "$0" >&2; exit 2; }
[[ "${1:-}" =~ ^[0-9]*\.?[0-9]+$ ]] || usage
minutes=$1; shift
names=(shapes shapes-clip shapes-reward cifar10)
work=runs/further; data=(); common=(); device=cuda
while (($#)); do
    case $1 in
        --only) [[ " ${names[*]} " == *" ${2:-} "* ]] || usage; names=("$2"); shift 2 ;;
        --work) work=${2:?}; shift 2 ;;
        --models) common+=(--models "${2:?}"); shift 2 ;;
        --data) data=(--data "${2:?}"); shift 2 ;;
        --tiny) common+=(--tiny); device=cpu; shift ;;
        --speed) common+=(--speed); shift ;;
        *) usage ;;
    esac
done
PYTHON=${PYTHON:-python3}
export PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$work"
failed=0
for name in "${names[@]}"; do
    echo "== $name, $minutes minutes on $device"
    if [[ $name == cifar10 ]]; then
        script=(training/cifar10/further.py "${data[@]}")
    else
        script=(training/shapes/further.py "$name")
    fi
    "$PYTHON" "${script[@]}" --minutes "$minutes" --device "$device" --work "$work" "${common[@]}" || failed=1
done
echo "== in $work/further-NAME.json; where weights were kept, measure again and write the cards anew: evaluate.py, card"
exit $failed
