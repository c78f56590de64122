"""Layers of different widths: the small modelling file that a checkpoint carries to load them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from prunepolicy.pruning.adapters import adapter_for, adapters
from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.checkpoint.older_keys import with_older_keys
from prunepolicy.pruning.cost import Cost, cost_of
from prunepolicy.pruning.errors import BadCheckpointError, PrunePolicyError, UnsupportedModelError
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import UnitGraph, UnitGroup

LAYERS = "layers"
SIZES = "per_layer_sizes"
MODULE = "modeling_pruned"

MODELLING_FILE = '''"""A pruned STOCK whose layers differ in width. It needs transformers and nothing else."""

import copy
import inspect

import transformers
from torch import nn


class STOCK(transformers.STOCK):
    """The stock model, with every layer rebuilt at its own sizes.

    `config.per_layer_sizes` holds one dictionary per layer; its entries replace those of the
    configuration while that layer is built.
    """

    def __init__(self, config, *inputs, **kwargs):
        super().__init__(config, *inputs, **kwargs)
        sizes = config.per_layer_sizes
        lists = (module for module in self.modules() if isinstance(module, nn.ModuleList))
        layers = next(module for module in lists if len(module) == len(sizes))
        for index, layer in enumerate(layers):
            variant = copy.deepcopy(config)
            for key, value in sizes[index].items():
                setattr(variant, key, value)
            takes_index = "layer_idx" in inspect.signature(type(layer)).parameters
            layers[index] = type(layer)(variant, layer_idx=index) if takes_index else type(layer)(variant)
        self.post_init()

    @classmethod
    def is_custom_code(cls):
        """Let tensor names be converted as for the stock class, which this one equals in them."""
        return False

    def set_attn_implementation(self, *inputs, **kwargs):
        """Switch the attention kernel in the layers too, which hold configurations of their own."""
        super().set_attn_implementation(*inputs, **kwargs)
        for module in self.modules():
            if hasattr(module, "config"):
                module.config._attn_implementation = self.config._attn_implementation
'''


def carry(config: Config, graph: UnitGraph, plan: Plan, folder: Path) -> Config:
    """Write the modelling file into `folder` and return the configuration keys that go with it.

    Args:
        config: the source's configuration.

    Raises:
        UnsupportedModelError: for a family that isn't a stack of layers.
        BadCheckpointError: when the configuration names no class that could be subclassed.
    """
    adapter = adapter_for(config)
    sizes = layer_sizes(config, graph, plan)
    stock = stock_class(config)
    write_text(folder / f"{MODULE}.py", MODELLING_FILE.replace("STOCK", stock))
    return {SIZES: sizes, "auto_map": {adapter.auto_class: f"{MODULE}.{stock}"}}


def stock_class(config: Config) -> str:
    """Return the transformers class that `config` names, fit to stand in a source file."""
    named = config.get("architectures") or [None]
    if not isinstance(named[0], str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", named[0]):
        raise BadCheckpointError(
            f"config.json: 'architectures' must name the model's class for per-layer widths; found {named!r}."
        )
    return named[0]


def layer_sizes(config: Config, graph: UnitGraph, plan: Plan) -> list[dict[str, Any]]:
    """Return, per layer that stays, the configuration entries in which the layers differ.

    Each is what the adapter writes for a uniform plan with that layer's counts, so whatever it
    knows about its architecture (explicit head sizes, names of keys) holds per layer as well.
    """
    if LAYERS not in graph:
        raise UnsupportedModelError(
            f"Layers of the {graph.family} family can't differ in width; make a uniform plan."
        )
    adapter = adapter_for(config)
    shared = with_older_keys(adapter.edit_config(config, graph, plan))
    variants = [
        with_older_keys(adapter.edit_config(config, graph, as_every_layer(graph, plan, layer)))
        for layer in plan.kept(graph[LAYERS])
    ]
    own = {key for variant in variants for key in variant if variant[key] != shared.get(key)}
    return [{key: variant[key] for key in sorted(own) if key in variant} for variant in variants]


def as_every_layer(graph: UnitGraph, plan: Plan, layer: int) -> Plan:
    """Return a plan that keeps in every layer as many units as `plan` keeps in `layer`.

    Raises:
        PrunePolicyError: when one layer holds several groups of a tie (experts) with unequal counts.
    """
    keep = {name: plan.kept(graph[name]) for name in plan.keep if graph[name].layer is None}
    for tie, groups in graph.ties.items():
        counts = {len(plan.kept(group)) for group in groups if group.layer == layer}
        if len(counts) > 1:
            raise PrunePolicyError(
                f"Layer {layer} keeps {sorted(counts)} units of {tie}; inside one layer these must be equal."
            )
        keep |= {g.name: tuple(range(n)) for g in groups for n in counts if g.layer is not None}
    return replace(plan, keep=keep)


def padded_cost(graph: UnitGraph, plan: Plan) -> Cost:
    """Return the cost of the same network with zeros in every layer up to the widest kept width.

    Zero rows and columns change no output, and equal widths load everywhere.
    """
    widest = {tie: _widest(groups, plan, graph) for tie, groups in graph.ties.items()}
    keep = {
        group.name: plan.kept(group) if group.layer is None else tuple(range(widest[group.tie]))
        for group in graph.groups
    }
    return cost_of(graph, keep)


def _widest(groups: tuple[UnitGroup, ...], plan: Plan, graph: UnitGraph) -> int:
    gone = plan.dropped_layers(graph)
    return max((len(plan.kept(group)) for group in groups if group.layer not in gone), default=1)


def who_can_load(graph: UnitGraph, plan: Plan) -> list[str]:
    """Say in sentences which programs load the result."""
    own_files = adapters[graph.family].carries if graph.family in adapters else ()
    if own_files:
        return [
            f"The folder carries {', '.join(own_files)}, which loads it; transformers has no such network."
        ]
    if plan.is_uniform(graph):
        return [
            "Plain transformers loads it: all layers have equal shapes, which config.json states.",
            *_turns(graph, plan),
            "Runtimes and converters that read the same configuration (vLLM, llama.cpp, ONNX export) "
            "find an ordinary, smaller model; only the ones named under proof were tried.",
            *same_from_gguf(graph, plan),
        ]
    own, padded, whole = (
        cost.params for cost in (cost_of(graph, plan.keep), padded_cost(graph, plan), cost_of(graph))
    )
    return [
        "transformers loads it with trust_remote_code=True: layers differ in width, and the folder "
        f"carries {MODULE}.py, a short file that builds them from stock layers.",
        "Without that flag transformers stops with mismatched sizes. vLLM, llama.cpp and other programs "
        "that expect equal layers can't load it; prune with equal widths for those.",
        f"Filled with zeros to equal widths it would compute the same and load everywhere, but keep "
        f"{padded / whole:.1%} of the parameters instead of {own / whole:.1%}.",
    ]


def _turns(graph: UnitGraph, plan: Plan) -> Iterator[str]:
    """Say what became of layers whose kinds take turns, which some runtimes take for granted."""
    for group in graph.of_kind("layer"):
        if group.period == 1 or len(plan.kept(group)) == group.size:
            continue
        if group.keeps_turns(plan.kept(group)):
            yield (
                f"Kinds of layers take turns every {group.period} layers, so they went in whole turns: some "
                "runtimes take that for granted. With --multiple-of 1, single layers go."
            )
        else:
            yield (
                f"Kinds of layers no longer take turns every {group.period} layers. llama.cpp takes that for "
                "granted in some families (Gemma 2 and 3 among them) and would mix them up; transformers "
                "reads them from config.json."
            )


def same_from_gguf(graph: UnitGraph, plan: Plan) -> list[str]:
    """Say how llama.cpp makes the same of a GGUF file, where layers go and all else stays as it was."""
    gone = plan.dropped_layers(graph)
    others = [group for group in graph.groups if group.kind != "layer"]
    narrower = any(len(plan.kept(one)) < one.size for one in plan.staying(graph, others))
    mixed_up = not all(group.keeps_turns(plan.kept(group)) for group in graph.of_kind("layer"))
    if not gone or narrower or mixed_up or plan.repair or plan.settings.get("recover"):
        return []
    listed = ",".join(map(str, sorted(gone)))
    return [
        "Only layers go, so that llama.cpp cuts a GGUF file of the whole model alike: "
        f"llama-quantize --prune-layers {listed} WHOLE.gguf SMALLER.gguf COPY"
    ]


def check_widths(config: Config, graph: UnitGraph, plan: Plan) -> None:
    """Raise what `carry` would raise, before any work is done.

    Raises:
        UnsupportedModelError: also for a source whose layers differ in width already.
    """
    if SIZES in config:
        raise UnsupportedModelError(
            "This checkpoint's layers already differ in width; prune the original model again instead."
        )
    if not plan.is_uniform(graph):
        stock_class(config)
        layer_sizes(config, graph, plan)
