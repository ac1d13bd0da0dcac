"""The images endpoint of a server of runs: what its start says, as the endpoint's own settings."""

from __future__ import annotations

from noisewright.images.metadata import public_name
from noisewright.web.openai.settings import ImagesSettings
from noisewright.web.settings import Settings


def images_settings(settings: Settings) -> ImagesSettings:
    """What requests for images may name and cost, by a server's start.

    A request names a model as people know it: of a directory or a file its last part, never this machine's paths.
    """
    models: dict[str, str] = {}
    for typed in settings.models:
        name, number = public_name(typed), 2
        while name in models:
            name, number = f"{public_name(typed)}-{number}", number + 1
        models[name] = typed
    return ImagesSettings(
        runs=settings.runs, models=models, verifiers=settings.verifiers, tiers=settings.tiers,
        most_images=max(ImagesSettings.most_images, *settings.tiers.values()), most_upload=settings.limits.upload,
        load_first=settings.preload,
    )  # fmt: skip
