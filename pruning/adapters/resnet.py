"""ResNet as transformers has it: one width per stage, of which all inner widths follow."""

from __future__ import annotations

from typing import Any

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.convolution import ConvolutionAdapter, Part, shapes_after
from prunepolicy.pruning.adapters.registry import register
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import UnitGraph

STAGES = "encoder.stages."
REDUCTION = 4
"""Residual channels per inner channel of a bottleneck block; the configuration can't change it."""


@register
class ResNet(ConvolutionAdapter):
    """Basic and bottleneck residual networks.

    Stage `i` has `hidden_sizes[i]` residual channels. Inner channels are as many (basic blocks) or
    a quarter (bottleneck blocks), so that there four consecutive residual channels are one unit.
    """

    model_types = ("resnet",)

    def tie(self, config: Config, parts: tuple[Part, ...]) -> str:
        """Return `hidden_sizes.STAGE`, or `embedding_size` for a stem of its own."""
        last = [part.name for part in parts if part.writes][-1]
        return f"hidden_sizes.{_stage(last)}" if STAGES in last else "embedding_size"

    def unit_width(self, config: Config, parts: tuple[Part, ...]) -> int:
        """Return 4 for the residual channels of bottleneck stages, else 1."""
        settings, tie = _settings(config), self.tie(config, parts)
        if settings.layer_type != "bottleneck" or tie == "embedding_size":
            return 1
        inner = settings.hidden_sizes[int(tie.rpartition(".")[2])] // REDUCTION
        return len(parts[0].indices) // int(inner)

    def edit_config(self, config: Config, graph: UnitGraph, plan: Plan) -> Config:
        """Write the widths of stem and stages.

        Raises:
            PrunePolicyError: when the configuration has no words for the plan.
        """
        settings, after = _settings(config), shapes_after(graph, plan)
        last = 2 if settings.layer_type == "bottleneck" else 1
        stem = after["resnet.embedder.embedder.convolution.weight"][0]
        stages = [
            after[f"resnet.{STAGES}{stage}.layers.0.layer.{last}.convolution.weight"][0]
            for stage in range(len(settings.depths))
        ]
        had_shortcut = settings.embedding_size != settings.hidden_sizes[0]
        if had_shortcut and stem == stages[0] and not settings.downsample_in_first_stage:
            raise PrunePolicyError(
                f"Stem and first stage would both have {stem} channels, and transformers would leave out the "
                "convolution between them; keep another number in one of the two."
            )
        return config | {"embedding_size": stem, "hidden_sizes": stages}

    def tiny(self) -> Config:
        """A bottleneck network of two stages, each with a convolution as its first shortcut."""
        return {
            "model_type": "resnet",
            "architectures": ["ResNetForImageClassification"],
            "num_channels": 3,
            "embedding_size": 12,
            "hidden_sizes": [16, 32],
            "depths": [2, 1],
            "layer_type": "bottleneck",
            "downsample_in_first_stage": True,
            "image_size": 32,
            "num_labels": 5,
        }


def _settings(config: Config) -> Any:
    import transformers

    return transformers.AutoConfig.for_model(**config)


def _stage(name: str) -> str:
    return name.partition(STAGES)[2].partition(".")[0]
