"""The people of a Label Studio project, acting through REST as the browser does."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from harness import Objects, Photo, Wire
from live import CONFIG, Studio

from bridge.core.annotations import Box, Item
from bridge.dialects.label_studio import box_entries, box_to_value, parse_label_config
from bridge.tools import Review
from bridge.tools.label_studio import LabelStudio
from bridge.tools.label_studio_client import LabelStudioClient

DIALECT = parse_label_config(CONFIG)


class LabelStudioHarness(Wire):
    """See :class:`harness.Harness`."""

    keeps_predictions = True
    makes_reviews = True

    def __init__(self, studio: Studio, photos: Sequence[Photo]) -> None:
        self.studio = studio
        self.project = studio.project([(p.width, p.height) for p in photos])
        for task, photo in zip(self.project.tasks, photos, strict=True):
            for objects in photo.submissions:
                studio.annotate(task, self._regions(objects, photo.width, photo.height))
        self.tool = self.again()

    def _regions(self, objects: Objects, width: int, height: int, prefix: str = "r") -> list[dict[str, Any]]:
        regions: list[dict[str, Any]] = []
        for index, (label, box) in enumerate(objects):
            regions += box_entries(DIALECT, f"{prefix}{index}", label, box, width, height)
        return regions

    def lost_image(self, item: Item) -> str:
        return item.image.replace("photo 0", "gone")

    def again(self) -> LabelStudio:
        self.client = LabelStudioClient(self.studio.server.url, self.studio.server.token, sleep=lambda _: None)
        return LabelStudio(self.client, self.project.id)

    def requests_made(self) -> int:
        return self.client.requests_made

    def edit(self, submission_id: str, add: Objects = (), drop: Sequence[str] = (), relabel: str = "") -> None:
        client = self.studio.client
        result = client.annotation(int(submission_id))["result"]
        result = [r for r in result if f"{submission_id}:{r['id']}" not in drop]
        for region in result:
            if relabel:
                region["value"]["rectanglelabels"] = [relabel]
        width, height = (result[0][f"original_{side}"] for side in ("width", "height")) if result else (512, 256)
        client.patch_annotation(int(submission_id), {"result": result + self._regions(add, width, height, "new")})

    def withdraw(self, submission_id: str) -> None:
        self.studio.client.call("DELETE", f"/api/annotations/{submission_id}/")

    def raw(self, submission_id: str) -> dict[str, str]:
        result = self.studio.client.annotation(int(submission_id))["result"]
        return {f"{submission_id}:{r['id']}": json.dumps(r) for r in result}

    def answer(self, review: Review, ref: str, verdict: str | None, label: str = "", box: Box | None = None) -> None:
        client = self.studio.client
        task = client.call("GET", f"/api/tasks/{ref}/").json()
        result = copy.deepcopy(task["predictions"][0]["result"])
        for region in result:
            if region["from_name"] == "suggestion":
                if label:
                    region["value"]["rectanglelabels"] = [label]
                if box:
                    region["value"].update(box_to_value(box, region["original_width"], region["original_height"]))
                region["origin"] = "prediction-changed" if label or box else "prediction"
        if verdict:
            choice = {"id": "v1", "from_name": "verdict", "to_name": "image", "type": "choices", "origin": "manual"}
            result.append({**choice, "value": {"choices": [verdict]}})
        if task["annotations"]:
            client.patch_annotation(task["annotations"][0]["id"], {"result": result})
        else:
            self.studio.annotate(int(ref), result)
