"""The best case of a server in the manner of label-studio-ml: a model object per request, one fixed box per task.

It does less than the real one: no SQLite, no parsing of the label configuration, no logging. Run it as that project's
container does: ``gunicorn --workers 1 --threads 8 fixed_flask:app``.
"""

from __future__ import annotations

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)


class Model:
    """Made anew for each request."""

    def __init__(self, project_id: str | None, label_config: str | None) -> None:
        self.project_id = project_id
        self.label_config = label_config

    def predict(self, tasks: list[Any], context: Any = None) -> list[dict[str, Any]]:
        del context
        return [
            {
                "model_version": "fixed-1",
                "score": 0.8,
                "result": [
                    {
                        "id": "r0",
                        "from_name": "label",
                        "to_name": "image",
                        "type": "rectanglelabels",
                        "original_width": 640,
                        "original_height": 480,
                        "image_rotation": 0,
                        "score": 0.8,
                        "value": {
                            "x": 10,
                            "y": 10,
                            "width": 30,
                            "height": 30,
                            "rotation": 0,
                            "rectanglelabels": ["cat"],
                        },
                    }
                ],
            }
            for _ in tasks
        ]


@app.get("/health")
def health() -> Any:
    return jsonify({"status": "UP"})


@app.post("/predict")
def predict() -> Any:
    data = request.json
    project = data.get("project")
    model = Model(project.split(".", 1)[0] if project else None, data.get("label_config"))
    return jsonify({"results": model.predict(data["tasks"], context=data.get("params", {}).get("context"))})
