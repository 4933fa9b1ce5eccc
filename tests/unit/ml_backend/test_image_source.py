"""Where images may come from, against small real servers."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from serving_kit import picture

from bridge.errors import AuthError, ConfigError, ImageError, LabelbridgeError, NotFound, ToolError
from ml_backend.image_source import ImageRef, ImageSource
from ml_backend.server_settings import ServerSettings

PNG = picture((0, (1, 1, 9, 9)))
LEGACY = "0123456789abcdef0123456789abcdef01234567"
PERSONAL = "e30.e30.personal"


class Site:
    """A server that keeps what it was asked and answers from ``pages``: status, headers, body."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.valid = {f"Token {LEGACY}"}
        self.exchanges = 0
        self.url = ""


@contextmanager
def running(site: Site) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            authorization = self.headers.get("Authorization")
            site.asked.append((self.path, authorization))
            if self.path.startswith("/data/") and authorization not in site.valid:
                return self.reply(401, {}, b'{"detail": "Authentication credentials were not provided."}')
            return self.reply(*site.pages.get(self.path, (404, {}, b"{}")))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers.get("Authorization") is None
            if self.path != "/api/token/refresh" or body != {"refresh": PERSONAL}:
                return self.reply(401, {}, b'{"detail": "Token is invalid"}')
            site.exchanges += 1
            token = f"e30.e30.access{site.exchanges}"
            site.valid = {f"Bearer {token}"}
            return self.reply(200, {}, json.dumps({"access": token}).encode())

        def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def studio() -> Iterator[Site]:
    with running(Site()) as site:
        for path in ("/data/upload/1/ab-x.png", "/data/local-files/?d=img/i%20027.png"):
            site.pages[path] = (200, {}, PNG)
        yield site


@pytest.fixture
def elsewhere() -> Iterator[Site]:
    with running(Site()) as site:
        site.pages["/a.png"] = (200, {}, PNG)
        yield site


@contextmanager
def source(**settings: Any) -> Iterator[ImageSource]:
    made = ImageSource(ServerSettings(image_timeout_s=5, **settings))
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("path", ["/data/upload/1/ab-x.png", "/data/local-files/?d=img/i%20027.png"])
def test_paths_are_read_from_label_studio_with_the_token(studio: Site, path: str) -> None:
    with source(label_studio_url=studio.url, label_studio_api_key=LEGACY) as images:
        assert images.read(ImageRef(path)) == PNG
        assert images.read(ImageRef(studio.url + path)) == PNG
    assert studio.asked == [(path, f"Token {LEGACY}")] * 2


def test_a_path_below_a_prefix(studio: Site) -> None:
    studio.pages["/ls/data/upload/1/ab-x.png"] = (200, {}, PNG)
    with source(label_studio_url=f"{studio.url}/ls", label_studio_api_key=LEGACY) as images:
        assert images.read(ImageRef("/ls/data/upload/1/ab-x.png")) == PNG
        assert images.read(ImageRef("/data/upload/1/ab-x.png")) == PNG


def test_personal_token_is_exchanged_once_and_again_when_it_was_revoked(studio: Site) -> None:
    with source(label_studio_url=studio.url, label_studio_api_key=PERSONAL) as images:
        images.read(ImageRef("/data/upload/1/ab-x.png"))
        images.read(ImageRef("/data/upload/1/ab-x.png"))
        assert studio.exchanges == 1
        studio.valid = set()
        assert images.read(ImageRef("/data/upload/1/ab-x.png")) == PNG
    assert studio.exchanges == 2


def test_a_wrong_token_is_told(studio: Site) -> None:
    for key in ("f" * 40, "e30.e30.other"):
        with (
            source(label_studio_url=studio.url, label_studio_api_key=key) as images,
            pytest.raises(AuthError) as caught,
        ):
            images.read(ImageRef("/data/upload/1/ab-x.png"))
        assert key not in str(caught.value)


def test_without_an_address_the_setting_is_named() -> None:
    with source() as images, pytest.raises(ImageError, match="LABELBRIDGE_LABEL_STUDIO_URL"):
        images.read(ImageRef("/data/upload/1/ab-x.png"))


def test_other_origins_need_leave_and_never_get_the_token(studio: Site, elsewhere: Site) -> None:
    url = f"{elsewhere.url}/a.png"
    with source(label_studio_url=studio.url, label_studio_api_key=LEGACY) as images:
        with pytest.raises(ImageError, match="are not read"):
            images.read(ImageRef(url))
        assert elsewhere.asked == []
    with source(label_studio_url=studio.url, label_studio_api_key=LEGACY, image_origins=(elsewhere.url,)) as images:
        assert images.read(ImageRef(url)) == PNG
    assert elsewhere.asked == [("/a.png", None)]


def test_allowed_origins_need_no_label_studio(elsewhere: Site) -> None:
    with source(image_origins=(elsewhere.url,)) as images:
        assert images.read(ImageRef(f"{elsewhere.url}/a.png")) == PNG


