"""Re-fit the FFN blocks one after the other, so that every layer's output matches the dense one's.

`ridge` gives each block what its own lost channels would have written, as if nothing had gone wrong before
it. Here a block reads what the cut and repaired network hands it, and makes up for whatever the stream of
hidden states lacks by then: channels that went, layers that went, and what earlier blocks couldn't repair.
The idea is that of asymmetric reconstruction, there for convolutions and their own outputs (Zhang et al.,
"Accelerating Very Deep Convolutional Networks for Classification and Detection").

The network runs twice: dense, which no later plan for it has to repeat, and cut, repaired layer by layer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.pruning.checkpoint.cut import Edits
from prunepolicy.pruning.keep_masks import removed_units
from prunepolicy.pruning.repair.refit import LeastSquares, Refitter, Samples, divided
from prunepolicy.pruning.repair.registry import RepairContext, repair
from prunepolicy.pruning.repair.ridge import ridge
from prunepolicy.pruning.statistics.gates import find_module, masked
from prunepolicy.pruning.statistics.probe import Inputs, read_whole
from prunepolicy.pruning.units import UnitGroup, consumer_of, read_by_columns

HEADS = ("kv_head", "query_head")
CHECKED = 8
"""Tokens of one sample on which it is checked that layers add what their blocks write."""
TOLERANCE = 0.25
"""Typical relative deviation that rounding explains; what a norm does to a block's output is far more."""


@repair("ffn", "layer")
def reconstruction(context: RepairContext) -> Edits:
    """Return re-fitted projections for every FFN block from the first cut on.

    Networks whose layers don't simply add what one block writes (several experts, norms after the block)
    get `ridge`. So do plans that take heads: a block can't do attention's work, and blocks that tried did
    worse on text that they weren't fitted on.
    """
    graph, blocks = context.checkpoint.graph, _blocks(context)
    loses_heads = any(graph[name].kind in HEADS for name in removed_units(graph, context.plan.keep))
    if blocks is None or loses_heads or not _all_add(context, blocks):
        return ridge(context)
    gone = context.plan.dropped_layers(graph)
    refitter = Refitter()
    rebuilt = [
        _Rebuilt(context, group, layer, refitter) for group, layer in blocks if group.layer not in gone
    ]
    _remember_dense(context, blocks)
    with ExitStack() as stack:
        stack.enter_context(masked(context.model, graph, context.plan))
        for block in rebuilt:
            block.attach(stack)
        read_whole(context.model, context.inputs)
    found = {consumer_of(block.group).tensor: block.found for block in rebuilt}
    return Edits({name: weight for name, weight in found.items() if weight is not None})


