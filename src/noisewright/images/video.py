"""Videos as files, written by the ffmpeg that imageio-ffmpeg brings along (``noisewright[video]``)."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import numpy as np

MISSING = (
    "no .mp4 of the videos without imageio-ffmpeg (pip install 'noisewright[video]'); the .png of their key frames is "
    "there all the same"
)


def can_encode() -> bool:
    """Whether videos can be written here."""
    return importlib.util.find_spec("imageio_ffmpeg") is not None


def encode_mp4(frames: np.ndarray, fps: float) -> bytes:
    """An H.264 video that browsers play.

    Args:
        frames: (frames, height, width, 3) uint8; an odd height or width has its last line of pixels repeated, which the
            format asks for.
        fps: frames a second.

    Raises:
        OSError: where ffmpeg fails.
    """
    import imageio_ffmpeg

    odd = frames.shape[1] % 2, frames.shape[2] % 2
    even = np.pad(frames, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0)), mode="edge") if any(odd) else frames
    with tempfile.TemporaryDirectory(prefix="noisewright-") as place:
        file = Path(place) / "video.mp4"
        writer = imageio_ffmpeg.write_frames(
            str(file), (even.shape[2], even.shape[1]), fps=fps, quality=8, macro_block_size=2, ffmpeg_log_level="error"
        )
        writer.send(None)
        try:
            for one in even:
                writer.send(np.ascontiguousarray(one))
        finally:
            writer.close()
        return file.read_bytes()
