"""Opening the database and talking to it: the only file that knows which database it is."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Insert, Table, create_engine, event, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from bridge.errors import StoreError
from bridge.store.tables import SCHEMA

_MIGRATIONS = Path(__file__).parent / "migrations"
#: Any fixed number; two processes that open a fresh PostgreSQL database at once take turns by it.
_ADVISORY_LOCK = 0x6C626C62
_migrating = threading.Lock()


def open_engine(url: str, busy_timeout_s: float) -> Engine:
    """An engine on a database whose schema is the one this version knows.

    Raises:
        StoreError: see :meth:`bridge.store.Store.open`.
    """
    address = _address(url)
    if address.get_backend_name() == "sqlite":
        engine = _sqlite_engine(address, busy_timeout_s)
    else:
        engine = _postgresql_engine(address, busy_timeout_s)
    try:
        _migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def transaction(engine: Engine, *, write: bool) -> Iterator[Connection]:
    """One transaction, rolled back on any error; the database's own errors come out as ``StoreError``."""
    try:
        with engine.connect().execution_options(labelbridge_write=write) as db, db.begin():
            yield db
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise explained(error, _name(engine), is_remote=engine.dialect.name != "sqlite") from error


def upsert(
    db: Connection, table: Table, rows: Sequence[Mapping[str, Any]], keys: Sequence[str], update: Sequence[str]
) -> None:
    """Insert many rows; where ``keys`` are taken, set the columns ``update`` instead (none: leave the row alone).

    Column names in ``keys`` must be those of a unique constraint or the primary key.
    """
    if not rows:
        return
    statement: sqlite.Insert | postgresql.Insert
    statement = postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)
    taken = [table.c[name] for name in keys]
    if update:
        statement = statement.on_conflict_do_update(
            index_elements=taken, set_={name: statement.excluded[name] for name in update}
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=taken)
    insert_many(db, statement, rows)


def insert_many(db: Connection, statement: Insert, rows: Sequence[Mapping[str, Any]]) -> None:
    """Run an insert for many rows, which all name the same columns and hold plain texts, numbers and bytes.

    The driver gets them directly: SQLAlchemy's own way spends a third of the time of a large put on parameters.
    """
    if not rows:
        return
    compiled = statement.compile(dialect=db.dialect, column_keys=list(rows[0]))
    order: list[str] = getattr(compiled, "positiontup", None) or []
    parameters: list[Any] = [tuple([row[name] for name in order]) for row in rows] if order else list(rows)
    db.exec_driver_sql(str(compiled), parameters)


def database_file(url: str) -> Path | None:
    """Where the database is as a file; None where it is on a server. Raises ``StoreError`` for no usable address."""
    address = _address(url)
    return Path(address.database or "").expanduser().absolute() if address.get_backend_name() == "sqlite" else None


def copy_database(source: Path, target: Path) -> bool:
    """Copy a SQLite file as it is at one moment, while others may be writing to it.

    Returns:
        False when there is no such file.

    Raises:
        StoreError: it cannot be read, or the copy cannot be written.
    """
    if not source.exists():
        return False
    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(source))}?mode=rw", uri=True, timeout=30)) as original,
            closing(sqlite3.connect(target)) as copy,
        ):
            original.backup(copy)
    except sqlite3.Error as error:
        raise explained(error, str(source)) from error
    return True


def _address(url: str) -> URL:
    try:
        address = make_url(url)
    except ArgumentError:
        raise StoreError("the store's address cannot be understood", expected=_EXPECTED, todo=_SET_IT) from None
    backend = address.get_backend_name()
    if backend in ("postgres", "postgresql"):
        return address.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise StoreError(f"the store's address names {backend!r}", expected=_EXPECTED, todo=_SET_IT)
    if not address.database or address.database == ":memory:":
        raise StoreError("the store's address names no file", expected=_EXPECTED, todo=_SET_IT)
    return address


_EXPECTED = "sqlite:///FILE or postgresql://USER@HOST/DATABASE"
_SET_IT = "Set store_url or LABELBRIDGE_STORE_URL"


