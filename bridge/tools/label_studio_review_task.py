"""One finding as a Label Studio task, and a reviewer's answer back as a verdict. No I/O.

How answers are read: ``reject`` is a reject. ``accept`` is an accept where the suggestion is as it was, and an edit
where the reviewer moved, relabelled or replaced it, or drew what should be there instead of an object to be deleted.
Skipped, unsubmitted and contradictory answers (accepted, but the suggested box removed) are no verdict. Of several
answers to one finding the latest counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

from bridge.core.annotations import (
    Box,
    LabelSet,
    Mask,
    Polygon,
    Shape,
    TextSpan,
    digest,
    shape_from_list,
    shape_to_list,
)
from bridge.core.findings import Finding, Fix, Verdict
from bridge.core.objects import outline_envelope
from bridge.dialects.label_studio import (
    Control,
    Media,
    Region,
    Size,
    box_from_value,
    box_region,
    prediction_entry,
    region_label,
    region_size,
    span_from_value,
    span_region,
)
from bridge.errors import DataError, LabelbridgeError
from bridge.tools import ReviewCase
from bridge.tools.fix_rules import same_shape
from bridge.tools.label_studio_records import annotator
from bridge.tools.questions import title_of

Row = dict[str, Any]

MODEL = "labelbridge"
SUGGESTION, CURRENT, CONTEXT = "suggestion", "current", "context"
VERDICT, NOTE = "verdict", "note"
#: What an object is, to a reviewer. The keys are also the names of the tag and of the task's data that show the media.
THING: Mapping[Media, str] = {"image": "box", "text": "span"}
_MAGENTA, _GREY = "#ff00ff", "#9e9e9e"
_MOVED_PX = 0.5
"""A reviewer who moved a corner by less did not mean to."""

_EFFECTS = {
    "add": "Accept adds the coloured {thing}.",
    "delete": "Accept deletes the magenta {thing}.",
    "relabel": "Accept changes its label.",
    "reshape": "Accept moves the magenta {thing} to the coloured one.",
    "none": "Accept confirms that something is wrong here.",
}
_Drawn = Box | TextSpan
"""The shapes that a review task can show; a polygon or a mask is shown by the box around it."""


def review_config(labels: LabelSet, colours: Mapping[str, str], media: Media = "image") -> str:
    """The label configuration of a review project.

    Keys A and R give the verdict. Suggestions have the labels' own colours, the object as it is labelled now is
    magenta, its neighbours are grey; the palettes of those two are hidden, for nobody is to draw them.
    """

    tag, show = {
        "image": ("RectangleLabels", '<Image name="image" value="$image" zoom="true" zoomControl="true"/>'),
        "text": ("Labels", '<Text name="text" value="$text"/>'),
    }[media]

    def palette(control: str, colour: str | None, style: str) -> str:
        own = {name: colour or colours.get(name) for name in labels.names}
        shown = "".join(
            f"<Label value={quoteattr(n)}" + (f" background={quoteattr(c)}" if c else "") + "/>" for n, c in own.items()
        )
        return f'<{tag} name="{control}" toName="{media}" {style if media == "image" else ""}>{shown}</{tag}>'

    return f"""<View>
  <Header value="$lb_title" size="4"/>
  <Header value="$lb_reason" size="6"/>
  <Choices name="{VERDICT}" toName="{media}" choice="single-radio" showInline="true"
    required="true" requiredMessage="Accept or reject the suggestion first">
    <Choice value="accept" hotkey="a"/>
    <Choice value="reject" hotkey="r"/>
  </Choices>
  {palette(SUGGESTION, None, 'opacity="0.2" strokeWidth="3"')}
  <View style="display:none">
    {palette(CURRENT, _MAGENTA, 'opacity="0.0" strokeWidth="6"')}
    {palette(CONTEXT, _GREY, 'opacity="0.0" strokeWidth="2"')}
  </View>
  {show}
  <TextArea name="{NOTE}" toName="{media}" placeholder="Note (optional)" rows="2" maxSubmissions="1"/>
</View>
"""


def shows_boxes(case: ReviewCase) -> bool:
    """Whether the task shows any box, so that the image's size is needed."""
    shapes = [shape for _, _, shape in _present(case)]
    suggested = _suggested(case.finding)
    return any(isinstance(shape, Box) for shape in (*shapes, *(suggested[1:] if suggested else ())))


def review_task(case: ReviewCase, size: Size, source_url: str) -> Row:
    """The task to import: the image or text, what is suspected, and the boxes or spans as one prediction.

    Args:
        size: of the image in pixels; not used where there is nothing to draw.
        source_url: opens the source task in a browser.

    Raises:
        DataError: the item has no image, and no text.
    """
    finding, item = case.finding, case.item
    media: Media = "image" if item.text is None else "text"
    shown = item.image if item.text is None else item.text
    if not shown:
        raise DataError(f"item {item.id} ({item.name}) has no {media}, so finding {finding.id} cannot be reviewed")
    suggested = _suggested(finding)
    regions = [
        {**_region(control, digest([finding.id, n], 10), label, box, size), "readonly": True}
        for n, (control, label, box) in enumerate(_present(case))
    ]
    if suggested:
        region = _region(SUGGESTION, _suggestion_id(finding), *suggested, size, finding.reason)
        # Whoever moves the box around an outline has not said what the outline should be.
        regions.append({**region, "readonly": True} if isinstance(finding.fix.shape, Polygon | Mask) else region)
    return {
        "data": {
            media: shown,
            "lb_title": title_of(finding),
            "lb_reason": f"{finding.reason} {_EFFECTS[finding.fix.action].format(thing=THING[media])}",
            "lb_finding": finding.id,
            "lb_error": str(finding.error),
            "lb_label": finding.label,
            "lb_score": round(finding.score, 4),
            "lb_item": item.name,
            "lb_source_task": source_url,
        },
        "meta": {"labelbridge": review_meta(finding)},
        "predictions": [prediction_entry(regions, MODEL, finding.score)],
    }


