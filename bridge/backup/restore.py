"""Putting an archive back, after checking all that is in it."""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from bridge.backup.manifest import HOME, LARGEST, NAME, STORE, Manifest, Member
from bridge.errors import DataError, StoreError
from bridge.store import Store
from bridge.store.engine import database_file

_STAGING, _ASIDE = ".restore-", ".before-restore-"
_ANOTHER = "Take another backup of the same folder, or use an older one"


@dataclass(frozen=True, slots=True)
class Restored:
    """``aside`` is where the former content of the folder is; None when it was empty. ``problems`` are those of the
    audit log."""

    manifest: Manifest
    aside: Path | None
    problems: tuple[str, ...]


def restore_backup(archive: Path, home: Path, store_url: str, *, force: bool, at: str) -> Restored:
    """Put a data folder, and the database where that is SQLite, back in place, when everything proves to be as it was.

    Args:
        force: whatever is in the folder is set aside in it; and a backup is taken although its audit log is broken.

    Raises:
        DataError: the archive cannot be read, is damaged, or holds what no backup holds. Nothing was changed.
        StoreError: the folder is in use, cannot be written, or its kind of database is another; or the audit log is
            broken. Nothing was changed.
    """
    database = database_file(store_url)
    try:
        if not force and (_content(home) or (database is not None and database.exists())):
            raise StoreError(
                f"{home} is not empty",
                expected="a new folder",
                todo="Set LABELBRIDGE_HOME to one; or stop labelbridge and add --force, which sets the content aside",
            )
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_STAGING, dir=home) as name:
            staging = Path(name)
            manifest = _unpack(archive, staging)
            problems = _check(manifest, staging, database)
            if problems and not force:
                raise StoreError(
                    f"the audit log in {archive} is broken: {problems[0]}",
                    todo="Use an older backup; or add --force to restore this one all the same",
                )
            aside = _set_aside(home, database, at)
            _move_in(staging, home, database)
    except OSError as error:
        raise StoreError(
            f"cannot restore to {home}: {error.strerror or error}",
            todo="Check the folder's owner and the free disk space, and run the same command again",
        ) from error
    return Restored(manifest, aside, tuple(problems))


def _content(home: Path) -> list[Path]:
    """What is in the folder, but for what former restores left."""
    return [p for p in sorted(home.iterdir()) if not p.name.startswith((_STAGING, _ASIDE))] if home.is_dir() else []


def _unpack(archive: Path, staging: Path) -> Manifest:
    """Write the members to ``staging``, and compare them with the manifest."""
    try:
        file = archive.open("rb")
    except OSError as error:
        raise DataError(f"{archive} cannot be read: {error.strerror}") from error
    try:
        with file, tarfile.open(fileobj=file, mode="r:") as tar:
            found, manifest = _write_all(tar, staging)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive} is no backup, or damaged: {error}", todo=_ANOTHER) from error
    if manifest is None:
        raise DataError(f"{archive} is cut off, or no backup: it has no {NAME}", todo=_ANOTHER)
    wrong = sorted(n for n in found.keys() | manifest.files.keys() if found.get(n) != manifest.files.get(n))
    if wrong:
        raise DataError(f"{archive} is damaged: {wrong[0]} is not as the manifest says", todo=_ANOTHER)
    return manifest


def _write_all(tar: tarfile.TarFile, staging: Path) -> tuple[dict[str, Member], Manifest | None]:
    """Plain files with plain names only, and never one over another: an archive may come from anywhere."""
    found: dict[str, Member] = {}
    manifest: Manifest | None = None
    while (info := tar.next()) is not None:
        # A sparse file could claim any size; a link could lead out of the folder.
        data = tar.extractfile(info) if info.isreg() and not info.issparse() else None
        if data is None:
            raise DataError(f"the archive holds {info.name!r:.200}, which is no plain file", todo=_ANOTHER)
        if info.name in found or manifest is not None:
            raise DataError(f"the archive holds {info.name!r:.200} twice, or behind its manifest", todo=_ANOTHER)
        if info.name == NAME:
            manifest = Manifest.from_bytes(data.read(LARGEST))
        else:
            found[info.name] = _write(data, staging / _safe_name(info.name))
    return found, manifest


def _safe_name(name: str) -> PurePosixPath:
    """The name as a path that stays inside of the folder it is put in."""
    parts = name.split("/")
    is_known = name == STORE or (name.startswith(HOME) and len(parts) > 1)
    if not is_known or any(part in ("", ".", "..") or re.search(r"[\x00-\x1f\\]", part) for part in parts):
        raise DataError(f"the archive holds {name!r:.200}", expected=f"{STORE}, or files under {HOME}")
    return PurePosixPath(name)


def _write(data: IO[bytes], path: Path) -> Member:
    digest, size = hashlib.sha256(), 0
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("xb") as file:
        path.chmod(0o600)
        while block := data.read(1 << 20):
            digest.update(block)
            size += len(block)
            file.write(block)
    return Member(size, digest.hexdigest())


def _check(manifest: Manifest, staging: Path, database: Path | None) -> list[str]:
    """What is wrong with the audit log."""
    kind = "postgresql" if database is None else "sqlite"
    if manifest.database != kind or (kind == "sqlite" and not (staging / STORE).exists()):
        raise StoreError(
            f"the backup is of a data folder whose database is {manifest.database}, and store_url names another kind",
            todo="Set store_url (LABELBRIDGE_STORE_URL) as it was when the backup was taken",
        )
    if database is None:
        return []
    with Store.open(f"sqlite:///{staging / STORE}") as store:
        return store.verify_events(manifest.head)


def _set_aside(home: Path, database: Path | None, at: str) -> Path | None:
    content = _content(home)
    outside = [] if database is None or database.parent == home.absolute() else _with_side_files(database)
    if not content and not outside:
        return None
    aside = home / (_ASIDE + re.sub(r"[^0-9T]", "", at))
    aside.mkdir(mode=0o700)
    for path in [*content, *outside]:
        shutil.move(path, aside / path.name)
    return aside


def _with_side_files(database: Path) -> list[Path]:
    return [p for p in (database.with_name(database.name + end) for end in ("", "-wal", "-shm")) if p.exists()]


def _move_in(staging: Path, home: Path, database: Path | None) -> None:
    """The database comes last: without it, a command finds an empty folder rather than half of one."""
    folder = staging / HOME
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        path.rename(home / path.name)
    if database is not None:
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.move(staging / STORE, database)
