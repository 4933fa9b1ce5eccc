"""A program for test_store_open.py to kill: puts batches of findings and says so after each."""

from __future__ import annotations

import sys

from bridge.core.annotations import LabelSet
from bridge.core.findings import ErrorType, Event, Finding, Fix
from bridge.store import Store

BATCH = 400
AT = "2026-11-20T10:00:00Z"


def batch(number: int) -> list[Finding]:
    return [
        Finding(
            f"{number:08x}{k:08x}",
            "t",
            str(k),
            str(k),
            "s",
            ("a",),
            ErrorType.EXTRA,
            "bolt",
            0.5,
            "why",
            Fix("delete"),
            "scorer",
        )
        for k in range(BATCH)
    ]


def main(url: str, batches: int) -> None:
    with Store.open(url) as store:
        store.start_run("r1", "t", "", "review", "m", "s", LabelSet(("bolt",)), AT, {})
        for number in range(batches):
            found = batch(number)
            store.put_findings("r1", found)
            if store.finding(found[0].id).state == "open":
                store.transition(found[0].id, Event.PUSH, AT, "writer")
            print(number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
