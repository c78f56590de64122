"""The blocks of a transformer layer as unit groups, from the names of their projections."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prunepolicy.pruning.adapters.base import Config, Shapes, require
from prunepolicy.pruning.errors import BadCheckpointError
from prunepolicy.pruning.units import Gate, Slice, UnitGroup

LAYERS = "layers"


@dataclass(frozen=True)
class Layer:
    """One layer of a checkpoint.

    Attributes:
        index: its number.
        prefix: what its tensors' names start with.
        running: what its modules' names start with in the running model, which may differ.
        config: of the whole network.
        shapes: of all tensors.
    """

    index: int
    prefix: str
    running: str
    config: Config
    shapes: Shapes

    @property
    def name(self) -> str:
        """What the names of the layer's groups start with."""
        return f"{LAYERS}.{self.index}"


@dataclass(frozen=True)
class Ffn:
    """Names of a feed-forward block, relative to its layer.

    Attributes:
        rows: projections that write the channels (gate, up, or fc1).
        columns: the projection that reads them.
        size_key: configuration key of the number of channels.
        halves: how many equal parts `rows` stacks along its output (2 for gate_up).
        transposed: weights are stored (in, out), as GPT-2's Conv1D does.
        running: name of `columns` in the running model, where it differs.
    """

    rows: tuple[str, ...]
    columns: str
    size_key: str
    halves: int = 1
    transposed: bool = False
    running: str | None = None


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


def period_of(*lists: Sequence[object]) -> int:
    """Return after how many layers their kinds repeat, by lists of one entry per layer; 1 where none do."""
    periods = [
        next(
            (n for n in range(1, len(kinds) // 2 + 1) if all(k == kinds[i % n] for i, k in enumerate(kinds))),
            1,
        )
        for kinds in lists
    ]
    together = math.lcm(*periods)
    return together if all(2 * together <= len(kinds) for kinds in lists) else 1


def ffn_group(ffn: Ffn, layer: Layer, name: str = "ffn") -> UnitGroup:
    """Return the group of one feed-forward block's channels."""
    columns = f"{layer.prefix}{ffn.columns}.weight"
    return UnitGroup(
        f"{layer.name}.{name}",
        "ffn",
        axis_length(layer.shapes, columns, 0 if ffn.transposed else 1),
        ffn.size_key,
        tuple(ffn_slices(ffn, layer.prefix, layer.shapes)),
        gate=Gate(layer.running + (ffn.running or ffn.columns)),
        layer=layer.index,
    )


def ffn_slices(ffn: Ffn, prefix: str, shapes: Shapes) -> Iterator[Slice]:
    """Yield the entries of a feed-forward block's channels; tensor names start with `prefix`."""
    out_axis, in_axis = (1, 0) if ffn.transposed else (0, 1)
    columns = f"{prefix}{ffn.columns}.weight"
    size = axis_length(shapes, columns, in_axis)
    for row in ffn.rows:
        for half in range(ffn.halves):
            yield Slice(f"{prefix}{row}.weight", out_axis, offset=half * size)
            if f"{prefix}{row}.bias" in shapes:
                yield Slice(f"{prefix}{row}.bias", 0, offset=half * size)
    yield Slice(columns, in_axis, consumer=True)


def attention_groups(names: Attention, layer: Layer) -> Iterator[UnitGroup]:
    """Yield the group of KV heads (with their query heads) and that of query heads within them."""
    heads = require(layer.config, "num_attention_heads")
    kv_heads = int(layer.config.get("num_key_value_heads") or heads)
    head_dim = axis_length(layer.shapes, f"{layer.prefix}{names.output}.weight", 1) // heads
    gate = Gate(layer.running + names.output)
    yield UnitGroup(
        f"{layer.name}.kv_heads",
        "kv_head",
        kv_heads,
        "num_key_value_heads",
        tuple(kv_slices(names, layer, (heads, kv_heads, head_dim))),
        gate=gate,
        layer=layer.index,
        cache=2 * head_dim,
    )
    if heads > kv_heads:
        yield UnitGroup(
            f"{layer.name}.query_heads",
            "query_head",
            heads // kv_heads,
            "query_heads_per_kv_head",
            tuple(query_slices(names, layer, (heads, kv_heads, head_dim))),
            gate=gate,
            layer=layer.index,
        )


def kv_slices(names: Attention, layer: Layer, sizes: tuple[int, int, int]) -> Iterator[Slice]:
    """Yield the entries of KV heads; `sizes` are heads, KV heads and the size of a head."""
    heads, kv_heads, head_dim = sizes
    group_width = heads // kv_heads * head_dim
    fused = names.query == names.key
    key_at, value_at = (heads * head_dim, (heads + kv_heads) * head_dim) if fused else (0, 0)
    for suffix in ("weight", "bias"):
        if f"{layer.prefix}{names.query}.{suffix}" in layer.shapes:
            yield Slice(f"{layer.prefix}{names.query}.{suffix}", 0, group_width)
            yield Slice(f"{layer.prefix}{names.key}.{suffix}", 0, head_dim, key_at)
            yield Slice(f"{layer.prefix}{names.value}.{suffix}", 0, head_dim, value_at)
    yield Slice(f"{layer.prefix}{names.output}.weight", 1, group_width, consumer=True)


def query_slices(names: Attention, layer: Layer, sizes: tuple[int, int, int]) -> Iterator[Slice]:
    """Yield the entries of the k-th query head of every KV head; `sizes` as for `kv_slices`."""
    heads, kv_heads, head_dim = sizes
    period = heads // kv_heads * head_dim
    for suffix in ("weight", "bias"):
        query = f"{layer.prefix}{names.query}.{suffix}"
        if query in layer.shapes:
            yield Slice(query, 0, head_dim, blocks=kv_heads, period=period)
    output = f"{layer.prefix}{names.output}.weight"
    yield Slice(output, 1, head_dim, blocks=kv_heads, period=period, consumer=True)


def axis_length(shapes: Shapes, tensor: str, axis: int) -> int:
    """Return a tensor's size along `axis`, or raise `BadCheckpointError` that names the tensor."""
    if tensor not in shapes:
        raise BadCheckpointError(f"The checkpoint lacks {tensor!r}, which its configuration implies.")
    return shapes[tensor][axis]
