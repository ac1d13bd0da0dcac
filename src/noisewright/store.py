"""A run is a directory: ``run.json``, ``journal.jsonl``, ``images/`` and ``states/``.

The journal is append-only: a line per finished piece of work, flushed and synced before anything builds on it. A line
torn by a crash is cut off at the next opening. ``run.json`` is replaced atomically.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisewright.errors import RunInterrupted, RunMismatch

if TYPE_CHECKING:  # reading a run (``noisewright show``) must not wait for torch
    from torch import Tensor

SCHEMA_VERSION = 1
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB`\x82"
MAY_CHANGE = ("budget", "target", "judges", "batch_size", "device")
"""What of a spec may differ when a run is continued."""


class Store:
    """One run directory, open for writing (by one process at a time).

    Use :meth:`create` or :meth:`open`. ``records`` holds the journal's lines in order.
    """

    def __init__(self, root: Path, run: dict[str, Any], records: list[dict[str, Any]]) -> None:
        self.root = root
        self.run = run
        self.records = records
        self._journal = (root / "journal.jsonl").open("ab")
        try:
            _lock(self._journal)
        except BlockingIOError:
            self._journal.close()
            raise RunMismatch(f"another process is writing to the run in {root}") from None

    @classmethod
    def create(
        cls,
        root: str | Path,
        spec: dict[str, Any],
        versions: dict[str, str],
        created: str,
        request: dict[str, Any] | None = None,
    ) -> Store:
        """Make the directory, or continue the run it holds where that is the same one.

        Args:
            root: the run directory.
            spec: what the run is: another one is refused.
            versions: what works on it from now on.
            created: the time, where it is new.
            request: what ``noisewright resume`` plans it again from.

        Raises:
            RunMismatch: where the directory holds another run, or files that are no run.
            ValueError: where it cannot be made or written.
        """
        root = Path(root)
        if holds_run(root):
            store = cls.open(root)
            try:
                store.expect(spec)
                asked = {"request": request} if request is not None else {}
                store.write(spec={**store.run["spec"], **spec}, versions=versions, **asked)
            except BaseException:
                store.close()
                raise
            return store
        try:
            root.mkdir(parents=True, exist_ok=True)
            if not _unused(root):
                raise RunMismatch(f"expected an empty directory or a run to continue, got {root} with other files")
            for name in ("images", "states"):
                (root / name).mkdir(exist_ok=True)
            run = {
                "schema_version": SCHEMA_VERSION,
                "status": "running",
                "stopped": None,
                "created": created,
                "versions": versions,
                "spec": spec,
                **({"request": request} if request is not None else {}),
            }
            (root / "journal.jsonl").touch()
            write_atomically(root / "run.json", json.dumps(run, indent=1).encode())
        except OSError as error:
            raise ValueError(
                f"expected a directory that can be written, got {root}: {error.strerror or error}"
            ) from error
        return cls(root, run, [])

    @classmethod
    def open(cls, root: str | Path) -> Store:
        """Open a run for continuing; a torn last line is cut off.

        Raises:
            ValueError: where the directory is no run, or an inner line of its journal is damaged.
        """
        root = Path(root)
        run = read_run(root)
        path = root / "journal.jsonl"
        try:
            for name in ("images", "states"):
                (root / name).mkdir(exist_ok=True)
            store = cls(root, run, [])  # which locks the journal: only then is it ours to read and to mend
            try:
                raw = path.read_bytes()
                store.records, length = _parse(raw, path)
                if length < len(raw):
                    store._cut(length)
            except BaseException:
                store.close()
                raise
            return store
        except OSError as error:
            raise ValueError(
                f"expected a run directory that can be written, got {root}: {error.strerror or error}"
            ) from error

    def expect(self, spec: dict[str, Any]) -> None:
        """Refuse to continue another run.

        Raises:
            RunMismatch: naming the first setting that differs.
        """
        before, now = _comparable(self.run["spec"]), _comparable(spec)
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                was, got = _short(before.get(key)), _short(now.get(key))
                raise RunMismatch(f"{self.root} holds another run: expected {key} {was}, got {got}")

    def append(self, record: dict[str, Any]) -> None:
        """Add a line and force it to the disk; on failure nothing of it remains and the run can be resumed."""
        line = json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        with self.writing(self.root / "journal.jsonl"):
            before = os.fstat(self._journal.fileno()).st_size
            try:
                self._journal.write(line)
                self._journal.flush()
                os.fsync(self._journal.fileno())
            except BaseException:  # a full disk, or Ctrl-C in the middle of a line
                self._cut(before)
                raise
        self.records.append(record)

    def _cut(self, length: int) -> None:
        path = self.root / "journal.jsonl"
        with suppress(OSError):  # the buffered remainder of the failed line
            self._journal.close()
        with path.open("r+b") as file:
            file.truncate(length)
        self._journal = path.open("ab")
        _lock(self._journal)

    @contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Turn an operating-system error into one line that names the run."""
        try:
            yield
        except OSError as error:
            raise RunInterrupted(
                f"could not write {path.name}: {error.strerror or error}; nothing finished is lost, "
                f"continue with: noisewright resume {self.root}"
            ) from error

    def write(self, **changes: Any) -> None:
        """Change ``run.json`` atomically."""
        self.run.update(changes)
        with self.writing(self.root / "run.json"):
            write_atomically(self.root / "run.json", json.dumps(self.run, indent=1).encode())

    def save_image(self, name: str, png: bytes) -> str:
        """Write ``images/NAME.png``; returns that path relative to the run."""
        relative = f"images/{name}.png"
        with self.writing(self.root / relative):
            write_atomically(self.root / relative, png, sync=False)
        return relative

    def holds(self, relative: str) -> bool:
        """Whether an image file is there and whole, as far as its first and last bytes say."""
        try:
            with (self.root / relative).open("rb") as file:
                start = file.read(8)
                file.seek(-12, os.SEEK_END)
                return start == PNG_START and file.read() == PNG_END
        except OSError:
            return False

    def image(self, relative: str, pixels: str) -> Tensor | None:
        """The image (3, height, width) in [0, 1], or None where the file is gone or its pixels are not ``pixels``."""
        import torch

        from noisewright.metadata import pixel_hash, read_image

        try:
            array, _ = read_image(self.root / relative)
        except ValueError:
            return None
        if pixel_hash(array) != pixels:
            return None
        return torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255

    def save_state(self, name: str, state: Any) -> None:
        """Write ``states/NAME.pt``: tensors and plain values only."""
        import torch

        path = self.root / "states" / f"{name}.pt"
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with self.writing(path):
            write_atomically(path, buffer.getvalue(), sync=False)

    def state(self, name: str) -> Any | None:
        """What :meth:`save_state` wrote, or None."""
        import torch

        path = self.root / "states" / f"{name}.pt"
        if not path.exists():
            return None
        try:
            return torch.load(path, weights_only=True)
        except Exception:  # damaged bytes fail anywhere in the unpickler; the lineage makes the state again
            return None

    def forget_state(self, name: str) -> None:
        """Delete what :meth:`save_state` wrote, where it did."""
        (self.root / "states" / f"{name}.pt").unlink(missing_ok=True)

    def close(self) -> None:
        self._journal.close()


