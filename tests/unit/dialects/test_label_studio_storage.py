from __future__ import annotations

import base64
from urllib.parse import parse_qs, urlsplit

import pytest

from bridge.dialects.label_studio_storage import cloud_path, is_api, is_cloud


@pytest.mark.parametrize("text", ["s3://photos/a b/ä?&#.png", "gs://b/k.jpg", "azure-blob://container/k.jpg"])
def test_the_whole_name_travels_in_the_query(text: str) -> None:
    path = cloud_path(text, "17")
    assert path is not None
    parts = urlsplit(path)
    assert (parts.path, parts.fragment) == ("/tasks/17/resolve/", "")
    query = parse_qs(parts.query, strict_parsing=True)
    assert list(query) == ["fileuri"]
    assert base64.urlsafe_b64decode(query["fileuri"][0]).decode() == text


@pytest.mark.parametrize(
    "text", ["/data/upload/1/a.jpg", "https://s3.example.org/a.jpg", "file:///etc/passwd", "S3://b/k", "s3:b", "", "s3"]
)
def test_what_is_not_in_cloud_storage_has_no_such_path(text: str) -> None:
    assert not is_cloud(text)
    assert cloud_path(text, "17") is None


@pytest.mark.parametrize("base", ["http://ls.example.org", "http://ls.example.org/studio"])
@pytest.mark.parametrize("path", ["/api/users", "/api", "//api/x", "/data/../api/x", "/%61pi/x", "/data/%2e%2e/api/x"])
def test_the_api_is_known_however_it_is_written(base: str, path: str) -> None:
    assert is_api(base + path, base)
    assert is_api(f"{base}/x/..{path}?d=a.jpg", base)


@pytest.mark.parametrize(
    "path", ["/data/upload/1/api/x.jpg", "/apix/a.jpg", "/tasks/1/resolve/?fileuri=api", "/?/api/"]
)
def test_images_are_not_taken_for_the_api(path: str) -> None:
    assert not is_api("http://ls.example.org" + path, "http://ls.example.org")


@pytest.mark.parametrize("task", ["", "../1", "1/../../api", "-1", "1.5", "١", "one"])
def test_nothing_but_a_task_id_becomes_part_of_the_path(task: str) -> None:
    assert is_cloud("s3://b/k")
    assert cloud_path("s3://b/k", task) is None