def _sqlite_engine(address: URL, busy_timeout_s: float) -> Engine:
    path = Path(address.database or "").expanduser()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its side files the mode of the database, so making it first keeps others out of all of them. One
        # that is there is never opened past SQLite: closing it would end all locks that this process holds on it, and
        # the next process to leave would take the log away under those that still write into it.
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        reason = f"{path.parent} is not a folder" if isinstance(error, FileExistsError) else error.strerror
        raise StoreError(
            f"the store {path} cannot be opened: {reason}",
            expected="a file in a folder that this user may write to",
            todo="Correct the folder's owner and mode, or set LABELBRIDGE_HOME to another folder",
        ) from error
    engine = create_engine(address.set(database=str(path)), connect_args={"timeout": busy_timeout_s})

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions by itself: `_begun` does, and says whether they will write.
        connection.isolation_level = None
        cursor = connection.cursor()
        _use_wal(cursor, busy_timeout_s)
        # A committed step must survive a power cut: the workflow engine will not repeat it.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        # A reader that turns into a writer half-way fails at once when another wrote meanwhile, whatever the
        # time-out; a writer that says so at the start waits for its turn.
        write = connection.get_execution_options().get("labelbridge_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _use_wal(cursor: sqlite3.Cursor, busy_timeout_s: float) -> None:
    """Switch the file to the write-ahead log.

    The switch needs the file alone and, unlike all else, does not wait for it: on a fresh file, several processes
    that start together would fail.
    """
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _postgresql_engine(address: URL, busy_timeout_s: float) -> Engine:
    try:
        return create_engine(
            address,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10, "options": f"-c lock_timeout={int(busy_timeout_s * 1000)}"},
        )
    except (ImportError, NoSuchModuleError) as error:
        raise StoreError(
            "the PostgreSQL driver is not installed", todo='Install it with: pip install "psycopg[binary]"'
        ) from error


def _migrate(engine: Engine) -> None:
    """Bring the schema to :data:`bridge.store.tables.SCHEMA`; the usual case costs one query."""
    with transaction(engine, write=False) as db:
        if _revision(db) == SCHEMA:
            return
    config = Config()
    # Alembic reads '%' in options as interpolation.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    # Alembic keeps its context in a module, so threads take turns.
    with _migrating, transaction(engine, write=True) as db:
        if db.dialect.name == "postgresql":
            db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        found = _revision(db)
        if found == SCHEMA:
            return
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if found is not None and found not in known:
            raise StoreError(
                f"the store {_name(engine)} was written by a newer labelbridge (schema {found})",
                expected=f"schema {SCHEMA} or older",
                todo="Upgrade labelbridge, or set LABELBRIDGE_HOME to another folder",
            )
        config.attributes["connection"] = db
        command.upgrade(config, "head")


def _revision(db: Connection) -> str | None:
    """The schema the database has; None when it is empty."""
    if not inspect(db).has_table("alembic_version"):
        return None
    return db.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _name(engine: Engine) -> str:
    """The database as it may be shown: without a password."""
    if engine.dialect.name == "sqlite":
        return str(engine.url.database)
    return engine.url.render_as_string(hide_password=True)


#: A part of the driver's message, what it means, and what to do about it.
_CAUSES = (
    ("database is locked", "is locked by another process", "Wait for it to end, or stop it, and run the command again"),
    ("lock timeout", "is locked by another process", "Wait for it to end, or stop it, and run the command again"),
    ("disk is full", "cannot grow: the disk is full", "Free some space and run the command again; nothing was lost"),
    ("no space left", "cannot grow: the disk is full", "Free some space and run the command again; nothing was lost"),
    ("not a database", "is not a labelbridge database", "Move the file away, or put a backup in its place"),
    ("malformed", "is damaged", "Put a backup in its place; `sqlite3 FILE .recover` may save what is left"),
    ("readonly database", "may not be written to", "Correct the owner and mode of the file and its folder"),
    ("unable to open", "cannot be opened", "Correct the owner and mode of the file and its folder"),
    ("disk i/o error", "cannot be read or written: the disk reports an error", "Check the disk, then run it again"),
)


def explained(error: Exception, name: str, *, is_remote: bool = False) -> StoreError:
    """A database's own error as ours; ``name`` is the database as it may be shown."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    for part, meaning, todo in _CAUSES:
        if part in str(cause).lower():
            return StoreError(f"the store {name} {meaning}", todo=todo)
    todo = "Check that the database runs and lets you in" if is_remote else ""
    return StoreError(f"the store {name} failed: {lines[0]}", todo=todo)
