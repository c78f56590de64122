"""Transformer families, described by the names of their projections instead of by code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from prunepolicy.pruning.adapters.base import Config, ModelAdapter, Shapes, layer_root, require
from prunepolicy.pruning.errors import BadCheckpointError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import Gate, Slice, TensorSpec, UnitGraph, UnitGroup

LAYERS = "layers"


@dataclass(frozen=True)
class Ffn:
    """Names of a feed-forward block, relative to its layer.

    Attributes:
        rows: projections that write the channels (gate, up, or fc1).
        columns: the projection that reads them.
        size_key: configuration key of the number of channels.
        halves: how many equal parts `rows` stacks along its output (2 for gate_up).
        transposed: weights are stored (in, out), as GPT-2's Conv1D does.
    """

    rows: tuple[str, ...]
    columns: str
    size_key: str
    halves: int = 1
    transposed: bool = False


@dataclass(frozen=True)
class Attention:
    """Names of an attention block, relative to its layer.

    Attributes:
        query, key, value: projections; one name for all three means they are stacked in this
            order along the output.
        output: the projection that reads the heads.
    """

    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    output: str = "self_attn.o_proj"


class TransformerAdapter(ModelAdapter):
    """A stack of equal layers with a feed-forward block and, where heads can go, attention.

    Attributes:
        marker: what precedes the layer number in tensor names.
        ffn: the feed-forward block; None where a family has none that is plain.
        attention: the attention block; None where transformers derives the head size from the
            hidden size, so that no checkpoint with fewer heads would load.
        layers_key: configuration key of the number of layers.
    """

    marker: ClassVar[str] = "layers."
    ffn: ClassVar[Ffn | None] = None
    attention: ClassVar[Attention | None] = None
    layers_key: ClassVar[str] = "num_hidden_layers"

    def units(self, config: Config, shapes: Shapes) -> UnitGraph:
        """Build the unit graph: per layer its heads and channels, then the layers themselves."""
        prefix = layer_root(shapes, self.marker) + self.marker
        depth = require(config, self.layers_key)
        missing = [i for i in range(depth) if not any(n.startswith(f"{prefix}{i}.") for n in shapes)]
        if missing:
            raise BadCheckpointError(
                f"config.json says {depth} layers, but layer {missing[0]} has no tensors."
            )
        groups: list[UnitGroup] = []
        own_sizes = config.get("per_layer_sizes") or [{}] * depth
        for index in range(depth):
            own = {**config, **own_sizes[index]}
            groups.extend(self.layer_groups(own, shapes, f"{prefix}{index}.", index))
        groups.append(
            UnitGroup(
                LAYERS, "layer", depth, self.layers_key, prefix=prefix, gate=Gate(prefix.rstrip("."), "residual")
            )
        )
        edges = tuple((i, i + 1) for i in range(len(groups) - 2))
        return UnitGraph(self.family, self.tensor_specs(config, shapes), tuple(groups), edges)

    @property
    def family(self) -> str:
        """The registered name: that of the file."""
        return type(self).__module__.rsplit(".", 1)[-1]

    def layer_groups(
        self, config: Config, shapes: Shapes, prefix: str, index: int
    ) -> Iterator[UnitGroup]:
        """Yield the groups inside one layer, whose tensor names start with `prefix`."""
        if self.attention is not None:
            yield from attention_groups(self.attention, config, shapes, prefix, index)
        if self.ffn is not None:
            yield ffn_group(self.ffn, config, shapes, prefix, index)

    def tensor_specs(self, config: Config, shapes: Shapes) -> dict[str, TensorSpec]:
        """Price every tensor: 2 operations per matrix entry and token, none for look-ups."""
        specs = {name: TensorSpec(shape, 2.0 * self.multiplies(name, shape)) for name, shape in shapes.items()}
        if config.get("tie_word_embeddings"):
            for name, spec in specs.items():
                if self.is_embedding(name):
                    specs[name] = replace(spec, flops=2.0)
        return specs

    def multiplies(self, name: str, shape: tuple[int, ...]) -> bool:
        """Return whether a token passes through every entry of this tensor."""
        return len(shape) >= 2 and "embed" not in name

    def is_embedding(self, name: str) -> bool:
        """Return whether this is the token embedding, which a tied head reads as a matrix."""
        return name.endswith("embed_tokens.weight")

    def edit_config(self, config: Config, graph: UnitGraph, plan: Plan) -> Config:
        """Write the sizes that stay under their configuration keys."""
        edited = dict(config)
        gone = plan.dropped_layers(graph)
        for tie, groups in graph.ties.items():
            staying = [group for group in groups if group.layer not in gone]
            counts = {len(plan.kept(group)) for group in staying}
            if counts and counts != {staying[0].size}:
                edited[tie] = max(counts)
        if self.attention is not None:
            edit_heads(edited, config, graph, plan)
        if gone:
            edit_layer_lists(edited, config, self.layers_key, plan.kept(graph[LAYERS]))
        return edited


def ffn_group(ffn: Ffn, config: Config, shapes: Shapes, prefix: str, index: int, name: str = "ffn") -> UnitGroup:
    """Return the group of one feed-forward block's channels."""
    out_axis, in_axis = (1, 0) if ffn.transposed else (0, 1)
    columns = f"{prefix}{ffn.columns}.weight"
    size = axis_length(shapes, columns, in_axis)
    slices = []
    for row in ffn.rows:
        for half in range(ffn.halves):
            slices.append(Slice(f"{prefix}{row}.weight", out_axis, offset=half * size))
            if f"{prefix}{row}.bias" in shapes:
                slices.append(Slice(f"{prefix}{row}.bias", 0, offset=half * size))
    slices.append(Slice(columns, in_axis, consumer=True))
    return UnitGroup(
        f"{LAYERS}.{index}.{name}",
        "ffn",
        size,
        ffn.size_key,
        tuple(slices),
        gate=Gate(prefix + ffn.columns),
        layer=index,
    )


