from __future__ import annotations

import math
from xml.etree.ElementTree import Element

import pytest

from prunepolicy.agents.runtime.html_page import element, page, section
from prunepolicy.agents.runtime.svg_charts import Cell, Chart, Series, line_chart, ratio_bar, strip


def labels(drawn: Element) -> list[str]:
    return [each.text or "" for each in drawn.iter("text")]


@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [
        ((1.0, 1.0), False),
        ((1.2341, 1.2346), False),
        ((0.0, 3e7), False),
        ((20.0, 41.0), True),
        ((2.0, 1e6), True),
    ],
)
def test_ticks_are_the_numbers_that_they_stand_for(values: tuple[float, float], logarithmic: bool) -> None:
    drawn = line_chart(Chart("", "", [Series("s", list(enumerate(values)))], logarithmic=logarithmic))
    scaled = [each for each in drawn.iter("text") if each.get("text-anchor") == "end"]
    written = [float((each.text or "").replace(",", "")) for each in scaled]
    assert len(set(written)) == len(written) >= 2
    heights = [100 - float(str(each.get("y")).rstrip("%")) for each in scaled]
    of = math.log if logarithmic else float
    slope = (heights[-1] - heights[0]) / (of(written[-1]) - of(written[0]))
    for value, height in zip(written, heights, strict=True):
        assert heights[0] + slope * (of(value) - of(written[0])) == pytest.approx(height, abs=0.3)


def test_a_chart_shows_what_has_to_be_beaten_and_marks_the_chosen_point() -> None:
    chart = Chart(
        "size", "loss", [Series("a", [(0, 1.0), (1, 2.0)], ["first", "last"])], {"rival": 1.5}, (1, 2.0)
    )
    drawn = line_chart(chart)
    assert {each.text for each in drawn.iter("title")} == {"rival", "first", "last"}
    assert "rival: 1.5" in "".join(drawn.itertext())
    assert sum(each.get("class") == "chosen" for each in drawn.iter("circle")) == 1
    assert "size" in labels(drawn)


def test_values_without_a_place_are_left_out() -> None:
    drawn = line_chart(Chart("", "", [Series("a", [(0, 1.0), (1, math.inf), (2, 3.0)])], {"none": math.nan}))
    places = [value for each in drawn.iter() for value in each.attrib.values()]
    assert not any(value.startswith(("nan", "inf", "-inf")) for value in places)
    assert sum(1 for _ in drawn.iter("circle")) == 2


def test_bars_end_at_their_edges() -> None:
    for ratio, width in ((4.0, 49), (1000.0, 49), (math.inf, 49), (2.0, 24.5), (1.0, 0), (0.25, 49)):
        bar = next(ratio_bar(ratio, None, "worse").iter("rect"))
        assert float(str(bar.get("width")).rstrip("%")) == pytest.approx(width, abs=0.01)


def test_cells_are_filled_as_far_as_their_units_stay() -> None:
    drawn = strip([Cell(0.25, "a"), Cell(None, "gone"), Cell(1.0, "b")], "FFN channels")
    assert [each.get("height") for each in drawn.iter("rect") if each.get("class") == "kept"] == [
        "25.00%",
        "100.00%",
    ]
    assert [each.text for each in drawn.iter("title")] == ["a", "gone", "b"]


def test_text_is_text_wherever_it_stands() -> None:
    made = page("<b>&", section("h", element("p", "a<i>", element("b", "c"), "</p>", title='"><x>')))
    assert "<title>&lt;b&gt;&amp;</title>" in made
    assert '<p title="&quot;&gt;<x&gt;">a&lt;i&gt;<b>c</b>&lt;/p&gt;</p>' in made
    assert section("empty", None, "") is None
