"""Reading the image that a task names: from Label Studio, from allowed origins, or out of the text itself."""

from __future__ import annotations

import base64
import binascii
import re
import urllib.parse
from typing import Any, NamedTuple

from bridge.dialects.label_studio_auth import REFRESH_PATH, LabelStudioAuth
from bridge.dialects.label_studio_storage import cloud_path, is_api, is_cloud
from bridge.errors import AuthError, ImageError, LabelbridgeError
from bridge.net import HttpClient, Limits, origin_of, public_url
from ml_backend.server_settings import ANY_PUBLIC, ServerSettings

#: Shorter texts are taken for paths: no image file is smaller.
_SHORTEST_BASE64 = 64
#: Longer references are not remembered; no URL in use is longer.
_LONGEST_KEY = 2048
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
#: Stands for Label Studio where its address is not set; nothing is ever sent there.
_NOWHERE = "http://label-studio.invalid"


class ImageRef(NamedTuple):
    """How a caller names an image. A tuple, because every cached answer is found by hashing one.

    Attributes:
        text: a path on Label Studio, a URL, a ``data:`` URI or base64.
        task: the id of Label Studio's task that names it, where there is one: Label Studio gives out images in cloud
            storage by task only.
    """

    text: str
    task: str = ""

    @property
    def inline(self) -> bool:
        """Whether the text may be the image itself: such texts are long, and no key to remember things by."""
        return len(self.text) > _LONGEST_KEY or self.text[:5].lower() == "data:"


