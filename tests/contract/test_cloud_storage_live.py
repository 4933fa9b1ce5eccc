"""How a real Label Studio gives out images in cloud storage, and that its token stays away from the bucket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fakes.bucket import Bucket
from live import CONFIG, Studio, picture

from bridge.dialects.label_studio_auth import REFRESH_PATH, LabelStudioAuth
from bridge.dialects.label_studio_storage import cloud_path
from bridge.errors import ImageError, NotFound, ToolError
from bridge.net import HttpClient
from ml_backend.image_source import ImageRef, ImageSource
from ml_backend.server_settings import ServerSettings

KEY = "a folder/ä #1.png"
TEXT = f"s3://{Bucket.name}/{KEY}"
PHOTO = picture(64, 48)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    store = Bucket({KEY: PHOTO})
    yield store
    store.close()


@pytest.fixture
def clients(studio: Studio) -> Iterator[Any]:
    """Makes clients of Label Studio with a token of their own, as the model server does."""
    made: list[HttpClient] = []

    def client(*allowed: str) -> HttpClient:
        url, token = studio.server.url, studio.server.token
        anonymous = HttpClient(url, name="Label Studio")
        auth = LabelStudioAuth(
            token, lambda refresh: anonymous.request("POST", REFRESH_PATH, json={"refresh": refresh}).json()
        )
        made.extend([anonymous, HttpClient(url, name="Label Studio", auth=auth.headers, allowed=allowed)])
        return made[-1]

    yield client
    for one in made:
        one.close()


def task_of(studio: Studio, bucket: Bucket, *, presign: bool) -> str:
    """A task whose image lies in the bucket, in a project with a storage for it."""
    project = studio.project([(8, 8)], CONFIG).id
    storage = {
        "project": project,
        "title": "bucket",
        "bucket": bucket.name,
        "s3_endpoint": bucket.url,
        "aws_access_key_id": "name",
        "aws_secret_access_key": "secret",
        "region_name": "us-east-1",
        "use_blob_urls": True,
        "presign": presign,
    }
    studio.client.call("POST", "/api/storages/s3", json=storage)
    return str(studio.client.import_tasks(project, [{"data": {"image": TEXT}}])[0])


def path_of(text: str, task: str) -> str:
    path = cloud_path(text, task)
    assert path is not None
    return path


def test_a_redirect_leads_to_the_bucket_without_the_token(studio: Studio, bucket: Bucket, clients: Any) -> None:
    task = task_of(studio, bucket, presign=True)
    reply = clients(bucket.url).request("GET", path_of(TEXT, task))
    assert reply.body == PHOTO
    ((path, headers),) = bucket.seen
    assert "X-Amz-Signature=" in path
    assert "authorization" not in headers
    assert "cookie" not in headers


def test_a_bucket_in_a_private_network_has_to_be_allowed(studio: Studio, bucket: Bucket, clients: Any) -> None:
    task = task_of(studio, bucket, presign=True)
    with pytest.raises(ToolError, match="private network") as refused:
        clients().request("GET", path_of(TEXT, task))
    assert bucket.url in refused.value.todo
    assert "X-Amz" not in str(refused.value)
    assert bucket.seen == []


def test_without_pre_signed_urls_label_studio_hands_the_image_on(studio: Studio, bucket: Bucket, clients: Any) -> None:
    task = task_of(studio, bucket, presign=False)
    reply = clients().request("GET", path_of(TEXT, task))
    assert reply.body == PHOTO
    assert reply.url.startswith(studio.server.url)


def test_a_bucket_without_a_storage_is_not_found(studio: Studio, bucket: Bucket, clients: Any) -> None:
    task = task_of(studio, bucket, presign=False)
    with pytest.raises(NotFound):
        clients().request("GET", path_of("s3://another/a.png", task))


def test_the_model_server_reads_what_the_task_names(studio: Studio, bucket: Bucket) -> None:
    task = task_of(studio, bucket, presign=True)
    settings = ServerSettings(
        label_studio_url=studio.server.url, label_studio_api_key=studio.server.token, image_origins=(bucket.url,)
    )
    source = ImageSource(settings)
    try:
        assert source.read(ImageRef(TEXT, task)) == PHOTO
        with pytest.raises(ImageError, match="no task of Label Studio names it"):
            source.read(ImageRef(TEXT))
    finally:
        source.close()
