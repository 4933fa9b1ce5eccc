"""``serve`` as a process: what it says when it cannot start, and how it stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
from safetensors.torch import save_file
from serving_kit import CONFIG, data_uri, picture, task

from bridge.errors import ConfigError, ModelError
from bridge.listening import listen
from ml_backend.app import serve
from ml_backend.models.torchvision_detector import build_network

SSDLITE = "ssdlite320_mobilenet_v3_large"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(build_network(SSDLITE, {"num_classes": 3}).state_dict(), path)
    return path


def test_a_taken_port_is_told() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1 is taken") as caught:
            listen("127.0.0.1", port)
    assert "--port" in caught.value.todo


@pytest.mark.parametrize(("host", "port"), [("no such host", 0), ("192.0.2.1", 0), ("127.0.0.1", 99999)])
def test_an_address_that_is_none_is_told(host: str, port: int) -> None:
    with pytest.raises(ConfigError):
        listen(host, port)


def test_wrong_settings_are_told_before_anything_starts(weights: Path) -> None:
    with pytest.raises(ModelError, match="there is no model"):
        serve(detector="yolo99")
    with pytest.raises(ConfigError, match="both or neither"):
        serve(detector=SSDLITE, weights=weights, user="bob")
    with pytest.raises(ConfigError, match="label map"):
        serve(detector=SSDLITE, weights=weights, label_map="car")


SCRIPT = """
import json, sys
from pathlib import Path
from bridge.errors import LabelbridgeError
from ml_backend.app import serve
options = json.loads(sys.argv[1])
options["weights"] = Path(options["weights"])
try:
    serve(host="127.0.0.1", port=0, device="cpu", **options)
except LabelbridgeError as error:
    print(json.dumps(error.as_dict()))
    sys.exit(error.exit_status)
print("ended well")
"""


def process(**options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, json.dumps(options, default=str)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


@pytest.mark.slow
def test_a_model_that_does_not_fit_ends_the_process_with_its_error(weights: Path) -> None:
    running = process(detector=SSDLITE, weights=weights, classes=["a", "b", "c"])
    out, _ = running.communicate(timeout=60)
    assert running.returncode == ModelError.exit_status
    assert "num_classes is 3 in the weights and 4 in the model" in json.loads(out)["found"]


@pytest.mark.slow
def test_a_label_map_for_another_model_ends_the_process(weights: Path) -> None:
    running = process(detector=SSDLITE, weights=weights, classes=["a", "b"], label_map="A=cat")
    out, _ = running.communicate(timeout=60)
    assert running.returncode == ModelError.exit_status
    assert "the label map names 'A'" in json.loads(out)["found"]


@pytest.mark.slow
@pytest.mark.parametrize("word", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_a_real_network_and_stops_when_told(weights: Path, word: signal.Signals) -> None:
    running = process(detector=SSDLITE, weights=weights, classes=["a", "b"], label_map="a=cat,b=dog", threshold=0.0)
    try:
        assert running.stderr is not None
        first = json.loads(running.stderr.readline())
        assert first["event"] == "listening"
        url = first["url"]
        health = requests.get(f"{url}/health", timeout=10)
        assert health.json()["status"] == "UP"
        turned_round = requests.get(f"{url}/health", headers={"Host": "evil.example.org"}, timeout=10)
        assert turned_round.status_code == 403, "who listens to this machine only answers to its own names"
        body = {"tasks": [task(1, data_uri(picture((0, (20, 20, 90, 90)))))], "label_config": CONFIG}
        (item,) = requests.post(f"{url}/predict", json=body, timeout=60).json()["results"]
        assert item["model_version"] == first["models"][SSDLITE]
        assert {r["value"]["rectanglelabels"][0] for r in item["result"]} <= {"cat", "dog"}
        assert len(item["result"]) > 0
    finally:
        running.send_signal(word)
        out, _ = running.communicate(timeout=30)
    if word is signal.SIGINT:
        assert (running.returncode, out.strip()) == (0, "ended well")
    else:
        assert running.returncode in (0, -signal.SIGTERM)


def test_the_port_can_be_used_again_at_once() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = first.accept()
            accepted.close()
            client.recv(1)
    time.sleep(0.05)
    listen("127.0.0.1", port).close()
