"""The card of a router: that of every policy, in shares of wrong answers at one price."""

from __future__ import annotations

from typing import Any

from prunepolicy.agents.learned_pruning.policy_card import CardScores, Failure, PolicyCard, Word
from prunepolicy.agents.thinking.router.report import MIX, ROUTER, RouterReport
from prunepolicy.policy.kinds.router import Router

MEASURE = (
    "Share of wrong answers on held-out prompts. The best mix draws one of two budgets by chance and costs "
    "as much as the router."
)


def router_card(policy: Router, report: RouterReport, settings: dict[str, Any]) -> PolicyCard:
    """Return the card; `settings` are those of the fit, and what was collected for it."""
    place = f"{report.held_out} held-out prompts"
    wrong = {name: {place: 1 - value.accuracy} for name, value in report.values.items()}
    word = _word(report)
    lost = Failure(where=place, score=wrong[ROUTER][place], heuristic=MIX, heuristic_score=wrong[MIX][place])
    priced = {f"{report.price} an answer, {name}": value.price for name, value in report.values.items()}
    right = {f"accuracy, {name}": value.accuracy for name, value in report.values.items()}
    return PolicyCard(
        name=policy.name,
        kind=policy.kind,
        word=word,
        verdict=report.verdict,
        measure=MEASURE,
        models=(report.model,),
        held_out=(place,),
        seeds=(settings["seed"],),
        chosen_seed=settings["seed"],
        steps=0,
        best_step=0,
        chosen=wrong[ROUTER],
        learned=CardScores.of([wrong[ROUTER]]),
        heuristics={MIX: CardScores.of([wrong[MIX]])},
        leads={MIX: int(word == "beats")},
        failures=(lost,) if word == "loses" else (),
        evidence={"share of the accuracy kept": report.kept, **right, **priced},
        recipe={
            "algorithm": "think fit",
            "policy": {"kind": policy.kind},
            "evaluation": {"text": None},
            **settings,
        },
    )


def _word(report: RouterReport) -> Word:
    if not report.gain.excludes(0):
        return "ties"
    return "beats" if report.gain.low > 0 else "loses"
