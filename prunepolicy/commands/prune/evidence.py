"""What a run leaves beside the weights: proof of loading, report, card and pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prunepolicy.agents.recovery.facts import RecoveryFacts
from prunepolicy.commands.prune.measure import Measurements
from prunepolicy.commands.prune.stored_plan import texts_of
from prunepolicy.commands.report.card import write_card
from prunepolicy.commands.report.plots import (
    BEFORE_AFTER_PICTURE,
    LAYERS_PICTURE,
    plot_before_after,
    plot_layers,
)
from prunepolicy.commands.report.report import Origin, PruneReport, kept_units, loading_lines
from prunepolicy.commands.report.report_page import write_page
from prunepolicy.commands.report.report_view import printable
from prunepolicy.pruning.budget_meter import meter_for
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.context import context_of
from prunepolicy.pruning.checkpoint.cut import Edits, side_files_of
from prunepolicy.pruning.checkpoint.loading import has_tokenizer
from prunepolicy.pruning.checkpoint.model_files import CARD
from prunepolicy.pruning.checkpoint.per_layer import who_can_load
from prunepolicy.pruning.checkpoint.source import hub_id_of
from prunepolicy.pruning.checkpoint.vocabulary_cut import VocabularyCut
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.machine import device_name, versions
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.proof.answers import answer_of
from prunepolicy.pruning.proof.proof import Receipt, prove
from prunepolicy.pruning.repair.edited import edited
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.units import VOCABULARY

PROOF_TOKENS = 24
PROOF_TEXTS = 200
PLAN = "plan.json"
PROCESSOR = "preprocessor_config.json"
HEAD = "---\n"
"""Before and after the YAML at the top of a model card."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evidence:
    """What a run found out about its result.

    Attributes:
        command: the command line that started the run.
        recoveries: what learning after the cut came to, one after the other.
    """

    plan: Plan
    measured: Measurements
    proof: Receipt | None
    command: str
    recoveries: tuple[RecoveryFacts, ...] = ()


def prove_result(session: ModelSession, plan: Plan, edits: Edits, folder: Path) -> Receipt:
    """Compare the folder, loaded elsewhere, with the masked dense model."""
    if not session.fits(torch.float32):
        return Receipt(False, False, "Loading wasn't tested: the model doesn't fit into memory.")
    try:
        inputs, expected = _expected_answers(session, plan, edits)
    except PrunePolicyError:
        raise  # The source is no good, so that its cut is none.
    except Exception as error:  # The model's own code can raise anything; the result may be good.
        from prunepolicy.pruning.io.transformers_loading import first_line

        return Receipt(False, True, f"The source gives nothing to compare with: {first_line(error)}")
    with session.progress.step("load in a clean process"):
        return prove(folder, session.checkpoint, inputs, expected, texts=proof_texts(session, plan))


def _expected_answers(session: ModelSession, plan: Plan, edits: Edits) -> tuple[Mapping[str, Tensor], Tensor]:
    """Return inputs, and what the dense model answers with the plan's units switched off.

    Both sides compute in float32, where rounding can't hide a wrong cut; a model that was rounded
    to another type for speed is no reference.
    """
    model = session.model if session.dtype == torch.float32 else session.load(torch.float32)
    inputs = proof_inputs(session, min(PROOF_TOKENS, context_of(model)), plan)
    with torch.no_grad(), edited(model, session.checkpoint.graph, plan, edits):
        answers, _ = answer_of(model(**session.placed(inputs, torch.float32)))
    return inputs, answers.cpu()


def proof_inputs(session: ModelSession, length: int, plan: Plan) -> Mapping[str, Tensor]:
    """Return two seeded inputs of the kind that the model reads after `plan`."""
    config, task = session.checkpoint.config, session.checkpoint.adapter.task
    generator = torch.Generator().manual_seed(0)
    if task == "vision":
        side, channels = int(config.get("image_size", 224)), int(config.get("num_channels", 3))
        return {"pixel_values": torch.randn(2, channels, side, side, generator=generator)}
    adapter = session.checkpoint.adapter
    count = len(plan.keep[VOCABULARY]) if VOCABULARY in plan.keep else adapter.tokens(config)
    tokens = torch.randint(count, (2, length), generator=generator)
    return adapter.reads(tokens)


