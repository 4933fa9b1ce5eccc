"""Which functions CVAT is shown: one per model, and those made for single projects; none that could break its list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bridge.core.label_map import match_labels
from bridge.dialects.cvat_functions import Shape, detector_function, interactor_function, own_problems
from bridge.errors import LabelbridgeError, ModelError
from bridge.logs import Log
from ml_backend.entry import ModelEntry


@dataclass(frozen=True, slots=True)
class ProjectFunction:
    """A detector as it is listed for one project, with that project's label names: CVAT then maps them by itself.

    Attributes:
        id: under which CVAT names it, as in ``parts.p7``.
        model: the id of the model.
        title: for people, as in ``parts for Weld seams``.
        labels: the project's label names.
        label_map: model class -> label of the project, for classes whose names differ.
    """

    id: str
    model: str
    title: str
    labels: tuple[str, ...]
    label_map: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Function:
    """One function of the list.

    Attributes:
        id: under which CVAT names it.
        entry: the model behind it.
        targets: the label of each class of the model, None where it has none here; empty for an interactor.
        shown: as CVAT reads it.
    """

    id: str
    entry: ModelEntry
    targets: tuple[str | None, ...]
    shown: dict[str, Any]

    @property
    def shape(self) -> Shape:
        """What a detector answers with."""
        role = self.entry.card.role
        assert role != "interactor"
        return role


def listed_functions(
    entries: Mapping[str, ModelEntry], extra: Iterable[ProjectFunction], ports: Mapping[str, int], log: Log
) -> dict[str, Function]:
    """The functions by id, in the order of the models. What some version of CVAT could not read is left out, logged.

    Args:
        entries: the models that are served, by id.
        extra: what is listed besides them.
        ports: where functions can be called directly, by id.
    """
    listed: dict[str, Function] = {}

    def add(id_: str, make: Callable[[int], Function]) -> None:
        try:
            function = make(ports.get(id_, 0))
            wrong = own_problems(function.shown)
        except LabelbridgeError as error:
            log.error("function_not_listed", function=id_, **error.as_dict())
            return
        if id_ in listed:
            wrong.append("there is another one of this id")
        if wrong:
            log.error(
                "function_not_listed",
                function=id_,
                found="; ".join(wrong),
                expected="what every version of CVAT can read",
                todo="Correct it in the models file",
            )
            return
        listed[id_] = function

    for entry in entries.values():
        add(entry.id, partial(_of_model, entry))
    for one in extra:
        add(one.id, partial(_of_project, entries, one))
    return listed


def _of_model(entry: ModelEntry, port: int) -> Function:
    if entry.interactive:
        shown = interactor_function(entry.id, title=entry.id, description=_description(entry), port=port)
        return Function(entry.id, entry, (), shown)
    targets = tuple(entry.label_map.get(name, name) for name in entry.card.classes)
    return _detector(entry, entry.id, entry.id, targets, list(dict.fromkeys(targets)), port)


def _of_project(entries: Mapping[str, ModelEntry], wanted: ProjectFunction, port: int) -> Function:
    entry = entries.get(wanted.model)
    if entry is None or entry.interactive:
        raise ModelError(
            f"the function {wanted.id!r} is of the model {wanted.model!r}, "
            + ("which is not served" if entry is None else "which has no labels"),
            expected="a detector of this server",
            todo="Correct the function in the models file",
        )
    usual = {name: label for name, label in entry.label_map.items() if label in wanted.labels}
    matched = match_labels(entry.card.classes, wanted.labels, {**usual, **wanted.label_map})
    reached = set(matched.targets)
    labels = [label for label in dict.fromkeys(wanted.labels) if label in reached]
    return _detector(entry, wanted.id, wanted.title, matched.targets, labels, port)


def _detector(
    entry: ModelEntry, id_: str, title: str, targets: tuple[str | None, ...], labels: Sequence[str], port: int
) -> Function:
    role = entry.card.role
    assert role != "interactor"
    shown = detector_function(id_, title=title, description=_description(entry), labels=labels, shape=role, port=port)
    return Function(id_, entry, targets, shown)


def _description(entry: ModelEntry) -> str:
    card = entry.card
    return f"{card.description} ({card.name})" if card.description else card.name
