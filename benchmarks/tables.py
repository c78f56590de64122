"""Write docs/results.md and its figure from benchmarks/results/*.json; nothing is typed by hand."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from prunepolicy.agents.plots import FrontierPoint, plot_frontier
from prunepolicy.pruning.atomic import write_text

RESULTS, DOCS = Path("benchmarks/results"), Path("docs")
SCORES = {
    "prose": "prose perplexity",
    "code": "code perplexity",
    "piqa_acc": "PIQA acc",
    "piqa_acc_norm": "PIQA acc_norm",
    "blimp_acc": "BLiMP acc",
}


SHOWN = (
    "random",
    "activation",
    "fisher",
    "fisher x activation",
    "default: fisher x activation, ridge",
    "default, per layer: fisher, ridge",
)
"""The methods in README's table, the first one chance."""
MARKS = "<!-- quality: written by make docs -->", "<!-- end -->"


def main() -> None:
    """Regenerate everything that the results say."""
    parts = ["# Results\n\nEvery number here is written by `make docs` from `benchmarks/results/`.\n"]
    for name, section in (("quality", quality), ("latency", latency), ("startup", startup)):
        file = RESULTS / f"{name}.json"
        if file.is_file():
            parts.append(section(json.loads(file.read_text(encoding="utf-8"))))
    write_readme(json.loads((RESULTS / "quality.json").read_text(encoding="utf-8"))["rows"])
    files = [file for file in sorted(RESULTS.glob("streaming*.json"))]
    if files:
        parts.append(streaming([json.loads(file.read_text(encoding="utf-8")) for file in files]))
    write_text(DOCS / "results.md", "\n".join(parts))


def quality(results: dict[str, Any]) -> str:
    """One table per budget: medians over seeds, with the range where there are several."""
    rows = results["rows"]
    dense = next(row for row in rows if row["method"] == "dense")
    lines = [
        "## Quality\n",
        f"{results['model']}, {results['dtype']}, {results['machine']}; {results['texts']}. "
        f"{results['questions']['piqa']} PIQA questions, {results['questions']['blimp']} BLiMP pairs. "
        "Nothing was chosen on them. Several seeds: median (smallest to largest).\n",
    ]
    for of, keep in dict.fromkeys((row["of"], row["keep"]) for row in rows if row["method"] != "dense"):
        here = [row for row in rows if (row["of"], row["keep"]) == (of, keep)]
        lines += [f"### keep {keep:g} of {of}\n", table(["method", "seeds", *SCORES.values()], [
            _row("dense", [dense]), *sorted_rows(here)
        ]), ""]  # fmt: skip
    lines.append("![Perplexity against parameters kept](quality.png)\n")
    _figure(rows, dense)
    return "\n".join(lines)


def write_readme(rows: Sequence[dict[str, Any]]) -> None:
    """Put the short quality table between README's marks."""
    file, (first, last) = Path("README.md"), MARKS
    before, _, rest = file.read_text(encoding="utf-8").partition(first)
    keeps = (0.9, 0.8, 0.7)
    body = [
        [method, *(_cell("prose", _at(rows, method, "params", keep)) for keep in keeps)] for method in SHOWN
    ]
    dense = _cell("prose", _at(rows, "dense", "params", 1.0))
    head = [f"perplexity (dense: {dense})", *(f"keep {keep} of params" for keep in keeps)]
    write_text(file, f"{before}{first}\n{table(head, body)}\n{last}{rest.partition(last)[2]}")


def _at(rows: Sequence[dict[str, Any]], method: str, of: str, keep: float) -> list[dict[str, Any]]:
    return [row for row in rows if (row["method"], row["of"], row["keep"]) == (method, of, keep)]


