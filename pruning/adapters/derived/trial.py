"""A small random copy on which units are masked and cut, and both have to compute the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from prunepolicy.pruning.adapters.base import Config, Shapes
from prunepolicy.pruning.adapters.blocks import LAYERS
from prunepolicy.pruning.adapters.expert_gates import gate_router
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.keep_masks import is_dropped, kept_indices, removed_units, renumbered
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.units import VOCABULARY, UnitGraph, UnitGroup
from prunepolicy.pruning.vocabulary.token_settings import ids_named, with_new_ids

TOLERANCE = 1e-4
"""Largest difference between masked and cut that rounding explains, in standard deviations."""
FELT = 1e-3
"""Smallest difference that cut units have to make, in the same unit."""
ROWS, PROMPT, WRITTEN = 2, 20, 12
"""Texts, their tokens, and the tokens that follow: more than any sliding window of the copy sees."""
FIRST_TOKEN = 16
"""Below lie padding and other special tokens."""


class OtherTensorsError(Exception):
    """What was cut isn't what the library builds from the configuration after it."""


class Describes(Protocol):
    """What the trial asks of an adapter."""

    def units(self, config: Config, shapes: Shapes) -> UnitGraph:
        """Build the unit graph."""

    def edit_config(self, config: Config, graph: UnitGraph, plan: Plan) -> Config:
        """Return the configuration after a plan."""


