"""A backup is taken while the data folder is in use, and what is put back goes on from there."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.backup import make
from bridge.backup.make import Backup, make_backup
from bridge.backup.restore import Restored, restore_backup
from bridge.core.annotations import LabelSet
from bridge.core.findings import ErrorType, Event, Finding, Fix
from bridge.errors import DataError, StoreError
from bridge.settings import sqlite_url
from bridge.store import Store

AT = "2026-11-20T12:00:00Z"


def fill(home: Path, findings: int = 3) -> None:
    """A data folder with a run, a finished training and an unfinished workflow."""
    with Store.open(sqlite_url(home)) as store:
        store.start_run("r1", "t", "", "object", "m", "s", LabelSet(("bolt",)), AT, {})
        store.put_findings("r1", [finding(k) for k in range(findings)])
    (home / "training" / "abc").mkdir(parents=True)
    (home / "training" / "abc" / "model.safetensors").write_bytes(b"weights" * 1000)
    (home / "workflows").mkdir()
    with sqlite3.connect(home / "workflows" / "score-t.db") as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE steps (name TEXT)")
        db.execute("INSERT INTO steps VALUES ('begin')")
    db.close()
    (home / "workflows" / "score-t.lock").touch()
    (home / "labelbridge.db.locks").mkdir()
    (home / "labelbridge.db.locks" / "ab12.lock").touch()
    (home / "demo").mkdir()
    (home / "demo" / "large").write_bytes(b"x")


def finding(number: int) -> Finding:
    return Finding(f"{number:016x}", "t", "1", "1", "s", ("a",), ErrorType.EXTRA, "bolt", 0.5, "", Fix("delete"), "s")


def take(home: Path, out: Path) -> Backup:
    return make_backup(home, sqlite_url(home), out, at=AT, version="1")


def put_back(archive: Path, home: Path, *, force: bool = False) -> Restored:
    return restore_backup(archive, home, sqlite_url(home), force=force, at=AT)


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    fill(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def archive(home: Path, tmp_path: Path) -> Path:
    take(home, tmp_path / "b.tar")
    return tmp_path / "b.tar"


def test_what_is_in_it_comes_back(home: Path, archive: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    new = tmp_path / "new"
    done = put_back(archive, new)
    assert names(new) == ["labelbridge.db", "training/abc/model.safetensors", "workflows/score-t.db"]
    assert stat.S_IMODE(new.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in new.rglob("*") if p.is_file()} == {0o600}
    weights = "training/abc/model.safetensors"
    assert (new / weights).read_bytes() == (home / weights).read_bytes()
    with sqlite3.connect(new / "workflows" / "score-t.db") as db:
        assert db.execute("SELECT name FROM steps").fetchall() == [("begin",)]
    db.close()
    with Store.open(sqlite_url(home)) as old, Store.open(sqlite_url(new)) as store:
        assert store.findings() == old.findings()
        assert store.audit_head() == old.audit_head() == done.manifest.head
        assert store.verify_events(done.manifest.head) == []
        store.transition(finding(1).id, Event.PUSH, AT, "ann")
        assert store.verify_events(done.manifest.head) == []


def test_nothing_is_left_beside_it(archive: Path, tmp_path: Path) -> None:
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.tar", "home"]


def test_a_backup_during_writes_is_whole(tmp_path: Path) -> None:
    """Each is as the store was at one moment: every batch whole, the log unbroken, and no later than the next."""
    home = tmp_path / "home"
    fill(home, 0)
    begun, stop = threading.Event(), threading.Event()

    def write() -> None:
        with Store.open(sqlite_url(home)) as store:
            number = 0
            while not stop.is_set():
                store.put_findings("r1", [finding(k) for k in range(number, number + 50)])
                number += 50
                begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(60)
    try:
        for k in range(3):
            take(home, tmp_path / f"{k}.tar")
    finally:
        stop.set()
        writer.join()
    sizes = []
    for k in range(3):
        put_back(tmp_path / f"{k}.tar", tmp_path / f"home{k}")
        with Store.open(sqlite_url(tmp_path / f"home{k}")) as store:
            sizes.append(len(store.findings()))
            assert store.verify_events() == []
            assert store.audit_head()[0] == 1 + sizes[-1]
    assert all(size % 50 == 0 for size in sizes)
    assert sizes == sorted(sizes)
    assert sizes[0] > 0


def test_workflows_are_copied_before_the_store(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real = make.copy_database
    monkeypatch.setattr(make, "copy_database", lambda source, copy: (order.append(source.name), real(source, copy))[1])
    take(home, tmp_path / "b.tar")
    assert order == ["score-t.db", "labelbridge.db"]


def test_a_store_outside_of_the_folder(tmp_path: Path) -> None:
    home, url = tmp_path / "home", f"sqlite:///{tmp_path}/elsewhere/own.db"
    (home / "training").mkdir(parents=True)
    with Store.open(url) as store:
        store.note("test", "s", {}, AT)
    make_backup(home, url, tmp_path / "b.tar", at=AT, version="1")
    with pytest.raises(StoreError, match="is not empty"):
        restore_backup(tmp_path / "b.tar", tmp_path / "new", url, force=False, at=AT)
    done = restore_backup(tmp_path / "b.tar", tmp_path / "new", url, force=True, at=AT)
    assert done.aside
    assert names(done.aside) == ["own.db"]
    with Store.open(url) as store:
        assert store.audit_head() == done.manifest.head


def test_links_are_named_and_left_out(home: Path, tmp_path: Path) -> None:
    (home / "training" / "more").symlink_to(tmp_path)
    (home / "weights").symlink_to("/etc/hostname")
    assert set(take(home, tmp_path / "b.tar").skipped) == {"training/more", "weights"}


def test_a_full_folder_is_left_alone(home: Path, archive: Path) -> None:
    before = names(home)
    with pytest.raises(StoreError, match="is not empty"):
        put_back(archive, home)
    assert names(home) == before


def test_by_force_what_was_there_is_set_aside(home: Path, archive: Path) -> None:
    with Store.open(sqlite_url(home)) as store:
        store.note("test", "later", {}, AT)
        later = store.audit_head()
    done = put_back(archive, home, force=True)
    assert done.aside == home / ".before-restore-20261120T120000"
    with Store.open(sqlite_url(home)) as store, Store.open(sqlite_url(done.aside)) as former:
        assert store.audit_head() == done.manifest.head
        assert former.audit_head() == later
    take(home, home.parent / "c.tar")
    assert put_back(home.parent / "c.tar", home.parent / "new").manifest.files == done.manifest.files


def test_an_archive_is_never_replaced(home: Path, archive: Path) -> None:
    before = archive.read_bytes()
    with pytest.raises(DataError, match="is there already"):
        take(home, archive)
    assert archive.read_bytes() == before


def test_into_its_own_folder(home: Path) -> None:
    made = take(home, home / "b.tar")
    assert not any("tar" in name for name in made.manifest.files)
    assert not any("tar" in name for name in take(home, home / "c.tar").manifest.files if name != "home/b.tar")


@pytest.mark.parametrize("leave_kb", [0, 8, 100])
def test_a_full_disk_leaves_nothing_by_halves(home: Path, archive: Path, small_disk: Path, leave_kb: int) -> None:
    filler, new = small_disk / "filler", small_disk / "new"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - leave_kb * 1024))
    with pytest.raises((DataError, StoreError), match=r"space|disk is full"):
        take(home, small_disk / "b.tar")
    assert list(small_disk.iterdir()) == [filler]
    with pytest.raises(StoreError, match=r"space|disk is full"):
        put_back(archive, new)
    assert names(small_disk) == ["filler"]
    filler.unlink()
    put_back(archive, new)
    take(new, small_disk / "b.tar")


class TestDamage:
    """Nothing of an archive that is not as it was made is put in place."""

    def refuse(self, archive: Path, tmp_path: Path, told: str) -> None:
        with pytest.raises((DataError, StoreError), match=told):
            put_back(archive, tmp_path / "new")
        assert names(tmp_path) == [n for n in names(tmp_path) if not n.startswith("new/")]

    @pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
    def test_cut_off(self, archive: Path, tmp_path: Path, share: float) -> None:
        data = archive.read_bytes()
        archive.write_bytes(data[: int(len(data) * share)])
        self.refuse(archive, tmp_path, r"cut off|damaged")

    @pytest.mark.parametrize("what", [b"weights", b"finding.new", b"begin"])
    def test_a_flipped_bit(self, archive: Path, tmp_path: Path, what: bytes) -> None:
        data = bytearray(archive.read_bytes())
        data[data.index(what)] ^= 1
        archive.write_bytes(data)
        self.refuse(archive, tmp_path, "is damaged")

    def test_no_archive(self, tmp_path: Path) -> None:
        (tmp_path / "b.tar").write_text("these are my notes " * 1000)
        self.refuse(tmp_path / "b.tar", tmp_path, "is no backup")
        self.refuse(tmp_path / "none.tar", tmp_path, "cannot be read")

    def test_a_broken_audit_log(self, home: Path, tmp_path: Path) -> None:
        with sqlite3.connect(home / "labelbridge.db") as db:
            db.execute("DROP TRIGGER events_no_delete")
            db.execute("DELETE FROM events WHERE seq = 2")
        db.close()
        assert take(home, tmp_path / "b.tar").problems == ("event 2 was removed",)
        self.refuse(tmp_path / "b.tar", tmp_path, "audit log in .* is broken: event 2 was removed")
        assert put_back(tmp_path / "b.tar", tmp_path / "new", force=True).problems == ("event 2 was removed",)

    def test_another_kind_of_database(self, archive: Path, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="store_url"):
            restore_backup(archive, tmp_path / "new", "postgresql://me@host/db", force=False, at=AT)


class TestForgery:
    """An archive may come from anywhere: nothing is written outside of the folder."""

    @pytest.fixture
    def forge(self, archive: Path, tmp_path: Path) -> Callable[..., Path]:
        def make(*members: tarfile.TarInfo) -> Path:
            forged = tmp_path / "forged.tar"
            with tarfile.open(archive) as old, tarfile.open(forged, "w") as new:
                for info in old.getmembers():
                    if info.name == "manifest.json":
                        for member in members:
                            new.addfile(member, io.BytesIO(b"x" * member.size))
                    new.addfile(info, old.extractfile(info))
            return forged

        return make

    @pytest.mark.parametrize(
        "name",
        [
            "/tmp/evil",
            "../evil",
            "home/../../evil",
            "home//evil",
            "home/./evil",
            "evil",
            "home/",
            "home/a\\b",
            "home/a\nb",
        ],
    )
    def test_names_that_lead_out(self, forge: Callable[..., Path], tmp_path: Path, name: str) -> None:
        info = tarfile.TarInfo(name)
        info.size = 1
        with pytest.raises(DataError, match="the archive holds"):
            put_back(forge(info), tmp_path / "new")
        assert not list(tmp_path.rglob("evil"))

    @pytest.mark.parametrize(
        "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
    )
    def test_what_is_no_plain_file(self, forge: Callable[..., Path], tmp_path: Path, kind: bytes) -> None:
        info = tarfile.TarInfo("home/evil")
        info.type, info.linkname = kind, "home/workflows/score-t.db"
        with pytest.raises(DataError, match="no plain file"):
            put_back(forge(info), tmp_path / "new")

    def test_a_sparse_file(self, forge: Callable[..., Path], tmp_path: Path) -> None:
        info = tarfile.TarInfo("home/evil")
        info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(2**40)}
        info.pax_headers |= {"GNU.sparse.map": f"0,1,{2**40 - 1},1"}
        info.size = 2
        with pytest.raises(DataError, match="no plain file"):
            put_back(forge(info), tmp_path / "new")

    def test_a_file_that_the_manifest_does_not_know(self, forge: Callable[..., Path], tmp_path: Path) -> None:
        with pytest.raises(DataError, match="home/more is not as the manifest says"):
            put_back(forge(tarfile.TarInfo("home/more")), tmp_path / "new")

    def test_the_same_file_twice(self, forge: Callable[..., Path], tmp_path: Path) -> None:
        with pytest.raises(DataError, match="twice"):
            put_back(forge(tarfile.TarInfo("store.db")), tmp_path / "new")

    @pytest.mark.parametrize(
        "manifest", [b"", b"[]", b"{}", b'{"format": 9}', b"[" * 100_000, b'{"format": 1, "files": {"a": 1}}']
    )
    def test_manifests_that_say_nothing(self, tmp_path: Path, manifest: bytes) -> None:
        with tarfile.open(tmp_path / "b.tar", "w") as tar:
            info = tarfile.TarInfo("manifest.json")
            info.size = len(manifest)
            tar.addfile(info, io.BytesIO(manifest))
        with pytest.raises(DataError, match=r"cannot be read|newer labelbridge"):
            put_back(tmp_path / "b.tar", tmp_path / "new")


def test_the_manifest_can_be_read_by_anyone(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        *others, last = tar.getmembers()
        file = tar.extractfile(last)
        assert file
        manifest: dict[str, Any] = json.load(file)
    assert sorted(manifest["files"]) == sorted(m.name for m in others)
    assert {m.name: m.size for m in others} == {name: m["size"] for name, m in manifest["files"].items()}
    assert (manifest["made_at"], manifest["version"], manifest["database"]) == (AT, "1", "sqlite")
