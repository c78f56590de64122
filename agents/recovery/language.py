"""Let a cut language model learn from the dense one's answers, before anybody sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from prunepolicy.agents.recovery.distillation import Teacher
from prunepolicy.agents.recovery.fit import Fit, FitRecipe
from prunepolicy.agents.recovery.next_token import Windows
from prunepolicy.agents.recovery.savepoint import Savepoint
from prunepolicy.pruning.checkpoint.cut import Edits, prepare
from prunepolicy.pruning.checkpoint.loading import load_model
from prunepolicy.pruning.checkpoint.shards import Job, lay_out
from prunepolicy.pruning.errors import NotEnoughSpaceError, UsageError
from prunepolicy.pruning.io.safetensors_file import DTYPES
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.probe import Probe

WINDOWS, VALIDATION = 512, 32
"""Training texts, and validation texts; a file may give more."""
MOST_WINDOWS = 8192
TRAINING = FitRecipe(
    learning_rate=3e-4, warm_up=0.1, weight_decay=0.0, batch_size=8, optimiser="adamw", max_grad_norm=1.0
)
COPIES = 5
"""Models in memory at most: the dense one, the cut one with its gradients and the optimiser's two moments."""


def check_recoverable(session: ModelSession) -> None:
    """Raise `UsageError` for models that write no text, `NotEnoughSpaceError` where memory is short."""
    if session.checkpoint.adapter.task != "causal":
        raise UsageError(f"{session.name} writes no text; --recover is for language models.")
    if not session.fits(torch.float32, copies=COPIES):
        raise NotEnoughSpaceError(
            f"{session.name} can't learn in the memory there is; leave --recover out, and train the result."
        )


def recovered(session: ModelSession, plan: Plan, edits: Edits, target: Path, original: ModelSession) -> Edits:
    """Return what differs from a plain cut after learning; `edits` where the plan asks for no learning.

    The texts are those of the plan's probe, but more of them: written by the dense model, or windows of
    the user's file. A run that was killed continues after its last epoch.

    Args:
        original: the dense model that teaches; `session` may have been rewritten.
    """
    epochs = int(plan.settings.get("recover", 0))
    if not epochs:
        return edits
    folder = prepare(session.checkpoint, plan, target, edits)  # To learn from here; it is written over.
    student = load_model(folder, session.checkpoint.adapter, torch.float32, session.device, True)
    jobs = [job for shard in lay_out(session.checkpoint, plan, edits.tensors) for job in shard.jobs]
    stored = {job.header.name for job in jobs}
    for name, parameter in student.named_parameters():
        # What the running model stacks, as some do with experts, has no name to be written under.
        parameter.requires_grad_(name in stored)
    place = recovery_of(target)
    _train(student, original, plan, Savepoint(place, _key(session, plan)))
    return Edits(learned(student, jobs), edits.config)


def recovery_of(target: Path) -> Path:
    """Return the folder beside `target` that holds the training after its cut."""
    return target.with_name(f".{target.name}.recovery")


def _train(student: nn.Module, teacher: ModelSession, plan: Plan, savepoint: Savepoint) -> None:
    probe, epochs = Probe(**plan.settings["probe"]), int(plan.settings["recover"])
    recipe, task = TRAINING.model_copy(update={"epochs": epochs}), task_for(teacher, probe)
    answers = Teacher(teacher.model, weight=1.0, temperature=1.0)
    fit = Fit(task, recipe, probe.seed, answers, savepoint=savepoint, dtype=teacher.dtype)
    with teacher.progress.step("recover: learn from the dense model's answers", fit.steps) as tick:
        replace(fit, tick=tick).train(student)
    savepoint.finish()


def task_for(session: ModelSession, probe: Probe) -> Windows:
    """Return the texts: other ones than statistics were collected on, where the model writes them."""
    source = "self" if probe.source == "start" else probe.source
    writes = replace(probe, source=source).written is not None
    wanted = replace(
        probe,
        source=source,
        samples=WINDOWS + VALIDATION if writes else MOST_WINDOWS,
        seed=probe.seed + 1 if writes else probe.seed,
    )
    windows = session.probe(wanted)["input_ids"].cpu()
    if len(windows) < 2:
        raise UsageError(f"{probe.source} is too short to learn from: two windows of {probe.length} tokens.")
    count = max(1, min(VALIDATION, len(windows) // 8))
    validation = windows[:count]
    return Windows({"validation": validation, "test": validation}, session.device, windows[count:])


def learned(student: nn.Module, jobs: Sequence[Job]) -> Mapping[str, Tensor]:
    """Return the student's weights under the names that they have in the dense checkpoint."""
    state = student.state_dict()
    return {
        job.source: state[job.header.name].detach().to("cpu", DTYPES[job.header.dtype])
        for job in jobs
        if job.header.name in state
    }


def _key(session: ModelSession, plan: Plan) -> str:
    """Return what tells this learning from others."""
    text = f"{session.checkpoint.fingerprint}{plan.to_json()}{TRAINING.model_dump_json()}"
    return hashlib.sha256(text.encode()).hexdigest()
