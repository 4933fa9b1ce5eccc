"""Models: what suggests objects, behind two protocols.

A :class:`Predictor` turns images into :class:`Detections` on its own; an :class:`Interactor` turns what a person
pointed at into a mask. One file here per family of models; :mod:`ml_backend.models.catalogue` finds the family that a
name, a manifest or a weights file belongs to.

A Predictor MUST answer one Detections per image, in order. Boxes MUST be in pixels of the image it was given, half-open
``xyxy``, clipped to the image and with area; confidences MUST be finite, in [0, 1], in falling order. Background is no
class and MUST NOT be answered. Where its ``kind`` is ``mask`` it MUST give one mask per box, not empty and inside of
the image; where it is ``tag`` the box is the whole image. It MUST NOT change an answer because of earlier calls, nor
because of the other images in the call, beyond float rounding: callers batch as they like. It MUST bound the memory it
uses, whatever the size of an image. It SHOULD have ``nbytes``, what its weights take in memory: servers that hold
several models go by it. It MUST raise :class:`~bridge.errors.ModelError` when it cannot run at all, and
:class:`~bridge.errors.ImageError`, naming the image's place in the call, when an array is no RGB image. It need not be
safe for several threads: callers serialise. It MUST NOT read the environment, reach for the network or load weights in
its ``predict``.

A Predictor MAY also answer about boxes that others drew: :class:`~bridge.core.predictor.RegionScorer` says how. One
that wraps another SHOULD hand the question on where its own answer would be the other's. It MAY make class maps too:
:class:`~bridge.core.predictor.DensePredictor`.

``name`` MUST change whenever answers change: it is the key under which predictions are cached, stored and compared.

A family is a module with two functions, called with the :class:`~ml_backend.models.catalogue.ModelSpec` that somebody
wrote:

- ``describe(spec) -> ModelCard`` MUST be quick and load no weights into a network: servers list their models with it.
- ``load(spec) -> Predictor | Interactor`` loads it, ready to work, with ``spec.device``; the result's ``name`` MUST be
  the card's.

Both raise :class:`~bridge.errors.ModelError` (or ConfigError for a missing extra) and say what to do.
"""

from bridge.core.predictor import Detections, Kind, Predictor
from ml_backend.models.interactor import Interactor, Prompt, Segment

__all__ = ["Detections", "Interactor", "Kind", "Predictor", "Prompt", "Segment"]