def holds_run(root: str | Path) -> bool:
    """Whether there is a ``run.json``.

    Raises:
        ValueError: where the directory may not be looked into (``Path.exists`` raises that before Python 3.14).
    """
    try:
        return (Path(root) / "run.json").exists()
    except OSError as error:
        raise ValueError(f"expected a directory that can be read, got {root}: {error.strerror or error}") from error


def read_run(root: str | Path) -> dict[str, Any]:
    """``run.json`` of a run directory.

    Raises:
        ValueError: in one line, where there is none, it is damaged, or its schema is newer than this library.
    """
    from noisewright.schemas.files import check_run
    from noisewright.schemas.reading import read_json, short

    path = Path(root) / "run.json"
    try:
        run = read_json(path, "a run directory (with run.json)")
    except FileNotFoundError:
        raise ValueError(f"expected a run directory (with run.json), got {root}") from None
    found = run.get("schema_version") if isinstance(run, dict) else None
    if type(found) is not int or found != SCHEMA_VERSION:
        raise ValueError(f"expected a run of schema {SCHEMA_VERSION}, got {short(found)} in {path}")
    return check_run(run, str(path))


def read_journal(root: str | Path) -> list[dict[str, Any]]:
    """The journal's lines, for reading only; a torn last line is left out."""
    path = Path(root) / "journal.jsonl"
    return _parse(path.read_bytes(), path)[0] if path.exists() else []


def _parse(raw: bytes, path: Path) -> tuple[list[dict[str, Any]], int]:
    """The valid lines, and how many bytes they take."""
    records: list[dict[str, Any]] = []
    length = 0
    lines = raw.split(b"\n")
    for number, line in enumerate(lines[:-1]):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError
        except ValueError:
            if number == len(lines) - 2:
                return records, length
            raise ValueError(f"expected a JSON object in line {number + 1} of {path}, got a damaged line") from None
        records.append(record)
        length += len(line) + 1
    return records, length


def read_text(file: Path) -> str:
    """The text of a file.

    Raises:
        ValueError: where it is no UTF-8, naming it.
    """
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"expected text in UTF-8, got {file}, which is something else") from None


def write_atomically(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write beside ``path`` and rename over it: a reader sees the old file or the new one, never a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _unused(root: Path) -> bool:
    """Whether a directory is empty, or holds only what a start that was cut short leaves behind."""
    for path in root.iterdir():
        begun = path.name in ("images", "states") and path.is_dir() and not any(path.iterdir())
        begun = begun or (path.name == "journal.jsonl" and path.stat().st_size == 0)
        if not begun and not path.name.startswith(".run.json."):
            return False
    return True


def _lock(file: Any) -> None:
    """Hold the journal against a second writer, where the system has such locks."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _comparable(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec without what may change, the sampler's settings beside the others."""
    flat = {**{key: value for key, value in spec.items() if key != "sampler"}, **spec.get("sampler", {})}
    return dict(json.loads(json.dumps({key: value for key, value in flat.items() if key not in MAY_CHANGE})))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