class CutTrial:
    """A network with random weights, every one of which matters.

    Args:
        config: completed, and small.
        auto_class: what transformers loads it with.
    """

    def __init__(self, config: Config, auto_class: str) -> None:
        from transformers.core_model_loading import revert_weight_conversion

        self.config, self.auto_class = config, auto_class
        self.model = _random_network(config, auto_class)
        tied = getattr(self.model, "all_tied_weights_keys", None) or {}
        state = {name: tensor for name, tensor in self.model.state_dict().items() if name not in tied}
        # Copies: what is converted may share its memory with what isn't.
        stored = revert_weight_conversion(self.model, state).items()
        self.stored = {name: tensor.detach().clone().contiguous() for name, tensor in stored}
        self.inputs = inputs_of(self.model)
        self.whole = answers(self.model, self.inputs)

    def verdict(self, adapter: Describes, kind: str) -> str:
        """Return why units of a kind can't be cut; '' where everything agrees."""
        graph = adapter.units(self.config, {name: tuple(t.shape) for name, t in self.stored.items()})
        if kind == VOCABULARY:
            return self._said_of_tokens(adapter, graph)
        plans = layer_plans(graph) if kind == "layer" else [random_plan(graph, kind)]
        return next((said for plan in plans if (said := self._said_of(adapter, graph, plan))), "")

    def _said_of(self, adapter: Describes, graph: UnitGraph, plan: Plan) -> str:
        """Return what is wrong with the network after a plan; '' for nothing."""
        removed = removed_units(graph, plan.keep)
        with ExitStack() as stack:
            masked = self._load(self.config, self._with_silent_experts(graph, plan))
            _silence(stack, masked, graph, removed)
            expected = answers(masked, self.inputs)
        pruned = self._load(adapter.edit_config(self.config, graph, plan), dict(self._cut(graph, removed)))
        found, spread = answers(pruned, self.inputs), float(expected.std())
        difference = float((found - expected).abs().max()) / spread
        if not difference <= TOLERANCE:
            return f"the network without them computes something else ({difference:.2g} of the spread)"
        if not float((expected - self.whole).abs().max()) / spread > FELT:
            return "what is answered to a text doesn't depend on them"
        if cost_of(graph, plan.keep).params != sum(p.numel() for p in pruned.parameters()):
            return "the parameters that are left don't add up"
        if not cache_agrees(pruned) and cache_agrees(self.model):
            return "the network without them answers otherwise with a cache than without"
        return ""

    def _said_of_tokens(self, adapter: Describes, graph: UnitGraph) -> str:
        """Return what is wrong with the network after half of its tokens have gone; '' for nothing."""
        kept = [token for token in range(graph[VOCABULARY].size) if token < FIRST_TOKEN or token % 2]
        kept = sorted({*kept, *(token for token in ids_named(self.config) if token < graph[VOCABULARY].size)})
        plan = Plan({VOCABULARY: tuple(kept)}, Budget(0.5), "trial")
        new = with_new_ids(
            adapter.edit_config(self.config, graph, plan),
            {old: place for place, old in enumerate(kept)},
            graph[VOCABULARY].size,
        )
        pruned = self._load(new, dict(self._cut(graph, removed_units(graph, plan.keep))))
        inputs, old = inputs_of(pruned), torch.tensor(kept)
        found = answers(pruned, inputs)
        with ExitStack() as stack:
            # What follows the head has to take fewer logits.
            network: Any = self.model
            head = network.get_output_embeddings()
            if head is not None:
                stack.callback(head.register_forward_hook(lambda _, read, logits: logits[..., old]).remove)
            expected = answers(self.model, {name: old[tokens] for name, tokens in inputs.items()})
        if not float((found - expected).abs().max()) <= TOLERANCE * float(expected.std()):
            return "the network without them answers otherwise to the others"
        if cost_of(graph, plan.keep).params != sum(p.numel() for p in pruned.parameters()):
            return "the parameters that are left don't add up"
        return ""

    def _load(self, config: Config, tensors: Mapping[str, Tensor]) -> nn.Module:
        """Load tensors by the checkpoint's names.

        Raises:
            OtherTensorsError: when one is missing, left over or of another shape.
        """
        import transformers

        settings = transformers.AutoConfig.for_model(**config)
        stock: Any = type(self.model)
        model, info = stock.from_pretrained(
            None,
            config=settings,
            state_dict=dict(tensors),
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # They are refused below, by name.
        )
        mismatched = [name for name, *_ in info["mismatched_keys"]]
        if wrong := sorted([*info["missing_keys"], *info["unexpected_keys"], *mismatched]):
            raise OtherTensorsError(f"transformers then builds other tensors, {wrong[0]} among them")
        loaded: nn.Module = model.eval()
        return loaded

    def _cut(self, graph: UnitGraph, removed: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
        """Yield what stays of every tensor."""
        for name, tensor in self.stored.items():
            if is_dropped(graph, removed, name):
                continue
            for axis, kept in kept_indices(graph, removed, name).items():
                tensor = tensor.index_select(axis, torch.from_numpy(kept))
            yield renumbered(graph, removed, name), tensor

    def _with_silent_experts(self, graph: UnitGraph, plan: Plan) -> dict[str, Tensor]:
        """Return all tensors, with zeros where stacked experts would read channels that go."""
        tensors = dict(self.stored)
        for group in graph.groups:
            if group.gate is None or group.gate.how != "fused_experts":
                continue
            gone = np.setdiff1d(np.arange(group.size), plan.kept(group))
            for part in (part for part in group.slices if part.consumer):
                entries = torch.from_numpy(part.indices(gone).ravel())
                tensors[part.tensor] = tensors[part.tensor].index_fill(part.axis, entries, 0)
        return tensors


def layer_plans(graph: UnitGraph) -> list[Plan]:
    """Return plans that drop the first layer, the last, and some between: rules about numbers show."""
    depth = graph[LAYERS].size
    kept = (range(1, depth), range(depth - 1), [layer for layer in range(depth) if layer % 3 != 1])
    return [Plan({LAYERS: tuple(layers)}, Budget(0.5), "trial") for layers in kept]


def random_plan(graph: UnitGraph, kind: str) -> Plan:
    """Return a plan that keeps a random half of all units of a kind, other ones in every group."""
    rng = np.random.default_rng(0)
    keep = {}
    for groups in graph.ties.values():
        size, multiple = groups[0].size, groups[0].multiple_of
        count = max(groups[0].floor, max(1, (size // 2 - size // 8) // multiple) * multiple)
        for group in groups:
            if group.kind == kind and count < size:
                keep[group.name] = tuple(sorted(rng.permutation(size)[:count].tolist()))
    return Plan(keep, Budget(0.5), "trial")


def inputs_of(model: Any) -> dict[str, Tensor]:
    """Return seeded inputs of the model's kind."""
    generator, settings = torch.Generator().manual_seed(0), model.config
    if model.main_input_name == "pixel_values":
        side = settings.image_size
        return {"pixel_values": torch.randn(ROWS, settings.num_channels, side, side, generator=generator)}
    text = settings.get_text_config(decoder=True)
    size = (ROWS, PROMPT + WRITTEN)
    inputs = {"input_ids": torch.randint(FIRST_TOKEN, text.vocab_size, size, generator=generator)}
    if settings.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"].flip(1)
    return inputs


@torch.no_grad()
def answers(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return a network's logits, or its last hidden state."""
    outputs = model(**inputs)
    named = ("logits", "prediction_logits", "start_logits", "last_hidden_state")
    found: Tensor = outputs[next(name for name in named if name in outputs)]
    return found.float()


def cache_agrees(model: Any) -> bool:
    """Return whether a model that writes does so alike with a cache and without."""
    import transformers

    if not model.can_generate() or model.config.is_encoder_decoder:
        return True
    prompt = inputs_of(model)["input_ids"][:1, :PROMPT]
    model.generation_config = transformers.GenerationConfig(
        max_new_tokens=WRITTEN, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    mask = torch.ones_like(prompt)
    cached, plain = (model.generate(prompt, attention_mask=mask, use_cache=use) for use in (True, False))
    for one, other in zip(cached.logits, plain.logits, strict=True):
        if float((one - other).abs().max()) > 1e-3 * float(other.std()):
            return False
        if not torch.equal(one.argmax(-1), other.argmax(-1)):
            break  # Two tokens are equally likely; from here on the texts differ.
    return True


def _random_network(config: Config, auto_class: str) -> nn.Module:
    """Return a network whose norms and biases aren't the ones and zeros that training starts with."""
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        settings = transformers.AutoConfig.for_model(**config)
        model: nn.Module = getattr(transformers, auto_class).from_config(settings, dtype=torch.float32)
        with torch.no_grad():
            for tensor in filter(torch.is_floating_point, model.state_dict().values()):
                noise = torch.randn_like(tensor)
                if tensor.dim() > 1:
                    tensor.copy_(noise * min(0.12, tensor.shape[-1] ** -0.5))
                else:
                    tensor.add_(0.1 * noise)
    return model.eval()


def _silence(stack: ExitStack, model: nn.Module, graph: UnitGraph, removed: Mapping[str, Any]) -> None:
    """Set what gated modules read of removed units to zero, until `stack` unwinds."""
    for name, units in removed.items():
        group = graph[name]
        assert group.gate is not None
        module = model.get_submodule(group.gate.module)
        if group.gate.how == "router":
            stays = torch.ones(group.size).index_fill(0, torch.from_numpy(units), 0)
            gate_router(stack, module, stays)
        elif group.gate.how == "input":
            stack.callback(module.register_forward_pre_hook(_zeroing(group, units)).remove)
        elif group.gate.how == "residual":
            for layer in units:
                hook = module.get_submodule(str(layer)).register_forward_hook(_passing_by, with_kwargs=True)
                stack.callback(hook.remove)


def _zeroing(group: UnitGroup, units: Any) -> Any:
    part = next(part for part in group.slices if part.consumer)
    entries = torch.from_numpy(part.indices(units).ravel())

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].index_fill(-1, entries, 0), *inputs[1:])

    return hook


def _passing_by(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
    """Hand on what a layer reads instead of what it writes."""
    before = inputs[0] if inputs else named["hidden_states"]
    return (before, *output[1:]) if isinstance(output, tuple) else before
