"""A CVAT server that holds one task of images: as much of the REST API as ``cvat_sdk.auto_annotation`` uses."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from fakes.canned_server import Answer, CannedServer

TASK = 7
#: Attribute and label ids of the task are far from those of any function.
LABEL_IDS, ATTRIBUTE_IDS = 50, 900


class CvatTask(CannedServer):
    """One task.

    Args:
        labels: name -> type, as in ``rectangle`` or ``any``.
        frames: file name -> image file.
        attributes: names of the text attributes that every label has.
    """

    def __init__(
        self, labels: Mapping[str, str], frames: Mapping[str, bytes], attributes: Sequence[str] = (), version: str = ""
    ) -> None:
        super().__init__()
        about = {"name": "CVAT", "description": "", "version": version or "2.80.0", "logo_url": "", "subtitle": ""}
        when = "2026-01-01T00:00:00Z"
        task = {"id": TASK, "name": "task", "size": len(frames), "data_chunk_size": 36, "updated_date": when}
        links = {"jobs": {"count": 1, "completed": 0, "validation": 0, "url": self.url}, "labels": {"url": self.url}}
        owners = {"organization": None, "organization_id": None, "project_id": None}
        meta = {
            "chunks_updated_date": when,
            "chunk_size": 36,
            "size": len(frames),
            "start_frame": 0,
            "stop_frame": len(frames) - 1,
            "frame_filter": "",
            "image_quality": 70,
            "frames": [{"name": name, "width": 1, "height": 1, "related_files": 0} for name in frames],
            "deleted_frames": [],
        }
        names = [
            {"id": LABEL_IDS + i, "name": name, "type": kind, "sublabels": [], "attributes": _attributes(attributes)}
            for i, (name, kind) in enumerate(labels.items())
        ]
        root = f"/api/tasks/{TASK}"
        self.on("/api/server/about", _json(about))
        self.on(root, _json({**task, **links, **owners, "data_original_chunk_type": "imageset"}))
        self.on("/api/labels", _json({"count": len(names), "next": None, "previous": None, "results": names}))
        self.on(f"{root}/data/meta", _json(meta))
        self.on(f"{root}/data/", (200, {"content-type": "application/zip"}, _chunk(frames)))
        self.on(f"{root}/annotations/", _json({"version": 0, "tags": [], "shapes": [], "tracks": []}))

    @property
    def written(self) -> dict[str, Any]:
        """The one body of annotations that was sent."""
        (body,) = [
            body for method, path, _, body in self.seen if "/annotations/" in path and method in ("PATCH", "PUT")
        ]
        answer: dict[str, Any] = json.loads(body)
        return answer


def _attributes(names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"id": ATTRIBUTE_IDS + i, "name": name, "mutable": False, "input_type": "text", "values": []}
        for i, name in enumerate(names)
    ]


def _chunk(frames: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as chunk:
        for name, data in frames.items():
            chunk.writestr(name, data)
    return out.getvalue()


def _json(value: object) -> Answer:
    return 200, {"content-type": "application/json"}, json.dumps(value).encode()
