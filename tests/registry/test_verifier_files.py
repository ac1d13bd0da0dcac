"""Verifiers from a file of one's own: functions and classes, their options, and what goes wrong with them."""

import json
import pickle

import pytest
import torch

from commands import done, refused
from noisewright import registry
from noisewright.errors import VerifierFailed
from noisewright.registry.verifiers import from_file
from noisewright.verifiers.protocol import is_lasting, let_check, score
from noisewright.verifiers.timeout import Timed

IMAGES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))

SOURCE = '''
import torch

MADE = []


def warmth(images, prompt, factor: float = 1.0, *, channel=0):
    return (factor * images[:, channel].mean((1, 2))).tolist()


def needy(images, prompt, level: int):
    return [float(level)] * len(images)


class Warmth:
    """Has no name and no fingerprint of its own."""

    def __init__(self, factor: float = 1, invert: bool = False):
        MADE.append(factor)
        self.sign = -factor if invert else factor

    def __call__(self, images, prompt):
        return (self.sign * images.mean((1, 2, 3))).tolist()


class Named:
    name, fingerprint = "its-own", "1"

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, images, prompt):
        return [self.weight] * len(images)

    def check(self, prompt):
        if prompt == "bad":
            raise ValueError("expected a good prompt, got bad")


class Broken:
    def __init__(self, factor: int = 1):
        raise RuntimeError("no room")


class Silent:
    """Is called by nobody."""


made = Named(2.0)
number = 3
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize(
    ("text", "file", "name", "options"),
    [
        ("a.py:f", "a.py", "f", {}),
        ("a/b.py:f,timeout=5", "a/b.py", "f", {"timeout": "5"}),
        ("a.py:C,url=http://h:1/x,w=1,2", "a.py", "C", {"url": "http://h:1/x", "w": "1,2"}),
        ("odd.py:dir/b.py:f", "odd.py:dir/b.py", "f", {}),
        ("C:\\\\x\\\\a.py:f", "C:\\\\x\\\\a.py", "f", {}),
    ],
)
def test_a_text_is_read_and_written_again(text, file, name, options):
    one = from_file(text)
    assert (one.file, one.name, one.options) == (file, name, options)
    assert one.text == text


@pytest.mark.parametrize("text", ["clip", "clip:dir.py/model", "vlm:http://h/v1#m", "http://h/score.php"])
def test_other_names_are_none_of_a_file(text):
    assert from_file(text) is None


def test_a_function_takes_its_own_keywords_as_options(file):
    mean = IMAGES[:, 0].mean((1, 2))
    assert score(registry.make_verifier(f"{file}:warmth,factor=3"), IMAGES, "") == pytest.approx((3 * mean).tolist())
    blue = registry.make_verifier(f"{file}:warmth,channel=2,name=blue,timeout=60")
    assert isinstance(blue, Timed)
    assert blue.name == registry.score_name(f"{file}:warmth,channel=2,name=blue,timeout=60") == "blue"
    assert score(blue, IMAGES, "") == pytest.approx(IMAGES[:, 2].mean((1, 2)).tolist())


def test_a_class_is_made_with_its_options_once(file):
    one = registry.make_verifier(f"{file}:Warmth,factor=3,invert=yes")
    assert one.name == "Warmth"
    for _ in range(3):
        assert score(one, IMAGES, "") == pytest.approx((-3 * IMAGES.mean((1, 2, 3))).tolist())
    assert type(one.function).__call__.__globals__["MADE"] == [3.0]
    assert not is_lasting(one)


def test_options_are_part_of_what_a_verifier_is(file):
    def prints(*options):
        texts = [",".join([f"{file}:{name}", *options]) for name in ("warmth", "Warmth")]
        return [registry.make_verifier(text).fingerprint for text in texts]

    plain, same, other = prints(), prints(), prints("factor=3")
    assert plain == same
    assert all(one != two for one, two in zip(plain, other, strict=True))
    own = [registry.make_verifier(f"{file}:Named{more}").fingerprint for more in ("", ",weight=2", ",weight=3")]
    assert own[0] == "1"
    assert len(set(own)) == 3


def test_a_class_changes_with_its_source_and_not_with_the_file_around_it(file):
    before = registry.make_verifier(f"{file}:Warmth").fingerprint
    file.write_text(SOURCE + "\n# a word\n")
    assert registry.make_verifier(f"{file}:Warmth").fingerprint == before
    file.write_text(SOURCE.replace("-factor if invert", "-2 * factor if invert"))
    assert registry.make_verifier(f"{file}:Warmth").fingerprint != before


def test_a_class_with_its_own_name_keeps_it_and_its_check(file):
    one = registry.make_verifier(f"{file}:Named")
    assert one.name == "its-own"
    with pytest.raises(ValueError, match="expected a good prompt"):
        let_check(one, "bad")
    assert registry.make_verifier(f"{file}:Named,name=another").name == "another"
    assert registry.make_verifier(f"{file}:made").weight == 2.0


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("warmth,facter=3", "unknown option of verifier warmth 'facter': .* did you mean factor"),
        ("Warmth,invrt=1", "unknown option of verifier Warmth 'invrt': .* did you mean invert"),
        ("warmth,factor=hot", "option factor of verifier warmth: Input should be a valid number"),
        ("Warmth,invert=perhaps", "option invert of verifier Warmth: Input should be a valid boolean"),
        ("warmth,channel=red", "option channel of verifier warmth: Input should be a valid integer"),
        ("needy", r"expected option level of verifier needy \(needy,level=VALUE\), got none"),
        ("Broken", r"verifier Broken raised RuntimeError: no room \(mine.py, line \d+\)"),
        ("Silent", "expected a class with __call__"),
        ("made,weight=3", "unknown option of the object made 'weight'"),
        ("number", "expected a function or a class as number"),
        ("Warmht", "did you mean Warmth"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(file, what, says):
    with pytest.raises(ValueError, match=says) as caught:
        registry.make_verifier(f"{file}:{what}")
    assert "\n" not in str(caught.value)


# The first call

TRIED = {
    "unnamed": ("def f(images, prompt):\n    return colour(images)\n", r"NameError: .* \(mine.py, line 2\)"),
    "misspelt": ("def f(images, prompt):\n    return images.maen()\n", r"AttributeError: .* \(mine.py, line 2\)"),
    "too few": ("def f(images):\n    return [0]\n", "TypeError: f.. takes 1 positional argument"),
    "one for all": ("def f(images, prompt):\n    return [float(images.mean())]\n", "expected 2 scores, got 1"),
    "nothing": ("def f(images, prompt):\n    images.mean()\n", "expected 2 "),
    "absent": ("def f(images, prompt):\n    import torch.nothing\n    return [0, 0]\n", "ModuleNotFoundError"),
    "below": (
        "def inner(images):\n    return images.maen()\n\n\ndef f(images, prompt):\n    return inner(images)\n",
        r"AttributeError: .* \(mine.py, line 2\)",
    ),
}


@pytest.mark.parametrize("name", TRIED)
def test_a_function_that_fails_on_any_image_is_said_before_there_is_one(name, tmp_path):
    source, says = TRIED[name]
    (tmp_path / "mine.py").write_text(source)
    one = registry.make_verifier(f"{tmp_path}/mine.py:f")
    with pytest.raises(VerifierFailed, match=f"^verifier f.*{says}.*in a first call on grey images"):
        let_check(one, "x")


LEFT_ALONE = {
    "works": "def f(images, prompt):\n    return images.mean((1, 2, 3))\n",
    "size": "def f(images, prompt):\n    assert images.shape[-1] > 64\n    return images.mean((1, 2, 3))\n",
    "value": "def f(images, prompt):\n    raise ValueError('no face')\n",
    "no face": "def f(images, prompt):\n    return [None for one in images]\n",
    "none inside": "def f(images, prompt):\n    return [None[0] for one in images]\n",
    "nan": "def f(images, prompt):\n    return [float('nan')] * len(images)\n",
    "said": "def f(images, prompt):\n    return images.maen()\n\n\nf.first_call = False\n",
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_real_images_must_decide_is_left_to_them(name, tmp_path):
    (tmp_path / "mine.py").write_text(LEFT_ALONE[name])
    let_check(registry.make_verifier(f"{tmp_path}/mine.py:f"), "x")


STATEFUL = {
    "a list": "SEEN = []\n\n\ndef f(images, prompt):\n    SEEN.append(1)\n    return SEEN.missing\n",
    "a global": "n = 0\n\n\ndef f(images, prompt):\n    global n\n    n += 1\n    return [n] * len(images)\n",
    "its attribute": "def f(images, prompt):\n    f.n = 1\n    return [f.n] * len(images)\n",
    "a file": "def f(images, prompt):\n    open(MARK, 'w').close()\n    return [0] * len(images)\n",
    "a server": "import urllib.request\n\n\ndef f(images, prompt):\n    urllib.request.urlopen('http://localhost:1')\n",
    "a server within": "def f(images, prompt):\n    import socket\n    socket.create_connection(('localhost', 1))\n",
    "chance": "import torch\n\n\ndef f(images, prompt):\n    return torch.rand(len(images))\n",
    "an object": "class C:\n    n = 0\n\n\nc = C()\n\n\ndef f(images, prompt):\n    return c.missing\n",
    "another's": "from json import dumps\n\n\ndef f(images, prompt):\n    return dumps.missing\n",
    "a cache": (
        "from functools import cache\n\n\n@cache\ndef model():\n    return 1\n\n\n"
        "def f(images, prompt):\n    return model().missing\n"
    ),
    "a default": "def f(images, prompt, seen=[]):\n    seen.append(1)\n    return seen.missing\n",
}


@pytest.mark.parametrize("name", STATEFUL)
def test_a_function_that_a_call_may_spoil_or_that_may_cost_is_not_tried(name, tmp_path):
    mark = tmp_path / "mark"
    (tmp_path / "mine.py").write_text(f"MARK = {str(mark)!r}\n{STATEFUL[name]}")
    state = torch.get_rng_state()
    let_check(registry.make_verifier(f"{tmp_path}/mine.py:f"), "x")
    assert not mark.exists()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_the_first_call_leaves_no_trace(tmp_path):
    """Neither a score nor an image of it is anywhere: the function sees what it would have seen, and no more."""
    import noisewright as nw
    from noisewright.samplers.mixture import MixtureSampler

    def f(images, prompt):
        return images.mean((1, 2, 3)).tolist()

    result = nw.search(MixtureSampler(steps=2), "a mixture", verifier=f, budget="2 images", out=tmp_path / "run")
    assert result.images == 2
    assert "grey" not in (tmp_path / "run" / "journal.jsonl").read_text()


@pytest.mark.slow
def test_before_any_image_on_the_command_line(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("def f(images, prompt, factor: float = 1):\n    return images.maen() * factor\n")
    verifier = f"{tmp_path}/mine.py:f,factor=2"
    command = ["generate", "one red circle", "--verifier", verifier, "--steps", "2", "--budget", "2 images"]
    command += ["--out", tmp_path / "run"]
    refused(capsys, command, "verifier f raised AttributeError", "(mine.py, line 2)", code=1)
    assert not (tmp_path / "run" / "images").exists()
    mended = "def f(images, prompt, factor: float = 1):\n    count = len(images)\n    return [factor] * count\n"
    (tmp_path / "mine.py").write_text(mended)  # of another length: within a second Python goes by it
    done(capsys, command)
    request = json.loads((tmp_path / "run" / "run.json").read_text())["request"]
    assert request["verifier"] == [verifier]
    again = ["resume", tmp_path / "run", "--budget", "3 images", "--json"]
    refused(capsys, again, "--trust")
    assert json.loads(done(capsys, [*again, "--trust"]))["best"]["scores"]["f"] == 2.0


SAME_NAME = '''from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Level:
    value: float = {value}

    def __call__(self, images, prompt):
        {body}


