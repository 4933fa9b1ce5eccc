"""What the server adds to a click: smart rectangles through Label Studio's dialect, beside the model called directly.

    python benchmarks/interactive_serving.py IMAGE [--interactor sam_vit_b] [--prompts 30]

SAM has random weights, saved to a file that both sides load: its masks are noise of 50,000 runs, which takes 20 ms to
write as a brush mask. ``--answer box`` shows what is left without that. The image travels in every request, as a data
URI, which is the slowest way it can come. Server and direct call take turns, prompt by prompt; figures are medians.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from processes import free_port, python, running

BRUSH = '<BrushLabels name="brush" toName="image"><Label value="cell"/></BrushLabels>'
BOX = '<RectangleLabels name="box" toName="image" smart="true"><Label value="cell"/></RectangleLabels>'
CONFIG = '<View><Image name="image" value="$image"/>{}</View>'
Xyxy = tuple[float, float, float, float]


def post(url: str, config: str, image: str, width: int, height: int, box: Xyxy) -> Any:
    x1, y1, x2, y2 = box
    value = {"x": x1 / width * 100, "y": y1 / height * 100, "width": (x2 - x1) / width * 100}
    value |= {"height": (y2 - y1) / height * 100, "rotation": 0, "rectanglelabels": ["cell"]}
    region = {"id": "r1", "from_name": "box", "to_name": "image", "type": "rectanglelabels", "value": value}
    body = {
        "tasks": [{"id": 1, "data": {"image": image}}],
        "project": "1.1",
        "label_config": config,
        "params": {"context": {"result": [region]}},
    }
    data = json.dumps(body).encode()
    request = urllib.request.Request(url + "/predict", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("image", type=Path)
    parser.add_argument("--interactor", default="sam_vit_b")
    parser.add_argument("--prompts", type=int, default=30)
    parser.add_argument("--answer", choices=("brush", "box"), default="brush")
    options = parser.parse_args()
    config = CONFIG.format(BRUSH + BOX if options.answer == "brush" else BOX)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from bridge.images import decode
    from ml_backend.models import Prompt
    from ml_backend.models.catalogue import ModelSpec, load

    data = options.image.read_bytes()
    pixels = decode(data, options.image.name)
    height, width = pixels.shape[:2]
    uri = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    with tempfile.TemporaryDirectory() as folder:
        entry: dict[str, Any] = {"id": "clicks", "model": options.interactor}
        if options.interactor.startswith("sam_"):
            entry["weights"] = str(save_sam(options.interactor, Path(folder)))
        models = Path(folder) / "models.yaml"
        models.write_text(json.dumps({"models": [entry]}))
        os.environ["LABELBRIDGE_MODELS"] = str(models)
        model: Any = load(ModelSpec(options.interactor, weights=Path(entry["weights"]) if "weights" in entry else None))
        port = free_port()
        with running("labelbridge", python("-m", "bridge", "serve", "--port", port), port, "/readyz") as server:
            began = time.perf_counter()
            seen = model.preprocess(pixels)
            looking = time.perf_counter() - began
            began = time.perf_counter()
            post(server.url, config, uri, width, height, (10, 10, width / 2, height / 2))
            first = time.perf_counter() - began
            served, direct = [], []
            for k in range(options.prompts):
                box = (5.0 + k, 5.0 + k, width / 2 + 3 * k, height / 2 + 2 * k)
                began = time.perf_counter()
                (result,) = post(server.url, config, uri, width, height, box)["results"]
                served.append(time.perf_counter() - began)
                assert "result" in result
                began = time.perf_counter()
                model.prompt(seen, [Prompt(box=box)])
                direct.append(time.perf_counter() - began)
    middle, alone = statistics.median(served), statistics.median(direct)
    print(f"{options.interactor}, an image of {width} x {height}, {options.prompts} prompts")
    print(f"  looking at the image     {looking * 1000:8.1f} ms;  the first request {first * 1000:.1f} ms")
    print(f"  a prompt, model alone    {alone * 1000:8.1f} ms")
    print(f"  a prompt, through server {middle * 1000:8.1f} ms")
    print(
        f"  the server adds          {(middle - alone) * 1000:8.1f} ms; first request : prompt = {first / middle:.0f}"
    )


def save_sam(builder: str, folder: Path) -> Path:
    import torch
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    path = folder / "sam.pth"
    torch.save(sam_model_registry[builder.removeprefix("sam_")](checkpoint=None).state_dict(), path)
    return path


if __name__ == "__main__":
    main()
