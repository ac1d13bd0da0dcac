"""Writes ``distribution.json`` with torch-fidelity and prdc on given features; run by hand, not by the tests.

    python -m venv golden && . golden/bin/activate
    pip install torch==2.13.0 numpy==2.4.6 scipy==1.17.1 pillow requests tqdm
    pip install scikit-learn==1.9.1 prdc==0.2
    pip install --no-deps torch-fidelity==0.4.0 torchvision==0.28.0
    python tests/golden/make_distribution.py

KID is of one subset, the first images of each side, so that no drawing enters; the Inception Score's order is kept.
"""

import json
from importlib.metadata import version
from pathlib import Path

import torch
from distribution_inputs import CASES, NEIGHBOURS, SPLITS, features, logits

# torchvision's compiled operators are missing beside a CPU build of torch; it only wants their names.
_operators = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _operators.define(f"{_name}(Tensor boxes, Tensor scores, float most) -> Tensor")

from prdc import compute_prdc  # noqa: E402
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric  # noqa: E402
from torch_fidelity.metric_isc import isc_features_to_metric  # noqa: E402
from torch_fidelity.metric_kid import kid_features_to_metric  # noqa: E402
from torch_fidelity.metric_prc import prc_features_to_metric  # noqa: E402


def case(name: str) -> dict[str, float]:
    first, second = (torch.from_numpy(one) for one in features(name))
    found = fid_statistics_to_metric(fid_features_to_statistics(first), fid_features_to_statistics(second), False)
    size = min(len(first), len(second))
    found |= kid_features_to_metric(first[:size], second[:size], kid_subsets=1, kid_subset_size=size, verbose=False)
    for k in NEIGHBOURS:
        part = prc_features_to_metric(first, second, prc_neighborhood=k, verbose=False)
        of_authors = compute_prdc(second.numpy(), first.numpy(), k)
        part |= {key: of_authors[key] for key in ("density", "coverage")}
        found |= {f"{key}_{k}": float(value) for key, value in part.items()}
    return found


def main() -> None:
    packages = {name: version(name) for name in ("torch-fidelity", "prdc", "torch", "numpy")}
    score = isc_features_to_metric(torch.from_numpy(logits()), SPLITS, shuffle=False)
    found = {"packages": packages, "cases": {name: case(name) for name in CASES}, "inception_score": score}
    Path(__file__).with_name("distribution.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
