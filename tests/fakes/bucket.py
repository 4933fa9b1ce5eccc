"""A small object store that speaks as much of S3 as Label Studio asks for: list a bucket, read an object."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote
from xml.sax.saxutils import escape

_LIST = """<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<IsTruncated>false</IsTruncated><KeyCount>{count}</KeyCount>{rows}</ListBucketResult>"""
_ROW = """<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"1"</ETag>
<Size>{size}</Size></Contents>"""


class Bucket:
    """Serves ``objects`` (key -> bytes) as the bucket ``photos`` on a port of 127.0.0.1.

    Attributes:
        seen: path with query, and headers (lower case), of every request for an object.
    """

    name = "photos"

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                bucket, _, key = unquote(self.path.partition("?")[0]).lstrip("/").partition("/")
                if key:
                    owner.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                if bucket != owner.name or (key and key not in objects):
                    self.answer(404, "text/plain", b"")
                elif key:
                    self.answer(200, "image/png", objects[key])
                else:
                    rows = "".join(_ROW.format(key=escape(k), size=len(v)) for k, v in objects.items())
                    self.answer(200, "application/xml", _LIST.format(count=len(objects), rows=rows).encode())

            do_HEAD = do_GET  # noqa: N815

            def answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
