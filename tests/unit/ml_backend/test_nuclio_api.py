"""CVAT's dialect over real HTTP, asked as CVAT 2.15, 2.22 and later ask."""

from __future__ import annotations

import base64
import io
import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import requests
from fakes.cvat_caller import VERSIONS, CallFailed, CvatCaller, TaskLabel
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from nuclio_kit import Filler, Judge, PatchFinder, counted, cvat_server, entry, eventually
from PIL import Image, ImageOps
from serving_kit import CURSED, Running, SquareFinder, Start, picture

from bridge.core.geometry import envelope, polygon_area
from bridge.core.rle import decode_cvat
from bridge.errors import ModelError, PluginError
from ml_backend.models import Detections
from ml_backend.nuclio_api import ProjectFunction
from ml_backend.runtime import Late, Overloaded, Seen
from ml_backend.server_settings import ServerSettings

CAT = (0, (20, 10, 60, 50))
DOG = (1, (100, 30, 180, 90))
PHOTO = picture(CAT, DOG)
LABELS = {"cat": TaskLabel("any", {"score": "text"}), "dog": TaskLabel("any", {"score": "text"})}
ERROR = {"error", "found", "expected", "todo"}


def encoded(data: bytes = PHOTO) -> str:
    return base64.b64encode(data).decode()


def invoke(server: Running, name: str, payload: Any, **headers: str) -> requests.Response:
    return server.post("/api/function_invocations", payload, headers={"x-nuclio-function-name": name, **headers})


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """A server with a model of each role."""
    entries = [
        entry("squares", about="finds squares"),
        entry("patches", PatchFinder()),
        entry("judge", Judge(), threshold=0.05),
        entry("filler", Filler()),
    ]
    with cvat_server(entries) as running:
        yield running


@pytest.fixture(params=VERSIONS)
def cvat(server: Running, request: pytest.FixtureRequest) -> CvatCaller:
    return CvatCaller(server.url, request.param)


# --- the list -------------------------------------------------------------------------------------------------------


def test_every_version_lists_every_model(cvat: CvatCaller) -> None:
    found = {f.id: f for f in cvat.list()}
    assert list(found) == ["squares", "patches", "judge", "filler"]
    assert [f.kind for f in found.values()] == ["detector", "detector", "detector", "interactor"]
    assert found["squares"].labels == {"cat": "rectangle", "dog": "rectangle"}
    assert found["patches"].labels == {"cat": "mask", "dog": "mask"}
    assert found["judge"].labels == {"reddish": "tag", "greenish": "tag"}
    assert found["squares"].description == "finds squares (square-finder-1)"
    assert found["patches"].description == "patch-finder-1"
    assert all(f.can_be_started for f in found.values())


def test_a_function_alone_is_the_one_of_the_list(cvat: CvatCaller, server: Running) -> None:
    listed = server.get("/api/functions").json()
    for name in listed:
        assert server.get(f"/api/functions/{name}").json() == listed[name]
        assert cvat.get(name).id == name


@pytest.mark.parametrize("name", ["nothing", "a%20b", "..", "%00", "x" * 3000])
def test_an_unknown_function_is_404_in_json(server: Running, name: str) -> None:
    answer = server.get(f"/api/functions/{name}")
    assert answer.status_code == 404
    if "found" in answer.text:
        assert set(answer.json()) == ERROR
        assert "squares" in answer.json()["expected"]


def test_the_list_needs_no_model_and_no_time() -> None:
    loads = []

    def load(name: str, gate: threading.Event) -> SquareFinder:
        loads.append(name)
        gate.wait(30)
        return SquareFinder()

    gate = threading.Event()
    entries = [entry(n, lambda n=n: load(n, gate), known=SquareFinder()) for n in ("first", "second")]
    try:
        with cvat_server(entries) as server:
            assert server.get("/readyz").status_code == 503
            began = time.perf_counter()
            for _ in range(50):
                assert len(server.get("/api/functions").json()) == 2
                assert server.get("/api/functions/second").status_code == 200
            assert time.perf_counter() - began < 2
            assert loads == ["first"]  # loaded at the start, as the default model; nobody asked for the second
            gate.set()
    finally:
        gate.set()