class ImageSource:
    """Image references of tasks -> bytes of image files. Safe to use from several threads.

    A reference may be a path on Label Studio (``/data/upload/...``, ``/data/local-files/?d=...``), an http(s) URL of
    Label Studio or of an allowed origin, an object in cloud storage that a task of Label Studio names (``s3://``,
    ``gs://``, ``azure-blob://``), a ``data:`` URI, or the file itself in base64. The token goes to Label Studio only.
    Nothing is read from this machine's disk.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._max_bytes = settings.max_image_bytes
        self._any_public = ANY_PUBLIC in settings.image_origins
        named = [origin for origin in settings.image_origins if origin != ANY_PUBLIC]
        self._origins = frozenset(map(origin_of, named))
        limits = Limits(
            connect_s=min(5.0, settings.image_timeout_s),
            read_s=settings.image_timeout_s,
            total_s=settings.image_timeout_s,
            attempts=2,
            longest_wait_s=2.0,
            max_bytes=settings.max_image_bytes,
        )
        self._has_studio = bool(settings.label_studio_url)
        base = settings.label_studio_url or _NOWHERE
        hidden = (settings.label_studio_api_key or "",)
        self._anonymous = HttpClient(base, name="Label Studio", hidden=hidden, limits=limits)
        self._auth: LabelStudioAuth | None = None
        if settings.label_studio_url and settings.label_studio_api_key:
            self._auth = LabelStudioAuth(settings.label_studio_api_key, self._exchange)
        self._client = HttpClient(
            base,
            name="Label Studio",
            auth=self._auth.headers if self._auth else None,
            allowed=named,
            private_networks=settings.private_networks,
            limits=limits,
        )

    def close(self) -> None:
        self._client.close()
        self._anonymous.close()

    def read(self, reference: ImageRef) -> bytes:
        """The image file's bytes.

        Raises:
            ImageError: the reference is of no kind that can be read, or not allowed, or larger than the limit.
            ToolError: the server that has it did not give it.
        """
        text = reference.text.strip()
        if text[:5].lower() == "data:":
            return self._limited(_from_data_uri(text))
        if _looks_like_base64(text):
            return self._limited(_from_base64(text))
        if text.startswith("/") and not text.startswith(("//", "/\\")):
            return self._from_label_studio(text)
        if re.match(r"https?://", text, re.IGNORECASE):
            return self._from_url(text)
        if is_cloud(text):
            return self._from_cloud(text, reference.task)
        raise ImageError(
            f"the image reference {_shown(text)!r} cannot be read",
            expected="a path on Label Studio, an http(s) URL, a data: URI or base64",
        )

    def _from_cloud(self, text: str, task: str) -> bytes:
        """Through Label Studio, which keeps the bucket's secrets: it hands the image on, or redirects to a pre-signed
        URL, where the token does not go."""
        path = cloud_path(text, task)
        if path is None:
            raise ImageError(
                f"the image {_shown(text)!r} lies in cloud storage, and no task of Label Studio names it",
                expected="a task's id beside it: Label Studio gives out such images by task only",
                todo="Give a pre-signed http(s) URL instead, and allow its origin (LABELBRIDGE_IMAGE_ORIGINS)",
            )
        return self._from_label_studio(path)

    def _from_label_studio(self, path: str) -> bytes:
        if not self._has_studio:
            raise ImageError(
                f"the image {_shown(path)!r} lies on Label Studio, whose address is not set",
                expected="LABELBRIDGE_LABEL_STUDIO_URL and LABELBRIDGE_LABEL_STUDIO_API_KEY",
                todo="Set both where the model server runs",
            )
        # Label Studio writes paths from the root of its host; where it stands below a prefix, some hold the prefix.
        prefix = urllib.parse.urlsplit(self._client.base).path
        if prefix and path.startswith(f"{prefix}/"):
            path = path.removeprefix(prefix)
        return self._get(f"{self._client.base}{path}")

    def _from_url(self, url: str) -> bytes:
        try:
            origin = origin_of(url)
        except LabelbridgeError as error:
            raise ImageError(error.found, expected=error.expected) from None
        own = self._has_studio and origin == self._client.origin
        if not (own or origin in self._origins or self._any_public):
            raise ImageError(
                f"images from {origin} are not read",
                expected="an image on Label Studio or on an allowed origin",
                todo=f"If you trust it, add {origin} to the allowed image origins",
            )
        return self._get(url)

    def _get(self, url: str) -> bytes:
        if origin_of(url) == self._client.origin and is_api(url, self._client.base):
            raise ImageError(
                f"{_shown(url)!r} is an address of Label Studio's API",
                expected="the address of an image",
                todo="Correct the task's data",
            )
        try:
            return self._client.request("GET", url).body
        except AuthError:
            # The access token may have been revoked before its time; a new one settles it.
            if self._auth is None or origin_of(url) != self._client.origin or not self._auth.forget():
                raise
            return self._client.request("GET", url).body

    def _exchange(self, token: str) -> Any:
        return self._anonymous.request("POST", REFRESH_PATH, json={"refresh": token}, repeatable=True).json()

    def _limited(self, data: bytes) -> bytes:
        if len(data) > self._max_bytes:
            raise ImageError(
                f"the image in the task's data has {len(data):,} bytes",
                expected=f"at most {self._max_bytes:,}",
                todo="Raise max_image_bytes if such images are meant to be used",
            )
        return data


def _looks_like_base64(text: str) -> bool:
    # A JPEG in base64 begins with "/9j/", so a leading slash does not make a path.
    if len(text) < _SHORTEST_BASE64:
        return False
    compact = _compact(text)
    return len(compact) % 4 == 0 and _BASE64.fullmatch(compact) is not None


def _compact(text: str) -> str:
    """Without white space; copied only where there is some, because images are long."""
    return "".join(text.split()) if any(sign in text for sign in " \n\r\t\v\f") else text


def _from_data_uri(uri: str) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma:
        raise ImageError(f"the data: URI {_shown(uri)!r} has no comma", expected="data:image/png;base64,....")
    if head.lower().endswith(";base64"):
        return _from_base64(urllib.parse.unquote(body))
    return urllib.parse.unquote_to_bytes(body)


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(_compact(text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"the image in the task's data is no base64: {error}", expected="a whole image file") from None


def _shown(text: str) -> str:
    return public_url(text)[:120]
