"""A run is a directory: ``run.json``, ``journal.jsonl``, ``images/`` and ``states/``.

The journal is append-only: a line per finished piece of work, flushed and synced before anything builds on it. A line
torn by a crash is cut off at the next opening, a damaged one set aside (``journal.jsonl.bad``). ``run.json`` is
replaced atomically. One process writes at a time: it holds ``.lock``, which nobody needs for reading.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisewright.errors import RunInterrupted, RunMismatch
from noisewright.outside.files import write_atomically as write_atomically  # which others take from here too
from noisewright.outside.inside import inside
from noisewright.outside.reading import read_bytes
from noisewright.run import journal
from noisewright.run.locks import LOCK, let_go, locked

if TYPE_CHECKING:  # reading a run (``noisewright show``) must not wait for torch
    from torch import Tensor

SCHEMA_VERSION = 2
READABLE = (1, 2)
"""Schemas that are read: in the first, lines had no checksum and states were pickles of weights."""

PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB`\x82"
MAY_CHANGE = ("budget", "target", "judges", "batch_size", "device")
"""What of a spec may differ when a run is continued."""

MOST_JOURNAL = 2**32
"""Bytes of a journal that is read."""

FOLDERS = ("images", "states")
LEFTOVER = re.compile(r"\.(run\.json|journal\.jsonl(\.bad)?|[\w-]+\.(png|safetensors|pt))\.\w{6,}")
"""Names of temporary files that a killed process leaves behind."""


class Store:
    """One run directory, open for writing (by one process at a time).

    Use :meth:`create` or :meth:`open`.

    Attributes:
        warnings: what was found wrong with the directory when it was opened.
    """

    def __init__(self, root: Path, run: dict[str, Any], lock: Any, made: tuple[Path, ...] = ()) -> None:
        self.root = root
        self.run = run
        self.warnings: list[str] = []
        self._lock = lock
        self._made = made
        self._journal = (root / "journal.jsonl").open("ab")

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
            RunMismatch: where the directory holds another run, or files that are no run, or is being written to.
            ValueError: where it cannot be made or written.
        """
        root = Path(root)
        asked = {"request": request} if request is not None else {}
        if not holds_run(root):
            with _writable(root):
                made = [*_new_folder(root)]
                if not _unused(root):
                    raise RunMismatch(f"expected an empty directory or a run to continue, got {root} with other files")
                made += [] if (root / LOCK).exists() else [root / LOCK]
                lock = locked(root)
                try:
                    if not holds_run(root):  # and nobody made one in between
                        run = {
                            "schema_version": SCHEMA_VERSION,
                            "status": "running",
                            "stopped": None,
                            "created": created,
                            "versions": versions,
                            "spec": spec,
                            **asked,
                        }
                        return cls._begun(root, run, lock, made)
                except BaseException:
                    _remove(made, lock)
                    raise
                let_go(lock)
        store = cls.open(root)
        try:
            store.expect(spec)
            store.write(spec={**store.run["spec"], **spec}, versions=versions, **asked)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def _begun(cls, root: Path, run: dict[str, Any], lock: Any, made: list[Path]) -> Store:
        """A new run in a directory that is ours."""
        for path in (*(root / name for name in FOLDERS), root / "journal.jsonl", root / "run.json"):
            if not path.exists():
                made.append(path)
        for name in FOLDERS:
            (root / name).mkdir(exist_ok=True)
        (root / "journal.jsonl").touch()
        write_atomically(root / "run.json", _sealed(run))
        return cls(root, run, lock, tuple(made))

    @classmethod
    def open(cls, root: str | Path) -> Store:
        """Open a run for continuing: a torn last line is cut off, damaged ones are set aside.

        Raises:
            ValueError: where the directory is no run.
            RunMismatch: where another process is writing to it.
        """
        root = Path(root)
        read_run(root)
        for name in ("journal.jsonl", "journal.jsonl.bad", LOCK):
            inside(root, name)  # a link elsewhere would be mended, and written to
        with _writable(root):
            lock = locked(root)
            try:
                for name in FOLDERS:
                    (root / name).mkdir(exist_ok=True)
                _sweep(root)
                store = cls(root, read_run(root), lock)
                if not is_intact(root):
                    store.warnings.append(f"run.json in {root} was changed or damaged since it was written")
                store._mend()
            except BaseException:
                let_go(lock)
                raise
            return store

    def _mend(self) -> None:
        """Cut off a torn last line, and set damaged lines and blank ones aside."""
        path = self.root / "journal.jsonl"
        raw = path.read_bytes()
        schema = int(self.run["schema_version"])
        lines, torn = journal.split(raw)
        bad = [line for line in lines if not journal.holds(line, schema)]
        if bad:
            with (self.root / "journal.jsonl.bad").open("ab") as file:
                file.write(b"".join(line + b"\n" for line in [*bad, *([torn] if torn else [])]))
                file.flush()
                os.fsync(file.fileno())
            good = [line for line in lines if journal.holds(line, schema)]
            self._journal.close()
            write_atomically(path, b"".join(line + b"\n" for line in good))
            self._journal = path.open("ab")
            count = f"{len(bad)} damaged lines were" if len(bad) > 1 else "a damaged line was"
            self.warnings.append(f"{count} set aside in {path}.bad; what they spoke of is made again")
        elif torn:
            self._cut(len(raw) - len(torn))

    @property
    def records(self) -> Iterator[dict[str, Any]]:
        """What the journal's lines say, in order and each once, read from the disk."""
        return journal.records(_lines_of(self.root), int(self.run["schema_version"]))

    @property
    def is_new(self) -> bool:
        """Whether this process made the run, and nothing of it is in the journal yet."""
        return self.root / "run.json" in self._made and os.fstat(self._journal.fileno()).st_size == 0

    def discard(self) -> None:
        """Remove what this process made of a new run, and nothing else."""
        self._journal.close()
        _remove(list(self._made), self._lock)
        self._lock = None

    def expect(self, spec: dict[str, Any]) -> None:
        """Refuse to continue another run.

        Raises:
            RunMismatch: naming the first setting that differs.
        """
        about = spec.get("sampler", {})
        if hasattr(about, "as_recorded"):  # by the rules of the version that recorded the run
            spec = {**spec, "sampler": about.as_recorded(self.run["spec"].get("sampler", {}))}
        before, now = _comparable(self.run["spec"]), _comparable(spec)
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                was, got = _short(before.get(key)), _short(now.get(key))
                raise RunMismatch(f"{self.root} holds another run: expected {key} {was}, got {got}")

    def append(self, record: dict[str, Any]) -> None:
        """Add a line and force it to the disk; on failure nothing of it remains and the run can be resumed."""
        line = journal.seal(record)
        with self.writing(self.root / "journal.jsonl"):
            before = os.fstat(self._journal.fileno()).st_size
            try:
                self._journal.write(line)
                self._journal.flush()
                os.fsync(self._journal.fileno())
            except BaseException:  # a full disk, or Ctrl-C in the middle of a line
                self._cut(before)
                raise

    def _cut(self, length: int) -> None:
        path = self.root / "journal.jsonl"
        with suppress(OSError):  # the buffered remainder of the failed line
            self._journal.close()
        with path.open("r+b") as file:
            file.truncate(length)
        self._journal = path.open("ab")

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
            write_atomically(self.root / "run.json", _sealed(self.run))

    def save_image(self, name: str, png: bytes) -> str:
        """Write ``images/NAME.png``; returns that path relative to the run."""
        relative = f"images/{name}.png"
        with self.writing(self.root / relative):
            write_atomically(self.root / relative, png, sync=False)
        return relative

    def holds(self, relative: str, pixels: str, digest: str | None = None) -> bool:
        """Whether an image file is there with the pixels that were made.

        Args:
            relative: the file.
            pixels: the hash of its pixels (:func:`noisewright.images.metadata.pixel_hash`).
            digest: of its bytes, where that is known: then it need not be decoded.
        """
        try:
            data = inside(self.root, relative).read_bytes()
        except (OSError, ValueError):  # gone, or a place outside of the run
            return False
        if digest is not None and digest_of(data) == digest:
            return True
        if not (data.startswith(PNG_START) and data.endswith(PNG_END)):
            return False
        return self.image(relative, pixels) is not None  # rewritten by another program, perhaps: the pixels decide

    def image(self, relative: str, pixels: str) -> Tensor | None:
        """The image (3, height, width) in [0, 1], or None where the file is gone or its pixels are not ``pixels``."""
        import torch

        from noisewright.images.metadata import pixel_hash, read_image

        try:
            array, _ = read_image(inside(self.root, relative))
        except ValueError:
            return None
        if pixel_hash(array) != pixels:
            return None
        return torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255

    def save_state(self, name: str, state: Any) -> str | None:
        """Write ``states/NAME.safetensors`` and force it to the disk; returns the digest that it is read with.

        None where it holds something else than tensors and plain values: then nothing is written.
        """
        from noisewright.run.tensorfile import pack

        try:
            data = pack(state)
        except TypeError:
            return None
        path = self.root / "states" / f"{name}.safetensors"
        with self.writing(path):
            write_atomically(path, data)
        return digest_of(data)

    def state(self, name: str, digest: str | None) -> Any | None:
        """What :meth:`save_state` wrote; None where it is gone or its digest is another.

        Without a digest it is a state of schema 1, ``states/NAME.pt``, whose own checksums are looked at.
        """
        from noisewright.run.tensorfile import unpack

        if digest is None:
            return _first_schema_state(self.root / "states" / f"{name}.pt")
        try:
            data = (self.root / "states" / f"{name}.safetensors").read_bytes()
            return unpack(data) if digest_of(data) == digest else None
        except (OSError, ValueError):
            return None

    def forget_state(self, name: str) -> None:
        """Delete what :meth:`save_state` wrote, where it did."""
        for end in ("safetensors", "pt"):
            (self.root / "states" / f"{name}.{end}").unlink(missing_ok=True)

    def close(self) -> None:
        self._journal.close()
        if self._lock is not None:
            let_go(self._lock)
            self._lock = None


