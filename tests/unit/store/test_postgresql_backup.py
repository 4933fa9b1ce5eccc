"""With PostgreSQL, a backup has the folder alone, and says where the database's audit log ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.backup.make import make_backup
from bridge.backup.restore import restore_backup
from bridge.errors import StoreError
from bridge.store import Run, Store

AT = "2026-11-20T12:00:00Z"


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_the_folder_without_the_database(url: str, tmp_path: Path, begin: Callable[..., Run]) -> None:
    home, archive = tmp_path / "home", tmp_path / "b.tar"
    (home / "training").mkdir(parents=True)
    (home / "training" / "lock").touch()
    with Store.open(url) as store:
        begin(store, "r1")
        head = store.audit_head()
    made = make_backup(home, url, archive, at=AT, version="1")
    assert (made.manifest.database, made.manifest.head, made.problems) == ("postgresql", head, ())
    assert list(made.manifest.files) == ["home/training/lock"]
    restore_backup(archive, tmp_path / "new", url, force=False, at=AT)
    assert (tmp_path / "new" / "training" / "lock").exists()
    with pytest.raises(StoreError, match="whose database is postgresql"):
        restore_backup(archive, tmp_path / "newer", f"sqlite:///{tmp_path}/newer/x.db", force=False, at=AT)
