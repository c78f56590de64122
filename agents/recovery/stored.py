"""Networks as folders: saved whole or not at all, loaded, cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from prunepolicy.policy.base import Instruments
from prunepolicy.policy.budgeting import spend, task_for
from prunepolicy.policy.kinds.heuristic import Heuristic
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import finish, prepare
from prunepolicy.pruning.checkpoint.older_keys import add_older_keys
from prunepolicy.pruning.convnets import networks as convnets
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.atomic import publish, replace_folder
from prunepolicy.pruning.io.bounded import why
from prunepolicy.pruning.io.transformers_loading import without_bars
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware

IN_FULL = Hardware("cpu", "float32")
"""Small networks are planned for where nothing is rounded."""


def save_network(model: nn.Module, target: Path) -> None:
    """Write a network into a folder that replaces what is there in one step.

    Raises:
        PrunePolicyError: when it can't be written.
    """
    anyhow: Any = model

    def write(folder: Path) -> None:
        if hasattr(model, "save_pretrained"):
            with without_bars():
                anyhow.save_pretrained(folder)
            add_older_keys(folder)
        else:
            convnets.save(model, folder)

    try:
        replace_folder(target, write)
    except SafetensorError as error:  # What the system said to a library in Rust.
        raise PrunePolicyError(f"Can't write {target}: {why(error)}.") from error


def load_network(folder: Path) -> nn.Module:
    """Load a network that `save_network` or a cut wrote."""
    checkpoint = Checkpoint.open(folder)
    return checkpoint.adapter.load(checkpoint.folder, torch.float32)


def cut_network(source: Path, target: Path, policy: Heuristic, budget: Budget, seed: int = 0) -> Plan:
    """Write what a policy leaves of the network in `source` into `target`.

    Small networks lose much with every channel, so the budget is met from below as nearly as can be.
    """
    session = ModelSession(source.name, Checkpoint.open(source), IN_FULL)
    graph, criterion = session.checkpoint.graph, policy.criterion(budget)
    stats = session.stats(set(criterion.needs), replace(policy.probe, seed=seed))
    stats = stats.merged(policy.read(session.checkpoint))
    scores = policy.scores(graph, policy.groups(graph, budget), stats, budget)
    task = task_for(graph, scores, budget, Instruments(), criterion.comparable)
    keep = spend(task, policy.config.allocator)
    plan = Plan(keep, budget, policy.name).with_fingerprint(session.checkpoint.fingerprint)
    cut_by_plan(session.checkpoint, plan, target)
    return plan


def cut_by_plan(checkpoint: Checkpoint, plan: Plan, target: Path) -> None:
    """Write what a plan leaves into `target`."""
    folder = prepare(checkpoint, plan, target)
    finish(folder)
    publish(folder, target)


def operations(folder: Path) -> float:
    """Return the FLOPs for one input of the network in `folder`."""
    return cost_of(Checkpoint.open(folder).graph).flops
