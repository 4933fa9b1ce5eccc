"""ml_backend.training.recipe: batches, epochs and learning rates."""

from __future__ import annotations

import math

import pytest

from ml_backend.training.recipe import OTHERS, SINGLE_SHOT, Recipe


@pytest.mark.parametrize(
    ("images", "batch", "epochs"), [(1, 4, 40), (8, 4, 40), (60, 4, 20), (290, 8, 8), (1000, 32, 9), (100_000, 32, 6)]
)
def test_few_images_are_seen_more_often_in_smaller_batches(images: int, batch: int, epochs: int) -> None:
    assert (SINGLE_SHOT.batch(images), SINGLE_SHOT.epochs(images)) == (batch, epochs)
    assert SINGLE_SHOT.steps_per_epoch(images) == math.ceil(images / batch)


@pytest.mark.parametrize("images", [1, 50, 5000])
def test_heavy_networks_have_small_batches(images: int) -> None:
    assert OTHERS.batch(images) <= 8


@pytest.mark.parametrize("recipe", [SINGLE_SHOT, OTHERS, Recipe(largest_batch=2)])
def test_the_rate_rises_and_falls(recipe: Recipe) -> None:
    rates = [recipe.rate(k / 100, 16) for k in range(101)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(recipe.peak_rate)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[0] < 0.1 * max(rates)
    assert 0 < rates[-1] < 0.01 * max(rates)
    assert recipe.rate(0.5, 4) == pytest.approx(recipe.rate(0.5, 16) / 2)
