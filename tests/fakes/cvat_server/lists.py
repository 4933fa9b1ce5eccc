"""Lists as CVAT gives them: filtered, sorted, paged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any, TypeVar
from urllib.parse import urlencode

from fakes.cvat_server.routing import ApiError, Context, Reply
from fakes.cvat_server.state import Row

T = TypeVar("T")
Terms = Mapping[str, Callable[[Any], object]]

#: facts/cvat.md (c) Auth, paging: ten rows a page unless asked
PAGE_SIZE = 10
#: Terms of ``filter=`` that are no query parameters of their own, by the parameters that the SDK of 2.80 sends
LOGIC_ONLY = ("id", "updated_date")


def listing(
    ctx: Context, found: Iterable[T], terms: Terms, render: Callable[[T], Row], *, simple: Terms | None = None
) -> Reply:
    """One page.

    Args:
        found: what the caller may see.
        terms: names that ``filter=`` and ``sort=`` know.
        simple: query parameters that filter by equality; any other is ignored without a word.
    """
    rows = list(found)
    _check_ids(ctx, terms)
    for name, getter in {**terms, **(simple or {})}.items():
        if name in ctx.query and name not in LOGIC_ONLY:
            rows = [row for row in rows if _same(getter(row), ctx.query[name])]
    if ctx.query.get("filter"):
        try:
            rule = json.loads(ctx.query["filter"])
        except ValueError:
            raise ApiError(400, ["filter: expected JSON logic"]) from None
        rows = [row for row in rows if _logic(rule, row, terms)]
    # facts/cvat.md (c) Auth, paging: the newest job comes first (the same for the rest: not in the facts)
    for key in reversed(ctx.query.get("sort", "-id").split(",")):
        getter = terms.get(key.lstrip("-"), lambda row: row.id)
        rows.sort(key=lambda row, of=getter: _order(of(row)), reverse=key.startswith("-"))  # type: ignore[misc]
    return Reply(200, _page(ctx, [render(row) for row in _slice(ctx, rows)], len(rows)))


def _check_ids(ctx: Context, terms: Terms) -> None:
    """Refuses to filter by a project, task or job that there is not."""
    # seen on 2.15, of comments only not
    tables = {"project_id": ctx.state.projects, "task_id": ctx.state.tasks, "job_id": ctx.state.jobs}
    for name, table in tables.items():
        text = ctx.query.get(name, "") if name in terms and ctx.path != "/api/comments" else ""
        if text and not (text.isdigit() and int(text) in table):
            raise ApiError(400, {name: ["Select a valid choice. That choice is not one of the available choices."]})


def _slice(ctx: Context, rows: list[T]) -> list[T]:
    size, page = _size(ctx, len(rows)), _number(ctx)
    if page > 1 and (page - 1) * size >= len(rows):
        raise ApiError(404, "Invalid page.")
    return rows[(page - 1) * size : page * size]


def _page(ctx: Context, rows: list[Row], count: int) -> Row:
    size, page = _size(ctx, count), _number(ctx)

    def link(number: int) -> str:
        return f"{ctx.base}{ctx.path}?{urlencode({**ctx.query, 'page': number})}"

    return {
        "count": count,
        "next": link(page + 1) if page * size < count else None,
        "previous": link(page - 1) if page > 1 else None,
        "results": rows,
    }


def _size(ctx: Context, count: int) -> int:
    text = ctx.query.get("page_size", "")
    if text == "all":  # facts/cvat.md (c) Auth, paging
        return max(count, 1)
    return int(text) if text.isdigit() and int(text) > 0 else PAGE_SIZE


def _number(ctx: Context) -> int:
    text = ctx.query.get("page", "1")
    if not text.isdigit() or int(text) < 1:
        raise ApiError(404, "Invalid page.")
    return int(text)


def _same(value: object, text: str) -> bool:
    if isinstance(value, bool):
        return text.lower() in (("true", "1") if value else ("false", "0"))
    return value is not None and str(value) == text


def _order(value: object) -> tuple[bool, Any]:
    return value is not None, value if value is not None else 0


def _logic(rule: Any, row: object, terms: Terms) -> Any:
    """JSON logic, as far as clients of CVAT use it."""
    if not isinstance(rule, dict):
        return rule
    if len(rule) != 1:
        raise ApiError(400, [f"filter: expected one operator, found {sorted(rule)}"])
    ((operator, given),) = rule.items()
    if operator == "var":
        if given not in terms:
            raise ApiError(400, [f"filter: {given!r} is not a term"])  # not in the facts
        return terms[given](row)
    values = [_logic(x, row, terms) for x in (given if isinstance(given, list) else [given])]
    if operator == "and":
        return all(values)
    if operator == "or":
        return any(values)
    if operator == "!":
        return not values[0]
    if operator == "==":
        return values[0] == values[1]
    if operator == "in":
        return _contains(values[0], values[1])
    if operator in ("<=", ">=", "<", ">"):
        return all(_ordered(operator, a, b) for a, b in pairwise(values))
    raise ApiError(400, [f"filter: {operator!r} is not an operator"])


def _contains(first: Any, second: Any) -> bool:
    """Text in a text, whatever the case, or a value in a list."""
    if isinstance(second, list):
        return first in second
    return second is not None and str(first).lower() in str(second).lower()


def _ordered(operator: str, a: Any, b: Any) -> bool:
    if a is None or b is None:
        return False
    return bool({"<=": a <= b, ">=": a >= b, "<": a < b, ">": a > b}[operator])