def f(images, prompt):
    return [{value}] * len(images)
'''


def test_two_files_of_one_name_are_two(tmp_path):
    functions, objects = [], []
    for value, body in ((1.0, "return [self.value] * len(images)"), (2.0, "raise KeyError(prompt)")):
        path = tmp_path / f"of{value:g}" / "mine.py"
        path.parent.mkdir()
        path.write_text(SAME_NAME.format(value=value, body=body))
        functions.append(registry.make_verifier(f"{path}:f"))
        objects.append(registry.make_verifier(f"{path}:Level"))
    assert [one(IMAGES, "x") for one in functions] == [[1.0] * 3, [2.0] * 3]
    assert len({one.fingerprint for one in (*functions, *objects)}) == 4
    assert [pickle.loads(pickle.dumps(one)).function.value for one in objects] == [1.0, 2.0]
    assert score(objects[0], IMAGES, "x") == [1.0] * 3
    with pytest.raises(VerifierFailed, match=r"KeyError: .?'x'.? \(mine\.py, line 11\)"):
        score(objects[1], IMAGES, "x")


def test_a_file_that_was_changed_is_read_anew(tmp_path):
    path = tmp_path / "mine.py"
    prints = set()
    for value in (1.0, 22.0):
        path.write_text(SAME_NAME.format(value=value, body="return [self.value] * len(images)"))
        one = registry.make_verifier(f"{path}:Level")
        assert score(one, IMAGES, "x") == [value] * 3
        prints.add(one.fingerprint)
        assert pickle.loads(pickle.dumps(one)).function.value == value
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Warmth,factor", "Warmth,OPTION=VALUE as options of a verifier, got 'factor'"),
        ("Warmth,factor,invert=1", "got 'factor'"),
        ("warmth,,", "got ','"),
        ("Warmth,factor=2,factor=3", "expected one factor=, got several"),
        ("Warmth,name=", "name as a line"),
        ("Warmth,name=a\nb", "name as a line"),
        ("warmth,name= a", "name as a line"),
        ("Named,name=" + "x" * 501, "at most 500 characters"),
        ("Fixed,name=mine", "which keeps its own"),
    ],
)
def test_options_that_would_be_passed_over_are_refused(text, says, tmp_path):
    more = "\nclass Fixed(Named):\n    name = property(lambda self: 'fixed')\n"
    (tmp_path / "mine.py").write_text(SOURCE + more)
    with pytest.raises(ValueError, match=r"\Aexpected [^\n]*\Z") as caught:
        registry.make_verifier(f"{tmp_path / 'mine.py'}:{text}")
    assert says in str(caught.value)


def test_a_verifier_without_options_says_so():
    with pytest.raises(ValueError, match="verifier brightness takes no options, got 'nme'"):
        registry.make_verifier("brightness:nme=x")
    with pytest.raises(ValueError, match="expected one model=, got several"):
        registry.make_verifier("clip:model=a,model=b")
