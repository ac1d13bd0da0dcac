"""The images endpoint of a server of runs: what its start says, as the endpoint's own settings."""

from __future__ import annotations

from typing import Any

from noisewright.web.openai.public import by_public_name
from noisewright.web.openai.settings import ImagesSettings
from noisewright.web.settings import LIMITS, Settings


def images_settings(settings: Settings) -> ImagesSettings:
    """What requests for images may name and cost, by a server's start.

    A request names a model as people know it: of a directory or a file its last part, never this machine's paths.
    """
    typed: dict[str, Any] = {LIMITS[name][1]: value for name, value in settings.typed.items()}
    typed.setdefault("most_images", max(ImagesSettings.most_images, *settings.tiers.values()))
    return ImagesSettings(
        runs=settings.runs, models=by_public_name(settings.models), verifiers=settings.verifiers, tiers=settings.tiers,
        most_upload=settings.limits.upload, load_first=settings.preload, device=settings.device, dtype=settings.dtype,
        **typed,
    )  # fmt: skip
