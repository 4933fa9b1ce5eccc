"""Parts of torch networks on OpenVINO, which computes convolutions on a CPU several times as fast as torch does.

OpenVINO reports every import to its makers unless it is kept from doing so: :func:`import_openvino` is the one way in.
Models are converted in memory; nothing is written to disk.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bridge.errors import LabelbridgeError, ModelError
from ml_backend.models.catalogue import need_extra
from ml_backend.models.nested import leaves, rebuilt
from ml_backend.models.precision import Arithmetic, cpu_has_bf16

Floats = npt.NDArray[np.float32]

_IMPORT = threading.Lock()
_TELEMETRY = "openvino_telemetry"

#: More images side by side than a server hands over at a time would leave cores idle.
_MAX_STREAMS = 8


def is_installed() -> bool:
    return importlib.util.find_spec("openvino") is not None


def import_openvino() -> Any:
    """The package, imported without its telemetry: it would send an event to its makers and write to the home folder.

    Raises:
        ConfigError: it is not installed.
        ModelError: it is installed and cannot be imported.
    """
    with _IMPORT:
        if "openvino" in sys.modules:
            return sys.modules["openvino"]
        if not is_installed():
            raise need_extra("openvino", "openvino")
        before = sys.modules.get(_TELEMETRY)
        # What OpenVINO cannot import it does without.
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
        try:
            return importlib.import_module("openvino")
        except (ImportError, OSError) as error:
            raise ModelError(
                f"OpenVINO is installed and cannot be imported: {error}", todo="Install labelbridge[openvino] again"
            ) from None
        finally:
            del sys.modules[_TELEMETRY]
            if before is not None:
                sys.modules[_TELEMETRY] = before


def version() -> str:
    """Such as ``2026.4.1``."""
    return str(import_openvino().__version__).partition("-")[0]


def convert(module: nn.Module, inputs: Sequence[Any]) -> Any:
    """The module as an ``openvino.Model`` of f32 weights, whose shapes are open.

    Its inputs and outputs are the tensors in the module's, in order. The module cannot learn any more.

    Args:
        inputs: what the module is called with: tensors, or lists or dicts of them. The values do not matter.

    Raises:
        ConfigError: OpenVINO is not installed.
        ModelError: OpenVINO does not know a part of the module.
    """
    import_openvino()
    try:
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        _expect_tracing()
        trace: Any = torch.jit.trace

        def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
            return tuple(leaves(module(*rebuilt(tuple(inputs), tensors))))

        # A function is traced faster than a module is; its weights become constants, which must not be learning.
        module.requires_grad_(False)
        with torch.no_grad():
            traced = trace(flat, tuple(leaves(inputs)), strict=False, check_trace=False)
        frontend = FrontEndManager().load_by_framework("pytorch")
        # The front end does not keep the decoder alive.
        decoder = TorchScriptPythonDecoder(traced)
        return frontend.convert(frontend.load(decoder))
    except LabelbridgeError:
        raise
    except Exception as error:  # whatever torch's tracer and OpenVINO's front end raise on what they do not know
        raise _cannot(error, "a network of plain layers") from error


def compiled(model: Any, arithmetic: Arithmetic, *, threads: int, streams: int = 1) -> Any:
    """The model ready to run on the CPU.

    Args:
        threads: cores it may use in all.
        streams: requests that run side by side, each on its share of the cores.

    Raises:
        ModelError: this CPU does not compute in this arithmetic, or OpenVINO refuses the model.
    """
    if arithmetic == "fp16" or (arithmetic == "bf16" and not cpu_has_bf16()):
        raise ModelError(
            f"OpenVINO does not compute in {arithmetic} on this CPU",
            expected="fp32" + (" or bf16" if cpu_has_bf16() else ""),
            todo="Leave the precision out, or choose the accelerator torch",
        )
    config = {
        "INFERENCE_PRECISION_HINT": "bf16" if arithmetic == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        # Other work shares the cores: threads that may not move wait for it.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        return import_openvino().Core().compile_model(model, "CPU", config)
    except RuntimeError as error:
        raise _cannot(error, "a network that it knows") from error


class StreamedNetwork:
    """A network of one input of fixed shape, several images at a time.

    One image alone is computed by all cores together. Several are computed side by side, each by one core: that takes
    less of the processor's time, since cores that work on one image wait for each other. What is to be done before and
    after the network is done by the caller's thread meanwhile.

    Args:
        model: see :func:`convert`.
        shape: of its one input.
        arithmetic: see :func:`compiled`.

    Raises:
        ModelError: as :func:`compiled`.
    """

    def __init__(self, model: Any, shape: Sequence[int], arithmetic: Arithmetic) -> None:
        model.reshape({0: list(shape)})
        threads = torch.get_num_threads()
        streams = min(threads, _MAX_STREAMS)
        alone = compiled(model, arithmetic, threads=threads)
        together = alone if streams == 1 else compiled(model, arithmetic, threads=threads, streams=streams)
        self._alone = [alone.create_infer_request()]
        # One more than run, so that the next image is ready when one is done.
        self._together = [together.create_infer_request() for _ in range(streams + 1)]

    def run(self, count: int, fill: Callable[[int, Floats], None]) -> Iterator[list[Floats]]:
        """The outputs for ``count`` images, in order. They are valid until the next step.

        Args:
            fill: ``fill(i, array)`` writes image ``i`` to the network's input; called ahead of time.
        """
        requests = self._alone if count == 1 else self._together
        begun = 0
        try:
            for i in range(count):
                while begun < min(count, i + len(requests)):
                    request = requests[begun % len(requests)]
                    fill(begun, request.get_input_tensor().data)
                    request.start_async()
                    begun += 1
                request = requests[i % len(requests)]
                request.wait()
                yield [tensor.data for tensor in request.output_tensors]
        finally:
            for request in requests[:begun]:
                request.wait()


class OpenVinoModule(nn.Module):
    """Stands in for a module of a torch network: the same inputs and outputs, tensors of any size on the CPU.

    The tensors it answers are valid until it is called again.

    Args:
        inner: the module; still used where an input holds nothing.
        inputs: an example of what it is called with; at least one of each in every dimension.

    Raises:
        ConfigError, ModelError: as :func:`convert` and :func:`compiled`.
    """

    def __init__(self, inner: nn.Module, inputs: Sequence[Any], arithmetic: Arithmetic) -> None:
        super().__init__()
        self.inner = inner
        with torch.inference_mode():
            self._outputs = inner(*inputs)
        model = convert(inner, inputs)
        self._request = compiled(model, arithmetic, threads=torch.get_num_threads()).create_infer_request()

    def forward(self, *inputs: Any) -> Any:
        tensors = leaves(inputs)
        if any(tensor.numel() == 0 for tensor in tensors):
            return self.inner(*inputs)
        arrays = {i: tensor.contiguous().numpy() for i, tensor in enumerate(tensors)}
        self._request.infer(arrays, share_inputs=True, share_outputs=True)
        return rebuilt(self._outputs, [torch.from_numpy(tensor.data) for tensor in self._request.output_tensors])


def _cannot(error: Exception, expected: str) -> ModelError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ModelError(
        f"OpenVINO cannot run this network: {reason[:300]}", expected=expected, todo="Choose the accelerator torch"
    )


def _expect_tracing() -> None:
    """Keep torch from warning people of how OpenVINO's front end works: by a traced graph."""
    # Filters are added, not set aside for a while: that would not be safe while other threads run.
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.trace", category=FutureWarning)
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
