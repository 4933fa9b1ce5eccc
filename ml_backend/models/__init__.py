"""Models: what suggests objects, behind one protocol.

A model is a :class:`Predictor`: images in, one :class:`Detections` per image out. One file here per family of models;
:mod:`ml_backend.models.catalogue` finds a model by name, by manifest or by weights.

A Predictor MUST answer one Detections per image, in order. Boxes MUST be in pixels of the image it was given, half-open
``xyxy``, clipped to the image and with area; confidences MUST be finite, in [0, 1], in falling order. Background is no
class and MUST NOT be answered. It MUST NOT change an answer because of earlier calls, nor because of the other images
in the call, beyond float rounding: callers batch as they like. It MUST bound the memory it uses, whatever the size
of an image. It MUST raise :class:`~bridge.errors.ModelError` when it cannot run at all, and
:class:`~bridge.errors.ImageError`, naming the image's place in the call, when an array is no RGB image. It need not be
safe for several threads: callers serialise. It MUST NOT read the environment, reach for the network or load weights in
its ``predict``.

``name`` MUST change whenever answers change: it is the key under which predictions are cached, stored and compared.
"""

from bridge.core.predictor import Detections, Predictor

__all__ = ["Detections", "Predictor"]
