"""Let a metanetwork rewrite a stored network."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from prunepolicy.policy.kinds.metanet import Metanet
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint


def rewritten(policy: Metanet, folder: Path, device: torch.device) -> nn.Module:
    """Return the network in `folder` with the weights that the metanetwork gives it; statistics stay."""
    checkpoint = Checkpoint.open(folder)
    model = checkpoint.adapter.load(folder, torch.float32).to(device)
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    changed = policy.rewritten(checkpoint, {name: t.detach() for name, t in tensors.items()})
    state = model.state_dict()
    model.load_state_dict({name: changed.get(name, tensor) for name, tensor in state.items()})
    return model
