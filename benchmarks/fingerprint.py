"""What a fingerprint of every byte costs, in GB/s and beside ``hashlib`` over the same bytes in one buffer.

- ``hashlib``: SHA-256 of one buffer, which is what there is to reach on one thread;
- ``first``: a network that was not seen before, hashed with one thread and with those that there are;
- ``again``: the same network once more, unchanged: the checksum alone;
- ``kept``: the same files loaded by another process, whose digest is in the cache: the checksum, and reading the cache.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from noisewright.samplers import contents
from noisewright.samplers.contents import digest_of_network, loaded_from


def network(gigabytes: float) -> torch.nn.Module:
    """Layers of 4 to 64 MB in bfloat16, as transformers have them."""
    made, held = torch.nn.ModuleList(), 0
    for number in range(10_000):
        wide = (2**11, 2**10, 2**12)[number % 3]
        made.append(torch.nn.Linear(wide, 2 * wide, dtype=torch.bfloat16))
        held += 4 * wide * (wide + 1)
        if held > gigabytes * 1e9:
            break
    made.config = {}
    return made


def timed(function, repeats: int) -> float:
    """The median of some times in seconds."""
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()

    made = network(given.gigabytes)
    size = sum(one.nbytes for one in made.parameters()) / 1e9
    buffer = torch.cat([one.detach().reshape(-1).view(torch.uint8) for one in made.parameters()]).numpy()

    def first(workers: int) -> None:
        contents._known.clear()
        contents.WORKERS = workers
        digest_of_network(made, "network")

    def kept() -> None:
        contents._known.clear()
        digest_of_network(made, "network")

    base = timed(lambda: hashlib.sha256(buffer).digest(), given.repeats)
    rows = [("hashlib", base), ("first, 1 thread", timed(lambda: first(1), given.repeats))]
    threads = min(4, os.cpu_count() or 1)
    rows.append((f"first, {threads} threads", timed(lambda: first(threads), given.repeats)))
    rows.append(("again", timed(lambda: digest_of_network(made, "network"), given.repeats)))
    with tempfile.TemporaryDirectory() as place:
        os.environ["XDG_CACHE_HOME"] = place
        (Path(place) / "weights").mkdir()
        (Path(place) / "weights" / "weights.safetensors").write_bytes(b"0")
        made.config = {"_name_or_path": str(Path(place) / "weights")}
        loaded_from(made, "bfloat16")
        first(threads)  # which writes the cache
        rows.append(("kept", timed(kept, given.repeats)))
    print(f"{size:.2f} GB in {len(list(made.parameters()))} tensors, torch on {torch.get_num_threads()} threads")
    for name, seconds in rows:
        print(f"{name:18} {seconds:7.3f} s {size / seconds:7.2f} GB/s {base / seconds:7.2f} x hashlib")


if __name__ == "__main__":
    main()
