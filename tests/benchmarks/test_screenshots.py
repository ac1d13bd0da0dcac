"""The pictures of the page: those that the script makes are there, small, and the ones that the documents show."""

import re
import sys
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import screenshots

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MADE = {screenshots.path(one) for one in screenshots.SHOTS}


def shown(page):
    """The pictures of a document, each with its alternative text."""
    found = re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [(text, (page.parent / place).resolve()) for text, place in found if "://" not in place]


def test_the_script_s_pictures_are_there_and_small():
    sizes = [one.stat().st_size for one in MADE]
    assert len(sizes) == len(screenshots.SHOTS)
    assert max(sizes) <= screenshots.MOST_BYTES
    assert sum(sizes) <= screenshots.MOST_BYTES_TOGETHER


@pytest.mark.parametrize("shot", screenshots.SHOTS, ids=lambda one: one.name)
def test_a_picture_is_of_its_window(shot):
    with Image.open(screenshots.path(shot)) as picture:
        picture.load()
        wide, high = (round(one * screenshots.SCALE) for one in shot.size)
        assert picture.width == wide
        assert high / 3 < picture.height <= high


@pytest.mark.parametrize("page", PAGES, ids=lambda one: one.name)
def test_a_document_s_pictures_are_there_and_said_in_words(page):
    for text, place in shown(page):
        assert place.is_file(), place
        assert len(text.split()) >= 5, place  # who does not see it is told what it shows


def test_the_documents_show_what_the_script_makes_and_no_other_picture_of_the_page():
    used = {place for page in PAGES for _, place in shown(page)}
    assert {one for one in used if one.name.startswith("page-")} == MADE
    assert {one for one in screenshots.IMAGES.iterdir() if one.name.startswith("page-")} == MADE


def test_readme_shows_one_of_them_a_live_run():
    found = [place for _, place in shown(ROOT / "README.md") if place in MADE]
    assert found == [screenshots.path(one) for one in screenshots.SHOTS if one.live][:1]
