"""Reports as one HTML file each: text is escaped by construction, nothing runs, nothing is loaded.

Pages are trees of elements, so that no string from outside can become markup; the policy at their top forbids
browsers to load anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, tostring

from prunepolicy.pruning.io.console import harmless

EMPTY = "(nothing that can be shown)"
NOTHING_LOADED = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = (
    """
:root { color-scheme: light dark; --back: #ffffff; --text: #1c1c1c; --soft: #5c6166; --line: #dcdfe3;
  --panel: #f5f6f8; --better: #0072b2; --worse: #c55a00; --unclear: #8d949b;
  --s0: #0072b2; --s1: #c55a00; --s2: #00805c; --s3: #a8447f; --s4: #2b8cc4; --s5: #8a6d00; }
@media (prefers-color-scheme: dark) { :root { --back: #15171a; --text: #e6e8ea; --soft: #a3a9b0;
  --line: #3a3f45; --panel: #1f2226; --better: #56b4e9; --worse: #e69f00; --unclear: #858c94;
  --s0: #56b4e9; --s1: #e69f00; --s2: #2fc79a; --s3: #de94c0; --s4: #8fd0f5; --s5: #d8c25a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.2rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 0.3rem; line-height: 1.25; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 0.6rem; }
h3 { font-size: 0.95rem; margin: 1rem 0 0.2rem; color: var(--soft); }
p { margin: 0.4rem 0; }
.verdict { font-size: 1.15rem; border-left: 4px solid var(--better); padding: 0.3rem 0 0.3rem 0.8rem; }
.verdict.bad { border-color: var(--worse); }
.soft, figcaption { color: var(--soft); font-size: 0.9rem; }
pre { background: var(--panel); padding: 0.6rem 0.8rem; margin: 0.4rem 0; white-space: pre-wrap;
  font: 0.85rem/1.5 ui-monospace, monospace; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { text-align: left; padding: 0.2rem 1rem 0.2rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
table { overflow-wrap: normal; }
td + td { font-variant-numeric: tabular-nums; }
summary { cursor: pointer; color: var(--soft); }
figure { margin: 0.8rem 0; }
.changes { display: grid; grid-template-columns: 12rem 12rem 15rem 1fr; gap: 0.15rem 1rem; }
.change { display: contents; }
.change .ratio { font-weight: 600; }
.unclear { color: var(--unclear); }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1.5rem; }
.answer { white-space: pre-wrap; background: var(--panel); padding: 0.5rem 0.8rem; margin: 0; }
svg { display: block; overflow: visible; }
svg.bar { width: 100%; height: 1.5rem; overflow: hidden; }
svg.strip { width: 100%; height: 2.2rem; }
svg.chart { width: calc(100% - 5rem); height: 17rem; margin: 0.6rem 1rem 3rem 4rem; }
svg text { font-size: 12px; fill: var(--soft); }
.grid, .frame { stroke: var(--line); }
.one { stroke: var(--text); }
.better { fill: var(--better); stroke: none; } .worse { fill: var(--worse); stroke: none; }
.open { fill: var(--unclear); stroke: none; }
.whisker { stroke: var(--text); stroke-width: 1.5; }
.empty { fill: var(--line); } .kept { fill: var(--s0); }
.gone { fill: var(--back); stroke: var(--worse); stroke-dasharray: 3 2; }
.legend { display: flex; flex-wrap: wrap; gap: 0.1rem 1.2rem; font-size: 0.9rem; }
.swatch { width: 1.6rem; height: 0.8rem; display: inline-block; margin-right: 0.4rem; overflow: visible; }
.series { fill: none; stroke-width: 2; } .dots { stroke: var(--back); }
.reference { stroke-width: 2; stroke-dasharray: 6 4; }
.chosen { fill: none; stroke: var(--text); stroke-width: 2; }
"""
    + "".join(
        f".series.s{number}, .reference.s{number} {{ stroke: var(--s{number}); }} "
        f".dots.s{number} {{ fill: var(--s{number}); }}\n"
        for number in range(6)
    )
    + """
@media (max-width: 45rem) {
  main { padding: 0.8rem; }
  .changes { display: block; }
  .change { display: grid; grid-template-columns: 1fr auto; gap: 0 0.8rem; padding: 0.35rem 0;
    border-bottom: 1px solid var(--line); }
  .change .ratio { grid-column: 1; } .change svg.bar { grid-column: 1 / -1; }
  .sides { grid-template-columns: 1fr; }
  svg.chart { width: calc(100% - 3.6rem); height: 14rem; margin: 0.6rem 0.6rem 3rem 3rem; }
}
"""
)


def element(name: str, /, *children: Element | str | None, **attributes: object) -> Element:
    """Return an HTML or SVG element: strings among its children are text, whatever they contain.

    Args:
        attributes: `class_` stands for class, `stroke_width` for stroke-width.
    """
    made = Element(
        name, {key.rstrip("_").replace("_", "-"): _clean(each) for key, each in attributes.items()}
    )
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif child and len(made):
            made[-1].tail = (made[-1].tail or "") + _clean(child)
        elif child:
            made.text = (made.text or "") + _clean(child)
    return made


def _clean(value: object) -> str:
    return harmless(str(value))


def page(title: str, *sections: Element | None) -> str:
    """Return a whole HTML document."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=NOTHING_LOADED),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", STYLE),
    )
    body = element("body", element("main", *sections))
    return "<!DOCTYPE html>\n" + tostring(element("html", head, body, lang="en"), "unicode", "html") + "\n"


def framed(document: str) -> str:
    """Return a page for a notebook's cell: in a frame, so that neither's style reaches the other."""
    frame = element("iframe", srcdoc=document, sandbox="", style="width: 100%; height: 48rem; border: 0")
    return tostring(frame, "unicode", "html")


def section(heading: str, *children: Element | str | None) -> Element | None:
    """Return a part of a page under its heading; None where there is nothing to show."""
    if not any(child is not None and child != "" for child in children):
        return None
    return element("section", element("h2", heading), *children)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Element:
    """Return a table that scrolls by itself where the screen is narrow."""
    top = element("tr", *(element("th", cell) for cell in head))
    body = (element("tr", *(element("td", str(cell)) for cell in row)) for row in rows)
    return element("div", element("table", top, *body), class_="wide")


def commands(lines: Iterable[tuple[str, str]]) -> list[Element]:
    """Return command lines to be copied, each under what it does."""
    return [element("div", element("h3", what), element("pre", line)) for what, line in lines]


def answers(heading: str, sides: Sequence[tuple[str, str]]) -> Element:
    """Return texts beside each other, each under its name."""
    columns = (
        element("div", element("h3", name), element("p", text.strip() or EMPTY, class_="answer"))
        for name, text in sides
    )
    return element(
        "article", element("p", element("strong", heading)), element("div", *columns, class_="sides")
    )
