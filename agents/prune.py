"""The main job: a model and a budget in, a smaller model folder with its evidence out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from prunepolicy.agents.card import write_card
from prunepolicy.agents.opened_model import Hardware
from prunepolicy.agents.plots import plot_before_after, plot_layers
from prunepolicy.agents.progress import Steps
from prunepolicy.agents.quality import Measurements, measure
from prunepolicy.agents.report import Origin, PruneReport, kept_units, loading_lines
from prunepolicy.agents.subject import Subject
from prunepolicy.policy.base import Policy
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.atomic import check_target, publish
from prunepolicy.pruning.budget_meter import meter_for
from prunepolicy.pruning.checkpoint import Checkpoint
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.cut import Edits, finish, prepare
from prunepolicy.pruning.edited import edited
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.loading import load_model
from prunepolicy.pruning.machine import device_name, versions
from prunepolicy.pruning.per_layer import who_can_load
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.probe import Probe
from prunepolicy.pruning.proof import Receipt, prove
from prunepolicy.pruning.repair import repairs
from prunepolicy.pruning.source import resolve

PROOF_TOKENS = 24
PLAN = "plan.json"


@dataclass(frozen=True)
class Settings:
    """How a run is carried out; what it decides about is in policy and budget.

    Attributes:
        repair: overrides the policy's repair; `none` for none.
        probe: overrides the policy's probe source: `self`, `start`, or a text file.
        text: file to score before and after; None scores text the dense model writes.
        measure: run both models for quality and speed.
        verify: prove that the result loads before it is published.
    """

    revision: str | None = None
    repair: str | None = None
    probe: str | None = None
    text: Path | None = None
    hardware: Hardware = field(default_factory=Hardware)
    seed: int = 0
    overwrite: bool = False
    measure: bool = True
    verify: bool = True
    command: str = ""
    steps: Steps = field(default_factory=Steps)


def prune(
    model: str,
    out: str | Path,
    keep: float | Budget = 0.8,
    policy: str | Policy = "default",
    settings: Settings | None = None,
) -> PruneReport:
    """Prune `model`, prove that the result loads, and write it to `out` with its evidence.

    Args:
        model: a model folder, `.gguf` file, alias or hub id.
        out: folder for the result; must be empty or absent.
        keep: share of the parameters that stays, or a whole budget.
        policy: what decides; a policy folder, a name, or a policy object.

    Raises:
        PrunePolicyError: with one sentence, for whatever goes wrong; `out` is untouched then.

    Example:
        >>> from prunepolicy import prune
        >>> report = prune("smollm2-135m", "smaller/", keep=0.9)  # doctest: +SKIP
    """
    settings = settings or Settings()
    budget = keep if isinstance(keep, Budget) else Budget(keep)
    target = Path(out)
    check_target(target, settings.overwrite)
    subject = open_subject(model, settings)
    plan = decide(subject, policy, budget, settings)
    return carry_out(subject, plan, target, settings)


def open_subject(model: str, settings: Settings) -> Subject:
    """Find and open what the user calls `model`."""
    checkpoint = Checkpoint.open(resolve(model, settings.revision))
    if checkpoint.adapter.notice:
        settings.steps.note(checkpoint.adapter.notice)
    return Subject(model, checkpoint, settings.hardware, settings.steps)


def decide(subject: Subject, policy: str | Policy, budget: Budget, settings: Settings) -> Plan:
    """Let a policy plan, and bind the plan to repair and probe."""
    if isinstance(policy, str):
        policy = load_policy(policy)
    probe = replace(policy.probe, seed=settings.seed)
    if settings.probe:
        probe = replace(probe, source=settings.probe)
    plan = subject.plan(policy, budget, probe)
    repair = policy.repair if settings.repair is None else settings.repair
    if repair in (None, "none") or not _repairable(subject.checkpoint, plan):
        return replace(plan, settings={"probe": vars(probe)})
    repairs[repair]
    return replace(plan, repair=repair, settings={"probe": vars(probe)})


def carry_out(subject: Subject, plan: Plan, target: Path, settings: Settings) -> PruneReport:
    """Cut, prove, measure and publish what `plan` says."""
    start, checkpoint = time.monotonic(), subject.checkpoint
    check_target(target, settings.overwrite)
    plan.check(checkpoint.graph)
    edits = subject.repaired(plan, Probe(**plan.settings.get("probe", {})))
    with settings.steps.step("cut", checkpoint.nbytes) as tick:
        folder = prepare(checkpoint, plan, target, edits, tick)
    proof = prove_result(subject, plan, edits, folder) if settings.verify else None
    if proof is not None and proof.ran and not proof.ok:
        shutil.rmtree(folder, ignore_errors=True)
        raise PrunePolicyError(f"The result was thrown away: {proof.sentence}")
    measured = measure(subject, folder, settings.text) if settings.measure else Measurements()
    report = _report(subject, plan, settings, measured, proof)
    report = replace(report, folder=str(target), seconds=time.monotonic() - start)
    _add_evidence(report, plan, folder)
    finish(folder)
    publish(folder, target)
    return report


def prove_result(subject: Subject, plan: Plan, edits: Edits, folder: Path) -> Receipt | None:
    """Compare the folder, loaded elsewhere, with the masked dense model; None when that can't run."""
    if not subject.fits():
        return None
    inputs = proof_inputs(subject)
    with subject.steps.step("prove that it loads elsewhere"):
        # Both sides compute in float32, where rounding can't hide a wrong cut.
        checkpoint = subject.checkpoint
        dense = load_model(checkpoint.folder, checkpoint.adapter, torch.float32, subject.device)
        with torch.no_grad(), edited(dense, checkpoint.graph, plan, edits):
            output = dense(**inputs)
        expected = output.logits if "logits" in output else output.last_hidden_state
        return prove(folder, checkpoint.adapter, {k: v.cpu() for k, v in inputs.items()}, expected.cpu())


