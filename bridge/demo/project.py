"""The demo's project in Label Studio: tasks with the annotations that hold planted errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from bridge.core.annotations import Box, Item, Record
from bridge.demo.dataset import LABELS, Dataset
from bridge.dialects.label_studio import box_region, parse_label_config
from bridge.tools.label_studio_client import LabelStudioClient

#: Okabe and Ito's colours, told apart by colour-blind people too.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00")
_CHUNK = 100


def label_config(names: Sequence[str]) -> str:
    """A configuration with one set of rectangle labels."""
    labels = "".join(
        f"<Label value={quoteattr(name)} background={quoteattr(_COLOURS[k % len(_COLOURS)])}/>"
        for k, name in enumerate(names)
    )
    return (
        '<View><RectangleLabels name="label" toName="image" smart="true">'
        f'{labels}</RectangleLabels><Image name="image" value="$image" zoom="true"/></View>'
    )


def create(client: LabelStudioClient, dataset: Dataset, folder_name: str) -> int:
    """Make the project, let it serve the local images, and import every task; answers with the project's id.

    ``folder_name`` is where the images lie below Label Studio's local files root.
    """
    project = int(
        client.create_project(
            {
                "title": "Machine parts demo",
                "description": "Drawn scenes; some of the annotations hold errors that were planted on purpose.",
                "label_config": label_config(LABELS.names),
                "show_collab_predictions": True,
            }
        )["id"]
    )
    storage = {
        "project": project,
        "title": "demo images",
        "path": str(dataset.folder),
        "use_blob_urls": True,
    }
    client.call("POST", "/api/storages/localfiles", json=storage)
    tasks = [_task(record.item, record, folder_name) for record in dataset.records]
    tasks += [_task(item, None, folder_name) for item in dataset.unlabelled]
    for start in range(0, len(tasks), _CHUNK):
        client.import_tasks(project, tasks[start : start + _CHUNK])
    return project


def _task(item: Item, record: Record | None, folder_name: str) -> dict[str, Any]:
    task: dict[str, Any] = {"data": {"image": f"/data/local-files/?d={folder_name}/{item.name}"}}
    if record is not None:
        # Imported annotations count as ground truth unless told otherwise.
        task["annotations"] = [{"result": _result(record), "ground_truth": False}]
    return task


def _result(record: Record) -> list[dict[str, Any]]:
    control = parse_label_config(label_config(LABELS.names)).control_for("rectanglelabels")
    assert control is not None
    width, height = record.item.width, record.item.height
    assert width is not None
    assert height is not None
    return [
        box_region(a.id, control, a.label, a.shape, width, height)
        for a in record.submissions[0].annotations
        if isinstance(a.shape, Box)
    ]
