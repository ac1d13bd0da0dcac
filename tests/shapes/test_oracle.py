"""The oracle: it reads what was drawn, and fails what is wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from noisewright.shapes.oracle import Grade, Reading, grade, read
from noisewright.shapes.prompts import KINDS, parse, sample_prompt, sample_scene
from noisewright.shapes.scene import Background, Scene, SceneObject, render

POSITION_TOLERANCE_PX = 1.0  # anti-aliasing and 8-bit colours move a centroid by less than a pixel
GREY = Background((205, 208, 203), (190, 193, 188), 0.7)
RED = SceneObject("circle", "red", "large", 9.0, 18, 30)
BLUE = SceneObject("square", "blue", "small", 5.6, 46, 32)
PROMPT = "a large red circle left of a small blue square"


def picture(*things: SceneObject) -> np.ndarray:
    return render(Scene(things, GREY))


def graded(image: object, prompt: str = PROMPT) -> Grade:
    return grade(image, prompt)[0]


def same(reading: Reading, scene: Scene) -> bool:
    wanted = sorted(scene.things, key=lambda t: t.x)
    found = sorted(reading.things, key=lambda t: t.x)
    return len(wanted) == len(found) and all(
        (a.shape, a.colour, a.size) == (b.shape, b.colour, b.size)
        and np.hypot(a.x - b.x, a.y - b.y) <= POSITION_TOLERANCE_PX
        for a, b in zip(wanted, found, strict=True)
    )


@pytest.mark.slow
def test_reads_what_was_drawn():
    rng = np.random.default_rng(8)
    prompts = [sample_prompt(rng, KINDS[i % 5]) for i in range(300)]
    scenes = [sample_scene(rng, prompt) for prompt in prompts]
    readings = read(np.stack([render(scene) for scene in scenes]))
    assert np.mean([same(r, s) for r, s in zip(readings, scenes, strict=True)]) >= 0.99
    grades = [grade(render(s), p)[0] for s, p in zip(scenes[:50], prompts[:50], strict=True)]
    assert all(g.right and g.score == 1 for g in grades)


WRONG = {
    "colour": picture(replace(RED, colour="pink"), BLUE),
    "shape": picture(replace(RED, shape="star"), BLUE),
    "size": picture(replace(RED, size="small", radius=5.5), BLUE),
    "binding": picture(replace(RED, colour="blue"), replace(BLUE, colour="red")),
    "relation": picture(replace(RED, x=46.0), replace(BLUE, x=14.0)),
    "no clear relation": picture(replace(RED, x=32.0, y=14), replace(BLUE, x=32.0, y=45)),
    "missing": picture(RED),
    "extra": picture(RED, BLUE, SceneObject("star", "green", "small", 5.5, 32, 54)),
    "twice": picture(RED, replace(RED, x=40.0, y=52), replace(BLUE, y=14)),
    "debris": picture(RED, BLUE, SceneObject("circle", "green", "small", 2.2, 32, 54)),
    "malformed": np.where((np.mgrid[:64, :64][1] < 18)[:, :, None], picture(BLUE), picture(RED, BLUE)),  # half a circle
    "blank": picture(),
    "black": np.zeros((64, 64, 3), np.uint8),
    "one colour": np.full((64, 64, 3), (220, 30, 42), np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8),
}


@pytest.mark.parametrize("name", WRONG)
def test_fails_what_is_wrong(name):
    assert graded(picture(RED, BLUE)).right
    found = graded(WRONG[name])
    assert not found.right
    assert 0 <= found.score < 1


def test_score_falls_with_each_mistake():
    right = graded(picture(RED, BLUE)).score
    one = graded(WRONG["relation"]).score
    two = graded(picture(replace(RED, x=46.0, colour="pink"), replace(BLUE, x=14.0))).score
    none = graded(WRONG["blank"]).score
    assert 1 == right > one > two > none == 0


@pytest.mark.parametrize(
    ("prompt", "aspect"),
    [("two red circles and a blue square", "count"), ("a large red circle and a large blue square", "sizes")],
)
def test_aspects_name_what_is_wrong(prompt, aspect):
    found = graded(picture(RED, BLUE), prompt)
    assert not found.right
    assert found.aspects[aspect] < 1


def test_what_a_prompt_leaves_open_is_not_graded():
    found = graded(picture(RED, BLUE), "a blue square and a red circle")
    assert found.right
    assert "sizes" not in found.aspects
    assert "relation" not in found.aspects


def test_takes_pictures_in_any_form():
    array = picture(RED, BLUE)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    big = Image.fromarray(array).resize((256, 256), Image.Resampling.BICUBIC)
    for form in (array, array[None], array / 255.0, tensor, tensor[None] / 255, Image.fromarray(array), [big, array]):
        assert all(g.right for g in grade(form, parse(PROMPT)))
    with pytest.raises(ValueError, match="expected pictures"):
        read(torch.zeros(2, 4, 16, 16))
    assert read([]) == []


def test_a_picture_is_read_alike_alone_and_in_a_batch():
    batch = np.stack(list(WRONG.values()))
    for i, reading in enumerate(read(batch)):
        alone = read(batch[i])[0]
        assert [(t.shape, t.colour, t.size) for t in alone.things] == [
            (t.shape, t.colour, t.size) for t in reading.things
        ]
        assert len(alone.malformed) == len(reading.malformed)
