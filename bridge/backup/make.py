"""Making an archive of a data folder that others may be writing to."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from bridge.backup.manifest import HOME, NAME, STORE, Manifest, Member
from bridge.errors import DataError, StoreError
from bridge.store import Mark, Store
from bridge.store.engine import copy_database, database_file
from bridge.whole_file import whole_file

#: How folders begin that are made again when they are missing, were set aside by a restore, or are our own.
_LEFT_OUT = ("label-studio-", ".restore-", ".before-restore-", ".backup-")
#: Where journeys keep the steps they have done, in SQLite files.
_CHECKPOINTS = ("workflows", "service")
_SIDE_FILES = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Backup:
    """``skipped`` files are links or no plain files; ``problems`` are those of the audit log."""

    manifest: Manifest
    skipped: tuple[str, ...]
    problems: tuple[str, ...]


def make_backup(home: Path, store_url: str, out: Path, *, at: str, version: str) -> Backup:
    """Write an archive of the data folder, and of the database where that is SQLite, while both are in use.

    Checkpoints go in first and the database last. So a step may be done in the database and open in its workflow,
    and finds what it did when it is run again; the other way round, its work would be lost.

    Raises:
        DataError: there is no data folder, or ``out`` is there already or cannot be written.
        StoreError: the database cannot be read, or a file of the folder changed while it was copied.
    """
    if not home.is_dir():
        raise DataError(f"there is no data folder {home}", todo="Set LABELBRIDGE_HOME to the one you mean")
    if out.exists():
        raise DataError(f"{out} is there already", expected="a new file", todo="Name another one, or move it away")
    database = database_file(store_url)
    with whole_file(out) as file, tempfile.TemporaryDirectory(prefix=".backup-", dir=out.absolute().parent) as folder:
        copy = Path(folder) / STORE
        archive = _Archive(file)
        skipped = list(_add_home(archive, home, {database, out.absolute()}, copy))
        if database is not None:
            copy_database(database, copy)
        with Store.open(store_url if database is None else f"sqlite:///{copy}") as store:
            head, problems = store.audit_head(), store.verify_events()
        if database is not None:
            archive.add(STORE, copy)
        return Backup(archive.finish(version, at, database, head), tuple(skipped), tuple(problems))


def _add_home(archive: _Archive, home: Path, others: set[Path | None], copy: Path) -> Iterator[str]:
    """Add the files of the data folder; answers with the names of those that cannot be."""
    checkpoints = sorted(path for folder in _CHECKPOINTS for path in (home / folder).glob("*.db"))
    for path in [*checkpoints, *_files(home)]:
        name = path.relative_to(home).as_posix()
        if path in checkpoints:
            if copy_database(path, copy):
                archive.add(HOME + name, copy)
                copy.unlink()
        elif _is_of_database(path, others):
            continue
        elif path.is_file() and not path.is_symlink():
            archive.add(HOME + name, path)
        elif os.path.lexists(path):  # it may have gone since it was listed
            yield name


def _files(home: Path) -> Iterator[Path]:
    """All but checkpoints, which go in first, and what is left out."""
    for folder, folders, names in os.walk(home):
        here = Path(folder)
        if here == home:
            folders[:] = [n for n in folders if not n.startswith(_LEFT_OUT) and not n.endswith(".locks")]
            folders[:] = [n for n in folders if n not in ("demo", *_CHECKPOINTS)]
        folders.sort()
        links = [name for name in folders if (here / name).is_symlink()]
        yield from (here / name for name in sorted([*names, *links]) if not name.endswith(".part"))


def _is_of_database(path: Path, others: set[Path | None]) -> bool:
    whole = path.absolute()
    return any(whole == other or str(whole) in {f"{other}{end}" for end in _SIDE_FILES} for other in others if other)


@dataclass(slots=True)
class _Archive:
    """A tar that is being written, and what it holds so far."""

    file: BinaryIO
    files: dict[str, Member] = field(default_factory=dict)
    tar: tarfile.TarFile = field(init=False)

    def __post_init__(self) -> None:
        self.tar = tarfile.open(fileobj=self.file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def add(self, name: str, path: Path) -> None:
        try:
            with path.open("rb") as file:
                size, reader = os.fstat(file.fileno()).st_size, _Hashing(file)
                self._add(name, size, reader)
        except FileNotFoundError:
            return  # a temporary file of somebody's, gone since it was listed
        except OSError as error:
            if error.errno is not None:
                raise
            # What grows meanwhile is taken as it was; a file that shrinks was written anew in its place.
            raise StoreError(f"{path} changed while it was copied", todo="Run the same command again") from error
        self.files[name] = Member(size, reader.digest.hexdigest())

    def finish(self, version: str, at: str, database: Path | None, head: Mark) -> Manifest:
        manifest = Manifest(version, at, "sqlite" if database else "postgresql", head, self.files)
        text = json.dumps(manifest.to_dict(), indent=1).encode()
        self._add(NAME, len(text), io.BytesIO(text))
        self.tar.close()
        return manifest

    def _add(self, name: str, size: int, data: io.BytesIO | _Hashing) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        self.tar.addfile(info, data)  # type: ignore[arg-type]


class _Hashing:
    """A file being read, and the digest of what was."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data
