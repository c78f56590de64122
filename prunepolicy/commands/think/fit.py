"""`prunepolicy think fit`: from rollouts to a router with its report, picture and card."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

import torch

from prunepolicy.agents.learned_pruning.policy_card_text import write_policy_card
from prunepolicy.agents.thinking.router.fit import LearnedRouter, RouterFit
from prunepolicy.agents.thinking.router.outcomes import Price, RoutingOutcomes
from prunepolicy.agents.thinking.router.report import PICTURE, REPORT, RouterReport, plot_router
from prunepolicy.agents.thinking.router.rollout_file import RolloutHead, read_rollouts
from prunepolicy.agents.thinking.router.router_card import router_card
from prunepolicy.policy.kinds.router import NUMBERS, Router, RouterConfig
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.atomic import check_target, replace_folder, write_text
from prunepolicy.pruning.io.progress import ProgressReporter


def fit_router(
    rollouts: Path,
    out: Path,
    keep: float,
    price: str = "tokens",
    seed: int = 0,
    overwrite: bool = False,
    progress: ProgressReporter | None = None,
) -> RouterReport:
    """Write the cheapest router that keeps the share `keep` of the most accurate budget's accuracy.

    Raises:
        UsageError: when a setting can't be, or there are too few prompts.
        BudgetError: when no router keeps that much; the sentence names the nearest share.
        PrunePolicyError: when the rollouts are damaged, or `out` can't be written.
    """
    if not 0 < keep <= 1:
        raise UsageError(f"--keep-accuracy is a share of the accuracy, such as 0.99; got {keep:g}.")
    unit = _checked_price(price)
    check_target(out, overwrite)
    steps = progress or ProgressReporter()
    head, answers = read_rollouts(rollouts)
    with steps.step(f"{len(answers):,} answers to {len(head.prompts):,} prompts"):
        outcomes = RoutingOutcomes.of(head, answers, unit)
    if len(outcomes) < len(head.prompts):
        left = len(head.prompts) - len(outcomes)
        steps.note(f"{left:,} prompts without answers of every budget are left out.")
    with steps.step("cross-validation"):
        fit = RouterFit(outcomes, seed)
        learned = fit.router(keep)
    report = RouterReport.of(fit, learned, head.budgets, keep, folder=str(out), model=head.model, price=price)
    policy = _policy(learned, head, unit, out.resolve().name)
    settings = {"rollouts": rollouts.name, "seed": seed, "keep_accuracy": keep, "price": price}
    settings |= {"samples": head.samples, "verifier": head.verifier, "sampling": head.sampling}

    def write(folder: Path) -> None:
        policy.save(folder)
        write_policy_card(router_card(policy, report, settings), folder)
        write_text(folder / REPORT, report.to_json())
        plot_router(fit, learned, report, folder / PICTURE)

    replace_folder(out, write)
    return report


def _checked_price(price: str) -> Price:
    if price not in get_args(Price):
        raise UsageError(f"--price is {' or '.join(get_args(Price))}; got {price!r:.80}.")
    return cast(Price, price)


def _policy(learned: LearnedRouter, head: RolloutHead, price: Price, name: str) -> Router:
    numbers = {key: torch.tensor(getattr(learned.predictor, key), dtype=torch.float32) for key in NUMBERS}
    settings = {"model": head.model, "control": head.control, "budgets": head.budgets}
    config = RouterConfig.model_validate({**settings, "price": price, "weight": learned.weight})
    return Router(config, name, numbers)
