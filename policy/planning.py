"""Let a policy plan for an opened model: collect the statistics that it needs, and nothing else."""

from __future__ import annotations

from prunepolicy.policy.base import Instruments, Policy
from prunepolicy.pruning.criteria import Need
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.session.model_session import MEASURED, ModelSession
from prunepolicy.pruning.statistics.probe import Probe


def plan_for(session: ModelSession, policy: Policy, budget: Budget, probe: Probe) -> Plan:
    """Let `policy` decide, with statistics refreshed between rounds where it works in rounds.

    Raises:
        UsageError: when it plans for a network of other weights, which it has not written yet, or
            can't plan for such a budget.
        BudgetError: when the budget can't be met; what statistics can't change is raised before they are
            collected.
    """
    if policy.rewrites and session.rewritten_by != policy.name:
        raise UsageError(
            f"The policy {policy.name!r} rewrites weights, which no plan can carry; prune with it at "
            "once: prune-with-policy MODEL --policy POLICY --keep 0.5 --out DIR."
        )
    graph = session.checkpoint.graph
    needs = policy.needs(graph, budget)
    instruments = instruments_for(session, needs, budget, probe)
    policy.check(graph, budget, instruments)
    stats = session.stats(needs, probe).merged(policy.read(session.checkpoint))
    with session.progress.step(f"plan: {budget}, by {policy.name}"):
        plan = policy.plan(graph, stats, budget, instruments)
    return plan.with_fingerprint(session.checkpoint.fingerprint)


def instruments_for(session: ModelSession, needs: set[Need], budget: Budget, probe: Probe) -> Instruments:
    """Return what a policy with these `needs` may ask for while it plans."""
    again = lambda plan: session.stats(needs, probe, plan)  # noqa: E731
    return Instruments(again if needs & MEASURED else None, session.seconds(budget))
