"""Scenes: determinism, and truths that hold by construction."""

import numpy as np
import pytest

from noisewright.shapes.prompts import KINDS, kind, sample_prompt, sample_scene
from noisewright.shapes.scene import (
    AREA,
    SHAPES,
    Background,
    Scene,
    SceneObject,
    apart,
    box,
    coverage,
    distance,
    render,
)

GREY = Background((200, 200, 200), (200, 200, 200), 0.0)
AREA_TOLERANCE = 0.02  # of the area: 4x supersampling of a shape of radius 9


def test_same_seed_same_picture():
    def picture(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return render(sample_scene(rng, sample_prompt(rng, "three")))

    assert np.array_equal(picture(5), picture(5))
    assert not np.array_equal(picture(5), picture(6))


@pytest.mark.parametrize("shape", SHAPES)
def test_areas_are_counted_on_the_grid_that_is_named(shape):
    step = 2.6 / 2048
    axis = (np.arange(2048) + 0.5) * step - 1.3
    assert AREA[shape] == (distance(shape, *np.meshgrid(axis, axis)) < 0).sum() * step**2


@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_is_the_area(shape):
    alpha, rows, columns = coverage(SceneObject(shape, "red", "large", 9.0, 31.3, 30.8))
    assert alpha.sum() == pytest.approx(AREA[shape] * 81, rel=AREA_TOLERANCE)
    y, x = np.mgrid[rows, columns] + 0.5
    assert (alpha * x).sum() / alpha.sum() == pytest.approx(31.3, abs=0.1)
    assert (alpha * y).sum() / alpha.sum() == pytest.approx(30.8, abs=0.1)


@pytest.mark.parametrize("name", KINDS)
def test_scene_has_exactly_the_objects_of_its_prompt(name):
    rng = np.random.default_rng(3)
    for _ in range(100):
        prompt = sample_prompt(rng, name)
        assert kind(prompt) == name
        scene = sample_scene(rng, prompt)
        wanted = sorted((g.colour, g.shape) for g in prompt.groups for _ in range(g.count))
        assert sorted((t.colour, t.shape) for t in scene.things) == wanted
        assert all(apart(a, b) for i, a in enumerate(scene.things) for b in scene.things[:i])
        assert all(min(box(t)) > 0 and max(box(t)) < 64 for t in scene.things)


def test_objects_do_not_touch_on_the_picture():
    near = Scene(
        (SceneObject("square", "red", "large", 9, 20, 32),
         SceneObject("square", "red", "large", 9, 20 + 2 * 7.83 + 3, 32)), GREY,
    )
    assert apart(*near.things)
    row = render(near)[32].astype(int)
    background_columns = (np.abs(row - 200).max(axis=1) <= 1).nonzero()[0]
    assert any(28 <= column <= 31 for column in background_columns)
