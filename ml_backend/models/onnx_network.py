"""One ONNX file in ONNX Runtime: one image input, outputs by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ModelError
from ml_backend.models.catalogue import need_extra
from ml_backend.models.onnx_file import has_external_data, with_constant_weights
from ml_backend.models.onnx_layouts import Outputs

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
_IMAGE_TYPES = ("tensor(float)", "tensor(float16)", "tensor(uint8)")


class OnnxNetwork:
    """A session with one image input.

    Args:
        data: the whole file.
        path: where it came from, for messages.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        size: width and height to use where the file leaves them free, None: it must not.
        other_inputs: fixed values of the inputs beside the image.

    Attributes:
        width, height: of the input in pixels.
        batch: images per run that the file fixes; None where it is free.
        nbytes: of the file, which is nearly all weights.

    Raises:
        ModelError: no ONNX file, data outside of it, an operator that this ONNX Runtime lacks, inputs that are no
            image, or a device that is not there.
        ConfigError: ONNX Runtime is not installed.
    """

    def __init__(
        self,
        data: bytes,
        path: Path,
        *,
        device: str,
        size: tuple[int, int] | None,
        other_inputs: Mapping[str, Any],
    ) -> None:
        self._path = path
        self.nbytes = len(data)
        if has_external_data(data):
            raise ModelError(
                f"the weights {path} keep some of their numbers in other files",
                expected="one file with everything in it: its SHA-256 covers no other",
                todo="Save the model again as one file (with torch.onnx.export: external_data=False)",
            )
        self._session = _session(data, path, device)
        image = self._image_input(other_inputs)
        self._input: str = image.name
        self._dtype = _TYPES[image.type]
        self._rank = len(image.shape)
        self._others = self._constants(other_inputs)
        self._outputs = [output.name for output in self._session.get_outputs()]
        # Fixed inputs beside the image are for one image.
        batch = image.shape[0] if self._rank == 4 and not self._others else 1
        self.batch: int | None = batch if isinstance(batch, int) else None
        self.width, self.height = self._size(image.shape, size)

    @property
    def takes_whole_numbers(self) -> bool:
        """Whether the input is uint8."""
        return self._dtype is np.uint8

    def run(self, planes: npt.NDArray[np.float32]) -> Outputs:
        """Outputs for (B, 3, height, width) float32 planes; B is ``batch`` where that is fixed.

        Raises:
            ModelError: ONNX Runtime failed.
        """
        value = planes.astype(self._dtype, copy=False)
        feeds = {self._input: value if self._rank == 4 else value[0], **self._others}
        try:
            answers = self._session.run(self._outputs, feeds)
        except Exception as error:  # ONNX Runtime's own classes share no base but Exception
            raise ModelError(
                f"ONNX Runtime cannot run {self._path} on {len(planes)} image(s) of {self.width} x {self.height}: "
                f"{_reason(error)}",
                expected="a network for one image of this size",
                todo="Correct preprocessing.size in the manifest, or export the model again",
            ) from None
        odd = [name for name, array in zip(self._outputs, answers, strict=True) if not isinstance(array, np.ndarray)]
        if odd:
            raise ModelError(
                f"the outputs {', '.join(odd)} of {self._path} are no tensors", expected="numbers", todo="Export again"
            )
        return dict(zip(self._outputs, answers, strict=True))

    def _image_input(self, other_inputs: Mapping[str, Any]) -> Any:
        """The one input that ``other_inputs`` does not fix."""
        inputs = self._session.get_inputs()
        free = [one for one in inputs if one.name not in other_inputs]
        found = "; ".join(f"{one.name!r} {one.type} {_shape(one.shape)}" for one in inputs)
        if len(free) != 1:
            raise ModelError(
                f"the inputs of {self._path} are {found}",
                expected="one image; other inputs need fixed values in the manifest's other_inputs",
                todo="Name them there, or export the model with the image alone",
            )
        (image,) = free
        channels = image.shape[-3] if len(image.shape) in (3, 4) else None
        if not (channels == 3 or isinstance(channels, str)) or image.type not in _IMAGE_TYPES:
            raise ModelError(
                f"the inputs of {self._path} are {found}",
                expected="an image with the shape (images, 3, height, width) or (3, height, width), of floats or bytes",
                todo="Export the model with channels first",
            )
        return image

    def _constants(self, values: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        types = {one.name: one.type for one in self._session.get_inputs()}
        constants = {}
        for name, value in values.items():
            try:
                constants[name] = np.array(value, dtype=_TYPES[types[name]])
            except (KeyError, ValueError, TypeError):
                raise ModelError(
                    f"other_inputs gives {name!r} as {value!r}",
                    expected=f"values for inputs of {self._path}: "
                    + ", ".join(f"{known} {kind}" for known, kind in types.items()),
                    todo="Correct the manifest",
                ) from None
        return constants

    def _size(self, shape: list[Any], wanted: tuple[int, int] | None) -> tuple[int, int]:
        height, width = shape[-2:]
        fixed = [side if isinstance(side, int) else None for side in (width, height)]
        if wanted is None and None in fixed:
            raise ModelError(
                f"{self._path} takes images of any size",
                expected="preprocessing.size in the manifest",
                todo="Write the size that the model was trained with, as in [640, 640]",
            )
        chosen = tuple(own or given for own, given in zip(fixed, wanted or (0, 0), strict=True))
        if wanted is not None and chosen != wanted:
            raise ModelError(
                f"the manifest's size is {wanted[0]} x {wanted[1]} and the input of {self._path} is {_shape(shape)}",
                expected="the same size",
                todo="Leave preprocessing.size out",
            )
        return int(chosen[0]), int(chosen[1])


def _session(data: bytes, path: Path, device: str) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise need_extra("onnxruntime", "onnx") from None
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Threads that wait by spinning take the processor from those that decode the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Nothing is read from there, as such files are refused; should ONNX Runtime ever think otherwise, not from farther.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.resolve().parent))
    providers = _providers(device, onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(with_constant_weights(data), options, providers=providers)
    except Exception as error:  # ONNX Runtime's own classes share no base but Exception
        raise ModelError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {path}: {_reason(error)}",
            expected="an ONNX model whose operators it knows",
            todo="Fetch the file again, update onnxruntime, or export the model with a lower opset",
        ) from None
    if device.startswith("cuda") and "CUDAExecutionProvider" not in session.get_providers():
        raise _no_device(device, "ONNX Runtime could not start CUDA; its CUDA or cuDNN libraries may be missing")
    return session


def _providers(device: str, available: list[str]) -> list[Any]:
    found = re.fullmatch(r"cuda(?::(\d+))?", device)
    if device == "cpu" or (device == "auto" and "CUDAExecutionProvider" not in available):
        return ["CPUExecutionProvider"]
    if device != "auto" and not found:
        raise _no_device(device, "ONNX Runtime knows no such device")
    if "CUDAExecutionProvider" not in available:
        raise _no_device(device, "this ONNX Runtime is built without CUDA")
    number = int(found.group(1) or 0) if found else 0
    return [("CUDAExecutionProvider", {"device_id": number}), "CPUExecutionProvider"]


def _no_device(device: str, why: str) -> ModelError:
    return ModelError(
        f"the device {device!r} cannot be used: {why}",
        expected="auto, cpu, or cuda where onnxruntime-gpu and an NVIDIA GPU are there",
        todo="Choose the device auto",
    )


def _shape(shape: list[Any]) -> str:
    return "(" + ", ".join(str(side) if side is not None else "?" for side in shape) + ")"


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
