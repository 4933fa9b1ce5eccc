"""Which project label a model's class becomes.

Names decide, never numbers. For each model class, in this order:

1. an explicit entry ``class -> label``;
2. the project label of exactly the same name;
3. the only project label that is equal once case and surrounding blanks are ignored (``Car`` and ``car``). Where two
   labels would do, neither is taken.

A class without a label is dropped from predictions; several classes may become one label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.errors import ConfigError, ModelError


@dataclass(frozen=True, slots=True)
class LabelMap:
    """The outcome of matching, checked before a model runs.

    Attributes:
        classes: the model's class names.
        targets: for each class its project label; None where its detections are dropped.
        unmatched_labels: project labels that no class becomes: the model can never suggest them.
    """

    classes: tuple[str, ...]
    targets: tuple[str | None, ...]
    unmatched_labels: tuple[str, ...]

    @property
    def unmatched_classes(self) -> tuple[str, ...]:
        """Model classes whose detections are dropped."""
        return tuple(c for c, target in zip(self.classes, self.targets, strict=True) if target is None)

    def label_of(self, class_index: int) -> str | None:
        """The project label for ``Detections.label`` value ``class_index``, or None when it is dropped."""
        return self.targets[class_index]


def match_labels(classes: Sequence[str], labels: Sequence[str], explicit: Mapping[str, str] | None = None) -> LabelMap:
    """Match a model's classes with a project's labels.

    Args:
        classes: the model's class names, by index.
        labels: the project's label names.
        explicit: model class -> project label; takes precedence over equal names.

    Raises:
        ModelError: the explicit map names a class or a label that does not exist, or nothing matches at all; the
            message lists both sides.
    """
    explicit = explicit or {}
    _check_explicit(classes, labels, explicit)
    folded: dict[str, list[str]] = {}
    for label in labels:
        folded.setdefault(_fold(label), []).append(label)
    exact = set(labels)

    def target(name: str) -> str | None:
        if name in explicit:
            return explicit[name]
        if name in exact:
            return name
        alike = folded.get(_fold(name), [])
        return alike[0] if len(alike) == 1 else None

    targets = tuple(target(name) for name in classes)
    reached = set(targets)
    result = LabelMap(tuple(classes), targets, tuple(label for label in labels if label not in reached))
    if not any(reached):
        raise ModelError(
            f"no class of the model is a label of the project: the model has {_listed(classes)}; "
            f"the project has {_listed(labels)}",
            expected="at least one name in common",
            todo="Give a label map such as 'car=vehicle,person=human', or choose another model",
        )
    return result


def alike_labels(classes: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """A label map to propose: class -> label where the two differ only in case, blanks and signs, as ``hex_nut`` and
    ``Hex nut`` do, and one label does. Those that :func:`match_labels` finds by itself are left out.
    """
    known = {_fold(label) for label in labels}
    bare: dict[str, list[str]] = {}
    for label in labels:
        bare.setdefault(_bare(label), []).append(label)
    found = {name: bare.get(_bare(name), []) for name in classes if _fold(name) not in known and _bare(name)}
    return {name: alike[0] for name, alike in found.items() if len(alike) == 1}


def parse_label_map(text: str) -> dict[str, str]:
    """Read the inline form ``car=vehicle,person=human``; blanks around names do not count.

    Raises:
        ConfigError: an entry has no ``=``, an empty side, or a class that was given before. Names that contain a
            comma or an equals sign need the file form.
    """
    pairs: dict[str, str] = {}
    for entry in text.split(","):
        name, equals, label = (part.strip() for part in entry.partition("="))
        if not equals or not name or not label or "=" in label:
            raise ConfigError(
                f"the label map has the entry {entry.strip()!r}",
                expected="model class = project label, as in car=vehicle,person=human",
                todo="Correct the entry, or put names that contain commas or equals signs into a JSON or YAML file",
            )
        if name in pairs:
            raise ConfigError(
                f"the label map gives the class {name!r} twice",
                expected="each class once",
                todo="Keep one of the two entries",
            )
        pairs[name] = label
    return pairs


def _check_explicit(classes: Sequence[str], labels: Sequence[str], explicit: Mapping[str, str]) -> None:
    strange_classes = [name for name in explicit if name not in classes]
    strange_labels = [label for label in explicit.values() if label not in labels]
    problems = []
    if strange_classes:
        problems.append(f"{_listed(strange_classes)} not among the model's classes: {_listed(classes)}")
    if strange_labels:
        problems.append(f"{_listed(strange_labels)} not among the project's labels: {_listed(labels)}")
    if problems:
        raise ModelError(
            "the label map does not fit: " + "; ".join(problems),
            expected="classes of the model on the left, labels of the project on the right",
            todo="Correct the label map; upper and lower case count there",
        )


def _fold(name: str) -> str:
    return name.strip().casefold()


def _bare(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _listed(names: Sequence[str], most: int = 100) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    if len(names) > most:
        shown += f" and {len(names) - most} more"
    return shown or "none"
