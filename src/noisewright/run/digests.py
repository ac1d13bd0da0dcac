"""What tells a file's bytes from others, and whether ``run.json`` is as it was written."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest_of(data: bytes) -> str:
    """What tells a file's bytes from others: 32 hex digits of their SHA-256."""
    return hashlib.sha256(data).hexdigest()[:32]


def check_of(run: dict[str, Any]) -> str:
    """The checksum of what ``run.json`` says besides it."""
    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:16]


def sealed(run: dict[str, Any]) -> bytes:
    """``run.json`` with its checksum."""
    return json.dumps({**run, "check": check_of(json.loads(json.dumps(run)))}, indent=1).encode()