def test_any_public_origin_leaves_private_networks_closed(elsewhere: Site) -> None:
    with source(image_origins=("*",)) as images, pytest.raises(ToolError, match="private network"):
        images.read(ImageRef(f"{elsewhere.url}/a.png"))
    assert elsewhere.asked == []


def test_a_redirect_from_label_studio_into_a_private_network_is_not_followed(studio: Site, elsewhere: Site) -> None:
    studio.pages["/data/away"] = (302, {"Location": f"{elsewhere.url}/a.png"}, b"")
    with (
        source(label_studio_url=studio.url, label_studio_api_key=LEGACY) as images,
        pytest.raises(ToolError, match="private network"),
    ):
        images.read(ImageRef("/data/away"))
    assert elsewhere.asked == []


def test_a_redirect_to_an_allowed_origin_goes_without_the_token(studio: Site, elsewhere: Site) -> None:
    studio.pages["/data/away"] = (302, {"Location": f"{elsewhere.url}/a.png"}, b"")
    with source(label_studio_url=studio.url, label_studio_api_key=LEGACY, image_origins=(elsewhere.url,)) as images:
        assert images.read(ImageRef("/data/away")) == PNG
    assert elsewhere.asked == [("/a.png", None)]


@pytest.mark.parametrize(
    "reference",
    [
        "//169.254.169.254/latest",
        "/\\169.254.169.254/latest",
        "http://169.254.169.254/latest/meta-data",
        "http://user:secret@127.0.0.1/x",
        "http://[::1",
        "file:///etc/passwd",
        "ftp://host/x.jpg",
        "s3://bucket/key.jpg",
        "gs://bucket/key.jpg",
        "../../etc/passwd",
        "image.jpg",
        "/api/current-user/token",
        "/data/upload/../../api/users/",
        "/data/%2e%2e/api/users/",
        "data:image/png;base64",
        "data:image/png;base64,!!!!",
        "",
    ],
)
def test_everything_else_is_refused_without_a_request(studio: Site, reference: str) -> None:
    with (
        source(label_studio_url=studio.url, label_studio_api_key=LEGACY) as images,
        pytest.raises(ImageError) as caught,
    ):
        images.read(ImageRef(reference))
    assert "secret" not in str(caught.value)
    assert studio.asked == []


def test_an_address_of_the_api_is_no_image_either(studio: Site) -> None:
    with (
        source(label_studio_url=studio.url, label_studio_api_key=LEGACY) as images,
        pytest.raises(ImageError, match="API"),
    ):
        images.read(ImageRef(f"{studio.url}/api/users/"))
    assert studio.asked == []


def test_missing_images_and_broken_servers_are_library_errors(studio: Site) -> None:
    studio.pages["/data/broken"] = (500, {}, b"<html>oops</html>")
    with source(label_studio_url=studio.url, label_studio_api_key=LEGACY) as images:
        with pytest.raises(NotFound):
            images.read(ImageRef("/data/upload/1/gone.png"))
        with pytest.raises(ToolError):
            images.read(ImageRef("/data/broken"))
    with source(label_studio_url="http://127.0.0.1:9", image_origins=()) as images, pytest.raises(LabelbridgeError):
        images.read(ImageRef("/data/upload/1/x.png"))


def test_byte_limit_holds_for_all_kinds(studio: Site) -> None:
    text = base64.b64encode(PNG).decode()
    with source(label_studio_url=studio.url, label_studio_api_key=LEGACY, max_image_bytes=len(PNG) - 1) as images:
        for reference in ("/data/upload/1/ab-x.png", text, f"data:image/png;base64,{text}"):
            with pytest.raises(LabelbridgeError, match=r"bytes"):
                images.read(ImageRef(reference))


def test_images_inside_the_text() -> None:
    text = base64.b64encode(PNG).decode()
    jpeg = b"\xff\xd8\xff\xe0" + bytes(80)
    wrapped = "\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    with source() as images:
        for reference in (text, wrapped, f"data:image/png;base64,{text}", f"DATA:;BASE64,{text.replace('+', '%2B')}"):
            assert images.read(ImageRef(reference)) == PNG
        assert base64.b64encode(jpeg).startswith(b"/9j/")
        assert images.read(ImageRef(base64.b64encode(jpeg).decode())) == jpeg
        assert images.read(ImageRef("data:image/svg+xml,%3Csvg%2F%3E")) == b"<svg/>"


def test_settings_collect_their_problems() -> None:
    with pytest.raises(ConfigError) as caught:
        ServerSettings(
            user="bob", max_model_bytes=0, max_batch=0, predict_timeout_s=0, image_origins=("images.example",)
        )
    for word in ("password", "max_model_bytes", "max_batch", "predict_timeout_s", "images.example"):
        assert word in str(caught.value)
    assert "s3cret" not in repr(ServerSettings(user="bob", password="s3cret", label_studio_api_key="s3cret"))
