"""What the server counts, for Prometheus. Each server has a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one server; label values come from fixed sets, so nobody can make it grow."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "labelbridge_http_requests", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "labelbridge_http_request_seconds", "Seconds from request to answer.", ["route"], registry=self.registry
        )
        self.images = Counter(
            "labelbridge_images",
            "Images asked about: predicted, cached, failed, late (not reached in time).",
            ["outcome"],
            registry=self.registry,
        )
        self.refused = Counter(
            "labelbridge_refused_requests", "Requests for predictions told to come back.", registry=self.registry
        )
        self.batch_images = Histogram(
            "labelbridge_batch_images",
            "Images per batch.",
            ["model"],
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.batch_seconds = Histogram(
            "labelbridge_batch_seconds", "Seconds per batch.", ["model"], registry=self.registry
        )
        self.webhooks = Counter(
            "labelbridge_webhook_events", "Webhook events received.", ["action"], registry=self.registry
        )
        self.waiting = Gauge(
            "labelbridge_waiting_images", "Decoded images and prompts that wait for a model.", registry=self.registry
        )
        self.active = Gauge("labelbridge_active_requests", "Requests for predictions.", registry=self.registry)
        self.ready = Gauge("labelbridge_model_ready", "1 while the model is loaded.", ["model"], registry=self.registry)
        self.model_bytes = Gauge(
            "labelbridge_model_bytes", "Bytes of weights in memory, as the models say.", registry=self.registry
        )
        self.embeddings = Counter(
            "labelbridge_embeddings",
            "Images that an interactive model was asked about: computed, cached.",
            ["outcome"],
            registry=self.registry,
        )
        self.embedding_bytes = Gauge(
            "labelbridge_embedding_bytes", "Bytes of image embeddings that are remembered.", registry=self.registry
        )
        self.prompt_seconds = Histogram(
            "labelbridge_prompt_seconds",
            "Seconds in which an interactive model answered a prompt, its image being known.",
            ["model"],
            registry=self.registry,
        )

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)
