"""The real ``labelbridge serve`` in a process of its own, and pictures to send to it."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import requests
from PIL import Image

from bridge.scenes import draw_scene

LABELS = ("bolt", "nut", "washer", "gear", "spring")
CONFIG = (
    '<View><Image name="image" value="$image"/>'
    '<BrushLabels name="brush" toName="image">{0}</BrushLabels>'
    '<RectangleLabels name="box" toName="image" smart="true">{0}</RectangleLabels></View>'
).format("".join(f'<Label value="{label}"/>' for label in LABELS))


def data_uri(data: bytes) -> str:
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode()


def body(*images: Any, context: Any = None) -> dict[str, Any]:
    """What Label Studio posts to ``/predict``."""
    return {
        "tasks": [{"id": k, "data": {"image": image}} for k, image in enumerate(images)],
        "project": "1.1",
        "label_config": CONFIG,
        "params": {"login": None, "password": None, "context": context},
    }


def rectangle(x: float, y: float, width: float, height: float, label: str = "gear") -> dict[str, Any]:
    """A smart rectangle as the context of a request, in percent."""
    region = {
        "id": "r1",
        "from_name": "box",
        "to_name": "image",
        "type": "rectanglelabels",
        "origin": "manual",
        "value": {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": [label]},
    }
    return {"result": [region]}


def scene(seed: int, kind: str = "JPEG", width: int = 320, height: int = 240) -> bytes:
    out = io.BytesIO()
    Image.fromarray(draw_scene(seed, width, height).image).save(out, kind)
    return out.getvalue()


@dataclass
class Served:
    """A server that runs; ``lines`` fills with its log."""

    process: subprocess.Popen[str]
    url: str = ""
    lines: list[str] = field(default_factory=list)
    listener: threading.Thread = field(default_factory=threading.Thread)

    @classmethod
    def start(cls, home: Path, *words: str, port: int = 0, **settings: str) -> Served:
        others = {k: v for k, v in os.environ.items() if not k.startswith("LABELBRIDGE_")}
        mine = {f"LABELBRIDGE_{k.upper()}": v for k, v in settings.items()}
        home.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "bridge", "serve", *words],
            env={**others, **mine, "LABELBRIDGE_HOME": str(home), "LABELBRIDGE_BACKEND_PORT": str(port)},
            cwd=home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        served = cls(process)
        served.listener = threading.Thread(target=served._listen, daemon=True)
        served.listener.start()
        try:
            served.wait_for(lambda: bool(served.url) and served.ready())
        except BaseException:
            served.kill()
            raise
        return served

    def _listen(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line)
            if not self.url and '"listening"' in line:
                self.url = json.loads(line)["url"]

    def ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def wait_for(self, condition: Callable[[], bool], seconds: float = 90) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, "".join(self.lines)
            assert time.monotonic() < until, "it did not happen in time:\n" + "".join(self.lines[-20:])
            time.sleep(0.05)

    def predict(self, *images: Any, context: Any = None) -> list[Any]:
        answer = requests.post(f"{self.url}/predict", json=body(*images, context=context), timeout=120)
        assert answer.status_code == 200, answer.text
        found: list[Any] = answer.json()["results"]
        return found

    def metric(self, name: str) -> float:
        text = requests.get(f"{self.url}/metrics", timeout=10).text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def rss(self) -> int:
        """Bytes of memory it holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        self.process.kill()
        self._end(30)

    def _end(self, seconds: float) -> None:
        self.process.wait(seconds)
        self.listener.join(10)
        assert self.process.stderr
        self.process.stderr.close()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self._end(40)
            except subprocess.TimeoutExpired:
                self.kill()
                raise


def odd_but_good(seed: int) -> list[bytes]:
    """One scene in forms that cameras, microscopes and editors write; all show the same objects."""
    pixels = draw_scene(seed, 320, 240).image
    image = Image.fromarray(pixels)
    turned = Image.fromarray(np.rot90(pixels).copy())
    exif = Image.Exif()
    exif[0x0112] = 6
    forms: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (image, "JPEG", {"quality": 92}),
        (image, "PNG", {}),
        (image, "WEBP", {"quality": 92}),
        (image, "BMP", {}),
        (image, "TIFF", {}),
        (image.convert("CMYK"), "JPEG", {"quality": 95}),
        (image.convert("RGBA"), "PNG", {}),
        (image.quantize(256), "PNG", {}),
        (turned, "JPEG", {"quality": 92, "exif": exif}),
    ]
    files = []
    for form, kind, options in forms:
        out = io.BytesIO()
        form.save(out, kind, **options)
        files.append(out.getvalue())
    return files


def bad(seed: int) -> list[Any]:
    """What is no image, or not to be read."""
    good = scene(seed)
    huge = bytearray(scene(seed, "PNG"))
    huge[16:24] = (200_000).to_bytes(4, "big") * 2
    return [
        data_uri(good[: len(good) // 2]),
        data_uri(b""),
        data_uri(b"\x00" * 500),
        data_uri(bytes(huge)),
        data_uri(b"<html>404</html>" * 20),
        "data:image/png;base64,@@@@",
        "/data/upload/1/not-there.jpg",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        None,
        7,
        {"a": 1},
    ]
