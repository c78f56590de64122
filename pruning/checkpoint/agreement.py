"""Whether a configuration and the tensors beside it speak of the same network."""

from __future__ import annotations

from collections import Counter

from prunepolicy.pruning.adapters.base import Config, Shapes, Vocabulary
from prunepolicy.pruning.errors import BadCheckpointError
from prunepolicy.pruning.units import UnitGraph, UnitGroup

WHOLE = ("ffn", "kv_head")
"""Kinds whose units own every entry along the axes they touch; others share axes."""

STORED_BY_ALL = (
    "hidden_size",
    "intermediate_size",
    "num_channels",
    "n_positions",
    "n_embd",
    "n_inner",
)
STORED = ("vocab_size", *STORED_BY_ALL)
"""Numbers in a configuration that are the length of some tensor's axis."""
MOST_PIXELS = 4096
"""Of an image's side, which no tensor of a convolutional network tells."""


def check_not_empty(shapes: Shapes) -> None:
    """Raise `BadCheckpointError` when a weight was saved without its values."""
    # Other tensors, and other axes, are empty in some healthy networks (no register tokens, no state).
    hollow = [n for n, shape in shapes.items() if n.endswith((".weight", ".bias")) and shape[:1] == (0,)]
    if hollow:
        raise BadCheckpointError(
            f"{len(hollow)} weights are stored empty, the first is {hollow[0]!r} of shape "
            f"{list(shapes[hollow[0]])}: sharded training (ZeRO-3, FSDP) leaves such when a model is saved "
            "without being gathered; gather it and save it again."
        )


def check_vocabulary(config: Config, words: Vocabulary, shapes: Shapes, tied: bool) -> None:
    """Raise `BadCheckpointError` when embedding or head are missing, or of another vocabulary."""
    stated = config.get("vocab_size")
    for name in (words.embedding, words.head):
        if name and isinstance(stated, int) and shapes[name][:1] != (stated,):
            raise BadCheckpointError(
                f"config.json says vocab_size = {stated}, but {name!r} has {shapes[name][0]} rows; "
                "the weights are right, so correct config.json."
            )
    if words.needs_head and words.embedding and not words.head and not tied:
        raise BadCheckpointError(
            "config.json says that embedding and head are two matrices (tie_word_embeddings is false), but "
            "no head is stored. Set it to true if the embedding is the head, or fetch the model again."
        )


def check_agreement(config: Config, graph: UnitGraph, shapes: Shapes, reads_text: bool = True) -> None:
    """Raise `BadCheckpointError` when `config` states other sizes than the tensors have."""
    # Image networks that learned by filling in visual tokens state how many, and hold none of them.
    _check_sizes(config, shapes, STORED if reads_text else STORED_BY_ALL)
    for tie, groups in graph.ties.items():
        stated, found = config.get(tie), max(group.size for group in groups)
        if stated is not None and found not in (stated if isinstance(stated, list) else [stated]):
            raise BadCheckpointError(f"config.json says {tie} = {stated!r}, but the weights have {found}.")
    for tensor in shapes:
        for group, unit in graph.owner_of(tensor):
            if unit >= group.size:
                raise BadCheckpointError(
                    f"config.json says {group.size} {group.name}, but there is {tensor!r}."
                )
    for group in graph.groups:
        _check_owned(group, shapes)


def _check_sizes(config: Config, shapes: Shapes, stored: tuple[str, ...]) -> None:
    """Refuse numbers that would size more than what is stored, before anything is made that large."""
    longest = max((length for shape in shapes.values() for length in shape), default=0)
    for key, most in (*((key, longest) for key in stored), ("image_size", MOST_PIXELS)):
        stated = config.get(key)
        if isinstance(stated, int | float) and not stated <= most:
            reason = "no tensor is that long" if key in stored else f"at most {most:,} pixels are taken"
            raise BadCheckpointError(f"config.json says {key} = {stated}, but {reason}.")


def _check_owned(group: UnitGroup, shapes: Shapes) -> None:
    """Compare the entries that the group's units own with the lengths of the tensors' axes."""
    owned: Counter[tuple[str, int]] = Counter()
    for part in group.slices:
        owned[part.tensor, part.axis] += part.blocks * group.size * part.width
        shape = shapes.get(part.tensor, ())
        end = part.offset + (part.blocks - 1) * part.period + group.size * part.width
        if part.axis >= len(shape) or end > shape[part.axis]:
            raise _disagreement(group, part.tensor, shape)
    for (tensor, axis), count in owned.items():
        if group.kind in WHOLE and count != shapes[tensor][axis]:
            raise _disagreement(group, tensor, shapes[tensor])


def _disagreement(group: UnitGroup, tensor: str, shape: tuple[int, ...]) -> BadCheckpointError:
    return BadCheckpointError(
        f"config.json disagrees with the weights: {tensor!r} of shape {list(shape)} doesn't hold "
        f"{group.size} units of {group.name!r}."
    )