def attention_groups(
    names: Attention, config: Config, shapes: Shapes, prefix: str, index: int
) -> Iterator[UnitGroup]:
    """Yield the group of KV heads (with their query heads) and that of query heads within them."""
    heads = require(config, "num_attention_heads")
    kv_heads = int(config.get("num_key_value_heads") or heads)
    output = f"{prefix}{names.output}.weight"
    head_dim = axis_length(shapes, output, 1) // heads
    per_kv = heads // kv_heads
    gate = Gate(prefix + names.output)
    fused = names.query == names.key
    key_at, value_at = (heads * head_dim, (heads + kv_heads) * head_dim) if fused else (0, 0)
    kv_slices: list[Slice] = []
    query_slices: list[Slice] = []
    for suffix in ("weight", "bias"):
        query, key, value = (f"{prefix}{name}.{suffix}" for name in (names.query, names.key, names.value))
        if query not in shapes:
            continue
        kv_slices.append(Slice(query, 0, per_kv * head_dim))
        kv_slices.append(Slice(key, 0, head_dim, key_at))
        kv_slices.append(Slice(value, 0, head_dim, value_at))
        query_slices.append(Slice(query, 0, head_dim, blocks=kv_heads, period=per_kv * head_dim))
    kv_slices.append(Slice(output, 1, per_kv * head_dim, consumer=True))
    query_slices.append(
        Slice(output, 1, head_dim, blocks=kv_heads, period=per_kv * head_dim, consumer=True)
    )
    group = f"{LAYERS}.{index}"
    yield UnitGroup(
        f"{group}.kv_heads", "kv_head", kv_heads, "num_key_value_heads", tuple(kv_slices),
        gate=gate, layer=index, cache=2 * head_dim,
    )  # fmt: skip
    if per_kv > 1:
        yield UnitGroup(
            f"{group}.query_heads", "query_head", per_kv, "query_heads_per_kv_head", tuple(query_slices),
            gate=gate, layer=index,
        )  # fmt: skip


def edit_heads(edited: Config, config: Config, graph: UnitGraph, plan: Plan) -> None:
    """Write head counts and an explicit head size, which most families otherwise re-derive."""
    heads = require(config, "num_attention_heads")
    kv_heads = int(config.get("num_key_value_heads") or heads)
    per_kv = edited.pop("query_heads_per_kv_head", heads // kv_heads)
    edited["num_attention_heads"] = edited.get("num_key_value_heads", kv_heads) * per_kv
    if edited["num_attention_heads"] != heads:
        edited.setdefault("num_key_value_heads", kv_heads)
        edited["head_dim"] = config.get("head_dim") or require(config, "hidden_size") // heads


def edit_layer_lists(edited: Config, config: Config, key: str, kept: tuple[int, ...]) -> None:
    """Shorten every per-layer list (layer_types, ...) to the layers that stay."""
    depth = require(config, key)
    for name, value in config.items():
        if isinstance(value, list) and len(value) == depth and name != "architectures":
            edited[name] = [value[layer] for layer in kept]


def axis_length(shapes: Shapes, tensor: str, axis: int) -> int:
    """Return a tensor's size along `axis`, or raise `BadCheckpointError` that names the tensor."""
    if tensor not in shapes:
        raise BadCheckpointError(f"The checkpoint lacks {tensor!r}, which its configuration implies.")
    return shapes[tensor][axis]
