"""Which units can go from which model types: every offer is cut from a tiny random network and compared.

A configuration decides what is offered (`pruning/adapters/`: by hand for some families, derived for the
others). Here the whole product cuts it: a masked network has to compute what the folder does that plain
transformers loads, and its parameters have to be those that were promised. Minutes on one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from family_configs import described, model_types
from rich.console import Console
from torch import Tensor, nn

from prunepolicy.pruning.adapters import adapters
from prunepolicy.pruning.adapters.derived.adapter import DerivedAdapter
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import prepare
from prunepolicy.pruning.checkpoint.vocabulary_cut import needed_tokens, tokenizer_of
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import versions
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.proof.answers import answer_of
from prunepolicy.pruning.statistics.gates import masked
from prunepolicy.pruning.units import VOCABULARY, UnitGraph

TOKENS = 40
"""In a text: more than the sliding windows of these networks see."""
LETTERS, SPECIAL = "abcdefghijkl", ("<pad>", "<s>", "</s>", "<unk>")
TOLERANCE = 1e-4
"""Largest difference of outputs that passes, in standard deviations."""


def main() -> None:
    """Try all model types, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", help="model types to try again; all when none is named")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/families.json"))
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    console, rows = Console(stderr=True), earlier_rows(arguments.json) if arguments.types else {}
    for model_type in arguments.types or model_types():
        row = rows[model_type] = tried(model_type)
        console.print(
            f"{model_type}: {row['kinds']}; {row['stays']} ({row['seconds']:.0f} s)", soft_wrap=True
        )
        in_order = [rows[name] for name in model_types() if name in rows]
        results = {"versions": versions("torch", "transformers"), "rows": in_order}
        write_text(arguments.json, json.dumps(results, indent=1) + "\n")


def earlier_rows(file: Path) -> dict[str, Any]:
    """Return the rows of an earlier run by model type, of which those that are named now are replaced."""
    if not file.is_file():
        return {}
    return {row["model_type"]: row for row in bounded.read_json(file)["rows"]}


def tried(model_type: str) -> dict[str, Any]:
    """Return which kinds of unit a model type offers, whether cutting each passed, and why others stay."""
    start = time.process_time()
    by_hand = any(model_type in adapters[name].model_types for name in adapters)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            tiny_model(model_type, folder / "model")
            checkpoint = Checkpoint.open(folder / "model")
            adapter = checkpoint.adapter
            kinds = dict(cuts(checkpoint, folder))
            stays = adapter.findings.refusals if isinstance(adapter, DerivedAdapter) else {}
        except PrunePolicyError as error:
            kinds, stays = {}, {"all": str(error)}
    seconds = round(time.process_time() - start, 1)
    return {"model_type": model_type, "by_hand": by_hand, "kinds": kinds, "stays": stays, "seconds": seconds}


def cuts(checkpoint: Checkpoint, folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield every kind of unit, and whether cutting half of it gave what masking it does."""
    dense = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    for kind in checkpoint.graph.kinds:
        difference, change, counted = cut_in_half(checkpoint, dense, kind, folder / kind)
        yield kind, difference < TOLERANCE and change > 0 and counted


def tiny_model(model_type: str, folder: Path) -> str:
    """Save a tiny random network of a type, and return what loads it."""
    auto_class, config = described(model_type)
    torch.manual_seed(0)
    settings = transformers.AutoConfig.for_model(**config)
    model = getattr(transformers, auto_class).from_config(settings, dtype=torch.float32)
    with torch.no_grad():
        for tensor in filter(torch.is_floating_point, model.state_dict().values()):
            noise = torch.randn_like(tensor)
            if tensor.dim() > 1:
                tensor.copy_(noise * min(0.12, tensor.shape[-1] ** -0.5))
            else:
                tensor.add_(0.1 * noise)
    model.save_pretrained(folder)
    return auto_class


def cut_in_half(
    checkpoint: Checkpoint, dense: nn.Module, kind: str, target: Path
) -> tuple[float, float, bool]:
    """Cut about half of all units of a kind.

    Returns:
        The difference between masked and cut, the change of both against the whole network (in standard
        deviations of the outputs), and whether as many parameters are left as the graph says.
    """
    graph, plan = checkpoint.graph, half_of(checkpoint.graph, kind)
    if kind == VOCABULARY:
        letters_tokenizer().save_pretrained(checkpoint.folder)
        needed = needed_tokens(checkpoint, tokenizer_of(checkpoint))
        plan = replace(plan, keep={VOCABULARY: tuple(sorted(needed.union(plan.keep[VOCABULARY])))})
    inputs = inputs_of(checkpoint, len(plan.keep[VOCABULARY]) if kind == VOCABULARY else None)
    with masked(dense, graph, plan):
        expected = answers(dense, inputs)
    pruned = checkpoint.adapter.load(prepare(checkpoint, plan, target), torch.float32)
    found, whole, spread = answers(pruned, inputs), answers(dense, inputs), float(expected.std())
    if kind == VOCABULARY:  # The whole network takes the new numbers for other tokens.
        whole = whole[..., : expected.shape[-1]]
    computed = getattr(pruned, "_keys_to_ignore_on_save", None) or ()
    stored = sum(p.numel() for name, p in pruned.named_parameters() if name not in computed)
    return (
        float((found - expected).abs().max()) / spread,
        float((expected - whole).abs().max()) / spread,
        cost_of(graph, plan.keep).params == stored,
    )


def half_of(graph: UnitGraph, kind: str) -> Plan:
    """Return a plan that keeps about half of all units of a kind, other ones in every group."""
    generator, keep = np.random.default_rng(1), {}
    for groups in graph.ties.values():
        size, multiple = groups[0].size, groups[0].multiple_of
        count = max(groups[0].floor, multiple, size // 2 // multiple * multiple)
        for group in groups:
            if group.kind == kind:
                keep[group.name] = tuple(sorted(generator.permutation(size)[:count].tolist()))
    if kind == "layer":
        keep = {name: tuple(range(1, graph[name].size)) for name in keep}
    return Plan(keep, Budget(0.5), "families")


def letters_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer of letters and all pairs of letters, any of which may go."""
    pairs = list(itertools.product(LETTERS, LETTERS))
    tokens = [*SPECIAL, *LETTERS, *("".join(pair) for pair in pairs)]
    model = tokenizers.models.BPE({token: n for n, token in enumerate(tokens)}, pairs, unk_token=SPECIAL[-1])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(model), unk_token=SPECIAL[-1]
    )


def inputs_of(checkpoint: Checkpoint, tokens: int | None = None) -> dict[str, Tensor]:
    """Return two seeded inputs of a model's kind.

    Args:
        tokens: how many the model knows; all of its vocabulary, when None.
    """
    generator, adapter, config = torch.Generator().manual_seed(0), checkpoint.adapter, checkpoint.config
    if adapter.task == "vision":
        side = config["image_size"]
        return {"pixel_values": torch.randn(2, 3, side, side, generator=generator)}
    return adapter.reads(
        torch.randint(16, tokens or adapter.tokens(config), (2, TOKENS), generator=generator)
    )


@torch.no_grad()
def answers(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Return what a network answers."""
    found, _ = answer_of(model(**inputs))
    return found


if __name__ == "__main__":
    main()
