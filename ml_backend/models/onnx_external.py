"""Whether an ONNX file keeps numbers in other files, which its SHA-256 does not cover and which it may name anywhere.

Reads just enough of the protobuf encoding to look at every tensor, before a library with a parser of its own does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: Where tensors can be, as paths of field numbers of onnx.proto3: in graphs, the attributes of their nodes, and
#: functions. A message is a dict from field number to message; True is a tensor.
_ATTRIBUTE: dict[int, Any] = {5: True, 10: True, 22: {1: True, 2: True}, 23: {1: True, 2: True}}
_NODE: dict[int, Any] = {5: _ATTRIBUTE}
_GRAPH: dict[int, Any] = {1: _NODE, 5: True, 15: {1: True, 2: True}}
_ATTRIBUTE.update({6: _GRAPH, 11: _GRAPH})
_MODEL: dict[int, Any] = {7: _GRAPH, 25: {7: _NODE, 11: _ATTRIBUTE}}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def has_external_data(data: bytes) -> bool:
    """Whether a tensor of an ONNX model says that its numbers lie in another file.

    What is no protobuf message ends the search: ONNX Runtime refuses it.
    """
    try:
        return _external(memoryview(data), _MODEL)
    except (IndexError, ValueError):
        return False


def _external(message: memoryview, inner: dict[int, Any] | bool) -> bool:
    for field, value in _fields(message):
        if inner is True:
            if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value == 1):
                return True
        elif inner and field in inner and isinstance(value, memoryview) and _external(value, inner[field]):
            return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Field numbers and values of a protobuf message: numbers, and bytes of whatever is longer.

    Raises:
        ValueError, IndexError: it is none.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        field, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield field, value
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + length > len(message):
            raise ValueError("cut short")
        yield field, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("number too long")
