from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from prunepolicy.commands.report.report import KeptUnits, PruneReport
from prunepolicy.commands.report.report_page import headline, report_page
from prunepolicy.commands.report.report_view import less_is_better
from prunepolicy.pruning.measure.intervals import Interval
from prunepolicy.pruning.measure.speedup import Speedup

KEEP = {f"layers.{i}.ffn": tuple(range(32)) for i in (0, 1, 3)}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=y>&amp;\x1b[2J\u202e"
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Reader(HTMLParser):
    """Collects the elements of a page, its text, and what its titles say; tags have to match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.titles: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data
        if self.open[-1:] == ["title"]:
            self.titles.append(data)

    def of_class(self, name: str) -> list[dict[str, str | None]]:
        return [each for _, each in self.elements if name in (each.get("class") or "").split()]


def is_self_contained(text: str) -> Reader:
    """Read a page that loads nothing and runs nothing."""
    read = Reader(text)
    tags = {tag for tag, _ in read.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"}
    for _, attributes in read.elements:
        assert not any(name.startswith("on") or name in ("href", "src", "style") for name in attributes)
    assert not re.search(r"url\(|@import|https?://", re.sub(r">[^<]*<", "><", text))
    policy = next(each for tag, each in read.elements if tag == "meta" and "http-equiv" in each)
    assert "default-src 'none'" in str(policy["content"])
    return read


def test_a_page_is_one_file_that_loads_and_runs_nothing(report: PruneReport) -> None:
    is_self_contained(report_page(report, KEEP))


def test_names_and_texts_from_outside_stay_text(report: PruneReport) -> None:
    origin = replace(report.origin, model=HOSTILE, command=HOSTILE, machine=HOSTILE, decided_by=HOSTILE)
    hostile = replace(
        report,
        origin=origin,
        folder=HOSTILE,
        text=HOSTILE,
        warnings=(HOSTILE,),
        left_behind={HOSTILE: HOSTILE},
        prompts=(HOSTILE,),
        before=replace(report.before, samples=(HOSTILE,)),
        after=replace(report.after, samples=(HOSTILE,)),
    )
    text = report_page(hostile, KEEP)
    read = is_self_contained(text)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert read.text.count("<script>alert(1)</script>\"'><img src=x onerror=y>&amp;") >= 8


def test_numbers_equal_the_reports(report: PruneReport) -> None:
    read = Reader(report_page(report, KEEP))
    for row in less_is_better(report):
        assert f"{row.before} → {row.after}" in read.text, row
        assert f"{row.ratio:.3g}x" in read.text, row
    for words in (report.verdict, report.origin.command, report.origin.fingerprint, "held-out prose"):
        assert words in read.text
    assert "Asked to keep 80.0% of the parameters, kept 80.0%" in read.text
    assert len(read.of_class("bar")) == len(less_is_better(report))


def test_groups_come_in_order_and_nothing_unmeasured_is_shown(report: PruneReport) -> None:
    text = Reader(report_page(report, KEEP)).text.partition("What changed")[2]
    places = [text.index(name) for name in ("Parameters", "KV cache per token", "Prefill (512", "Perplexity")]
    assert places == sorted(places)
    bare = replace(report, after=replace(report.after, score=None, latency={}), speedups={}, proof=None)
    text = Reader(report_page(bare, KEEP)).text
    assert "Perplexity20" not in text
    assert "Its quality was not measured" in text


def test_what_was_not_shown_is_grey_and_has_whiskers(report: PruneReport) -> None:
    unclear = replace(report, speedups=dict.fromkeys(report.speedups, Speedup(1.1, 0.9, 1.3)))
    read = Reader(report_page(replace(unclear, change=Interval(0.1, 0.3)), KEEP))
    assert len(read.of_class("open")) == len(report.speedups)
    assert len(read.of_class("whisker")) == 3 * (len(report.speedups) + 1)
    assert "no difference shown" in headline(unclear)
    assert "times as fast" not in headline(unclear)


def test_every_layer_says_what_went(report: PruneReport) -> None:
    heads = KeptUnits("layers.1.kv_heads", "kv_head", 1, 4, 2)
    keep = {**KEEP, "layers.1.kv_heads": (0, 3)}
    read = Reader(report_page(replace(report, kept=(*report.kept, heads)), keep))
    assert "layer 2: removed" in read.titles
    assert "layer 0: 32 of 64 FFN channels stay, 32 went: 32, 33" in "".join(read.titles)
    assert "layer 1: 2 of 4 KV heads stay, 2 went: 1, 2" in read.titles
    assert len(read.of_class("gone")) == 1


def test_classifiers_show_errors_so_that_less_is_better_throughout(report: PruneReport) -> None:
    images = replace(
        report,
        task="vision",
        images="digits",
        change=Interval(-0.02, -0.01),
        before=replace(report.before, accuracy=0.9, score=None),
        after=replace(report.after, accuracy=0.885, score=None),
    )
    first = less_is_better(images)[0]
    assert first.name == "Error rate on digits"
    assert first.ratio == pytest.approx(1.15)
    assert first.interval is not None
    assert (first.interval.low, first.interval.high) == pytest.approx((1.1, 1.2))
    assert "10.00% → 11.50%" in Reader(report_page(images, KEEP)).text


def test_notebooks_show_the_page_in_a_frame(report: PruneReport) -> None:
    hostile = replace(report, warnings=(HOSTILE,))
    ((tag, attributes),) = Reader(hostile._repr_html_()).elements
    assert tag == "iframe"
    assert attributes["sandbox"] == ""
    assert attributes["srcdoc"] == report_page(hostile, {})


def test_the_same_report_gives_the_same_page(report: PruneReport) -> None:
    assert report_page(report, KEEP) == report_page(PruneReport.from_json(report.to_json()), KEEP)
