"""Prune a LLaMA checkpoint with another tool, into folders that transformers loads.

Runs in an environment of its own that has the tool; nothing of this project is imported:
python benchmarks/measure/peers.py efficient-pruners --model FOLDER --widths 1376 1216 --out FOLDER
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

EPISODES, LEARNING_RATE, TRAINED_AT = 10, 1e-4, 0.3
"""What PruneNet's authors trained LLaMA with: ten episodes; one policy serves all ratios."""


def ratio_for(width: int, full: int) -> float:
    """Return the share to remove that leaves exactly `width`, which both tools round down to."""
    return 1 - (width + 0.5) / full


def efficient_pruners(model: Any, widths: Sequence[int], seed: int) -> Iterator[Any]:
    """Train the tool's policy once, and yield the model at every width."""
    from efficient_pruners import PruneNet, PruningConfig  # type: ignore[import-not-found]

    pruner = PruneNet(
        PruningConfig(num_episodes=EPISODES, learning_rate=LEARNING_RATE, seed=seed, device="cpu")
    )
    # The tool tells the architecture from the name, and would load weights in a type it can't decompose.
    pruner.model = model
    with tempfile.TemporaryDirectory() as scratch:
        pruner.fit("llama", TRAINED_AT, scratch)
    for width in widths:
        yield pruner.compress(ratio_for(width, model.config.intermediate_size))


def torch_pruning(model: Any, widths: Sequence[int], seed: int) -> Iterator[Any]:
    """Yield the model with the channels of smallest group norm removed; nothing is drawn."""
    import torch_pruning as tp

    for width in widths:
        pruned = copy.deepcopy(model)
        gates = [layer.mlp.gate_proj for layer in pruned.model.layers]
        ratio = ratio_for(width, model.config.intermediate_size)
        blocks = {module for layer in pruned.model.layers for module in layer.mlp.modules()}
        ignored = [m for m in pruned.modules() if isinstance(m, torch.nn.Linear) and m not in blocks]
        pruner = tp.pruner.BasePruner(
            pruned,
            torch.arange(3, 11)[None],
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=0.0,
            pruning_ratio_dict=dict.fromkeys(gates, ratio),
            ignored_layers=[*ignored, *(layer.mlp.down_proj for layer in pruned.model.layers)],
            output_transform=lambda output: output.logits.sum(),
        )
        pruner.step()
        yield pruned


TOOLS = {"efficient-pruners": efficient_pruners, "torch-pruning": torch_pruning}


def main() -> None:
    """Prune, give the configuration the new width, and write one folder per width."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--widths", type=int, nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    dtype = AutoModelForCausalLM.from_pretrained(options.model).dtype
    start, pruned = time.process_time(), TOOLS[options.tool](model, options.widths, options.seed)
    for width, result in zip(options.widths, pruned, strict=True):
        seconds = round(time.process_time() - start, 1)
        found = {layer.mlp.down_proj.weight.shape[1] for layer in result.model.layers}
        if found != {width}:
            raise SystemExit(f"{options.tool} left widths {sorted(found)} where {width} was asked for.")
        result.config.intermediate_size = width
        result.to(dtype).save_pretrained(options.out / str(width))
        (options.out / str(width) / "facts.json").write_text(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
