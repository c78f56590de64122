"""Transformer families, described by the names of their projections instead of by code."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Self

from prunepolicy.pruning.adapters.base import (
    Config,
    ModelAdapter,
    Shapes,
    Vocabulary,
    layer_root,
    require,
)
from prunepolicy.pruning.adapters.blocks import (
    LAYERS,
    Attention,
    Ffn,
    Layer,
    attention_groups,
    ffn_group,
    period_of,
)
from prunepolicy.pruning.errors import BadCheckpointError, UnsupportedModelError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import VOCABULARY, Gate, Slice, TensorSpec, UnitGraph, UnitGroup

__all__ = ["LAYERS", "Attention", "Ffn", "TransformerAdapter"]

AUTO_CLASSES = {
    "ForCausalLM": "AutoModelForCausalLM",
    "LMHeadModel": "AutoModelForCausalLM",
    "ForMaskedLM": "AutoModelForMaskedLM",
    "ForPreTraining": "AutoModelForPreTraining",
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
    "ForQuestionAnswering": "AutoModelForQuestionAnswering",
    "ForImageClassification": "AutoModelForImageClassification",
    "Model": "AutoModel",
}
"""Endings of a class name in `architectures`, and what loads that class."""

VOCABULARY_KEY = "vocab_size"
BYTES = 256
"""Fewest tokens that write every text."""

WITH_TIED_HEAD = ("AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForPreTraining")
LEFTOVERS = (".inv_freq", ".attn.bias", ".attention.bias", ".masked_bias", ".position_ids")
"""Endings of tensors that older checkpoints store although every library computes them."""

ONCE_PER_INPUT = ("pooler.", "classifier.", "score.", "seq_relationship.")
"""Parts that read a whole text or image once, so that their price per token vanishes."""


class TransformerAdapter(ModelAdapter):
    """A stack of equal layers with a feed-forward block and, where heads can go, attention.

    Attributes:
        marker: what precedes the layer number in tensor names.
        running_layers: name of the list of layers in the running model, where it differs from the
            checkpoint's.
        ffn: the feed-forward block; None where a family has none that is plain.
        attention: the attention block; None where transformers derives the head size from the
            hidden size, so that no checkpoint with fewer heads would load.
        layers_key: configuration key of the number of layers.
        heads_divide_hidden: model types whose configuration class refuses a number of query heads
            that doesn't divide the hidden size.
        hidden_key: configuration key of the hidden size.
        tables: parts of the names of tensors that are read by index, the token embedding first.
        head: name of the tensor that maps hidden states to tokens.
        head_biases: names of the tensors with a number per token that is added then.
        ties_head: whether token embedding and head are one matrix unless the configuration says
            otherwise.
    """

    marker: str = "layers."
    running_layers: str | None = None
    ffn: Ffn | None = None
    attention: Attention | None = None
    layers_key: str = "num_hidden_layers"
    heads_divide_hidden: tuple[str, ...] = ()
    hidden_key: str = "hidden_size"
    tables: tuple[str, ...] = ("embed_tokens.",)
    head: str = "lm_head.weight"
    head_biases: tuple[str, ...] = ("lm_head.bias",)
    ties_head: bool = False

    def for_config(self, config: Config) -> Self:
        """Return this adapter, set to load the class that the checkpoint was saved from."""
        adapter = copy.copy(self)
        adapter.auto_class = auto_class_of(config, self.auto_class)
        if self.task == "causal" and adapter.auto_class != "AutoModelForCausalLM":
            adapter.task = "encoder"
        return adapter

    def units(self, config: Config, shapes: Shapes) -> UnitGraph:
        """Build the unit graph: per layer its heads and channels, then the layers themselves."""
        prefix = layer_root(shapes, self.marker) + self.marker
        depth = require(config, self.layers_key)
        check_depth(shapes, prefix, depth)
        running = f"{self.running_layers}." if self.running_layers else prefix
        groups: list[UnitGroup] = []
        stages: list[range] = []
        own_sizes = config.get("per_layer_sizes") or [{}] * depth
        for index in range(depth):
            own = {**config, **own_sizes[index]}
            layer = Layer(index, f"{prefix}{index}.", f"{running}{index}.", own, shapes)
            for stage in self.layer_stages(layer):
                stages.append(range(len(groups), len(groups) + len(stage)))
                groups.extend(stage)
        groups.append(self.layers_group(config, prefix, running, depth))
        groups.extend(self.vocabulary_groups(config, shapes))
        edges = tuple((i, j) for before, after in pairwise(stages) for i in before for j in after)
        insists = config.get("model_type") in self.heads_divide_hidden
        divided = require(config, "hidden_size") if insists else 0
        return UnitGraph(self.family, self.tensor_specs(config, shapes), tuple(groups), edges, divided)

    @property
    def family(self) -> str:
        """The registered name: that of the file."""
        return type(self).__module__.rsplit(".", 1)[-1]

    def layer_stages(self, layer: Layer) -> Iterator[list[UnitGroup]]:
        """Yield the groups of one layer; those of a stage work side by side on the same input."""
        if self.attention is not None:
            for group in attention_groups(self.attention, layer):
                yield [group]
        if self.ffn is not None:
            yield [ffn_group(self.ffn, layer)]

    def layers_group(self, config: Config, prefix: str, running: str, depth: int) -> UnitGroup:
        """Return the group of the layers themselves, which own the KV-cache when no head can go."""
        return UnitGroup(
            LAYERS,
            "layer",
            depth,
            self.layers_key,
            prefix=prefix,
            gate=Gate(running.rstrip("."), "residual"),
            cache=self.layer_cache(config) if self.attention is None and self.task == "causal" else 0,
            period=period_of(self.layer_types(config)),
        )

    def layer_types(self, config: Config) -> Sequence[str]:
        """Return the kinds of attention of the layers, as far as `config` itself tells."""
        return config.get("layer_types") or ()

    def layer_cache(self, config: Config) -> int:
        """Return the KV-cache entries of one layer per token, where its heads can't go."""
        return 2 * require(config, self.hidden_key)

    def ties(self, config: Config) -> bool:
        """Return whether `config` says that token embedding and head are one matrix."""
        stated = config.get("tie_word_embeddings")
        return self.auto_class in WITH_TIED_HEAD and bool(self.ties_head if stated is None else stated)

    def vocabulary(self, shapes: Shapes) -> Vocabulary:
        """Return which tensors have a row per token."""
        ending = f".{self.tables[0]}weight"
        found = [name for name, shape in shapes.items() if f".{name}".endswith(ending) and len(shape) == 2]
        has_head = self.auto_class in WITH_TIED_HEAD and len(shapes.get(self.head, ())) == 2
        head = self.head if has_head else None
        biases = tuple(name for name in self.head_biases if name in shapes)
        return Vocabulary(found[0] if len(found) == 1 else None, head, self.task == "causal", biases)

    def vocabulary_groups(self, config: Config, shapes: Shapes) -> Iterator[UnitGroup]:
        """Yield the group of the tokens, where the embedding has one row for each that is stated."""
        words, size = self.vocabulary(shapes), config.get(VOCABULARY_KEY)
        if words.embedding and all(shapes[name][0] == size for name in words.tensors):
            yield UnitGroup(
                VOCABULARY,
                VOCABULARY,
                shapes[words.embedding][0],
                VOCABULARY_KEY,
                tuple(Slice(name, 0) for name in words.tensors),
                floor=min(BYTES, shapes[words.embedding][0] // 4),
            )

    def tensor_specs(self, config: Config, shapes: Shapes) -> dict[str, TensorSpec]:
        """Price every tensor: 2 operations per matrix entry and token, none for look-ups."""
        specs = {
            name: TensorSpec(shape, 2.0 * self.multiplies(name, shape), is_parameter=not is_leftover(name))
            for name, shape in shapes.items()
        }
        if self.ties(config) and self.head not in specs:
            for name, spec in specs.items():
                if self.tables[0] in name:
                    specs[name] = replace(spec, flops=2.0)
        return specs

    def multiplies(self, name: str, shape: tuple[int, ...]) -> bool:
        """Return whether a token passes through every entry of this tensor."""
        skipped = (*self.tables, *ONCE_PER_INPUT)
        return len(shape) >= 2 and not is_leftover(name) and not any(part in name for part in skipped)

    def edit_config(self, config: Config, graph: UnitGraph, plan: Plan) -> Config:
        """Write the sizes that stay under their configuration keys."""
        edited = dict(config)
        for tie, groups in graph.ties.items():
            staying = plan.staying(graph, groups)
            counts = {len(plan.kept(group)) for group in staying}
            if counts and counts != {staying[0].size}:
                edited[tie] = max(counts)
        if self.attention is not None:
            edit_heads(edited, config, graph)
        if plan.dropped_layers(graph):
            kept = plan.kept(graph[LAYERS])
            edited |= {key: [value[i] for i in kept] for key, value in self.per_layer_lists(config).items()}
        return edited

    def per_layer_lists(self, config: Config) -> dict[str, list[Any]]:
        """Return the configuration entries that say something of every layer (layer_types, ...).

        Many configurations leave `layer_types` to a rule about layer numbers, which would give the
        layers that move up other types than they had; so the rule's result is included.
        """
        import transformers

        depth = require(config, self.layers_key)
        settings = transformers.AutoConfig.for_model(**config)
        resolved, key = getattr(settings, "layer_types", None), "layer_types"
        by_class = isinstance(getattr(type(settings), settings.attribute_map.get(key, key), None), property)
        lists = {"layer_types": resolved} if resolved and not by_class else {}
        lists |= {key: value for key, value in config.items() if isinstance(value, list)}
        return {
            key: value
            for key, value in lists.items()
            if len(value) == depth and key != "architectures" and not key.endswith(("token_id", "token_ids"))
        }

    def stored_names(self, config: Config) -> dict[str, str]:
        """Return the checkpoint's names of the running model's tensors; those it stacks have none."""
        from transformers.core_model_loading import revert_weight_conversion

        model = self.build_on_meta(config)
        state = model.state_dict()
        running = {id(tensor): name for name, tensor in state.items()}
        stored = revert_weight_conversion(model, state)
        return {running[id(tensor)]: name for name, tensor in stored.items() if id(tensor) in running}

    def shapes(self, config: Config) -> dict[str, tuple[int, ...]]:
        """Return the checkpoint's tensor names and shapes, built without weights.

        Tied tensors are listed once; running models that stack or rename what their checkpoints
        hold (experts) are described as stored.
        """
        from transformers.core_model_loading import revert_weight_conversion

        model = self.build_on_meta(config)
        tied = getattr(model, "all_tied_weights_keys", None) or {}
        state = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
        stored = revert_weight_conversion(model, state)
        return {name: tuple(tensor.shape) for name, tensor in stored.items()}


def auto_class_of(config: Config, default: str) -> str:
    """Return the transformers class that loads what `config` describes.

    Raises:
        UnsupportedModelError: when it is none that is supported.
    """
    auto_map = config.get("auto_map")
    mapped = [name for name in AUTO_CLASSES.values() if isinstance(auto_map, dict) and name in auto_map]
    if mapped:
        return mapped[0]
    named = named_class(config)
    fitting = [loader for ending, loader in AUTO_CLASSES.items() if named.endswith(ending)]
    if named and not fitting:
        raise UnsupportedModelError(
            f"The checkpoint is of class {named}; networks for language modelling, classification of texts, "
            "tokens or images, question answering and embeddings are supported."
        )
    return fitting[0] if fitting else default


def named_class(config: Config) -> str:
    """Return the class that the checkpoint was saved from; empty where the configuration names none."""
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""


def check_depth(shapes: Iterable[str], prefix: str, depth: int) -> None:
    """Raise `BadCheckpointError` when one of `depth` layers has no tensors."""
    starts = len(prefix)
    found = {name[starts:].split(".", 1)[0] for name in shapes if name.startswith(prefix)}
    missing = next((index for index in range(depth) if str(index) not in found), None)
    if missing is not None:
        raise BadCheckpointError(f"config.json says {depth} layers, but layer {missing} has no tensors.")


def is_leftover(name: str) -> bool:
    """Return whether a tensor is stored, yet computed anew by whoever loads the checkpoint."""
    return name.endswith(LEFTOVERS)


def edit_heads(edited: Config, config: Config, graph: UnitGraph) -> None:
    """Write head counts and an explicit head size, which most families otherwise re-derive."""
    heads = require(config, "num_attention_heads")
    kv_heads = int(config.get("num_key_value_heads") or heads)
    per_kv = edited.pop("query_heads_per_kv_head", heads // kv_heads)
    edited["num_attention_heads"] = edited.get("num_key_value_heads", kv_heads) * per_kv
    if edited["num_attention_heads"] != heads:
        edited.setdefault("num_key_value_heads", kv_heads)
        edited["head_dim"] = graph.of_kind("kv_head")[0].cache // 2
