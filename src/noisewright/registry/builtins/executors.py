"""The executors that come with noisewright."""

from __future__ import annotations

from noisewright.registry.kinds import Entry

EXECUTORS = [
    Entry(
        "executor", "local", "one worker in this process; servers are asked while the next images are denoised",
        "noisewright.executors.local:LocalExecutor",
    ),
]  # fmt: skip

NOT_YET = ("ray",)
"""Names that are spoken of, and will be executors."""