def proof_inputs(subject: Subject) -> Mapping[str, Tensor]:
    """Return two seeded inputs of the model's kind."""
    config, task = subject.checkpoint.config, subject.checkpoint.adapter.task
    generator = torch.Generator().manual_seed(0)
    if task == "vision":
        side, channels = int(config.get("image_size", 224)), int(config.get("num_channels", 3))
        images = torch.randn(2, channels, side, side, generator=generator)
        return {"pixel_values": images.to(subject.device)}
    vocabulary = int(config["vocab_size"])
    tokens = torch.randint(0, vocabulary, (2, PROOF_TOKENS), generator=generator)
    return {"input_ids": tokens.to(subject.device)}


def _repairable(checkpoint: Checkpoint, plan: Plan) -> bool:
    """Return whether the plan cuts anything that repairs know how to mend."""
    return any(checkpoint.graph[name].kind == "ffn" for name in plan.keep)


def _report(
    subject: Subject, plan: Plan, settings: Settings, measured: Measurements, proof: Receipt | None
) -> PruneReport:
    model, checkpoint, graph = subject.name, subject.checkpoint, subject.checkpoint.graph
    uniform = plan.is_uniform(graph)
    before, after = cost_of(graph), cost_of(graph, plan.keep)
    reached = after.params / before.params
    if plan.budget.of != "latency":
        reached = meter_for(graph, plan.budget)(plan.keep)
    origin = Origin(
        model,
        checkpoint.fingerprint,
        settings.command,
        settings.seed,
        plan.made_by,
        plan.repair,
        versions("prunepolicy", "torch", "transformers", "safetensors"),
        device_name(subject.device),
        model if "/" in model and not Path(model).exists() else None,
    )
    return PruneReport(
        origin,
        "",
        str(checkpoint.config.get("model_type", "")),
        checkpoint.adapter.task,
        loading_lines(checkpoint.adapter, uniform),
        uniform,
        plan.budget,
        reached,
        measured.before.facts(before),
        measured.after.facts(after),
        kept_units(graph, plan),
        measured.text,
        proof,
        tuple(who_can_load(graph, plan)),
        measured.warnings,
    )


def _add_evidence(report: PruneReport, plan: Plan, folder: Path) -> None:
    """Write plan, report, card and pictures into the prepared folder."""
    plan.save(folder / PLAN)
    report.save(folder)
    plot_layers(report, folder / "layers.png")
    plot_before_after(report, folder / "before_after.png")
    write_card(report, folder)
