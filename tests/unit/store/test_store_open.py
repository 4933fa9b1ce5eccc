"""Opening: schema, modes, the errors of a real file system, and a writer that is killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from store_writer import BATCH

import bridge
from bridge.core.findings import Finding
from bridge.errors import StoreError
from bridge.store import Run, Store, engine
from bridge.store.tables import SCHEMA, metadata

Begin = Callable[..., Run]
Make = Callable[..., Finding]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "home" / "labelbridge.db"


def address(file: Path) -> str:
    return f"sqlite:///{file}"


def test_the_migrations_make_the_tables_of_the_code(store: Store) -> None:
    with store._read() as db:
        context = MigrationContext.configure(db, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == SCHEMA


def test_the_newest_migration_is_the_one_that_is_asked_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(engine.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA]


def test_only_the_owner_may_look_inside(file: Path) -> None:
    with Store.open(address(file)) as store:
        store.put_review("t", "1", "")
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        for part in file.parent.iterdir():
            assert stat.S_IMODE(part.stat().st_mode) == 0o600, part
        with store._read() as db:
            assert db.execute(text("PRAGMA journal_mode")).scalar() == "wal"
            assert db.execute(text("PRAGMA foreign_keys")).scalar() == 1
            assert db.execute(text("PRAGMA synchronous")).scalar() == 2


def test_a_folder_that_is_there_keeps_its_mode(file: Path) -> None:
    file.parent.mkdir(mode=0o755)
    Store.open(address(file)).close()
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o755


def test_a_relative_address_and_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Store.open("sqlite:///in here/100%.db").close()
    assert (tmp_path / "in here" / "100%.db").is_file()


def test_opening_again_keeps_everything(url: str, begin: Begin, make_finding: Make) -> None:
    with Store.open(url) as store:
        begin(store, "r1")
        store.put_findings("r1", [make_finding(1)])
    with Store.open(url) as store:
        assert [s.finding for s in store.findings()] == [make_finding(1)]


def test_many_open_a_fresh_store_at_once(url: str) -> None:
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with Store.open(url) as store:
                store.put_review(f"t{number}", str(number), "")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with Store.open(url) as store:
        assert [p.ref for k in range(12) for p in store.reviews_of(f"t{k}")] == [str(k) for k in range(12)]


def test_a_newer_schema_is_refused_and_left_alone(url: str) -> None:
    with Store.open(url) as store, store._write() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '0099'"))
    with pytest.raises(StoreError, match=r"newer labelbridge \(schema 0099\)") as caught:
        Store.open(url)
    assert "Upgrade labelbridge" in caught.value.todo
    with pytest.raises(StoreError, match="0099"):
        Store.open(url)


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_a_migration_that_fails_leaves_nothing_half_done(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.command, "upgrade", lambda config, _: _half_a_migration(config))
    with pytest.raises(RuntimeError, match="killed"):
        Store.open(url)
    monkeypatch.undo()
    with Store.open(url) as store:
        assert store.runs() == []


def _half_a_migration(config: Config) -> None:
    config.attributes["connection"].execute(text("CREATE TABLE runs (id INTEGER)"))
    raise RuntimeError("killed")


@pytest.mark.parametrize(
    "url", ["", "labelbridge.db", "mysql://root@host/db", "sqlite://", "sqlite:///:memory:", "sqlite:"]
)
def test_an_address_that_cannot_be_used(url: str) -> None:
    with pytest.raises(StoreError, match="sqlite:///FILE or postgresql://USER@HOST/DATABASE"):
        Store.open(url)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be opened: .*/file is not a folder") as caught:
        Store.open(address(tmp_path / "file" / "labelbridge.db"))
    assert "LABELBRIDGE_HOME" in caught.value.todo
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(StoreError, match=r"folder.db cannot be opened. Correct"):
        Store.open(address(tmp_path / "folder.db"))


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    script = f"from bridge.store import Store; Store.open({address(folder / 'labelbridge.db')!r})"
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    result = subprocess.run(
        [*drop, sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd="/", env=_environment()
    )
    if drop and "Error" in result.stderr and "StoreError" not in result.stderr:
        pytest.skip("another user cannot read this checkout or its Python")
    assert "cannot be opened: Permission denied" in result.stderr


def _environment() -> dict[str, str]:
    """That of this process, with the package that is tested in its path."""
    return {**os.environ, "PYTHONPATH": str(Path(bridge.__file__).parent.parent)}


def test_a_file_that_is_no_database(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("these are my notes " * 100)
    with pytest.raises(StoreError, match="is not a labelbridge database"):
        Store.open(address(file))
    assert file.read_text().startswith("these are my notes")


def test_a_damaged_file(file: Path, begin: Begin, make_finding: Make) -> None:
    with Store.open(address(file)) as store:
        begin(store, "r1")
        store.put_findings("r1", [make_finding(k) for k in range(2000)])
        with store._read() as db:
            root = db.execute(text("SELECT rootpage FROM sqlite_schema WHERE name = 'findings'")).scalar_one()
            size = db.execute(text("PRAGMA page_size")).scalar_one()
    with file.open("r+b") as raw:
        raw.seek((root - 1) * size)
        raw.write(b"\xff" * size)
    with Store.open(address(file)) as store:
        with pytest.raises(StoreError, match="is damaged") as caught:
            store.findings()
        assert "backup" in caught.value.todo


def test_a_full_disk_changes_nothing(file: Path, begin: Begin, make_finding: Make) -> None:
    """SQLite's own page limit stands for the disk: the same error from the same place."""
    with Store.open(address(file)) as store:
        begin(store, "r1")
        store.put_findings("r1", [make_finding(k) for k in range(10)])
        head = store.audit_head()
        with store._write() as db:
            pages = db.execute(text("PRAGMA page_count")).scalar_one()
            db.execute(text(f"PRAGMA max_page_count = {pages + 5}"))
        with pytest.raises(StoreError, match="the disk is full") as caught:
            store.put_findings("r1", [make_finding(k) for k in range(3000)])
        assert "Free some space" in caught.value.todo
        assert len(store.findings()) == 10
        assert store.audit_head() == head
        with store._write() as db:
            db.execute(text("PRAGMA max_page_count = 1000000"))
        assert store.put_findings("r1", [make_finding(k) for k in range(3000)]).new == 2990
        assert store.verify_events() == []


