"""Our server with a model that answers one fixed box, and images that are always there. ``... PORT``"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from bridge.listening import Servers, listen
from ml_backend.app import create_app
from ml_backend.entry import ModelEntry
from ml_backend.image_source import ImageRef
from ml_backend.models import Detections, Kind
from ml_backend.models.catalogue import ModelCard
from ml_backend.server_settings import ServerSettings

out = io.BytesIO()
Image.new("RGB", (640, 480)).save(out, "JPEG")


class OnePicture:
    """The same picture behind every reference."""

    def read(self, _reference: ImageRef) -> bytes:
        return out.getvalue()


class Fixed:
    """One box, whatever the image."""

    name = "fixed-1"
    classes = ("cat",)
    kind: Kind = "rectangle"

    def predict(self, images: Sequence[Any]) -> list[Detections]:
        return [Detections(np.array([[64.0, 48, 256, 192]]), np.array([0]), np.array([0.8])) for _ in images]


entry = ModelEntry("fixed", ModelCard("fixed-1", "rectangle", ("cat",)), Fixed)
app = create_app(ServerSettings(max_requests=1000), [entry], images=OnePicture())
Servers([(app, listen("127.0.0.1", int(sys.argv[1])))]).run()
