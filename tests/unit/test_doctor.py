"""What doctor says about doors that stand open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.doctor import examine
from bridge.settings import Settings

PASSWORD = {"backend_user": "bob", "backend_password": "s3cret"}


def found(folder: Path, **settings: Any) -> dict[str, str]:
    chosen = Settings.load(flags={"home": str(folder), **settings}, environ={})
    return {check.name: check.found for check in examine(chosen, "coco:none.json", None, None, None)}


@pytest.mark.parametrize(
    ("settings", "server", "cvat"),
    [
        ({}, None, None),
        ({"backend_host": "localhost"}, None, None),
        ({"backend_host": "0.0.0.0"}, "without a password", None),
        ({"backend_host": "0.0.0.0", **PASSWORD}, "must show a password", "CVAT is not answered"),
        ({"backend_token": "s3cret"}, "must show a password", "CVAT is not answered"),
        ({"backend_host": "0.0.0.0", **PASSWORD, "nuclio_port": 8070}, "must show", "port 8070 has no authentication"),
        ({"nuclio_port": 8070}, None, None),
        ({"nuclio_port": 8070, "nuclio_host": "::"}, None, "port 8070 has no authentication"),
    ],
)
def test_doors_without_authentication_are_named(
    tmp_path: Path, settings: dict[str, Any], server: str | None, cvat: str | None
) -> None:
    checks = found(tmp_path, **settings)
    for name, words in (("Model server", server), ("CVAT's port", cvat)):
        assert (name in checks) == (words is not None), checks
        assert words is None or words in checks[name]
    assert "s3cret" not in str(checks)
