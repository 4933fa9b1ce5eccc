"""Installing and starting, without Label Studio: a stand-in program takes its place."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from bridge.demo.label_studio_server import VERSION, LabelStudioServer, default_venv, ensure_installed
from bridge.errors import DataError, LabelbridgeError, StoreError, ToolUnreachable

SERVES = """#!{python}
import http.server, json, os, subprocess, sys, pathlib
child = subprocess.Popen(["sleep", "300"])
here = pathlib.Path(os.environ["LABEL_STUDIO_BASE_DATA_DIR"])
(here / "seen.json").write_text(json.dumps({{"pids": [os.getpid(), child.pid], "env": dict(os.environ)}}))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({{"token": "a.b.c"}}).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("-p") + 1])), Handler).serve_forever()
"""


def stand_in(venv: Path, program: str) -> Path:
    """A folder that looks as if Label Studio was installed in it."""
    script = venv / "bin" / "label-studio"
    script.parent.mkdir(parents=True)
    script.write_text(program.format(python=sys.executable))
    script.chmod(0o755)
    record = venv / "lib" / "python3.11" / "site-packages" / f"label_studio-{VERSION}.dist-info" / "RECORD"
    record.parent.mkdir(parents=True)
    record.touch()
    return venv


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


class TestInstalling:
    def test_what_is_there_is_used(self, tmp_path: Path) -> None:
        said: list[str] = []
        assert ensure_installed(stand_in(tmp_path, SERVES), said.append) == tmp_path / "bin" / "label-studio"
        assert said == []

    def test_a_folder_with_something_else_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("mine")
        with pytest.raises(DataError, match="LABELBRIDGE_LABEL_STUDIO_VENV"):
            ensure_installed(tmp_path, print)
        assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]

    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 10 * 1024**2))
        with pytest.raises(StoreError, match=r"0\.0 GB free.*2 GB"):
            ensure_installed(tmp_path / "new", print)

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreError, match="cannot be made"):
            ensure_installed(tmp_path / "file" / "venv", print)

    @pytest.mark.slow
    def test_offline(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        monkeypatch.setenv("PIP_RETRIES", "0")
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        said: list[str] = []
        with pytest.raises(ToolUnreachable, match="package index cannot be reached"):
            ensure_installed(tmp_path / "venv", said.append)
        assert "Installing Label Studio" in said[0]

    def test_the_folder_can_be_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LABELBRIDGE_LABEL_STUDIO_VENV", str(tmp_path))
        assert default_venv(Path("/home")) == tmp_path
        monkeypatch.delenv("LABELBRIDGE_LABEL_STUDIO_VENV")
        assert default_venv(Path("/home")) == Path("/home") / f"label-studio-{VERSION}"


class TestServing:
    def test_starts_clean_and_leaves_nothing_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import json

        monkeypatch.setenv("LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK", "true")
        monkeypatch.setenv("SENTRY_DSN", "https://somebody")
        venv = stand_in(tmp_path / "venv", SERVES)
        with LabelStudioServer(venv, None, print) as server:
            seen = json.loads((server.data_dir / "seen.json").read_text())
            assert all(alive(pid) for pid in seen["pids"])
            assert server.token == "a.b.c"
            assert (server.data_dir / "credentials.json").stat().st_mode & 0o077 == 0
            folder = server.data_dir
            said = b" ".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in seen["pids"]).decode()
            assert "label-studio" in said
            assert not any(secret in said for secret in (server.password, server.legacy_token, server.token))
        environment = seen["env"]
        assert "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK" not in environment, "ours alone decide how it runs"
        assert (environment["SENTRY_DSN"], environment["COLLECT_ANALYTICS"]) == ("", "false")
        assert environment["SSRF_PROTECTION_ENABLED"] == "false"
        deadline = time.monotonic() + 5
        while any(alive(pid) for pid in seen["pids"]) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(alive(pid) for pid in seen["pids"])
        assert not folder.exists()

    def test_a_kept_folder_keeps_its_user(self, tmp_path: Path) -> None:
        venv = stand_in(tmp_path / "venv", SERVES)
        said: list[str] = []
        kept = []
        for _ in range(2):
            with LabelStudioServer(venv, tmp_path / "data", said.append) as server:
                kept.append((server.email, server.password, server.legacy_token, server.token))
                assert server.data_dir.stat().st_mode & 0o077 == 0
        assert kept[0] == kept[1]
        assert ["first start" in line for line in said] == [True, False]

    def test_a_program_that_ends_says_why(self, tmp_path: Path) -> None:
        venv = stand_in(tmp_path / "venv", "#!{python}\nraise SystemExit('the database is from the future')\n")
        server = LabelStudioServer(venv, None, print)
        with pytest.raises(LabelbridgeError, match="from the future"):
            server.__enter__()
        assert not server.data_dir.exists()

    def test_a_program_that_never_answers_is_given_up(self, tmp_path: Path) -> None:
        venv = stand_in(tmp_path / "venv", "#!{python}\nimport time\ntime.sleep(300)\n")
        server = LabelStudioServer(venv, None, print, start_s=0.5)
        with pytest.raises(ToolUnreachable, match=r"within 0\.5 s"):
            server.__enter__()
        assert server._process is None
