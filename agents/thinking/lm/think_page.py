"""The report.html of a run that learns when to think: accuracy, tokens and think rate by difficulty."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from prunepolicy.agents.runtime.svg_charts import Chart, Series
from prunepolicy.agents.thinking.lm.plots import is_forced
from prunepolicy.agents.thinking.lm.think_eval import ThinkEval
from prunepolicy.agents.thinking.lm.think_report import ThinkReport
from prunepolicy.agents.training.run_folder import RunFolder
from prunepolicy.agents.training.run_page import RunPage, learning_chart, write_run_page
from prunepolicy.pruning.measure.intervals import wilson_interval

SHOWN = {
    "accuracy": "Accuracy: more is better; whiskers are 95 % intervals.",
    "tokens": "Tokens of a completion: less is better.",
    "think": "Share of completions that think; whiskers are 95 % intervals.",
}


def write_think_page(report: ThinkReport, run: RunFolder) -> None:
    """Write the page into the run's folder."""
    found = report.examinations
    chosen = {name: one for name, one in found.items() if not is_forced(one)} or found
    charts = [
        Chart("difficulty", title, _series(chosen if name == "think" else found, name))
        for name, title in SHOWN.items()
    ]
    score = "Score on validation problems, accuracy less the length penalty: more is better."
    rows = [
        (name, f"{one.accuracy:.1%}", f"{one.tokens:.1f}", f"{one.think:.0%}", one.answers)
        for name, one in found.items()
    ]
    use = shlex.join(["prunepolicy", "eval", report.folder, "--think", "auto"])
    head = ("", "accuracy", "tokens", "thinks", "answers")
    charts.append(learning_chart(run, report.best_step, score))
    write_run_page(report, run, RunPage(charts, head, rows, "On held-out problems.", use))


def _series(found: Mapping[str, ThinkEval], name: str) -> list[Series]:
    return [_line(label, one, name) for label, one in found.items()]


def _line(label: str, one: ThinkEval, name: str) -> Series:
    points = [(float(level.difficulty), float(getattr(level, name))) for level in one.bins]
    if name == "tokens":
        said = [f"{label}, difficulty {x:g}: {y:.1f}" for x, y in points]
        return Series(label, points, said)
    whiskers = [wilson_interval(y, level.answers) for (_, y), level in zip(points, one.bins, strict=True)]
    titles = [
        f"{label}, difficulty {x:g}: {y:.0%} of {level.answers} ({end.low:.0%} to {end.high:.0%})"
        for (x, y), level, end in zip(points, one.bins, whiskers, strict=True)
    ]
    return Series(label, points, titles, whiskers=whiskers)
