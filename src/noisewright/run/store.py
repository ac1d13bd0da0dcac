"""A run directory that is written: ``run.json``, ``journal.jsonl``, ``images/`` and ``states/``.

The journal is append-only: a line per finished piece of work, flushed and synced before anything builds on it. A line
torn by a crash is cut off at the next opening, a damaged one set aside (``journal.jsonl.bad``). ``run.json`` is
replaced atomically. One process writes at a time: it holds ``.lock``, which nobody needs for reading
(:mod:`noisewright.run.reading`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisewright.errors import RunInterrupted, RunMismatch
from noisewright.outside.files import write_atomically
from noisewright.outside.inside import inside
from noisewright.outside.messages import cut
from noisewright.run import journal
from noisewright.run.digests import digest_of, sealed
from noisewright.run.directory import FOLDERS, PREVIEWS, STOP, is_unused, new_folder, remove, sweep, writable
from noisewright.run.locks import LOCK, is_being_written, let_go, locked
from noisewright.run.reading import SCHEMA_VERSION, JournalReader, is_intact, is_run, read_run

if TYPE_CHECKING:  # reading a run (``noisewright show``) must not wait for torch
    from torch import Tensor

PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB`\x82"
MAY_CHANGE = ("budget", "target", "judges", "batch_size", "device")
"""What of a spec may differ when a run is continued."""


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
        self._stop = root / STOP
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
        recorded = {"request": request} if request is not None else {}
        if not is_run(root):
            run = {
                "schema_version": SCHEMA_VERSION, "status": "running", "stopped": None, "created": created,
                "versions": versions, "spec": spec, **recorded,
            }  # fmt: skip
            new = cls._new(root, run)
            if new is not None:
                return new
        store = cls.open(root)
        try:
            store.expect(spec)
            store.warnings += elsewhere(store.run["spec"], spec)
            if request is not None and request.get("batch_size") is None:  # images depend on it, by rounding
                spec = {**spec, "batch_size": store.run["spec"].get("batch_size", spec.get("batch_size"))}
            store.write(spec={**store.run["spec"], **spec}, versions=versions, **recorded)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def _new(cls, root: Path, run: dict[str, Any]) -> Store | None:
        """A new run in a directory that is new, empty, or was begun; None where somebody made one in between."""
        with writable(root):
            made = [*new_folder(root)]
            if not is_unused(root):
                raise RunMismatch(f"expected an empty directory or a run to continue, got {root} with other files")
            made += [] if (root / LOCK).exists() else [root / LOCK]
            lock = locked(root)
            try:
                if not is_run(root):
                    return cls._begun(root, run, lock, made)
            except BaseException:
                remove(made, lock)
                raise
            let_go(lock)
        return None

    @classmethod
    def _begun(cls, root: Path, run: dict[str, Any], lock: Any, made: list[Path]) -> Store:
        """A new run in a directory that is ours."""
        for path in (*(root / name for name in FOLDERS), root / "journal.jsonl", root / "run.json"):
            if not path.exists():
                made.append(path)
        for name in FOLDERS:
            (root / name).mkdir(exist_ok=True)
        (root / "journal.jsonl").touch()
        write_atomically(root / "run.json", sealed(run))
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
        with writable(root):
            lock = locked(root)
            try:
                for name in FOLDERS:
                    (root / name).mkdir(exist_ok=True)
                sweep(root)
                (root / STOP).unlink(missing_ok=True)  # of a process that was killed before it saw it
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
        yield from JournalReader(self.root, int(self.run["schema_version"])).read()[0]

    @property
    def is_new(self) -> bool:
        """Whether this process made the run, and nothing of it is in the journal yet."""
        return self.root / "run.json" in self._made and os.fstat(self._journal.fileno()).st_size == 0

    def discard(self) -> None:
        """Remove what this process made of a new run, and nothing else."""
        self._journal.close()
        remove(list(self._made), self._lock)
        self._lock = None

    def expect(self, spec: dict[str, Any]) -> None:
        """Refuse to continue another run.

        Raises:
            RunMismatch: naming the first setting that differs.
        """
        check_same(self.root, self.run["spec"], spec)

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
            write_atomically(self.root / "run.json", sealed(self.run))

    def save_image(self, name: str, png: bytes) -> str:
        """Write ``images/NAME.png``; returns that path relative to the run."""
        relative = f"images/{name}.png"
        with self.writing(self.root / relative):
            write_atomically(self.root / relative, png, sync=False)
        return relative

    def save_film(self, name: str, film: bytes) -> None:
        """Write ``images/NAME.mp4``, the whole video beside the frames of ``images/NAME.png``."""
        path = self.root / f"images/{name}.mp4"
        with self.writing(path):
            write_atomically(path, film, sync=False)

    def save_preview(self, name: str, jpeg: bytes) -> None:
        """Write ``previews/NAME.jpg``, for people who look on: nothing rests on it, and to be without is no failure."""
        with suppress(OSError, ValueError):
            path = inside(self.root, f"{PREVIEWS}/{name}.jpg")
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, jpeg, sync=False)

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
        from noisewright.run.tensorfile import first_schema_state, unpack

        if digest is None:
            return first_schema_state(self.root / "states" / f"{name}.pt")
        try:
            data = (self.root / "states" / f"{name}.safetensors").read_bytes()
            return unpack(data) if digest_of(data) == digest else None
        except (OSError, ValueError):
            return None

    def forget_state(self, name: str) -> None:
        """Delete what :meth:`save_state` wrote, where it did."""
        for end in ("safetensors", "pt"):
            (self.root / "states" / f"{name}.{end}").unlink(missing_ok=True)

    def is_asked_to_stop(self) -> bool:
        """Whether somebody called :func:`ask_to_stop` since the run was opened."""
        return os.path.exists(self._stop)

    def close(self) -> None:
        self._journal.close()
        if self._lock is not None:
            with suppress(OSError):
                self._stop.unlink(missing_ok=True)
            let_go(self._lock)
            self._lock = None


def ask_to_stop(root: str | Path) -> None:
    """Ask whoever works on a run to end it after the micro-batch in flight, as Ctrl-C does.

    Raises:
        ValueError: in one line, where there is no run, nobody works on it, or its directory cannot be written.
    """
    root, status = Path(root), read_run(root)["status"]
    written = is_being_written(root)
    if written is False or (written is None and status != "running"):
        what = "is done" if status == "done" else "is not running"
        raise ValueError(f"expected a run that is going on, got {root}, which {what}")
    with writable(root):
        write_atomically(root / STOP, b"", sync=False)


def check_same(root: Path, recorded: dict[str, Any], spec: dict[str, Any]) -> None:
    """Refuse to continue the run in ``root`` with another spec than the ``recorded`` one, but for what may change.

    Raises:
        RunMismatch: naming the first setting that differs.
    """
    differs = first_difference(recorded, spec)
    if differs is not None:
        raise RunMismatch("{} holds another run: expected {} {}, got {}".format(root, *differs))


def first_difference(recorded: dict[str, Any], spec: dict[str, Any]) -> tuple[str, str, str] | None:
    """The first setting of a spec that differs from the ``recorded`` one, with both values, cut; None where none does.

    What may change between two parts of a run is not looked at.
    """
    about = spec.get("sampler", {})
    if hasattr(about, "as_recorded"):  # by the rules of the version that recorded the run
        spec = {**spec, "sampler": about.as_recorded(recorded.get("sampler", {}))}
    before, now = _comparable(recorded), _comparable(spec)
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            return key, cut(json.dumps(before.get(key))), cut(json.dumps(now.get(key)))
    return None


def elsewhere(recorded: Mapping[str, Any], spec: Mapping[str, Any]) -> list[str]:
    """That a run goes on on another kind of device than it was made on, in a line, or nothing."""
    was, now = (str(one.get("sampler", {}).get("device", "")).partition(":")[0] for one in (recorded, spec))
    if not was or not now or was == now:
        return []
    return [f"made on {was} until here and on {now} from here on, which round otherwise: not the images of one device"]


def _comparable(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec without what may change, the sampler's settings beside the others.

    A model is known by its fingerprint, wherever it lies and whatever it is called; a LoRA by its hash.
    """
    flat = {**{key: value for key, value in spec.items() if key != "sampler"}, **spec.get("sampler", {})}
    if "fingerprint" in flat:
        flat.pop("model", None)
    if isinstance(flat.get("loras"), list):
        flat["loras"] = [{**one, "file": None} if "sha256" in one else one for one in flat["loras"]]
    return dict(json.loads(json.dumps({key: value for key, value in flat.items() if key not in MAY_CHANGE})))
