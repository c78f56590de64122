"""What a run by TRL will need: memory of the learner's device, and hours, before anything starts.

Memory is counted from the model's sizes. Time is what the arithmetic of learning and the memory traffic of
decoding take on one kind of GPU at the shares below; TRL generates and learns in turn.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import torch
from rich.table import Table

from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe
from prunepolicy.envs.thinking.schedule import Schedule
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.console import Console

GPUS = (1, 4, 8)
PEAK_FLOPS, BANDWIDTH = 989e12, 3.35e12
"""Of an H100 SXM: dense bfloat16 FLOP/s, bytes/s of its memory."""
FLOPS_SHARE, BANDWIDTH_SHARE = 0.2, 0.2
"""What learning and decoding are taken to reach of them: rows of like lengths are rare, and a batch waits for
its longest completion. AutoThink's published 700 H100-hours are twice what comes of it."""
STREAMS = 128
"""Completions that a GPU decodes at once."""
FILLED = 0.5
"""Mean length of completions as a share of the longest allowed."""
GIB = 1 << 30


@dataclass(frozen=True)
class ModelSizes:
    """Sizes of a language model.

    Attributes:
        kv: values that the cache keeps per token and layer.
    """

    parameters: int
    layers: int
    hidden: int
    ffn: int
    kv: int

    @classmethod
    def of(cls, recipe: ThinkRecipe) -> ModelSizes:
        """Read them from a model's configuration; no weights are loaded.

        Raises:
            PrunePolicyError: when it can't be read.
        """
        from transformers import AutoConfig, AutoModelForCausalLM

        try:
            config = AutoConfig.from_pretrained(recipe.model, trust_remote_code=False)
            with torch.device("meta"):
                parameters = AutoModelForCausalLM.from_config(config).num_parameters()
        except (OSError, ValueError) as error:
            raise PrunePolicyError(f"Can't read the configuration of {recipe.model}: {error}") from error
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        kv = 2 * (getattr(config, "num_key_value_heads", None) or heads) * width
        return cls(parameters, config.num_hidden_layers, config.hidden_size, config.intermediate_size, kv)

    @property
    def layer_values(self) -> int:
        """Values that one layer keeps per token for the backward pass."""
        return 8 * self.hidden + 2 * self.ffn


@dataclass(frozen=True)
class Resources:
    """What some GPUs mean for a run.

    Attributes:
        memory: GiB on the learner's device at the peak of learning, generation aside.
        hours: of all stages.
    """

    gpus: int
    layout: str
    memory: float
    hours: float


@dataclass(frozen=True)
class Estimate:
    """Resources by number of GPUs."""

    model: str
    resources: tuple[Resources, ...]

    def to_json(self) -> str:
        """Return it as JSON text."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def render(self, console: Console) -> None:
        """Print a row per number of GPUs."""
        grid = Table(title=f"Estimate for {self.model}")
        for heading in ("GPUs", "layout", "learner's memory", "time", "GPU-hours"):
            grid.add_column(heading, justify="left" if heading == "layout" else "right")
        for one in self.resources:
            hours = (f"{one.hours:,.1f} h", f"{one.gpus * one.hours:,.0f}")
            grid.add_row(str(one.gpus), one.layout, f"{one.memory:,.1f} GiB", *hours)
        console.print(grid)
        console.print(
            f"H100s, completions {FILLED:.0%} as long as allowed, evaluations not counted.", style="dim"
        )


def estimate(recipe: ThinkRecipe) -> Estimate:
    """Return what a recipe needs on 1, 4 and 8 GPUs."""
    sizes = ModelSizes.of(recipe)
    stages, memory = _stages(recipe), learner_memory(sizes, recipe)
    generating = sum(steps * _generating(sizes, recipe, longest) for steps, longest in stages)
    learning = sum(steps * _learning(sizes, recipe, longest) for steps, longest in stages)
    found = []
    for gpus in GPUS:
        writers = max(1, gpus - 1)
        layout = "one for everything" if gpus == 1 else f"one learns, {writers} serve vLLM"
        found.append(Resources(gpus, layout, memory, (generating / writers + learning) / 3600))
    return Estimate(str(recipe.model), tuple(found))


def learner_memory(sizes: ModelSizes, recipe: ThinkRecipe) -> float:
    """Return GiB at the peak of learning.

    Weights, their gradients, two moments and the reference model are float32: 20 bytes per parameter. Of
    activations, checkpointing keeps one vector per layer and token, and what one layer keeps while it is
    computed again.
    """
    rows = max(recipe.micro_tokens, recipe.trl.max_prompt_length + max(recipe.reinforcement.max_tokens))
    kept = sizes.layers * sizes.layer_values
    if recipe.trl.gradient_checkpointing:
        kept = sizes.layers * sizes.hidden + sizes.layer_values
    return (20 * sizes.parameters + 4 * rows * kept) / GIB


def _stages(recipe: ThinkRecipe) -> list[tuple[int, int]]:
    """Return steps and longest completion of every stage."""
    how = recipe.reinforcement
    left, found = min(how.steps or recipe.max_steps, recipe.max_steps), []
    for number, stage in enumerate(Schedule(recipe.stages).stages):
        last = number + 1 == len(recipe.stages)
        steps = left if last else min(left, stage.until.steps or left)
        found.append((steps, how.max_tokens[number if len(how.max_tokens) > 1 else 0]))
        left -= steps
    return found


def _completions(recipe: ThinkRecipe) -> int:
    return recipe.reinforcement.prompts_per_step * recipe.reinforcement.num_generations


def _generating(sizes: ModelSizes, recipe: ThinkRecipe, longest: int) -> float:
    """Return seconds of one GPU: every token reads its own cache, and its share of the weights."""
    mean = FILLED * longest
    cache = 2 * sizes.layers * sizes.kv * (recipe.trl.max_prompt_length / 2 + mean / 2)
    read = 2 * sizes.parameters / min(STREAMS, _completions(recipe)) + cache
    return _completions(recipe) * mean * read / (BANDWIDTH_SHARE * BANDWIDTH)


def _learning(sizes: ModelSizes, recipe: ThinkRecipe, longest: int) -> float:
    """Return seconds: 6 FLOPs per parameter and token, 2 for every further pass forward, and attention."""
    trl, objective = recipe.trl, recipe.reinforcement.objective
    further = trl.gradient_checkpointing + (trl.use_vllm or recipe.reinforcement.minibatches > 1)
    passes = 6 + 2 * (further + bool(objective.beta))
    tokens = trl.max_prompt_length / 2 + FILLED * longest
    flops = passes * tokens * (sizes.parameters + sizes.layers * sizes.hidden * tokens)
    return _completions(recipe) * flops / (FLOPS_SHARE * PEAK_FLOPS)
