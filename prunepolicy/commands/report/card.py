"""The result's README.md: what was removed, the evidence, how to load it and how to reproduce it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path, PurePath
from typing import Any

import yaml

from prunepolicy.agents.runtime.markdown import table
from prunepolicy.commands.report.plots import BEFORE_AFTER_PICTURE, LAYERS_PICTURE
from prunepolicy.commands.report.report import REPORT, KeptUnits, PruneReport
from prunepolicy.commands.report.report_view import (
    asked_and_reached,
    capitalised,
    comparisons,
    duration,
    load_code,
    missed,
    rounding,
    scored_on,
    shortened,
)
from prunepolicy.pruning.checkpoint.model_files import CARD
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.units import KIND_NAMES

PLACE = "path/to/this/folder"
PIPELINES = {"causal": "text-generation", "vision": "image-classification"}
CARD_NAMES = 40
"""Names of files that are listed at most."""
SERVED = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "gpt2", "gpt_neox")
"""Causal families that both vLLM and llama.cpp's converter know."""
EXPLICIT_HEADS = ("llama", "mistral", "qwen3", "gemma", "gemma2", "gemma3_text")
"""Those among them whose head size is read from the configuration, so that heads may have gone."""


def write_card(report: PruneReport, folder: Path) -> None:
    """Write the card into `folder`, in which it expects the two pictures of `plots`."""
    write_text(folder / CARD, card(report))


def card(report: PruneReport) -> str:
    """Return the card as Markdown with front matter, the same text for the same report."""
    sections = (
        _title(report),
        _removed(report),
        _evidence(report),
        _loading(report),
        _reproducing(report),
        _limits(report),
        _layers(report),
    )
    return f"---\n{front_matter(report)}---\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def front_matter(report: PruneReport) -> str:
    """Return the hub's metadata as YAML; what isn't known is left out."""
    library = "transformers" if "transformers" in "".join(report.load) else None
    fields = {
        "base_model": report.origin.base_model,
        "library_name": library,
        "pipeline_tag": PIPELINES.get(report.task),
        "license": report.origin.licence,
        "tags": ["pruned", "structured-pruning", report.model_type],
        "model-index": model_index(report),
    }
    return yaml.safe_dump({key: value for key, value in fields.items() if value}, sort_keys=False)


def model_index(report: PruneReport) -> list[dict[str, Any]]:
    """Return the measured quality as the hub shows it beside a model; empty where none was measured."""
    before, after = report.before, report.after
    if before.accuracy is not None and after.accuracy is not None:
        measured = ("accuracy", report.images, round(after.accuracy, 4), f"{before.accuracy:.4f}")
    elif before.score is not None and after.score is not None:
        perplexities = (after.score.perplexity, before.score.perplexity)
        measured = ("perplexity", report.text, round(perplexities[0], 4), f"{perplexities[1]:.4g}")
    else:
        return []
    metric, text, value, dense = measured
    result = {
        "task": {"type": PIPELINES.get(report.task, "other")},
        "dataset": {"type": "custom", "name": text or "the given text"},
        "metrics": [{"type": metric, "value": value, "name": f"{metric} (dense model: {dense})"}],
    }
    return [{"name": f"{PurePath(report.origin.model).name}, pruned", "results": [result]}]


def _title(report: PruneReport) -> str:
    reached = f"{capitalised(asked_and_reached(report))}."
    said = " ".join(filter(None, (reached, rounding(report.budget, report.reached), report.verdict)))
    return f"# {report.origin.model}, pruned\n\n{said}"


def _removed(report: PruneReport) -> str:
    rows = [(KIND_NAMES[kind], size, kept, f"{kept / size:.1%}") for kind, size, kept in totals(report.kept)]
    return "## What was removed\n\n" + table(("units", "before", "after", "kept"), rows)


def totals(kept: Sequence[KeptUnits]) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, units before, units after) for every kind, in order of first appearance."""
    for kind in dict.fromkeys(units.kind for units in kept):
        same = [units for units in kept if units.kind == kind]
        yield kind, sum(units.size for units in same), sum(units.kept for units in same)


def _evidence(report: PruneReport) -> str:
    rows = [(row.name, row.before, row.after, f"{row.ratio:.3g}x") for row in comparisons(report)]
    parts = ["## Evidence", table(("", "before", "after", "ratio"), rows), scored_on(report)]
    parts.append(f"![After pruning, as a multiple of before]({BEFORE_AFTER_PICTURE})")
    if report.before.latency and report.after.latency:
        parts.append(
            f"Times were measured on {report.origin.machine or 'one machine'}, both networks in one run."
        )
    parts.append(_proof(report))
    parts.extend(_samples(report))
    return "\n\n".join(filter(None, parts))


def _proof(report: PruneReport) -> str:
    receipt = report.proof
    if receipt is None:
        return "**Proof of loading:** none was made."
    parts = [f"**Proof of loading:** {receipt.sentence}"]
    if receipt.difference is not None and receipt.relative is not None:
        parts.append(
            f"Largest difference to the source with the same units switched off: {receipt.difference:.2g} "
            f"({receipt.relative:.2g} of the outputs' spread)."
        )
    if receipt.cache_agrees:
        parts.append("It generates the same tokens with and without a cache.")
    if receipt.versions:
        parts.append(f"Ran with {versions(receipt.versions.items())}.")
    return " ".join(parts)


def _samples(report: PruneReport) -> Iterator[str]:
    pairs = list(zip(report.before.samples[:3], report.after.samples[:3], strict=False))
    for number, (before, after) in enumerate(pairs):
        asked = f"Prompt:\n\n{quote(report.prompts[number])}\n\n" if number < len(report.prompts) else ""
        yield f"{asked}Before:\n\n{quote(before)}\n\nAfter:\n\n{quote(after)}"


def _loading(report: PruneReport) -> str:
    parts = ["## How to load it", fenced(load_code(report, PLACE), "python")]
    if commands := serving_commands(report):
        parts += [
            "Its shapes are ordinary, so these should work too; they were not tried:",
            fenced(commands, "sh"),
        ]
    parts.append("\n".join(f"- {sentence}" for sentence in report.loaders))
    return "\n\n".join(filter(None, parts))


def serving_commands(report: PruneReport) -> str:
    """Return the lines that serve or convert the result; empty where its shapes don't allow that."""
    heads_gone = any(
        units.kind in ("kv_head", "query_head") and 0 < units.kept < units.size for units in report.kept
    )
    served = report.task == "causal" and report.uniform and report.model_type in SERVED
    if not served or (heads_gone and report.model_type not in EXPLICIT_HEADS):
        return ""
    return f"vllm serve {PLACE}\npython convert_hf_to_gguf.py {PLACE} --outfile model.gguf"