@dataclass
class _Rebuilt:
    """A block that is re-fitted as the pass comes by.

    Attributes:
        layer: the running layer that adds what the block writes.
        refitter: of all blocks.
        found: the re-fitted weight, as the cut checkpoint stores it; None where nothing was missing.
    """

    context: RepairContext
    group: UnitGroup
    layer: nn.Module
    refitter: Refitter
    found: Tensor | None = None
    read: list[Tensor] = field(default_factory=list)

    def attach(self, stack: ExitStack) -> None:
        """Hook the block and its layer for one forward pass."""
        assert self.group.gate is not None
        block = find_module(self.context.model, self.group.gate.module)
        stack.callback(block.register_forward_hook(self._reads).remove)
        stack.callback(self.layer.register_forward_hook(self._hands_on).remove)

    def _reads(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.read = [inputs[0]]

    def _hands_on(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Re-fit the block, and add to the layer's output what the re-fitted block writes more."""
        hidden = _hidden(output)
        missing = self.context.dense[self.group.name].to(hidden.device).float() - hidden.float()
        read = self.read.pop()
        if not missing.any():
            self.context.tick(1)
            return output
        repaired = (hidden.float() + self._change(read, missing)).to(hidden.dtype)
        self.context.tick(1)
        return (repaired, *output[1:]) if isinstance(output, tuple) else repaired

    def _change(self, read: Tensor, missing: Tensor) -> Tensor:
        """Return how much more the re-fitted block writes; `missing` is what it should."""
        # Asymmetric reconstruction (Zhang et al., 2016): with x what the kept channels are in the cut network
        # and r = dense - cut output of the layer, the change D of the projection W is
        #     argmin_D  sum |r - D x|^2 + lambda |D|^2  =  (sum r x^T) (sum x x^T + lambda I)^-1.
        # Reading x from the cut network, not from the dense one, lets D also undo earlier layers' errors.
        part, device = consumer_of(self.group), read.device
        weight = self.context.checkpoint.read(part.tensor)
        kept = torch.tensor(self.context.plan.kept(self.group))
        columns = weight.float().movedim(part.axis, 1)[:, kept].to(device)
        # Whole samples on either side: tokens of one text are too alike to choose lambda on.
        count = len(next(iter(self.context.inputs.values())))
        x = read[..., kept.to(device)].float().reshape(count, -1, len(kept))
        r = missing.reshape(count, -1, missing.shape[-1])
        fitted, held_out = (Samples(x[rows].flatten(0, 1), r[rows].flatten(0, 1)) for rows in divided(count))
        new = self.refitter(columns, LeastSquares.of_samples(fitted, held_out)).to(weight.dtype)
        self.found = new.movedim(1, part.axis).contiguous().cpu()
        # The rounded weight, not the exact one: later blocks must see what the stored checkpoint computes.
        return (x @ (new.float() - columns).T).view_as(missing)


def _blocks(context: RepairContext) -> list[tuple[UnitGroup, nn.Module]] | None:
    """Return FFN blocks with their running layers, None unless every layer has exactly one."""
    graph = context.checkpoint.graph
    layers = next((group for group in graph.of_kind("layer") if group.gate), None)
    groups = graph.of_kind("ffn")
    alone = len({group.layer for group in groups} - {None}) == len(groups)
    if layers is None or not alone or not all(map(read_by_columns, groups)):
        return None
    assert layers.gate is not None
    running = find_module(context.model, layers.gate.module)
    return [(group, running.get_submodule(str(group.layer))) for group in groups]


def _remember_dense(context: RepairContext, blocks: list[tuple[UnitGroup, nn.Module]]) -> None:
    """Keep the outputs of the dense model's layers, in main memory."""
    if all(group.name in context.dense for group, _ in blocks):
        return
    with ExitStack() as stack:
        for group, layer in blocks:

            def keep(module: nn.Module, inputs: Any, output: Any, name: str = group.name) -> None:
                context.dense[name] = _hidden(output).detach().cpu()

            stack.callback(layer.register_forward_hook(keep).remove)
        read_whole(context.model, context.inputs)


def _hidden(output: Any) -> Tensor:
    """Return the hidden states among a layer's outputs."""
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


def _twice(inputs: Inputs) -> dict[str, Tensor]:
    return {name: torch.cat([tensor, tensor]) for name, tensor in inputs.items()}


def _all_add(context: RepairContext, blocks: list[tuple[UnitGroup, nn.Module]]) -> bool:
    """Return whether doubling a block's output adds exactly that output to its layer's."""
    # Where a norm follows the block (Gemma 2, post-norm), a layer is not linear in what the block writes, and
    # the least-squares problem above would solve for the wrong target.
    one = {n: t[:1, :CHECKED] if t.dim() == 2 else t[:1] for n, t in context.inputs.items()}
    deviations: list[float] = []
    with ExitStack() as stack:
        for group, layer in blocks:
            assert group.gate is not None
            doubled, compared = _comparison(deviations)
            block = find_module(context.model, group.gate.module)
            stack.callback(block.register_forward_hook(doubled).remove)
            stack.callback(layer.register_forward_hook(compared).remove)
        read_whole(context.model, _twice(one))
    return max(deviations, default=0.0) < TOLERANCE


def _comparison(deviations: list[float]) -> tuple[Callable[..., Tensor], Callable[..., Any]]:
    """Return hooks for a block and its layer that note by how much the layer's output is off."""
    wrote: list[Tensor] = []

    def doubled(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        once = output.chunk(2)[0]
        wrote[:] = [once.float()]
        return torch.cat([once, 2 * once])

    def compared(module: nn.Module, inputs: Any, output: Any) -> Any:
        first, second = _hidden(output).chunk(2)
        added = wrote.pop().view_as(first)
        off = (second.float() - first.float() - added).abs().median() / added.abs().median().clamp(min=1e-30)
        deviations.append(float(off))
        restored = torch.cat([first, first])
        return (restored, *output[1:]) if isinstance(output, tuple) else restored

    return doubled, compared
