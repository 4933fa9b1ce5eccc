"""Which release the fake plays, and what came with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Version:
    """A release 2.``minor``."""

    minor: int

    @classmethod
    def parse(cls, text: str) -> Version:
        major, minor = text.split(".")[:2]
        if major != "2":
            raise ValueError(f"expected a version 2.x, found {text}")
        return cls(int(minor))

    def __str__(self) -> str:
        return f"2.{self.minor}.0"

    # facts/cvat.md, version landmarks: the first release seen to have each

    @property
    def has_requests(self) -> bool:
        return self.minor >= 22

    @property
    def has_replicas(self) -> bool:
        return self.minor >= 27

    @property
    def replica(self) -> str:
        """The job type of a consensus replica."""
        return "replica" if self.minor >= 80 else "consensus_replica"

    @property
    def has_logo(self) -> bool:
        return self.minor >= 31

    @property
    def has_project_reports(self) -> bool:
        """Quality reports of projects, which came with rights and polling of their own."""
        return self.minor >= 40

    @property
    def has_access_tokens(self) -> bool:
        return self.minor >= 50

    @property
    def has_score(self) -> bool:
        return self.minor >= 62

    @property
    def has_intervals(self) -> bool:
        return self.minor >= 70

    @property
    def has_requirements(self) -> bool:
        """Settings of quality control lie in requirements."""
        return self.minor >= 75

    @property
    def has_validation_layout(self) -> bool:
        return self.minor >= 22

    @property
    def has_chunk_dates(self) -> bool:
        """``chunks_updated_date`` in the meta of data."""
        return self.minor >= 22
