"""What users install is the wheel: it holds everything, and works without the checkout."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPO)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("labelbridge-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_holds_what_is_no_python_file(unpacked: Path) -> None:
    for name in (
        "bridge/py.typed",
        "ml_backend/py.typed",
        "ml_backend/weights/parts_ssdlite.safetensors",
        "ml_backend/weights/parts_ssdlite.json",
        "bridge/flows/templates/report.html.j2",
    ):
        assert (unpacked / name).is_file(), name
    assert list((unpacked / "bridge/store/migrations").rglob("*.py"))
    assert not (unpacked / "tests").exists()


def test_runs_from_the_wheel_alone(unpacked: Path, tmp_path: Path) -> None:
    """The demo without a server uses the weights, the templates, the migrations and the entry points."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bridge", "demo", "--no-server", "--items", "8", "--json"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(unpacked), "LABELBRIDGE_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert Path(result["report"]).is_file()
    assert sum(row["found"] for row in result["table"]) >= sum(row["planted"] for row in result["table"]) / 2