def proof_texts(session: ModelSession, plan: Plan) -> dict[str, list[int]]:
    """Return short texts of which every token stays, to these tokens' new ids; none where all tokens stay."""
    cut = VocabularyCut.of(session.checkpoint, plan)
    if cut is None:
        return {}
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(cut.kept), (PROOF_TEXTS,), generator=generator).tolist()
    found = {}
    for number in (cut.kept[place] for place in drawn):
        text = session.tokenizer.decode([number])
        ids = session.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if cut.new_ids.keys() >= {*ids}:
            found[text] = [cut.new_ids[token] for token in ids]
    return found


def report_on(session: ModelSession, found: Evidence) -> PruneReport:
    """Put together what is known of a run; folder and duration are filled in by whoever publishes."""
    checkpoint, plan, measured = session.checkpoint, found.plan, found.measured
    graph, uniform = checkpoint.graph, plan.is_uniform(checkpoint.graph)
    return PruneReport(
        origin=_origin(session, found),
        folder="",
        model_type=str(checkpoint.config.get("model_type", "")),
        task=checkpoint.adapter.task,
        load=loading_lines(checkpoint.adapter, uniform, _prepares(checkpoint)),
        uniform=uniform,
        budget=plan.budget,
        reached=meter_for(graph, plan.budget, session.seconds(plan.budget))(plan.keep),
        before=measured.before.facts(cost_of(graph)),
        after=measured.after.facts(cost_of(graph, plan.keep)),
        kept=kept_units(graph, plan),
        text=measured.text,
        speedups=measured.speedups,
        fidelity=measured.fidelity,
        proof=found.proof,
        loaders=tuple(who_can_load(graph, plan)),
        warnings=(*measured.warnings, *filter(None, (facts.warning for facts in found.recoveries))),
        left_behind={printable(name): why for name, why in side_files_of(checkpoint, plan).behind.items()},
        images=measured.images,
        change=measured.change,
        prompts=measured.prompts,
        recoveries=found.recoveries,
    )


def _prepares(checkpoint: Checkpoint) -> bool:
    """Return whether a checkpoint's folder has what prepares inputs."""
    if checkpoint.adapter.task == "vision":
        return (checkpoint.folder / PROCESSOR).is_file()
    return has_tokenizer(checkpoint.folder)


def _origin(session: ModelSession, found: Evidence) -> Origin:
    name, checkpoint, plan = session.name, session.checkpoint, found.plan
    return Origin(
        model=name,
        fingerprint=checkpoint.fingerprint,
        command=found.command,
        seed=int(plan.settings.get("probe", {}).get("seed", 0)),
        made_by=plan.made_by,
        decided_by=plan.decided_by,
        repair=plan.repair,
        recover=plan.settings.get("recover", 0),
        versions=versions("prunepolicy", "torch", "transformers", "safetensors"),
        machine=device_name(session.device),
        base_model=hub_id_of(name),
        licence=licence_of(checkpoint.folder, checkpoint.config),
        reused=tuple(session.reused),
        texts=texts_of(plan),
    )


def licence_of(folder: Path, config: Mapping[str, object]) -> str | None:
    """Return the licence that a model's card or configuration names; None where neither does."""
    fields = _head_of(folder / CARD)
    named = (fields.get("license") if isinstance(fields, dict) else None) or config.get("license")
    return named if isinstance(named, str) else None


def _head_of(card: Path) -> Any:
    """Return the fields at the top of a model card; one that can't be read costs a warning."""
    try:
        text = bounded.read_text(card) if card.exists() else ""
        return bounded.parsed_yaml(text.split(HEAD, 2)[1]) if text.startswith(HEAD) else None
    except (OSError, ValueError) as error:
        logger.warning(
            "The head of %s can't be read, so its licence isn't known: %s.", card, bounded.why(error)
        )
        return None


def add_evidence(report: PruneReport, plan: Plan, folder: Path) -> None:
    """Write plan, report, card, page and pictures into a prepared folder."""
    plan.save(folder / PLAN)
    report.save(folder)
    plot_layers(report, folder / LAYERS_PICTURE)
    plot_before_after(report, folder / BEFORE_AFTER_PICTURE)
    write_card(report, folder)
    write_page(report, plan.keep, folder)
