"""A network with other weights, in a folder of its own, for policies that rewrite before they plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from prunepolicy.policy.base import Policy
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import Edits, finish, prepare
from prunepolicy.pruning.io.claim import release
from prunepolicy.pruning.io.temporary import temporary_folder
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.session.model_session import ModelSession


@contextmanager
def rewritten(session: ModelSession, policy: Policy, beside: Path) -> Iterator[ModelSession]:
    """Yield what `policy` plans for: the session itself, or one whose weights it has rewritten.

    Args:
        beside: the rewritten network lies in a folder beside it while the context lasts.
    """
    if not policy.rewrites:
        yield session
        return
    with session.progress.step(f"let {policy.name} rewrite the weights"):
        edits = Edits(rewritten_tensors(session.checkpoint, policy))
    near = beside.parent if beside.parent.is_dir() else None
    with temporary_folder(near) as folder:
        target = folder / "model"
        nothing = Plan({}, Budget(1.0), policy.name)
        try:
            place = prepare(session.checkpoint, nothing, target, edits)
            finish(place)
            yield replace(session, checkpoint=Checkpoint.open(place), rewritten_by=policy.name)
        finally:
            release(target)


def rewritten_tensors(checkpoint: Checkpoint, policy: Policy) -> Mapping[str, Tensor]:
    """Return what a policy changes of a checkpoint's tensors, by the checkpoint's names."""
    stored, weights = checkpoint.stored_names, checkpoint.running()
    changed = policy.rewritten(checkpoint, weights)
    return {stored[name]: tensor for name, tensor in changed.items() if tensor is not weights[name]}