def digest_of(data: bytes) -> str:
    """What tells a file's bytes from others: 32 hex digits of their SHA-256."""
    return hashlib.sha256(data).hexdigest()[:32]


def _first_schema_state(path: Path) -> Any | None:
    """A state as schema 1 kept it: a zip of weights, whose members have checksums that torch does not look at."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        return torch.load(path, weights_only=True)
    except Exception:  # damaged bytes fail anywhere in the unpickler; the lineage makes the state again
        return None


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
    if type(found) is not int or found not in READABLE:
        raise ValueError(f"expected a run of schema {' or '.join(map(str, READABLE))}, got {short(found)} in {path}")
    run.pop("check", None)
    return check_run(run, str(path))


def is_intact(root: str | Path) -> bool:
    """Whether ``run.json`` is as it was written; of schema 1, which has no checksum, it is believed."""
    run = json.loads((Path(root) / "run.json").read_text())
    check = run.pop("check", None)
    return bool(check == _check(run) or (check is None and run.get("schema_version") == 1))


def is_concluded(root: str | Path) -> bool:
    """Whether a run is done, and what it says of its result can be believed: it and its two pictures are intact."""
    root, run = Path(root), read_run(root)
    if run.get("status") != "done" or not is_intact(root):
        return False
    files = run.get("files") or dict.fromkeys(("best.png", "baseline.png"))  # of schema 1 nothing more is known
    for name in ("best.png", "baseline.png"):
        try:
            data = (root / name).read_bytes()
        except OSError:
            return False
        if files.get(name) not in (None, digest_of(data)):
            return False
    return True


def _check(run: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:16]


def _sealed(run: dict[str, Any]) -> bytes:
    """``run.json`` with its checksum."""
    return json.dumps({**run, "check": _check(json.loads(json.dumps(run)))}, indent=1).encode()


def read_journal(root: str | Path) -> list[dict[str, Any]]:
    """The journal's lines, for reading only; a torn last line and damaged ones are left out."""
    return list(journal.records(_lines_of(Path(root)), int(read_run(root)["schema_version"])))


