"""What people write first: Flask, one request, one image, the network in eager mode. For comparison only.

Run as label-studio-ml's container is, with ``gunicorn --workers 1 --threads 8``.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import torch
from flask import Flask, jsonify, request
from PIL import Image
from torchvision.models import get_model
from torchvision.transforms.functional import pil_to_tensor


def make_app(builder: str, weights: str, classes: str) -> Flask:
    app = Flask(__name__)
    names = classes.split(",")
    network = get_model(builder, weights=None, weights_backbone=None, num_classes=len(names) + 1)
    network.load_state_dict(torch.load(Path(weights), weights_only=True))
    network.eval()

    @app.get("/health")
    def health() -> Any:
        return jsonify({"status": "UP"})

    @app.post("/predict")
    def predict() -> Any:
        results = []
        for task in request.json["tasks"]:
            data = base64.b64decode(task["data"]["image"].partition(",")[2])
            image = Image.open(io.BytesIO(data)).convert("RGB")
            with torch.inference_mode():
                (found,) = network([pil_to_tensor(image).float() / 255])
            regions = []
            for box, label, score in zip(found["boxes"], found["labels"], found["scores"], strict=True):
                if score >= 0.5:
                    x1, y1, x2, y2 = (box / torch.tensor([image.width, image.height] * 2) * 100).tolist()
                    regions.append(
                        {
                            "from_name": "label",
                            "to_name": "image",
                            "type": "rectanglelabels",
                            "score": float(score),
                            "value": {
                                "x": x1,
                                "y": y1,
                                "width": x2 - x1,
                                "height": y2 - y1,
                                "rectanglelabels": [names[int(label) - 1]],
                            },
                        }
                    )
            results.append({"model_version": "naive", "score": 0.5, "result": regions})
        return jsonify({"results": results})

    return app
