"""Let a cut language model learn from the dense one's answers, before anybody sees it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunepolicy.agents.recovery.budget import RecoveryBudget
from prunepolicy.agents.recovery.documents import check_length, documents
from prunepolicy.agents.recovery.facts import RecoveryFacts
from prunepolicy.agents.recovery.learning_texts import LearningTexts
from prunepolicy.agents.recovery.lora import check_peft
from prunepolicy.agents.recovery.recipe import RecoveryRecipe
from prunepolicy.agents.recovery.run import RecoveryRun
from prunepolicy.agents.recovery.savepoint import Savepoint
from prunepolicy.pruning.checkpoint.cut import Edits, prepare
from prunepolicy.pruning.checkpoint.loading import load_model
from prunepolicy.pruning.checkpoint.shards import Job, lay_out
from prunepolicy.pruning.errors import NotEnoughSpaceError, UsageError
from prunepolicy.pruning.io.safetensors_file import DTYPES
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.statistics.probe import Probe

WEIGHTS, LORA = "weights", "lora"
"""What may learn."""
RECIPES = {WEIGHTS: RecoveryRecipe(), LORA: RecoveryRecipe(lora_rank=32, learning_rate=1e-3)}
"""How that does; for weights 1e-3 is too much, by the held-out loss on text that the model wrote."""
COPIES = {WEIGHTS: 5, LORA: 2}
"""Models in memory at most: the dense and the cut one; gradients and two moments of weights that learn."""


def recipe_of(learns: str) -> RecoveryRecipe:
    """Return how `weights` or `lora` learn.

    Raises:
        UsageError: for anything else.
        MissingExtraError: for LoRA without `peft`.
    """
    if learns not in RECIPES:
        raise UsageError(f"--recover-with takes {WEIGHTS} or {LORA}; got {learns!r:.80}.")
    if learns == LORA:
        check_peft()
    return RECIPES[learns]


def check_recoverable(session: ModelSession, on: Path | None, learns: str = WEIGHTS) -> None:
    """Raise what speaks against learning, before anything is computed.

    Args:
        on: the user's file to learn from.
        learns: what does, `weights` or `lora`.

    Raises:
        UsageError: for models that write no text, and files that nothing can be learned from.
        NotEnoughSpaceError: where memory is short.
        MissingExtraError: for LoRA without `peft`.
    """
    if session.checkpoint.adapter.task != "causal":
        raise UsageError(f"{session.name} writes no text; --recover is for language models.")
    window = recipe_of(learns).window
    if on is not None:
        longest = session.checkpoint.config.get("max_position_embeddings")
        length = min(window, longest) if isinstance(longest, int) else window
        check_length(documents(on, session.tokenizer), on, session.tokenizer, length)
    if not session.fits(torch.float32, COPIES[learns]):
        instead = "leave --recover out, and train the result" if learns == LORA else "try --recover-with lora"
        raise NotEnoughSpaceError(f"{session.name} can't learn in the memory there is; {instead}.")


def recovered(
    session: ModelSession, plan: Plan, edits: Edits, target: Path, original: ModelSession
) -> tuple[Edits, RecoveryFacts | None]:
    """Return what differs from a plain cut after learning; `edits` where the plan asks for no learning.

    A run that was killed continues after its last evaluation; `clear_recovery` removes what that takes.

    Args:
        original: the dense model that teaches; `session` may have been rewritten.

    Raises:
        UsageError: when the budget is less than one step, or there is too little text.
    """
    budget = RecoveryBudget.parse(str(plan.settings.get("recover", 0)))
    if not budget:
        return edits, None
    learns = plan.settings.get("recover_with", WEIGHTS)
    recipe = recipe_of(learns)
    texts = LearningTexts.of(original, Probe(**plan.settings["probe"]), recipe.window, _on(plan))
    folder = prepare(session.checkpoint, plan, target, edits)  # To learn from here; it is written over.
    student = load_model(folder, session.checkpoint.adapter, torch.float32, session.device, True)
    jobs = [job for shard in lay_out(session.checkpoint, plan, edits.tensors) for job in shard.jobs]
    freeze(student, {job.header.name for job in jobs})
    savepoint = Savepoint(recovery_of(target), _key(session, original, plan, recipe, texts))
    tight = not session.fits(torch.float32, COPIES[learns] + 1)  # Activations take less than a model.
    run = RecoveryRun(original, texts, budget, recipe, savepoint, gradient_checkpointing=tight)
    facts = run.train(student)
    if not facts.kept:
        return edits, facts
    return Edits(learned(student, jobs), edits.config), facts


def freeze(student: nn.Module, stored: set[str]) -> None:
    """Let only what can be written learn, without embeddings: of their width, nothing was cut.

    Args:
        stored: names that the result is written under; what a running model stacks, as some do with
            experts, has none.
    """
    anyhow: Any = student
    ends = (anyhow.get_input_embeddings(), anyhow.get_output_embeddings())
    frozen = {id(weight) for end in ends if end is not None for weight in end.parameters()}
    for name, weight in student.named_parameters():
        weight.requires_grad_(name in stored and id(weight) not in frozen)


def recovery_of(target: Path) -> Path:
    """Return the folder beside `target` that holds the training after its cut."""
    return target.with_name(f".{target.name}.recovery")


def clear_recovery(target: Path) -> None:
    """Remove what a killed training would have gone on from."""
    shutil.rmtree(recovery_of(target), ignore_errors=True)


def learned(student: nn.Module, jobs: Sequence[Job]) -> Mapping[str, Tensor]:
    """Return the student's weights under the names that they have in the dense checkpoint."""
    state = student.state_dict()
    return {
        job.source: state[job.header.name].detach().to("cpu", DTYPES[job.header.dtype])
        for job in jobs
        if job.header.name in state
    }


def _on(plan: Plan) -> Path | None:
    """Return the user's file to learn from that a plan names."""
    on = plan.settings.get("on")
    return Path(on) if on else None


def _key(
    session: ModelSession, teacher: ModelSession, plan: Plan, recipe: RecoveryRecipe, texts: LearningTexts
) -> str:
    """Return what tells this learning from others."""
    networks = f"{session.checkpoint.fingerprint}{teacher.checkpoint.fingerprint}"
    text = f"{networks}{plan.to_json()}{recipe.model_dump_json()}{texts.fingerprint}"
    return hashlib.sha256(text.encode()).hexdigest()