def damaged_lines(root: str | Path) -> int:
    """How many lines of the journal do not hold."""
    schema = int(read_run(root)["schema_version"])
    return sum(not journal.holds(line, schema) for line in _lines_of(Path(root)))


def _lines_of(root: Path) -> list[bytes]:
    path = root / "journal.jsonl"
    return journal.split(read_bytes(path, "a journal", most=MOST_JOURNAL))[0] if os.path.lexists(path) else []




def _unused(root: Path) -> bool:
    """Whether a directory is empty, or holds only what a start that was cut short leaves behind."""
    for path in root.iterdir():
        begun = path.name in FOLDERS and path.is_dir() and not any(path.iterdir())
        begun = begun or (path.name in ("journal.jsonl", LOCK) and path.stat().st_size == 0)
        if not begun and not path.name.startswith(".run.json."):
            return False
    return True


def _new_folder(root: Path) -> Iterator[Path]:
    """Make a directory; gives it where it is new."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        root.mkdir()
        yield root
    if not root.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _sweep(root: Path) -> None:
    """Remove the temporary files of a process that was killed; only who holds the lock may."""
    for folder in (root, *(root / name for name in FOLDERS)):
        for path in folder.iterdir():
            if path.name.startswith(".") and LEFTOVER.fullmatch(path.name):
                path.unlink(missing_ok=True)


@contextmanager
def _writable(root: Path) -> Iterator[None]:
    """Turn an operating-system error into one line of wrong use."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"expected a directory that can be written, got {root}: {error.strerror or error}") from error


def _remove(made: list[Path], lock: Any) -> None:
    """Remove files and empty directories that this process made, then let go of the lock."""
    for path in sorted(made, key=lambda one: len(one.parts), reverse=True):
        with suppress(OSError):  # something is in it after all: it stays
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
    let_go(lock)


def _comparable(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec without what may change, the sampler's settings beside the others.

    A model is known by its fingerprint, wherever it lies and whatever it is called.
    """
    flat = {**{key: value for key, value in spec.items() if key != "sampler"}, **spec.get("sampler", {})}
    if "fingerprint" in flat:
        flat.pop("model", None)
    return dict(json.loads(json.dumps({key: value for key, value in flat.items() if key not in MAY_CHANGE})))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def is_run(path: str | Path) -> bool:
    """Whether ``path`` is a run directory."""
    try:
        read_run(path)
    except ValueError:
        return False
    return True
