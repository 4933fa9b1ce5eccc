"""What is looked at, and put right, in the bytes of an ONNX file before ONNX Runtime reads them.

Reads just enough of the protobuf encoding (field numbers: onnx.proto3); the package onnx is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_MODEL_IR_VERSION, _MODEL_GRAPH = 1, 7
_GRAPH_INITIALIZER, _GRAPH_INPUT = 5, 11
_TENSOR_NAME, _TENSOR_EXTERNAL_DATA = 8, 13
_INPUT_NAME = 1

#: Where tensors can be: in graphs, the attributes of their nodes, and functions. A message is a dict from field number
#: to message; True is a tensor.
_ATTRIBUTE: dict[int, Any] = {5: True, 10: True, 22: {1: True, 2: True}, 23: {1: True, 2: True}}
_NODE: dict[int, Any] = {5: _ATTRIBUTE}
_GRAPH: dict[int, Any] = {1: _NODE, _GRAPH_INITIALIZER: True, 15: {1: True, 2: True}}
_ATTRIBUTE.update({6: _GRAPH, 11: _GRAPH})
_MODEL: dict[int, Any] = {_MODEL_GRAPH: _GRAPH, 25: {7: _NODE, 11: _ATTRIBUTE}}

#: The first version in which weights need not be inputs.
_IR_WITH_CONSTANTS = 4


def has_external_data(data: bytes) -> bool:
    """Whether a tensor says that its numbers lie in another file, which the SHA-256 does not cover and which may be
    any file of the machine.

    What is no protobuf message ends the search: ONNX Runtime refuses it.
    """
    try:
        return _external(memoryview(data), _MODEL)
    except (IndexError, ValueError, RecursionError):
        return False


def with_constant_weights(data: bytes) -> bytes:
    """The same model with weights that cannot be replaced at run time.

    Older exporters list weights among the inputs. ONNX Runtime then has to expect other numbers for each run and
    cannot merge operators: PicoDet takes 1.4 times as long.
    """
    try:
        return _constant(memoryview(data)) or data
    except (IndexError, ValueError):
        return data


def _external(message: memoryview, inner: dict[int, Any] | bool) -> bool:
    for field, value, _ in _fields(message):
        if inner is True:
            if field == _TENSOR_EXTERNAL_DATA:
                return True
        elif inner and field in inner and isinstance(value, memoryview) and _external(value, inner[field]):
            return True
    return False


def _constant(model: memoryview) -> bytes | None:
    """None where no weight is an input."""
    parts: list[bytes | memoryview] = []
    changed = False
    for field, value, raw in _fields(model):
        if field == _MODEL_GRAPH and isinstance(value, memoryview):
            graph, dropped = _without_weights_as_inputs(value)
            changed = changed or dropped
            parts += [_number((field << 3) | 2), _number(len(graph)), graph]
        elif field == _MODEL_IR_VERSION and isinstance(value, int):
            parts += [_number(field << 3), _number(max(value, _IR_WITH_CONSTANTS))]
        else:
            parts.append(raw)
    return b"".join(parts) if changed else None


def _without_weights_as_inputs(graph: memoryview) -> tuple[bytes, bool]:
    fields = list(_fields(graph))
    weights = {_text(value, _TENSOR_NAME) for field, value, _ in fields if field == _GRAPH_INITIALIZER}
    kept = [
        raw
        for field, value, raw in fields
        if not (field == _GRAPH_INPUT and _text(value, _INPUT_NAME) in weights - {None})
    ]
    return b"".join(kept), len(kept) < len(fields)


def _text(message: memoryview | int, wanted: int) -> bytes | None:
    if isinstance(message, memoryview):
        for field, value, _ in _fields(message):
            if field == wanted and isinstance(value, memoryview):
                return bytes(value)
    return None


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int, memoryview]]:
    """For each field of a protobuf message its number; its value, which is a number, or the bytes of whatever is
    longer; and all its bytes.

    Raises:
        ValueError, IndexError: it is none.
    """
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        field, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield field, value, message[start:at]
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        elif kind in (3, 4):
            # The ends of a group, long out of use, which ONNX Runtime skips: here, what is in it counts as beside it.
            length = 0
        else:
            raise ValueError(f"wire type {kind}")
        if at + length > len(message):
            raise ValueError("cut short")
        at += length
        yield field, message[at - length : at], message[start:at]


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


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
