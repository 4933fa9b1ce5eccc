"""What the model server can be told; checked once, when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.errors import ConfigError
from bridge.net import origin_of

#: In ``image_origins``: every public address; hosts in private networks still have to be named.
ANY_PUBLIC = "*"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Settings of one server.

    Attributes:
        label_studio_url: Label Studio's address as this server reaches it; relative image URLs are read from there.
        label_studio_api_key: a personal access token or legacy token; sent to that origin only.
        image_origins: further origins, as in ``https://images.example.org``, from which images may be read; ``*`` for
            every public one.
        private_networks: whether ``*`` and redirects may lead into private networks.
        user, password: what callers must give by HTTP basic authentication; both or neither.
        max_image_bytes, max_image_pixels: larger images are reported and skipped.
        image_timeout_s: seconds for reading one image.
        max_body_bytes: larger requests are refused. Existing brush annotations ride along, so bodies can be large.
        max_requests: requests for predictions handled at a time; further ones are told to come back.
        max_batch: images given to the model at a time.
        max_wait_s: how long a batch waits for images that are still being read.
        predict_timeout_s: what is not predicted by then is left out of the answer; Label Studio hangs up after 100 s.
        detection_cache_bytes: of detections that are remembered.
        embedding_cache_bytes: of images as interactive models keep them. SAM takes 4 MiB for each.
        max_model_bytes: of weights that are in memory at a time; models used longest ago are unloaded beyond it.
        nuclio_upstream: address of a real Nuclio dashboard whose functions CVAT shall see beside ours.
        token: a secret that callers may show as ``Authorization: Bearer`` instead of user and password.
    """

    label_studio_url: str | None = None
    label_studio_api_key: str | None = field(default=None, repr=False)
    image_origins: tuple[str, ...] = ()
    private_networks: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    max_image_bytes: int = 64 * 2**20
    max_image_pixels: int = 120_000_000
    image_timeout_s: float = 30.0
    max_body_bytes: int = 64 * 2**20
    max_requests: int = 64
    max_batch: int = 8
    max_wait_s: float = 0.005
    predict_timeout_s: float = 90.0
    detection_cache_bytes: int = 64 * 2**20
    embedding_cache_bytes: int = 512 * 2**20
    max_model_bytes: int = 8 * 2**30
    token: str | None = field(default=None, repr=False)
    nuclio_upstream: str | None = None

    def __post_init__(self) -> None:
        problems = []
        if bool(self.user) != bool(self.password):
            problems.append("user and password: expected both or neither, found one")
        positive = ("max_image_bytes", "max_image_pixels", "max_body_bytes", "max_requests", "max_batch")
        budgets = ("detection_cache_bytes", "embedding_cache_bytes", "max_model_bytes")
        problems += [
            f"{name}: expected a number above 0, found {getattr(self, name)}"
            for name in (*positive, *budgets, "image_timeout_s", "predict_timeout_s")
            if not getattr(self, name) > 0
        ]
        for address in (self.label_studio_url, self.nuclio_upstream, *self.image_origins):
            if address is not None and address != ANY_PUBLIC:
                try:
                    origin_of(address)
                except ConfigError as error:
                    problems.append(error.found)
        if problems:
            raise ConfigError(
                "the model server cannot be set up so: " + "; ".join(problems), todo="Correct these settings"
            )
