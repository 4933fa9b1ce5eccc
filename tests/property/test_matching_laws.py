"""Laws of matching: one to one, stable, and blind to the order of rows and to batching."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from ugly import NO_NUMBERS

from bridge.core.matching import content_rank, match_pairs

# Few values, so that ties are common; content is one number per row, and may tie as well.
values = st.sampled_from((0.0, -1.0, 0.2, 0.5, 0.5000001, 1.0, *NO_NUMBERS[:1]))


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, dict[tuple[int, int], float]]:
    """Distinct contents of given and predicted rows, and the values of some pairs."""
    given_content = draw(st.permutations(range(draw(st.integers(1, 6)))))
    predicted_content = draw(st.permutations(range(draw(st.integers(1, 6)))))
    cells = [(g, p) for g in range(len(given_content)) for p in range(len(predicted_content))]
    chosen = draw(st.lists(st.sampled_from(cells), unique=True))
    return np.array(given_content), np.array(predicted_content), {cell: draw(values) for cell in chosen}


def match(given_content: np.ndarray, predicted_content: np.ndarray, cells: dict) -> set[tuple[int, int]]:
    """The matched pairs, named by content."""
    g, p = (np.array([cell[k] for cell in cells], dtype=np.int64) for k in (0, 1))
    value = np.array(list(cells.values()), dtype=np.float64)
    chosen = match_pairs(g, p, value, content_rank(given_content), content_rank(predicted_content))
    assert (np.diff(chosen) > 0).all()
    return {(int(given_content[g[k]]), int(predicted_content[p[k]])) for k in chosen}


@given(problems())
def test_one_to_one_and_every_pair_left_out_is_blocked_by_a_better_one(problem: tuple) -> None:
    given_content, predicted_content, cells = problem
    matched = match(*problem)
    assert len({g for g, _ in matched}) == len({p for _, p in matched}) == len(matched)
    key = {
        (int(given_content[g]), int(predicted_content[p])): (-v, given_content[g], predicted_content[p])
        for (g, p), v in cells.items()
        if v > 0
    }
    assert matched <= key.keys()
    for pair in key.keys() - matched:
        assert any(key[m] < key[pair] for m in matched if m[0] == pair[0] or m[1] == pair[1])


@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_pairs_does_not_matter(problem: tuple, random: object) -> None:
    given_content, predicted_content, cells = problem
    new_g, new_p = list(range(len(given_content))), list(range(len(predicted_content)))
    random.shuffle(new_g)
    random.shuffle(new_p)
    pairs = list(cells.items())
    random.shuffle(pairs)
    moved = {(new_g.index(g), new_p.index(p)): v for (g, p), v in pairs}
    assert match(given_content[new_g], predicted_content[new_p], moved) == match(*problem)


@given(problems(), problems())
def test_two_batches_together_match_as_each_alone(first: tuple, second: tuple) -> None:
    g1, p1, cells1 = first
    g2, p2, cells2 = second
    both = {**cells1, **{(g + len(g1), p + len(p1)): v for (g, p), v in cells2.items()}}
    together = match(np.append(g1, g2 + 100), np.append(p1, p2 + 100), both)
    assert together == match(*first) | {(g + 100, p + 100) for g, p in match(*second)}