def sorted_rows(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return one line per method, best prose perplexity first, refused ones last."""
    methods = dict.fromkeys(row["method"] for row in rows)
    found = {m: [row for row in rows if row["method"] == m] for m in methods}
    order = sorted(found, key=lambda m: statistics.median(row.get("prose", float("inf")) for row in found[m]))
    return [_row(method, found[method]) for method in order]


def _row(method: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    if all("refused" in row for row in rows):
        return [method, str(len(rows)), "budget can't be met", *[""] * (len(SCORES) - 1)]
    return [method, str(len(rows)), *(_cell(name, rows) for name in SCORES)]


def _cell(score: str, rows: Sequence[dict[str, Any]]) -> str:
    values = [row[score] for row in rows if score in row]
    if not values:
        return ""
    write = _percent if score.endswith(("acc", "acc_norm")) else _four
    middle = write(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({write(min(values))} to {write(max(values))})"


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _four(value: float) -> str:
    return f"{value:.4g}" if value < 10_000 else f"{value:,.0f}"


def _figure(rows: Sequence[dict[str, Any]], dense: dict[str, Any]) -> None:
    points = []
    # Chance is left out: at 0.7 its perplexity is in the millions and would flatten the rest.
    for method in SHOWN[1:]:
        for keep in (0.9, 0.8, 0.7):
            values = [row["prose"] for row in _at(rows, method, "params", keep) if "prose" in row]
            if values:
                points.append(FrontierPoint(keep, statistics.median(values), method))
    if points:
        plot_frontier(points, DOCS / "quality.png", dense["prose"])


def latency(results: dict[str, Any]) -> str:
    """The measured speed-up beside what fewer operations and bytes would give."""
    rows = []
    for name, report in results.items():
        for measured in report["measurements"]:
            speed = measured["speedup"]
            rows.append([
                name, measured["phase"], measured["batch"], f"{measured['before']['median'] * 1e3:.1f}",
                f"{measured['after']['median'] * 1e3:.1f}",
                f"{speed['ratio']:.3f} ({speed['low']:.3f} to {speed['high']:.3f})",
                f"{report['flop_ratio']:.3f}", f"{report['byte_ratio']:.3f}", measured["verdict"],
            ])  # fmt: skip
    head = [
        "cut",
        "phase",
        "batch",
        "dense ms",
        "pruned ms",
        "speed-up (95 %)",
        "FLOP ratio",
        "byte ratio",
        "verdict",
    ]
    report = next(iter(results.values()))
    settings = ", ".join(f"{key} {value}" for key, value in report["settings"].items())
    limits = dict.fromkeys(f"{m['phase']}, batch {m['batch']}: {m['limit']}" for m in report["measurements"])
    return "\n".join([
        "## Speed\n", f"SmolLM2-135M-Instruct against itself, keep 0.8; {settings}.\n", table(head, rows), "",
        f"Limits ({next(iter(results))}):", *(f"- {limit}" for limit in limits), "",
    ])  # fmt: skip


def startup(results: dict[str, Any]) -> str:
    """Start-up times."""
    graph = results["graph_70b"]
    rows = [
        ["an empty Python process", f"{results['empty_python_seconds']:.2f}"],
        ["`prune-with-policy --help`", f"{results['help_seconds']:.2f}"],
        ["unit graph of a 70B LLaMA configuration, shapes at hand", f"{graph['unit_graph_seconds']:.3f}"],
        ["its shapes and unit graph", f"{graph['both_once_transformers_is_imported_seconds']:.3f}"],
        [
            "its shapes, importing transformers first",
            f"{graph['shapes_first_time_seconds']:.2f}",
        ],
    ]
    return "\n".join(["## Start-up\n", table(["what", "seconds (median)"], rows), ""])


def streaming(runs: Sequence[dict[str, Any]]) -> str:
    """Cutting a large checkpoint beside copying it."""
    rows = [
        [
            f"{run['source_bytes'] / 2**30:.1f} GiB",
            cache,
            run[cache]["copy_seconds"],
            run[cache]["cut_seconds"],
            f"{run[cache]['cut_over_copy']:.2f}",
            run[cache]["cut_peak_mib"],
            len(run[cache]["all_cut_seconds"]),
            run["machine"]["load_average"],
        ]
        for run in runs
        for cache in ("warm", "cold")
    ]
    head = ["checkpoint", "cache", "copy s", "cut s", "cut / copy", "peak MiB", "rounds", "load"]
    note = (
        "LLaMA-2-7B shapes in bfloat16, 0.7 of the FFN channels kept; importing torch alone takes "
        f"{runs[0]['import_only_peak_mib']} MiB."
    )
    return "\n".join(["## Streaming cut\n", note + "\n", table(head, rows), ""])


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    main()
