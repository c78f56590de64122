"""The networks of `convnets.py`: their configuration states every width, and their file travels along."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.convolution import ConvolutionAdapter, shapes_after
from prunepolicy.pruning.convnets import networks as convnets
from prunepolicy.pruning.convnets.shapes import config_for
from prunepolicy.pruning.errors import BadCheckpointError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import UnitGraph


class PlainConvolutionAdapter(ConvolutionAdapter):
    """A network that `convnets.build` builds."""

    carries = MappingProxyType({"modeling_convnet.py": Path(convnets.__file__)})

    def build(self, config: Config) -> nn.Module:
        """Return the network with random weights."""
        return convnets.build(config)

    def load(self, folder: Path, dtype: torch.dtype) -> nn.Module:
        """Load `folder` with the code that it carries a copy of.

        Raises:
            BadCheckpointError: when weights and configuration don't fit.
        """
        try:
            return convnets.load(folder).to(dtype)
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise BadCheckpointError(f"{folder} doesn't load: {error}") from error

    def edit_config(self, config: Config, graph: UnitGraph, plan: Plan) -> Config:
        """Write the widths that stay."""
        described = config_for(str(config["arch"]), shapes_after(graph, plan))
        return config | {"widths": described["widths"]}
