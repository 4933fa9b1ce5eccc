"""A Label Studio of our own: installed in its own environment, started, ready with a user and a token, and stopped.

For the demo and for tests. It listens on 127.0.0.1 only, keeps everything in one folder (SQLite), calls nobody, and
may reach private networks, because the model server beside it is in one.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from bridge.errors import DataError, LabelbridgeError, StoreError, ToolError, ToolUnreachable
from bridge.net import HttpClient, Limits

VERSION = "1.23.2"
VENV_VARIABLE = "LABELBRIDGE_LABEL_STUDIO_VENV"
_FREE_BYTES = 2 * 1024**3
_INSTALL_S = 1800
_OWN_VARIABLES = ("LABEL_STUDIO_", "HEARTEX_", "DJANGO_", "POSTGRE_", "PYTHONPATH", "PYTHONHOME", "DEBUG")

Say = Callable[[str], None]


def default_venv(home: Path) -> Path:
    """Where Label Studio is installed unless ``LABELBRIDGE_LABEL_STUDIO_VENV`` names another folder."""
    named = os.environ.get(VENV_VARIABLE)
    return Path(named).expanduser() if named else home / f"label-studio-{VERSION}"


def ensure_installed(venv_dir: Path, say: Say) -> Path:
    """Install Label Studio into a virtual environment of its own unless it is there; answers with its program.

    About 1 GB, one to three minutes.

    Raises:
        DataError: the folder holds something else.
        StoreError: the disk is full, or the folder cannot be written.
        ToolUnreachable: the package index cannot be reached.
        LabelbridgeError: installing failed for another reason; names the log.
    """
    try:
        venv_dir.parent.mkdir(parents=True, exist_ok=True)
        with venv_dir.with_name(f"{venv_dir.name}.lock").open("w") as lock:
            # Two who install into one folder at the same time would both fail; the second one finds it done.
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _installed(venv_dir, say)
    except OSError as error:
        raise StoreError(f"the folder {venv_dir} cannot be made: {error.strerror}") from None


def _installed(venv_dir: Path, say: Say) -> Path:
    program = venv_dir / "bin" / "label-studio"
    if program.exists() and list(venv_dir.glob(f"lib/python3*/site-packages/label_studio-{VERSION}.dist-info/RECORD")):
        return program
    if venv_dir.exists() and any(venv_dir.iterdir()) and not (venv_dir / "pyvenv.cfg").exists():
        raise DataError(
            f"{venv_dir} is not empty and holds no Python environment",
            expected="an empty or a new folder",
            todo=f"Set {VENV_VARIABLE} to another folder",
        )
    try:
        venv_dir.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(venv_dir).free
    except OSError as error:
        raise StoreError(f"the folder {venv_dir} cannot be made: {error.strerror}") from None
    if free < _FREE_BYTES:
        raise StoreError(
            f"the disk of {venv_dir} has {free / 1024**3:.1f} GB free",
            expected="2 GB for installing Label Studio",
            todo=f"Free some space, or set {VENV_VARIABLE} to a folder on another disk",
        )
    say(f"Installing Label Studio {VERSION} into {venv_dir} (about 1 GB, a few minutes, only once)")
    log = venv_dir / "install.log"
    with log.open("w", encoding="utf-8") as output:
        for command in (
            [sys.executable, "-m", "venv", str(venv_dir)],
            [
                *(str(venv_dir / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"),
                *("--no-input", "--quiet", f"label-studio=={VERSION}"),
            ],
        ):
            _install_step(command, output.fileno(), log)
    return program


def _install_step(command: list[str], output: int, log: Path) -> None:
    try:
        done = subprocess.run(command, stdout=output, stderr=output, timeout=_INSTALL_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise LabelbridgeError(f"installing Label Studio took longer than {_INSTALL_S} s", todo=f"See {log}") from None
    if done.returncode == 0:
        return
    text = log.read_text(encoding="utf-8", errors="replace")
    if "No space left" in text:
        raise StoreError(
            "the disk is full: Label Studio could not be installed", todo=f"Free 2 GB, delete {log.parent}, try again"
        )
    if any(sign in text for sign in ("NewConnectionError", "name resolution", "No matching distribution", "Max retri")):
        raise ToolUnreachable(
            "the Python package index cannot be reached, so Label Studio cannot be installed",
            todo=f"Go online, or install label-studio=={VERSION} yourself and set {VENV_VARIABLE} to that environment",
        )
    tail = " ".join(text.strip().splitlines()[-2:])[-300:]
    raise LabelbridgeError(f"Label Studio could not be installed: {tail}", todo=f"The whole log is in {log}")


class LabelStudioServer:
    """A running Label Studio; use it with ``with``.

    Args:
        venv_dir: the environment of :func:`ensure_installed`.
        data_dir: its data; kept, and used again by a later start. None: a temporary folder, removed at the end.
        say: called with each step, for a person.
        port: 0 picks a free one.
        private_networks: whether it may call hosts in private networks. Label Studio's own default is False.

    Attributes:
        url, email, password, token: how to get in; ``token`` is a Personal Access Token.
        legacy_token: the old kind of token of the same user, switched on here.
        files_root: images below it are served as ``/data/local-files/?d=...`` once a project has a storage for them.
    """

    def __init__(
        self,
        venv_dir: Path,
        data_dir: Path | None,
        say: Say,
        *,
        port: int = 0,
        private_networks: bool = True,
        start_s: float = 300.0,
    ) -> None:
        self._venv_dir = venv_dir
        self._temporary = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="labelbridge-ls-")) if data_dir is None else data_dir
        self._say = say
        self._private_networks = private_networks
        self._start_s = start_s
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.email = "admin@example.com"
        self.password = ""
        self.token = ""
        self.legacy_token = ""
        self.files_root = self.data_dir / "files"
        self.log = self.data_dir / "label-studio.log"

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Install if need be, start, wait until it answers, and make sure that there is a token.

        Raises:
            LabelbridgeError: installing or starting failed; says what to do.
        """
        program = ensure_installed(self._venv_dir, self._say)
        first = not (self.data_dir / "credentials.json").exists()
        # Its database and its log lie here, readable for everybody.
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.files_root.mkdir(parents=True, exist_ok=True)
        self._load_credentials()
        self._say(
            f"Starting Label Studio {VERSION}" + (" (the first start takes about half a minute)" if first else "")
        )
        command = [str(program), "start", "--no-browser", "--internal-host", "127.0.0.1", "-p", str(self.port)]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603
                [*command, "--log-level", "WARNING"],
                cwd=self.data_dir,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        atexit.register(self.stop)
        self._wait()
        if not self.token:
            self._make_token()
        return self

    def stop(self) -> None:
        """End the server with everything it started; a temporary data folder goes too. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            for sign, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, sign)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(patience)
                    break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            atexit.unregister(self.stop)
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OWN_VARIABLES)}
        open_networks = "false" if self._private_networks else "true"
        return {
            **inherited,
            "LABEL_STUDIO_BASE_DATA_DIR": str(self.data_dir),
            "DJANGO_DB": "sqlite",
            "LABEL_STUDIO_USERNAME": self.email,
            "LABEL_STUDIO_PASSWORD": self.password,
            "LABEL_STUDIO_USER_TOKEN": self.legacy_token,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(self.files_root),
            "LABEL_STUDIO_HOST": self.url,
            "ML_BLOCK_LOCAL_IP": open_networks,
            "SSRF_PROTECTION_ENABLED": open_networks,
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            "COLLECT_ANALYTICS": "false",
            "LATEST_VERSION_CHECK": "false",
            "PYTHONWARNINGS": "ignore",
        }

    def _load_credentials(self) -> None:
        """The user, made once per data folder. The file is for its owner's eyes only."""
        path = self.data_dir / "credentials.json"
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            self.password, self.legacy_token, self.token = kept["password"], kept["legacy_token"], kept["token"]
            return
        self.password, self.legacy_token = secrets.token_urlsafe(12), secrets.token_hex(20)
        self._keep_credentials()

    def _keep_credentials(self) -> None:
        path = self.data_dir / "credentials.json"
        path.touch(mode=0o600)
        kept = {"email": self.email, "password": self.password, "legacy_token": self.legacy_token, "token": self.token}
        path.write_text(json.dumps(kept, indent=1), encoding="utf-8")

    def _wait(self) -> None:
        http = HttpClient(self.url, name="Label Studio", limits=Limits(connect_s=2, read_s=5, attempts=1))
        begun = shown = time.monotonic()
        while True:
            with contextlib.suppress(ToolError):
                http.request("GET", "/health")
                return
            self._check_alive()
            now = time.monotonic()
            if now - begun > self._start_s:
                raise ToolUnreachable(
                    f"Label Studio did not answer within {self._start_s:g} s of its start", todo=f"See {self.log}"
                )
            if now - shown > 10:
                shown = now
                self._say(f"Still waiting for Label Studio ({now - begun:.0f} s)")
            time.sleep(0.3)

    def _check_alive(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            tail = " ".join(self.log.read_text(encoding="utf-8", errors="replace").split())[-300:]
            raise LabelbridgeError(
                f"Label Studio stopped while starting (status {self._process.returncode}): {tail}",
                todo="If its data folder is from another version, use a new one",
            )

    def _make_token(self) -> None:
        """A user has at most one Personal Access Token; where one was made and lost, the legacy token has to do."""
        legacy = {"Authorization": f"Token {self.legacy_token}"}
        http = HttpClient(self.url, name="Label Studio", auth=lambda: legacy)
        reply = http.request("POST", "/api/token/", json={}, accept=(409,))
        self.token = self.legacy_token if reply.status == 409 else str(reply.json()["token"])
        self._keep_credentials()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