def review_meta(finding: Finding) -> Row:
    """What a task asks, for :func:`read_verdict`: as plain JSON, so that it can be compared with what is there."""
    meta: Row = {"finding": finding.id, "fix": finding.fix.to_dict()}
    suggested = _suggested(finding)
    if suggested:
        label, shape = suggested
        meta["suggested"] = {"region": _suggestion_id(finding), "label": label, "shape": shape_to_list(shape)}
    return meta


def _suggestion_id(finding: Finding) -> str:
    return digest([finding.id, SUGGESTION], 10)


def _region(control: str, region_id: str, label: str, shape: _Drawn, size: Size, note: str | None = None) -> Region:
    if isinstance(shape, TextSpan):
        return span_region(region_id, Control(control, "text", "labels", (label,)), label, shape, note=note)
    tag = Control(control, "image", "rectanglelabels", (label,))
    return box_region(region_id, tag, label, shape, *size, note=note)


def _present(case: ReviewCase) -> list[tuple[str, str, _Drawn]]:
    """Control, label and shape of what is labelled now: the neighbours, then the object itself on top of them."""
    drawn = [(CONTEXT, a.label, a.shape) for a in case.context]
    if case.finding.current_shape is not None:
        drawn.append((CURRENT, case.finding.label, case.finding.current_shape))
    return [(control, label, s) for control, label, shape in drawn if (s := _shown(shape)) is not None]


def _shown(shape: Shape | None) -> _Drawn | None:
    """How a review task shows a shape; None for one that it cannot show."""
    if isinstance(shape, Polygon | Mask):
        around = outline_envelope(shape)
        shape = None if around is None else Box(*around)
    return shape if isinstance(shape, _Drawn) and not shape.problem() else None


def _suggested(finding: Finding) -> tuple[str, _Drawn] | None:
    """Label and shape after the fix; None where the fix leaves nothing to show."""
    if finding.fix.action not in ("add", "relabel", "reshape"):
        return None
    shape = _shown(finding.fix.shape or finding.current_shape)
    return None if shape is None else (finding.fix.label or finding.label, shape)


def read_verdict(task: Row) -> Verdict | None:
    """The latest answer that a review task holds; None where nobody has decided, or it is no review task of ours."""
    meta = task.get("meta")
    mine = meta.get("labelbridge") if isinstance(meta, dict) else None
    if not isinstance(mine, dict) or "finding" not in mine:
        return None
    answers = sorted(
        (a for a in task.get("annotations") or [] if isinstance(a, dict) and not a.get("was_cancelled")),
        key=lambda a: str(a.get("updated_at")),
        reverse=True,
    )
    data = task.get("data")
    text = data.get("text") if isinstance(data, dict) else None
    for answer in answers:
        try:
            decided = _decision(answer, mine, text)
        except (LabelbridgeError, KeyError, TypeError, ValueError):
            continue
        if decided:
            decision, fix = decided
            return Verdict(
                finding_id=str(mine["finding"]),
                decision=decision,
                reviewer=annotator(answer),
                decided_at=str(answer["updated_at"]),
                source=f"ls:annotation/{answer['id']}",
                fix=fix,
            )
    return None


def _decision(answer: Row, mine: Row, text: str | None) -> tuple[Any, Fix | None] | None:
    result = [r for r in answer["result"] if isinstance(r, dict)]
    choice: object = next((r["value"]["choices"] for r in result if r.get("from_name") == VERDICT), None)
    if choice == ["reject"]:
        return "reject", None
    if choice != ["accept"]:
        return None
    fix = Fix.from_dict(mine["fix"])
    drawn = {str(r.get("id")): r for r in result if r.get("from_name") == SUGGESTION}
    suggested = mine.get("suggested")
    if suggested is None:
        # Nothing was suggested; what the reviewer drew instead of an object to be deleted takes its place.
        new = _last_drawn(drawn, text)
        return ("edit", Fix("reshape", *new)) if new and fix.action == "delete" else ("accept", fix)
    kept = drawn.get(suggested["region"])
    now = _labelled_shape(kept, text) if kept else _last_drawn(drawn, text)
    if now is None:
        return None
    label, shape = now
    moved = not same_shape(shape, shape_from_list(suggested["shape"]), _MOVED_PX)
    if label == suggested["label"] and not moved:
        return "accept", fix
    if isinstance(fix.shape, Polygon | Mask):
        return "edit", Fix(fix.action, label, fix.shape)
    return "edit", Fix(fix.action, label, shape if moved or fix.shape is not None else None)


def _last_drawn(drawn: Mapping[str, Region], text: str | None) -> tuple[str, _Drawn] | None:
    found = [one for region in drawn.values() if (one := _labelled_shape(region, text))]
    return found[-1] if found else None


def _labelled_shape(region: Region, text: str | None) -> tuple[str, _Drawn] | None:
    label, size = region_label([region]), region_size(region)
    shape: _Drawn
    if text is not None:
        shape = span_from_value(region["value"], text)
    elif size is not None:
        shape = box_from_value(region["value"], *size)
    else:
        return None
    return None if label is None or shape.problem() else (label, shape)
