"""The model server as a process of its own, for the demo."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bridge.errors import ModelError, ToolError
from bridge.net import HttpClient, Limits


class Backend:
    """``labelbridge serve`` on a free port of 127.0.0.1; use it with ``with``."""

    def __init__(self, label_studio_url: str, token: str, log: Path, start_s: float = 120.0) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {
            **os.environ,
            "LABELBRIDGE_LABEL_STUDIO_URL": label_studio_url,
            "LABELBRIDGE_LABEL_STUDIO_API_KEY": token,
        }
        self._log = log
        self._start_s = start_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-P", "-m", "bridge", "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        atexit.register(self.stop)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server. Safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
                break
        atexit.unregister(self.stop)

    def _wait(self) -> None:
        """Until the model is loaded."""
        assert self._process is not None
        http = HttpClient(self.url, name="The model server", limits=Limits(connect_s=2, read_s=5, attempts=1))
        begun = time.monotonic()
        while True:
            with contextlib.suppress(ToolError):
                http.request("GET", "/readyz")
                return
            if self._process.poll() is not None or time.monotonic() - begun > self._start_s:
                tail = " ".join(self._log.read_text(encoding="utf-8", errors="replace").split())[-300:]
                raise ModelError(f"the model server did not start: {tail}", todo=f"See {self._log}")
            time.sleep(0.2)
