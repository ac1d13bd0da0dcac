"""The executors that come with noisewright."""

from __future__ import annotations

from noisewright.registry.kinds import Entry

EXECUTORS = [
    Entry(
        "executor", "local", "one worker in this process; servers are asked while the next images are denoised",
        "noisewright.executors.local:LocalExecutor",
    ),
    Entry(
        "executor", "ray", "workers on the machines of a Ray cluster, ray:HOST:PORT, or in processes of this one, ray",
        "noisewright.executors.ray:RayExecutor",
        {
            "options": "workers, gpus_per_worker, verifier_workers, cpus_per_worker",
            "install": "pip install 'noisewright[ray]'",
        },
    ),
]  # fmt: skip
