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

from bridge.core.annotations import Box, LabelSet, digest, shape_from_list, shape_to_list
from bridge.core.findings import Finding, Fix, Verdict
from bridge.dialects.label_studio import (
    Control,
    Region,
    Size,
    box_from_value,
    box_region,
    prediction_entry,
    region_label,
    region_size,
)
from bridge.errors import DataError, LabelbridgeError
from bridge.tools import ReviewCase
from bridge.tools.fix_rules import same_shape
from bridge.tools.label_studio_records import annotator
from bridge.tools.questions import title_of

Row = dict[str, Any]

MODEL = "labelbridge"
SUGGESTION, CURRENT, CONTEXT = "suggestion", "current", "context"
VERDICT, NOTE, IMAGE = "verdict", "note", "image"
_MAGENTA, _GREY = "#ff00ff", "#9e9e9e"
_MOVED_PX = 0.5
"""A reviewer who moved a corner by less did not mean to."""

_EFFECTS = {
    "add": "Accept adds the coloured box.",
    "delete": "Accept deletes the magenta box.",
    "relabel": "Accept changes its label.",
    "reshape": "Accept moves the magenta box to the coloured one.",
    "none": "Accept confirms that something is wrong here.",
}


def review_config(labels: LabelSet, colours: Mapping[str, str]) -> str:
    """The label configuration of a review project.

    Keys A and R give the verdict. Suggestions have the labels' own colours, the object as it is labelled now is
    magenta, its neighbours are grey; the palettes of those two are hidden, for nobody is to draw them.
    """

    def palette(control: str, colour: str | None, style: str) -> str:
        own = {name: colour or colours.get(name) for name in labels.names}
        shown = "".join(
            f"<Label value={quoteattr(n)}" + (f" background={quoteattr(c)}" if c else "") + "/>" for n, c in own.items()
        )
        return f'<RectangleLabels name="{control}" toName="{IMAGE}" {style}>{shown}</RectangleLabels>'

    return f"""<View>
  <Header value="$lb_title" size="4"/>
  <Header value="$lb_reason" size="6"/>
  <Choices name="{VERDICT}" toName="{IMAGE}" choice="single-radio" showInline="true"
    required="true" requiredMessage="Accept or reject the suggestion first">
    <Choice value="accept" hotkey="a"/>
    <Choice value="reject" hotkey="r"/>
  </Choices>
  {palette(SUGGESTION, None, 'opacity="0.2" strokeWidth="3"')}
  <View style="display:none">
    {palette(CURRENT, _MAGENTA, 'opacity="0.0" strokeWidth="6"')}
    {palette(CONTEXT, _GREY, 'opacity="0.0" strokeWidth="2"')}
  </View>
  <Image name="{IMAGE}" value="$image" zoom="true" zoomControl="true"/>
  <TextArea name="{NOTE}" toName="{IMAGE}" placeholder="Note (optional)" rows="2" maxSubmissions="1"/>
</View>
"""


def shows_boxes(case: ReviewCase) -> bool:
    """Whether the task shows any box, so that the image's size is needed."""
    return bool(_suggested(case.finding) or _present(case))


def review_task(case: ReviewCase, size: Size, source_url: str) -> Row:
    """The task to import: the image, what is suspected, and the boxes as one prediction.

    Args:
        size: of the image in pixels; not used where there is nothing to draw.
        source_url: opens the source task in a browser.

    Raises:
        DataError: the item has no image.
    """
    finding, item = case.finding, case.item
    if not item.image:
        raise DataError(f"item {item.id} ({item.name}) has no image, so finding {finding.id} cannot be reviewed")
    suggested = _suggested(finding)
    regions = [
        {**_region(control, digest([finding.id, n], 10), label, box, size), "readonly": True}
        for n, (control, label, box) in enumerate(_present(case))
    ]
    meta: Row = {"finding": finding.id, "fix": finding.fix.to_dict()}
    if suggested:
        label, box = suggested
        region_id = digest([finding.id, SUGGESTION], 10)
        regions.append(_region(SUGGESTION, region_id, label, box, size, finding.reason))
        meta["suggested"] = {"region": region_id, "label": label, "shape": shape_to_list(box)}
    return {
        "data": {
            "image": item.image,
            "lb_title": title_of(finding),
            "lb_reason": f"{finding.reason} {_EFFECTS[finding.fix.action]}",
            "lb_finding": finding.id,
            "lb_error": str(finding.error),
            "lb_label": finding.label,
            "lb_score": round(finding.score, 4),
            "lb_item": item.name,
            "lb_source_task": source_url,
        },
        "meta": {"labelbridge": meta},
        "predictions": [prediction_entry(regions, MODEL, finding.score)],
    }


def _region(control: str, region_id: str, label: str, box: Box, size: Size, note: str | None = None) -> Region:
    return box_region(region_id, Control(control, IMAGE, "rectanglelabels", (label,)), label, box, *size, note=note)


def _present(case: ReviewCase) -> list[tuple[str, str, Box]]:
    """Control, label and box of what is labelled now: the neighbours, then the object itself on top of them."""
    drawn = [(CONTEXT, a.label, a.shape) for a in case.context]
    if case.finding.current_shape is not None:
        drawn.append((CURRENT, case.finding.label, case.finding.current_shape))
    return [(control, label, s) for control, label, s in drawn if isinstance(s, Box) and not s.problem()]


def _suggested(finding: Finding) -> tuple[str, Box] | None:
    """Label and box after the fix; None where the fix leaves no box to show."""
    if finding.fix.action not in ("add", "relabel", "reshape"):
        return None
    shape = finding.fix.shape or finding.current_shape
    if not isinstance(shape, Box) or shape.problem():
        return None
    return finding.fix.label or finding.label, shape


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
    for answer in answers:
        try:
            decided = _decision(answer, mine)
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


def _decision(answer: Row, mine: Row) -> tuple[Any, Fix | None] | None:
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
        box = _last_box(drawn)
        return ("edit", Fix("reshape", *box)) if box and fix.action == "delete" else ("accept", fix)
    kept = drawn.get(suggested["region"])
    box = _labelled_box(kept) if kept else _last_box(drawn)
    if box is None:
        return None
    label, shape = box
    moved = not same_shape(shape, shape_from_list(suggested["shape"]), _MOVED_PX)
    if label == suggested["label"] and not moved:
        return "accept", fix
    return "edit", Fix(fix.action, label, shape if moved or fix.shape is not None else None)


def _last_box(drawn: Mapping[str, Region]) -> tuple[str, Box] | None:
    boxes = [box for region in drawn.values() if (box := _labelled_box(region))]
    return boxes[-1] if boxes else None


def _labelled_box(region: Region) -> tuple[str, Box] | None:
    label, size = region_label([region]), region_size(region)
    if label is None or size is None:
        return None
    box = box_from_value(region["value"], *size)
    return None if box.problem() else (label, box)