def _reproducing(report: PruneReport) -> str:
    return "\n\n".join(
        (
            "## How to reproduce it",
            fenced(report.origin.command, "sh"),
            f"`plan.json` in this folder lists every unit that stayed; `{REPORT}` holds the numbers above.",
            table(("", ""), run_facts(report)),
        )
    )


def run_facts(report: PruneReport) -> list[tuple[str, object]]:
    """Return what a run has to be given to happen again, by name; what isn't known is left out."""
    origin = report.origin
    rows = [
        ("policy", origin.decided_by or origin.made_by),
        ("repair", origin.repair or "none"),
        *(("knowledge distillation", facts.sentence) for facts in report.recoveries),
        ("seed", origin.seed),
        ("source", origin.model),
        ("fingerprint of the source", f"{origin.fingerprint}"),
        ("versions", versions(origin.versions.items())),
        ("machine", origin.machine),
        ("took", duration(report.seconds) if report.seconds else ""),
        ("reused from an earlier run", ", ".join(origin.reused)),
    ]
    return [row for row in rows if row[1] != ""]


def limits(report: PruneReport, most: int) -> list[str]:
    """Return what a reader should not take the result for, in sentences.

    Args:
        most: names of files that are listed.
    """
    lines = [
        "Pruning removes knowledge as well as weights. Test the result on your own task before use.",
        "It keeps the source's biases, and its licence applies.",
    ]
    if report.after.accuracy is not None:
        lines.append("Accuracy on these test images says little about other images.")
    elif report.after.score is None:
        lines.append("Its quality was not measured.")
    else:
        lines.append(
            "Perplexity on one text says little about reasoning, code, other languages or long inputs."
        )
    if not report.after.latency:
        lines.append("Its speed was not measured: fewer parameters need not mean less time.")
    if report.left_behind:
        lines.append(missed(report, most))
    lines.extend(report.warnings)
    if report.reading is not None:
        lines.append(report.reading.sentence)
    return lines


def _limits(report: PruneReport) -> str:
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in limits(report, CARD_NAMES))


def _layers(report: PruneReport) -> str:
    """Return what stayed per layer, the same rows in one line."""
    head, rows = layer_rows(report)
    if not rows:
        return ""
    if head[0] == "group":
        return "## Channels\n\n" + table(head, rows)
    picture = f"![Share kept in every layer]({LAYERS_PICTURE})"
    return f"## Layer by layer\n\n{picture}\n\n" + table(head, rows)


def layer_rows(report: PruneReport) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return what stayed per layer, equal layers in one row, or per group of channels: headings and rows."""
    inside = [units for units in report.kept if units.layer is not None]
    kinds = list(dict.fromkeys(units.kind for units in inside))
    if not kinds:
        channels = [units for units in report.kept if units.kind == "channel"]
        rows = [(units.group, f"{units.kept} of {units.size}") for units in channels]
        return ("group", KIND_NAMES["channel"]), list(rows)
    by_layer = {
        layer: tuple(_of_layer(inside, layer, kind) for kind in kinds)
        for layer in sorted({units.layer for units in inside if units.layer is not None})
    }
    layers: list[tuple[str, ...]] = []
    for cells, run in groupby(by_layer, key=by_layer.__getitem__):
        first, *_, last = (same := list(run)) * 2
        layers.append((str(first) if len(same) == 1 else f"{first} to {last}", *cells))
    return ("layer", *(KIND_NAMES[kind] for kind in kinds)), layers


def _of_layer(inside: Sequence[KeptUnits], layer: int, kind: str) -> str:
    same = [units for units in inside if units.layer == layer and units.kind == kind]
    size, kept = sum(units.size for units in same), sum(units.kept for units in same)
    return "removed" if size and not kept else f"{kept} of {size}" if same else ""


def fenced(code: str, language: str) -> str:
    """Return a code block whose fence is longer than any inside."""
    longest = max(map(len, re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"


def quote(text: str) -> str:
    """Return a text sample as a quotation that Markdown doesn't interpret."""
    return f"> {json.dumps(shortened(text), ensure_ascii=False)}"


def versions(items: Iterable[tuple[str, str]]) -> str:
    """Write package versions as a list."""
    return ", ".join(f"{name} {version}" for name, version in sorted(items))