def test_a_locked_store(file: Path, begin: Begin) -> None:
    with Store.open(address(file), busy_timeout_s=0.05) as store:
        begin(store, "r1")
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="is locked by another process") as caught:
            begin(store, "r2")
        assert "Wait for it to end" in caught.value.todo
        assert [run.id for run in store.runs()] == ["r1"]
        other.close()
        begin(store, "r2")


def test_a_writer_waits_for_its_turn(file: Path, begin: Begin) -> None:
    with Store.open(address(file), busy_timeout_s=20) as store:
        other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
        timer.start()
        begin(store, "r1")
        timer.join()
        other.close()


def test_a_postgresql_that_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="postgresql") as caught:
        Store.open(f"postgresql://me:sesame4711@/db?host={tmp_path}")
    assert "sesame4711" not in str(caught.value)
    assert "Check that the database runs" in caught.value.todo


def test_the_driver_of_postgresql_is_named_when_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match="driver is not installed") as caught:
        Store.open("postgresql://me@host/db")
    assert "psycopg" in caught.value.todo


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_writer_leaves_whole_batches(url: str, seed: int) -> None:
    """SIGKILL at a moment of chance; what was said to be written is there, and nothing by halves."""
    chance = random.Random(seed)
    total = 12
    command = [sys.executable, str(Path(__file__).with_name("store_writer.py")), url, str(total)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment()) as writer:
        assert writer.stdout is not None
        said, last = -1, chance.randrange(8)
        while said < last:
            said = int(writer.stdout.readline())
        time.sleep(chance.uniform(0, 0.03))
        writer.send_signal(signal.SIGKILL)
        said = max([said, *map(int, writer.stdout.read().split())])
    assert writer.returncode == -signal.SIGKILL
    with Store.open(url) as store:
        assert store.verify_events() == []
        kept = store.findings()
        assert len(kept) % BATCH == 0
        assert len(kept) // BATCH in (said + 1, said + 2)
        assert sum(s.state == "pushed" for s in kept) in (said + 1, said + 2)
        assert sum(store.counts("r1")["extra"].values()) == len(kept)

    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120, env=_environment())
    with Store.open(url) as store:
        assert store.verify_events() == []
        assert store.counts("r1") == {"extra": {"open": total * (BATCH - 1), "pushed": total}}
        assert store.audit_head()[0] == 1 + total * (BATCH + 1)


def test_a_second_opening_leaves_the_locks_of_the_first(tmp_path: Path) -> None:
    """A process that leaves takes the log away, unless it sees that another still writes into it."""
    url = f"sqlite:///{tmp_path}/store.db"
    with Store.open(url) as store:
        Store.open(url).close()
        visit = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('SELECT 1 FROM runs'); db.close()"
        subprocess.run([sys.executable, "-c", visit, str(tmp_path / "store.db")], check=True)
        assert (tmp_path / "store.db-wal").exists()
        store.put_review("ls:project/7", "8", "http://here/8")
        with Store.open(url) as other:
            assert other.reviews_of("ls:project/7")
