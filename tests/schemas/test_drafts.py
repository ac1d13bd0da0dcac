import re

import pytest

from noisewright.schemas.drafts import draft_of, read_draft


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("truncate", "truncate,at=0.6"),
        ("truncate,at=.50", "truncate,at=0.5"),
        (" steps , n = 8 ", "steps,n=8"),
        ("truncate,at=0.5+steps,n=8", "steps,n=8+truncate,at=0.5"),
        ("cache", "cache,name=Deep,every=3,depth=1"),
        ("cache,every=2", "cache,name=Deep,every=2,depth=1"),
        ("cache,name=FirstBlockCache,threshold=0.1", "cache,name=FirstBlockCache,threshold=0.1"),
        ("cache,depth=1,every=2", "cache,name=Deep,every=2,depth=1"),
        ("cache,name=DBCache,max_warmup_steps=2,Fn_compute_blocks=1",
         "cache,name=DBCache,Fn_compute_blocks=1,max_warmup_steps=2"),
        ("dtype+size+guidance", "size,by=2+dtype,to=bfloat16+guidance,until=0.5"),
    ],
)
def test_a_draft_has_one_text(given, text):
    found = read_draft(given)
    assert found.text == text
    assert read_draft(text) == found


def test_how_many_are_made_in_full_and_both_ways_is_no_part_of_the_text():
    found = read_draft("truncate,at=0.5,best=5,pilot=12")
    assert (found.text, found.best, found.pilot) == ("truncate,at=0.5", 5, 12)
    assert read_draft("truncate,pilot=0").pilot == 0
    assert (read_draft("steps").best, read_draft("steps").pilot) == (3, 8)


def test_half_the_steps_where_none_is_said():
    assert read_draft("steps").with_steps(25).text == "steps,n=12"
    assert read_draft("steps,n=7").with_steps(25).text == "steps,n=7"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("truncat", "did you mean truncate?"),
        ("", "expected a draft as text"),
        ("truncate+truncate", "got truncate twice"),
        ("truncate,at", "expected truncate,key=value in a draft, got 'at'"),
        ("truncate,at=1", "expected at of a draft as a fraction in (0, 1), got '1'"),
        ("truncate,at=nan", "as a fraction"),
        ("truncate,until=0.5", "argument of draft truncate"),
        ("steps,n=0", "expected n of a draft as a whole number"),
        ("steps,n=1.5", "whole number"),
        ("cache,name=FirstBlok", "did you mean FirstBlockCache?"),
        ("cache,name=FirstBlockCache,every=2", "argument of draft cache"),
        ("cache,every=1", "expected every of cache Deep as a whole number of at least 2, got 1"),
        ("cache,every=inf", "expected every of a cache as a number"),
        ("dtype,to=int8", "to of a draft"),
        ("size,by=1", "expected by of at least 2"),
        ("truncate,at=0.5,at=0.6", "expected each argument of draft truncate once"),
        ("cache,name=DBCache,Fn_compute_blocks=1.5", "expected Fn_compute_blocks of cache DBCache as a whole number"),
        ("cache,name=DBCache,threshold=1", "argument of draft cache"),
        ("none+truncate", "draft"),
        ("truncate,pilot=2", "expected a pilot of at least 4 candidates, or 0, got 2"),
        ("truncate,best=0", "expected best of a draft as a whole number"),
        ("x" * 600, "expected a draft as text"),
    ],
)
def test_what_is_no_draft_is_said_in_one_line(given, says):
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        read_draft(given)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_draft_is_text():
    with pytest.raises(TypeError, match="expected a draft as text"):
        read_draft(3)


def test_no_draft_is_typed_as_none():
    assert draft_of("none") is draft_of(None) is None
    assert draft_of("truncate") == read_draft("truncate")
    with pytest.raises(ValueError, match="draft"):
        draft_of("nome")