def test_a_model_that_no_version_could_read_is_left_out_and_logged() -> None:
    entries = [
        entry("good"),
        entry("pth-facebookresearch-sam-vit-h", Filler()),
        entry("classless", classes=()),
        entry("nameless", classes=("cat", "")),
    ]
    functions = [
        ProjectFunction("good", "good", "the id is taken", ("cat",)),
        ProjectFunction("bad/id", "good", "a slash", ("cat",)),
        ProjectFunction("stray", "gone", "no such model", ("cat",)),
        ProjectFunction("strange", "good", "no label in common", ("horse",)),
        ProjectFunction("masked", "pth-facebookresearch-sam-vit-h", "has no labels", ("cat",)),
        ProjectFunction("fine", "good", "Fine", ("cat",)),
    ]
    with cvat_server(entries, functions) as server:
        for version in VERSIONS:
            assert [f.id for f in CvatCaller(server.url, version).list()] == ["good", "fine"]
        left_out = {line["function"]: line for line in server.events("function_not_listed")}
        assert server.get("/api/functions/classless").status_code == 404
    assert set(left_out) == {
        "pth-facebookresearch-sam-vit-h", "classless", "nameless", "good", "bad/id", "stray", "strange", "masked",
    }  # fmt: skip
    assert all(line["found"] and line["todo"] for line in left_out.values())


def test_one_class_of_many_names_is_one_label() -> None:
    mapped = entry("animals", label_map={"cat": "animal", "dog": "animal"})
    with cvat_server([mapped]) as server:
        caller = CvatCaller(server.url, "2.15")
        assert caller.get("animals").labels == {"animal": "rectangle"}
        assert [s["label"] for s in caller.detect("animals", PHOTO, {"animal": TaskLabel()})] == ["animal", "animal"]


# --- detectors ------------------------------------------------------------------------------------------------------


def test_rectangles_are_stored_with_their_score(cvat: CvatCaller) -> None:
    cat, dog = cvat.detect("squares", PHOTO, LABELS)
    assert cat == {
        "label": "cat",
        "type": "rectangle",
        "points": [20, 10, 60, 50],
        "rotation": 0,
        "attributes": {"score": "1.00"},
    }
    assert dog["points"] == [100, 30, 180, 90]


def test_masks_are_stored_pixel_by_pixel_or_as_polygons(cvat: CvatCaller) -> None:
    cat, dog = cvat.detect("patches", PHOTO, LABELS)
    assert (cat["type"], dog["type"]) == ("mask", "mask")
    expected = np.zeros((100, 200), bool)
    expected[30:90, 100:180] = True
    np.testing.assert_array_equal(decode_cvat(dog["points"], 100, 200), expected)
    assert dog["attributes"] == {"score": "1.00"}
    polygon = cvat.detect("patches", PHOTO, LABELS, masks_as_polygons=True)[1]
    assert polygon["type"] == "polygon"
    assert polygon["points"] == [100, 30, 180, 30, 180, 90, 100, 90]


def test_masks_fit_polygon_labels_too(cvat: CvatCaller) -> None:
    labels = {"cat": TaskLabel("polygon"), "dog": TaskLabel("rectangle")}
    (stored,) = cvat.detect("patches", PHOTO, labels)
    assert stored["label"] == "cat"


def test_tags_are_stored_without_a_place(cvat: CvatCaller) -> None:
    (tag,) = cvat.detect(
        "judge", PHOTO, {"greenish": TaskLabel("tag", {"score": "text"}), "reddish": TaskLabel("mask")}
    )
    assert tag == {"label": "greenish", "type": "tag", "attributes": {"score": "0.24"}}


def test_a_picture_with_nothing_in_it_is_an_empty_list(cvat: CvatCaller) -> None:
    for name in ("squares", "patches"):
        assert cvat.call(name, {"image": encoded(picture())}) == []


# An L of red: its box is filled by 0.75.
FAINT = picture((0, (20, 10, 60, 30)), (0, (20, 10, 40, 50)))


