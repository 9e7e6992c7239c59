"""A page needs nothing but itself, and says what it was given."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from sparkneuro.report.html import build_page, format_value, link, make_sortable, mark, paragraph, picture, table

PNG, SVG = b"\x89PNG and more", b"<?xml version='1.0'?><svg/>"


class Elements(HTMLParser):
    """Collects start tags with their attributes, and checks that tags are balanced."""

    def __init__(self, page):
        super().__init__()
        self.found, self._open = [], []
        self.feed(page)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag


def make_page(numbers=None):
    """A page with one of everything."""
    parts = [paragraph("a < b & c"), picture(PNG, 'a "map"', "A map."), picture(SVG, "a chart", "A chart.")]
    sections = [("First things", parts), ("Numbers: a table", [table(("name", "n"), [("x", 1234), ("<y>", None)])])]
    return build_page("A <title>", "below it", sections, numbers or {})


def test_nothing_is_loaded_from_elsewhere():
    elements = Elements(make_page()).found
    sources = [attributes["src"] for _, attributes in elements if "src" in attributes]
    assert len(sources) == 2
    assert [source.partition(";")[0] for source in sources] == ["data:image/png", "data:image/svg+xml"]
    assert all(attributes["href"].startswith("#") for _, attributes in elements if "href" in attributes)
    assert not any(tag in ("link", "iframe", "object") for tag, _ in elements)
    assert not re.search(r"https?://|url\(|@import", make_page())


def test_every_section_can_be_reached_from_the_top():
    elements = Elements(make_page()).found
    targets = [attributes["href"][1:] for tag, attributes in elements if tag == "a"]
    sections = [attributes["id"] for tag, attributes in elements if tag == "section"]
    assert targets == sections == ["first-things", "numbers-a-table"]


def test_text_is_escaped_everywhere():
    page = make_page()
    assert "a &lt; b &amp; c" in page
    assert "A &lt;title&gt;" in page
    assert "&lt;y&gt;" in page
    assert 'alt="a &quot;map&quot;"' in page


def test_every_picture_says_what_it_shows():
    assert all(attributes["alt"] for tag, attributes in Elements(make_page()).found if tag == "img")


def test_numbers_can_be_read_back_by_a_program():
    numbers = {"errors": np.array([0.25, np.nan]), "path": "</script>", "n": np.int64(3), "infinite": float("inf")}
    block = re.search(r'<script type="application/json" id="report">(.*?)</script>', make_page(numbers)).group(1)
    assert json.loads(block) == {"errors": [0.25, None], "path": "</script>", "n": 3, "infinite": None}


def test_columns_of_numbers_stand_to_the_right():
    html = table(("label", "empty", "count"), [("01", None, 5), ("02", None, None)])
    assert html.count('<th class="number">') == 1
    assert html.count('<td class="number">') == 2


@pytest.mark.parametrize(
    ("value", "text"), [(0.00012345, "0.000123"), (99.96, "100"), (1234567, "1,234,567"), (float("nan"), "–"), (True, "True")]
)
def test_values_are_written_for_people(value, text):
    assert format_value(value) == text


def test_links_and_marks_stand_in_cells_as_they_are_and_numbers_beside_them_stay_right():
    html = table(("run", "FD"), [(link("a & b", "x.html#y"), mark("0.9 high")), ("c <", 0.1)])
    assert '<a href="x.html#y">a &amp; b</a>' in html and "<td>c &lt;</td>" in html
    assert '<td class="number"><strong class="outlier">0.9 high</strong></td>' in html


def test_a_table_that_can_be_sorted_brings_its_script():
    html = make_sortable(table(("n",), [(3,), (1,)]))
    assert '<table class="sortable">' in html and html.endswith("</script>\n") and "http" not in html
