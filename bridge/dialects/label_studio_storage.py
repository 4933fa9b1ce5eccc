"""Where Label Studio gives out images that lie in cloud storage.

A task may name its image as ``s3://bucket/key`` (or ``gs://``, ``azure-blob://``). Label Studio 1.23.2 keeps the
secrets of the bucket, and serves the image under an address of the task: depending on the storage's settings it answers
with the image itself, or with a redirect (303) to a pre-signed URL of the bucket, which is another origin and wants no
token. It answers 404 where no storage of the task's project has that bucket, and 403 where the caller may not see the
task.

Pure: no I/O.
"""

from __future__ import annotations

import base64
import posixpath
from urllib.parse import unquote, urlsplit

#: As Label Studio writes them; it looks at the beginning of the text, and knows them in lower case only.
CLOUD_SCHEMES = ("s3", "gs", "azure-blob")


def is_cloud(text: str) -> bool:
    """Whether ``text`` names an object in cloud storage."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme in CLOUD_SCHEMES


def is_api(url: str, base: str) -> bool:
    """Whether a URL on the Label Studio at ``base`` leads to its API. No image lies there, and a task that names it
    would have our token ask for whatever its author may not."""
    path = "/" + posixpath.normpath(unquote(urlsplit(url).path)).lstrip("/")
    return f"{path.removeprefix(urlsplit(base).path.rstrip('/'))}/".startswith("/api/")


def cloud_path(text: str, task: str) -> str | None:
    """The path on Label Studio, with query, to request for the object ``text`` of ``task``; below its base address.

    None where ``text`` names nothing in cloud storage, or ``task`` is no task's id: Label Studio gives out such images
    by task only. The whole text is encoded (URL-safe base64), so nothing in it can leave the query.
    """
    if not is_cloud(text) or not (task.isascii() and task.isdigit()):
        return None
    return f"/tasks/{int(task)}/resolve/?fileuri={base64.urlsafe_b64encode(text.encode()).decode()}"