@pytest.mark.parametrize(
    ("threshold", "found"), [(None, 1), (0, 1), (0.7, 1), (0.75, 1), (0.8, 0), (1, 0), (0.0001, 1)]
)
def test_the_threshold_of_the_call_counts_else_that_of_the_model(
    server: Running, threshold: float | None, found: int
) -> None:
    payload = {"image": encoded(FAINT), "threshold": threshold}
    assert len(invoke(server, "squares", payload).json()) == found


def test_a_call_may_ask_for_fainter_objects_than_the_model_shows() -> None:
    with cvat_server([entry("strict", threshold=0.9)]) as server:
        payload = {"image": encoded(FAINT)}
        assert invoke(server, "strict", payload).json() == []
        (item,) = invoke(server, "strict", {**payload, "threshold": 0.5}).json()
        assert item["attributes"] == [{"name": "score", "value": "0.75"}]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["squares", "patches"])
def test_a_turned_photo_is_answered_as_cvat_shows_it(server: Running, orientation: int, name: str) -> None:
    """CVAT shows photos upright. It sends the file as it was uploaded, or turned upright: the answer is the same."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = Image.open(io.BytesIO(picture(CAT, DOG)))
    as_uploaded = io.BytesIO()
    source.save(as_uploaded, "JPEG", quality=95, exif=exif)
    shown = ImageOps.exif_transpose(Image.open(as_uploaded))
    upright = io.BytesIO()
    shown.save(upright, "PNG")
    given = invoke(server, name, {"image": encoded(as_uploaded.getvalue())}).json()
    turned = invoke(server, name, {"image": encoded(upright.getvalue())}).json()
    assert given == turned
    assert len(given) == 2
    if name == "squares":
        # The middle of the cat, in the picture as it is shown, is red.
        x1, y1, x2, y2 = next(i for i in given if i["label"] == "cat")["points"]
        red, green, _ = shown.getpixel((int((x1 + x2) / 2), int((y1 + y2) / 2)))
        assert red > 200 > green


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_frames_come_in_the_format_of_their_file(server: Running, kind: str) -> None:
    answer = invoke(server, "squares", {"image": encoded(picture(CAT, kind=kind))})
    assert [item["label"] for item in answer.json()] == ["cat"]


def test_fields_that_are_not_known_are_passed_over(server: Running) -> None:
    payload = {"image": encoded(), "roi": [1, 2, 3, 4], "type": "x", "quality": "original", "threshold": None}
    answer = invoke(server, "squares", payload, **{"X-Nuclio-Invoke-Timeout": "soon", "x-nuclio-path": "/a/b"})
    assert len(answer.json()) == 2


# --- interactors ----------------------------------------------------------------------------------------------------


def mask_of(drawn: Any) -> Any:
    return decode_cvat(drawn["mask"], 100, 200)


def test_a_click_draws_what_was_clicked(cvat: CvatCaller) -> None:
    drawn = cvat.interact("filler", PHOTO, positive=[[30.5, 20.25]])
    assert drawn is not None
    assert mask_of(drawn)[10:50, 20:60].all()
    assert mask_of(drawn).sum() == 40 * 40
    assert drawn["polygon"] == [[20, 10], [60, 10], [60, 50], [20, 50]]
    assert drawn["mask"][-4:] == [20, 10, 59, 49]


def test_clicks_beside_the_object_count(cvat: CvatCaller) -> None:
    both = cvat.interact("filler", PHOTO, positive=[[30, 20], [120, 40]])
    one = cvat.interact("filler", PHOTO, positive=[[30, 20], [120, 40]], negative=[[125, 45]])
    assert mask_of(both).sum() == 40 * 40 + 80 * 60
    assert mask_of(one).sum() == 40 * 40


@pytest.mark.parametrize("version", ["2.22", "new"])
def test_a_box_alone_draws_what_is_in_it(server: Running, version: str) -> None:
    drawn = CvatCaller(server.url, version).interact("filler", PHOTO, box=[[110, 40], [140, 60]])
    assert mask_of(drawn)[40:60, 110:140].all()
    assert mask_of(drawn).sum() == 20 * 30


def test_where_nothing_was_clicked_nothing_is_drawn(cvat: CvatCaller) -> None:
    assert cvat.interact("filler", PHOTO, positive=[[1, 1]]) is None
    assert cvat.interact("filler", PHOTO, positive=[[-500, 9000]]) is None
    assert cvat.interact("filler", PHOTO, negative=[[30, 20]]) is None
    assert cvat.interact("filler", PHOTO) is None


def test_an_empty_question_costs_no_model() -> None:
    filler = Filler()
    with cvat_server([entry("filler", filler)]) as server:
        server.wait_until_ready()
        looked = filler.looked
        assert CvatCaller(server.url, "2.15").interact("filler", PHOTO, negative=[[30, 20]]) is None
        assert filler.looked == looked
        for _ in range(3):
            assert CvatCaller(server.url).interact("filler", PHOTO, positive=[[30, 20]])
        assert filler.looked == looked + 1  # the picture is looked at once for all clicks


# --- functions of a project -----------------------------------------------------------------------------------------


def test_a_project_s_function_has_the_project_s_labels() -> None:
    functions = [
        ProjectFunction("squares.p7", "squares", "squares for Farm", ("Dog", "horse", "Katze"), {"cat": "Katze"}),
        ProjectFunction("squares.p8", "squares", "squares for Kennel", ("dog",)),
    ]
    with cvat_server([entry("squares")], functions) as server:
        for version in VERSIONS:
            caller = CvatCaller(server.url, version)
            found = {f.id: f for f in caller.list()}
            assert found["squares.p7"].name == "squares for Farm"
            assert found["squares.p7"].labels == {"Dog": "rectangle", "Katze": "rectangle"}
            task = {"Dog": TaskLabel("rectangle"), "horse": TaskLabel(), "Katze": TaskLabel("any", {"score": "text"})}
            cat, dog = caller.detect("squares.p7", PHOTO, task)
            assert (cat["label"], dog["label"]) == ("Katze", "Dog")
            assert cat["attributes"] == {"score": "1.00"}
            (only,) = caller.detect("squares.p8", PHOTO, {"dog": TaskLabel()})
            assert only["label"] == "dog"


def test_the_model_s_label_map_holds_for_projects_that_have_its_labels() -> None:
    mapped = entry("squares", label_map={"cat": "Katze", "dog": "Hund"})
    functions = [ProjectFunction("squares.p1", "squares", "t", ("Katze", "dog"))]
    with cvat_server([mapped], functions) as server:
        assert list(CvatCaller(server.url).get("squares").labels) == ["Katze", "Hund"]
        assert list(CvatCaller(server.url).get("squares.p1").labels) == ["Katze", "dog"]


def test_functions_of_one_model_share_what_it_has_seen() -> None:
    finder = SquareFinder()
    functions = [ProjectFunction("squares.p1", "squares", "t", ("cat",))]
    with cvat_server([entry("squares", finder)], functions) as server:
        server.wait_until_ready()
        calls = len(finder.batches)
        for name in ("squares", "squares.p1", "squares"):
            assert invoke(server, name, {"image": encoded()}).status_code == 200
        assert len(finder.batches) == calls + 1


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "payload", "status", "word"),
    [
        ("squares", {}, 400, "image is missing"),
        ("squares", None, 400, "image is missing"),
        ("squares", {"image": 7}, 400, "image is 7"),
        ("squares", {"image": "%%%"}, 400, "base64"),
        ("squares", {"image": "aGVsbG8="}, 400, "not an image"),
        ("squares", {"image": encoded()[:200]}, 400, "decoded"),
        ("squares", {"image": "http://169.254.169.254/latest"}, 400, "base64"),
        ("squares", {"image": "/data/upload/1.png"}, 400, "base64"),
        ("squares", {"image": "data:image/png;base64," + encoded()}, 400, "base64"),
        ("squares", {"image": encoded(), "threshold": "high"}, 400, "threshold"),
        ("squares", {"image": encoded(), "threshold": 2}, 400, "threshold"),
        ("squares", [1], 400, "list"),
        ("filler", {"pos_points": [[1, 1]]}, 400, "image is missing"),
        ("filler", {"image": "%%%", "pos_points": [[1, 1]]}, 400, "base64"),
        ("filler", {"image": encoded(), "pos_points": [1, 1]}, 400, "pos_points"),
        ("filler", {"image": encoded(), "obj_bbox": [[1, 1]]}, 400, "obj_bbox"),
        ("gone", {"image": encoded()}, 404, "gone"),
        ("a b/../c", {"image": encoded()}, 404, "a b"),
        ("", {"image": encoded()}, 400, "x-nuclio-function-name"),
    ],
)
def test_a_refusal_is_json_with_what_to_do_and_is_logged(
    server: Running, name: str, payload: Any, status: int, word: str
) -> None:
    """CVAT shows the status and drops the body, so only the log can explain."""
    mark = f"refusal-{time.monotonic_ns()}"
    answer = invoke(server, name, payload, **{"x-request-id": mark})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == ERROR
    assert word in answer.json()["found"]
    assert answer.json()["todo"] or answer.json()["expected"]
    (line,) = (line for line in server.events("cvat_call_refused") if line["request_id"] == mark)
    assert line["status"] == status
    assert line["function"] == name.strip()
    assert line["found"] == answer.json()["found"]


def test_a_body_beyond_the_limit_is_413() -> None:
    with cvat_server([entry("squares")], settings=ServerSettings(max_body_bytes=1000)) as server:
        answer = invoke(server, "squares", {"image": "a" * 2000})
        assert answer.status_code == 413
        assert set(answer.json()) == ERROR
        assert server.events("cvat_call_refused")[0]["status"] == 413


def test_a_model_that_fails_says_so_and_the_next_call_is_answered(server: Running) -> None:
    answer = invoke(server, "squares", {"image": encoded(CURSED)})
    assert answer.status_code == 503
    assert "cursed" in answer.json()["found"]
    assert len(invoke(server, "squares", {"image": encoded()}).json()) == 2
    with pytest.raises(CallFailed) as caught:
        CvatCaller(server.url).detect("squares", CURSED, LABELS)
    assert caught.value.status == 503


def test_a_model_that_cannot_be_loaded_is_listed_and_its_calls_are_refused() -> None:
    def load() -> SquareFinder:
        raise ModelError("the weights are gone", todo="Bring them back")

    with cvat_server([entry("broken", load, known=SquareFinder())]) as server:
        assert [f.id for f in CvatCaller(server.url).list()] == ["broken"]
        answer = invoke(server, "broken", {"image": encoded()})
        assert answer.status_code == 503
        assert answer.json()["found"] == "the weights are gone"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PAYLOADS = st.dictionaries(
    st.sampled_from(["image", "threshold", "pos_points", "neg_points", "obj_bbox", "x"]),
    JSON | st.just(encoded(picture(CAT, size=(64, 64)))) | st.lists(st.lists(st.floats(), max_size=3), max_size=3),
)


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["squares", "patches", "judge", "filler"]), payload=PAYLOADS)
def test_whatever_is_sent_the_server_does_not_fail(server: Running, name: str, payload: Any) -> None:
    body = json.dumps(payload)  # with NaN and Infinity, as careless callers write them
    answer = server.http.post(
        server.url + "/api/function_invocations",
        data=body,
        headers={"x-nuclio-function-name": name, "content-type": "application/json"},
        timeout=30,
    )
    assert answer.status_code in (200, 400)
    if answer.status_code == 400:
        assert set(answer.json()) == ERROR


def test_a_thousand_good_and_bad_frames() -> None:
    good = [picture((0, (x, 10, x + 20, 40))) for x in range(0, 100, 10)]
    bad = [CURSED, b"", b"GIF89a", PHOTO[:-60], b"\xff\xd8\xff"]
    frames = [one for _, one in zip(range(1000), itertools.cycle([*good, *bad]), strict=False)]
    with cvat_server([entry("squares")]) as server, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda f: invoke(server, "squares", {"image": encoded(f)}), frames))
    for frame, answer in zip(frames, answers, strict=True):
        if frame in good:
            assert [item["label"] for item in answer.json()] == ["cat"]
        else:
            assert answer.status_code in (400, 503)
            assert set(answer.json()) == ERROR


# --- a full server --------------------------------------------------------------------------------------------------


class Scripted:
    """A runtime whose answers are given: for what a real one does only under load."""

    def __init__(self, *answers: Any) -> None:
        self.entries = {"squares": entry("squares"), "filler": entry("filler", Filler())}
        self.answers = list(answers)
        self.asked = 0
        self.state = "ready"

    def start(self) -> None:
        pass

    close = start

    async def look(self, model: str, references: Sequence[Any], gone: Any) -> Any:
        answer = self._next()
        return [answer]

    async def segment(self, model: str, reference: Any, prompts: Any, gone: Any) -> Any:
        return self._next()

    def _next(self) -> Any:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Overloaded | Late | PluginError):
            raise answer
        return answer


FULL = Overloaded("the server is full", retry_after=1)
EMPTY = Seen(Detections.none(), 200, 100)


def test_a_call_waits_for_a_place_since_a_refusal_would_end_cvat_s_batch() -> None:
    runtime = Scripted(FULL, FULL, EMPTY)
    with cvat_server(runtime=runtime) as server:
        began = time.monotonic()
        assert invoke(server, "squares", {"image": encoded()}).json() == []
        assert 1.5 < time.monotonic() - began < 10
        assert runtime.asked == 3
        assert server.events("cvat_call_refused") == []


@pytest.mark.parametrize("name", ["squares", "filler"])
def test_patience_ends(name: str) -> None:
    with cvat_server(runtime=Scripted(FULL), patience_s=0.5) as server:
        answer = invoke(server, name, {"image": encoded(), "pos_points": [[1, 1]]})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert set(answer.json()) == ERROR
        assert counted(server, "labelbridge_cvat_calls_total", function=name, status="503") == 1


def test_only_so_many_calls_wait_at_a_time() -> None:
    full = Overloaded("the server is full", retry_after=2)

    def seconds_to_refusal(url: str) -> float:
        began = time.monotonic()
        headers = {"x-nuclio-function-name": "squares"}
        answer = requests.post(f"{url}/api/function_invocations", json={"image": "aGk="}, headers=headers, timeout=30)
        assert answer.status_code == 503
        return time.monotonic() - began

    with cvat_server(runtime=Scripted(full), patience_s=2.5) as server, ThreadPoolExecutor(20) as pool:
        waited = list(pool.map(seconds_to_refusal, [server.url] * 20))
    assert len([seconds for seconds in waited if seconds < 1.5]) == 4


@pytest.mark.parametrize(("error", "status"), [(Late("no time left"), 503), (PluginError("a bug in the model"), 503)])
@pytest.mark.parametrize("name", ["squares", "filler"])
def test_errors_of_the_runtime_have_a_status(error: Exception, status: int, name: str) -> None:
    with cvat_server(runtime=Scripted(error)) as server:
        answer = invoke(server, name, {"image": encoded(), "pos_points": [[1, 1]]})
        assert answer.status_code == status
        assert answer.json()["found"] == error.found  # type: ignore[attr-defined]


def test_who_hangs_up_frees_the_place() -> None:
    gate = threading.Event()
    finder = SquareFinder(gate)
    settings = ServerSettings(max_requests=1)
    try:
        with cvat_server([entry("squares", finder)], settings=settings) as server:
            body = json.dumps({"image": encoded()}).encode()
            head = (
                "POST /api/function_invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                f"x-nuclio-function-name: squares\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            host, port = server.url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as client:
                client.sendall(head.encode() + body)
                eventually(lambda: server.counted("labelbridge_active_requests") == 1)
            eventually(lambda: server.counted("labelbridge_active_requests") == 0)
            gate.set()
            server.wait_until_ready()
            assert len(invoke(server, "squares", {"image": encoded()}).json()) == 2
    finally:
        gate.set()


def test_calls_are_counted_by_function_and_status() -> None:
    with cvat_server([entry("squares")]) as server:
        for image in (encoded(), encoded(), "%%%"):
            invoke(server, "squares", {"image": image})
        invoke(server, "gone", {"image": encoded()})
        assert counted(server, "labelbridge_cvat_calls_total", function="squares", status="200") == 2
        assert counted(server, "labelbridge_cvat_calls_total", function="squares", status="400") == 1
        assert counted(server, "labelbridge_cvat_calls_total", function="gone", status="404") == 0


# --- direct mode ----------------------------------------------------------------------------------------------------


def test_every_function_has_a_port_of_its_own() -> None:
    functions = [ProjectFunction("squares.p7", "squares", "t", ("Dog",))]
    entries = [entry("squares"), entry("filler", Filler())]
    with cvat_server(entries, functions, direct=["squares", "filler", "squares.p7"]) as server:
        for version in VERSIONS:
            caller = CvatCaller(server.url, version, direct=True)
            assert len({f.port for f in caller.list()}) == 3
            assert [s["label"] for s in caller.detect("squares", PHOTO, LABELS)] == ["cat", "dog"]
            assert [s["label"] for s in caller.detect("squares.p7", PHOTO, {"Dog": TaskLabel()})] == ["Dog"]
            drawn = caller.interact("filler", PHOTO, positive=[[30, 20]])
            assert mask_of(drawn).sum() == 40 * 40


def test_a_port_tells_whose_it_is_and_refuses_in_json() -> None:
    with cvat_server([entry("squares")], direct=["squares", "unlisted"]) as server:
        port = CvatCaller(server.url).get("squares").port
        health = requests.get(f"http://127.0.0.1:{port}/health", timeout=10)
        assert health.json() == {"status": "UP", "function": "squares"}
        answer = requests.post(f"http://127.0.0.1:{port}", json={"image": 1}, timeout=10)
        assert answer.status_code == 400
        assert set(answer.json()) == ERROR
        assert server.events("cvat_call_refused")[0]["function"] == "squares"


def test_without_direct_mode_the_port_is_none() -> None:
    with cvat_server([entry("squares")]) as server:
        assert server.get("/api/functions/squares").json()["status"] == {"state": "ready", "httpPort": 0}


# --- beside the other dialects --------------------------------------------------------------------------------------


def test_cvat_is_answered_by_the_whole_server_too(start: Start) -> None:
    running = start(more=[entry("patches", PatchFinder()), entry("filler", Filler())])
    running.wait_until_ready()
    for version in VERSIONS:
        caller = CvatCaller(running.url, version)
        assert [f.id for f in caller.list()] == ["squares", "patches", "filler"]
        assert [s["label"] for s in caller.detect("squares", PHOTO, LABELS)] == ["cat", "dog"]
        assert caller.interact("filler", PHOTO, positive=[[1, 1]]) is None


def test_polygons_follow_their_masks(start: Start) -> None:
    running = start(more=[entry("patches", PatchFinder()), entry("filler", Filler())])
    caller = CvatCaller(running.url)
    drawn = caller.interact("filler", PHOTO, positive=[[30, 20]])
    assert drawn is not None
    polygon = [tuple(point) for point in drawn["polygon"]]
    assert envelope(polygon) == pytest.approx((20, 10, 60, 50), abs=1)
    assert polygon_area(polygon) == pytest.approx(40 * 40, rel=0.06)
    stored = caller.detect("patches", PHOTO, LABELS, masks_as_polygons=True)[1]
    flat = stored["points"]
    polygon = list(zip(flat[::2], flat[1::2], strict=True))
    assert envelope(polygon) == pytest.approx((100, 30, 180, 90), abs=1)
    assert polygon_area(polygon) == pytest.approx(80 * 60, rel=0.06)


def test_the_request_s_id_leads_from_cvat_s_error_to_the_log(start: Start) -> None:
    running = start()
    answer = invoke(running, "squares", {"image": "%%%"})
    assert answer.status_code == 400
    (line,) = running.events("cvat_call_refused")
    assert line["request_id"] == answer.headers["x-request-id"]


def test_the_routes_are_described(start: Start) -> None:
    paths = start().get("/openapi.json").json()["paths"]
    assert {"/api/functions", "/api/functions/{name}", "/api/function_invocations"} <= set(paths)
    assert paths["/api/function_invocations"]["post"]["requestBody"]
