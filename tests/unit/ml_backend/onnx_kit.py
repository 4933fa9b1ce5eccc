"""Writes small ONNX models for tests: just enough of the protobuf encoding, as the package onnx is no dependency.

Field numbers are those of onnx.proto3.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TYPES = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "float16": 10}


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def block(field: int, data: bytes | str) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def tensor(name: str, array: np.ndarray) -> bytes:
    """A TensorProto that holds its numbers."""
    array = np.asarray(array)
    dims = b"".join(number(1, size) for size in array.shape)
    return dims + number(2, TYPES[array.dtype.name]) + block(8, name) + block(9, array.tobytes())


def external_tensor(name: str, array: np.ndarray, location: str) -> bytes:
    """A TensorProto whose numbers lie in another file."""
    entries = {"location": location, "offset": "0", "length": str(array.nbytes)}
    dims = b"".join(number(1, size) for size in array.shape)
    pairs = b"".join(block(13, block(1, key) + block(2, value)) for key, value in entries.items())
    return dims + number(2, TYPES[array.dtype.name]) + block(8, name) + pairs + number(14, 1)


def value(name: str, dtype: str, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto; a text in ``shape`` is a size that is free."""
    sizes = b"".join(block(1, block(2, size) if isinstance(size, str) else number(1, size)) for size in shape)
    return block(1, name) + block(2, block(1, number(1, TYPES[dtype]) + block(2, sizes)))


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> bytes:
    """A NodeProto; attributes may be int, float, lists of int, arrays, or a finished TensorProto."""
    data = b"".join(block(1, name) for name in inputs) + b"".join(block(2, name) for name in outputs)
    return data + block(4, op) + b"".join(block(5, _attribute(name, v)) for name, v in attributes.items())


def _attribute(name: str, setting: Any) -> bytes:
    head = block(1, name)
    if isinstance(setting, bytes):
        return head + block(5, setting) + number(20, 4)
    if isinstance(setting, np.ndarray):
        return head + block(5, tensor("", setting)) + number(20, 4)
    if isinstance(setting, list):
        return head + b"".join(number(8, v) for v in setting) + number(20, 7)
    if isinstance(setting, float):
        return head + _varint(2 << 3 | 5) + struct.pack("<f", setting) + number(20, 1)
    return head + number(3, setting) + number(20, 2)


def model(
    nodes: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    constants: Mapping[str, np.ndarray] | None = None,
    tensors: Sequence[bytes] = (),
) -> bytes:
    """A ModelProto of opset 17; ``constants`` and finished ``tensors`` become initializers."""
    initializers = [*tensors, *(tensor(name, array) for name, array in (constants or {}).items())]
    graph = b"".join(block(1, one) for one in nodes) + block(2, "test")
    graph += b"".join(block(5, one) for one in initializers)
    graph += b"".join(block(11, one) for one in inputs) + b"".join(block(12, one) for one in outputs)
    return number(1, 8) + block(8, block(1, "") + number(2, 17)) + block(7, graph)
