"""The parts a dataset is split into, by whatever name a tool or a format gives them."""

from __future__ import annotations

import re

TRAIN, VAL, TEST = "train", "val", "test"

_KNOWN = re.compile(r"(?P<train>train(?:ing)?)|(?P<val>val(?:id)?(?:ation)?|dev)|(?P<test>test(?:ing)?)")
#: What may stand behind it: COCO's ``train2017``.
_YEAR = re.compile(r"[\W_]*\d*$")


def split_name(written: object) -> str:
    """``train``, ``val`` or ``test`` for the usual spellings of these; any other name as it is; empty for no text."""
    text = written.strip() if isinstance(written, str) else ""
    found = _KNOWN.fullmatch(_YEAR.sub("", text.lower()))
    return str(found.lastgroup) if found else text


def split_of_path(path: str) -> str:
    """The split that a folder of the path is named after, the innermost first; empty where none is."""
    for folder in reversed(path.replace("\\", "/").split("/")[:-1]):
        name = split_name(folder)
        if name in (TRAIN, VAL, TEST):
            return name
    return ""


def learned_from_first(split: str) -> tuple[bool, str]:
    """A key that sorts ``train`` before what it must not be tested on."""
    return split != TRAIN, split
