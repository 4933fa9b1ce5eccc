"""Changes to a track on one frame, as a person makes them in CVAT's editor.

Pure: no I/O. A track is changed as a whole: CVAT's ``update`` takes it with its id and all of its keyframes. What a
change is not about keeps its ids, and on the frames around it what the keyframes say: a new keyframe changes how the
object moves towards it and away from it, and nothing beyond its two neighbours.
"""

from __future__ import annotations

from typing import Any

from bridge.dialects.cvat_labels import Label, attribute_values
from bridge.dialects.cvat_shapes import Entry
from bridge.dialects.cvat_tracks import TrackPoint, track_on
from bridge.errors import DataError

Row = dict[str, Any]


def set_keyframe(track: Entry, frame: int, fields: Entry) -> Row:
    """The track with a keyframe on ``frame`` that has ``fields``: the one that is there changed, or a new one.

    All else of a new one is as the track is there.

    Raises:
        DataError: the track does not reach the frame, has several keyframes there, or is an outline on its way from
            one shape to another whose place is not among ``fields``: CVAT draws it in its own way.
    """
    here = track_on(track, frame)
    if here is None or here.repeated:
        found = "begins later" if here is None else "has several keyframes there"
        raise DataError(f"track {track.get('id')} cannot be changed on frame {frame}: it {found}")
    if "points" not in fields:
        _require_place(track, here, frame)
    key = {**here.entry, **fields, "frame": frame}
    keys = [k for k in track["shapes"] if k["frame"] != frame]
    return {**track, "shapes": sorted([*keys, key], key=lambda k: int(k["frame"]))}


def hide_on(track: Entry, frame: int, last: int) -> Row:
    """The track without its object on ``frame``: outside there, and on the next frame back as it was.

    Args:
        last: the last frame of the job, behind which the object need not come back.

    Raises:
        DataError: as :func:`set_keyframe`.
    """
    behind = track_on(track, frame + 1) if frame < last else None
    hidden = set_keyframe(track, frame, {"outside": True})
    if behind is None or behind.keyframe:
        return hidden
    _require_place(track, behind, frame + 1)
    return set_keyframe(hidden, frame + 1, behind.entry)


def relabel_track(track: Entry, old: Label | None, new: Label) -> Row:
    """The track under another label, on all of its frames, with those attributes that both labels have, by name.

    An attribute that may change along a track lies in its keyframes, any other in the track itself.
    """

    def kept(holder: Entry, mutable: bool) -> list[Row]:
        values = attribute_values(holder.get("attributes"), None)
        names = {} if old is None else {a.name: f"#{a.spec_id}" for a in old.attributes}
        both = [(a.spec_id, values.get(names.get(a.name, ""))) for a in new.attributes if a.mutable == mutable]
        return [{"spec_id": spec, "value": value} for spec, value in both if value is not None]

    shapes = [{**key, "attributes": kept(key, True)} for key in track["shapes"]]
    return {**track, "label_id": new.id, "attributes": kept(track, False), "shapes": shapes}


def _require_place(track: Entry, here: TrackPoint, frame: int) -> None:
    if here.morphing:
        raise DataError(
            f"track {track.get('id')} is on frame {frame} an outline between two keyframes, which CVAT draws in its "
            "own way",
            todo="Change it by hand in CVAT",
        )
