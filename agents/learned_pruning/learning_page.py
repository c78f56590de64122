"""The report.html of a run that learns a pruning policy: its curve beside what has to be beaten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prunepolicy.agents.learned_pruning.policy_card_text import command_of
from prunepolicy.agents.learned_pruning.report import UNIT, TrainReport
from prunepolicy.agents.runtime.svg_charts import Chart, Series
from prunepolicy.agents.training.run_folder import RunFolder
from prunepolicy.agents.training.run_page import RunPage, thinned, write_run_page
from prunepolicy.agents.training.train import SCORE
from prunepolicy.policy.load import as_place

Rows = Sequence[Mapping[str, float]]


def rewards_of(rows: Rows) -> list[tuple[float, float]]:
    """Return (step, reward) of every step that logged one."""
    return [(row["step"], row["reward"]) for row in rows if "reward" in row]


def excess_of(rows: Rows) -> list[tuple[float, float]]:
    """Return (step, excess log-perplexity) of every evaluation."""
    return [(row["step"], -row[SCORE]) for row in rows if SCORE in row]


def write_learning_page(report: TrainReport, run: RunFolder) -> None:
    """Write the page into the run's folder."""
    rows = run.rows()
    validation, rewards = excess_of(rows), rewards_of(rows)
    best = next((point for point in validation if point[0] == report.best_step), None)
    steps = "learning step"
    charts = [
        Chart(
            steps,
            "Excess log-perplexity on validation text, nats per token: less is better; the best step is "
            "circled, dashed lines have to be beaten.",
            [Series("learned", validation)],
            report.to_beat,
            best,
        )
    ]
    if rewards:
        smooth = thinned(rewards)
        charts.append(
            Chart(steps, "Reward in training: more is better.", [Series("reward", smooth, dotted=False)])
        )
    use = command_of(report.card, as_place(report.folder), report.evaluated_model)
    unit = f"Excess log-perplexity, {UNIT}, on text that chose nothing; less is better."
    write_run_page(report, run, RunPage(charts, report.columns, report.rows(), unit, use))
