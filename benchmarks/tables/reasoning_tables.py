"""Tables of what learning when to think came to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

from cells import four, percent, spread, table, three_places

Row = dict[str, Any]
PROMPTS = {"always": "always think", "never": "never think", "auto": "ellipsis prompt alone"}
NAMES = {
    "autothink": "AutoThink, three stages",
    "autothink_longer": "the same, 50 more steps of the third",
    "autothink_solved": "the same stages, lengths where all is right, batch-scaled",
    "autothink_floor": "more brevity, which waits while accuracy is low, for answers that vary",
    "autothink_settled": "the same, settling on what is right alone",
    "settled_shuffled": "control: the same, outcomes shuffled within modes",
    "naive": "naive reward",
    "shuffled": "control: AutoThink, outcomes shuffled within modes",
    "brevity": "naive reward and brevity",
    "think_prune": "ThinkPrune",
    "adapt_think": "AdaptThink",
    "thinkless": "Thinkless",
    "success_rate": "naive reward and success rates",
}
FIGURES: dict[str, Callable[[float], str]] = {
    "tokens saved": percent,
    "E-F1": three_places,
    "AES": three_places,
    "router gain": percent,
    "think slope": percent,
}


def reasoning(results: Row) -> str:
    """All that was measured of models that learn when to think."""
    rows: list[Row] = results["rows"]
    methods = [row for row in rows if row["part"] == "methods"]
    parts = ["## When to think\n"]
    if methods:
        parts += [_introduction(results, methods), _compared(methods), "", _by_difficulty(methods), ""]
    starts: dict[str, int] = results["long_starts"]
    others = {
        "longer": _longer,
        "pruned": _pruned,
        "mixtures": lambda found: _mixtures(found, starts),
        "speed": _speed,
    }
    for part, write in others.items():
        found = [row for row in rows if row["part"] == part]
        parts += [write(found), ""] if found else []
    return "\n".join(parts)


def _machines(rows: Iterable[Row]) -> str:
    return ", ".join(sorted({row["machine"] for row in rows}))


def _introduction(results: Row, methods: Sequence[Row]) -> str:
    seeds = len({row["seed"] for row in methods})
    return (
        f"A model of 1 M parameters, made from nothing by `configs/think/tiny.yaml` once per seed ({seeds}), "
        f"and what it is {results['steps']} learning steps after that start; 100 held-out problems, half of "
        f"them of the easiest kind, 4 answers each; {_machines(methods)}. Median (smallest to largest) over "
        "seeds. Tokens are saved against the start that always thinks, which writes nine steps in ten twice: "
        "what deciding saves and what brevity, the last two rows tell apart. The router gain is accuracy "
        "above that of the same model thinking as often at random; the slope is the think rate on the "
        "hardest third of the difficulties less that on the easiest.\n"
    )


def _compared(rows: Sequence[Row]) -> str:
    head = ["method", "seeds", "accuracy", "tokens", "thinks", *FIGURES]
    lines = [
        [f"start, {name}", *_exam(_starts(rows), "start", mode), *_saved(_starts(rows), "start", mode)]
        for mode, name in PROMPTS.items()
    ]
    for method, name in NAMES.items():
        here = [row for row in rows if row["method"] == method]
        if here:
            figures = [spread(_values(here, figure), write) for figure, write in FIGURES.items()]
            lines.append([name, *_exam(here, "learned", "auto"), *figures])
    taught = [row for row in rows if row["method"] == "autothink"]
    lines += [
        [
            f"AutoThink's model, made to {PROMPTS[mode]}",
            *_exam(taught, "learned", mode),
            *_saved(taught, "learned", mode),
        ]
        for mode in ("always", "never")
        if taught
    ]
    return table(head, lines)


def _longer(rows: Sequence[Row]) -> str:
    """The same comparison after more steps."""
    steps = [row["best_step"] for row in rows]
    note = (
        f"{min(steps)} to {max(steps)} steps, the last 100 of them at a quarter of the learning rate, from "
        f"new starts on {_machines(rows)}; all of this was chosen on a start that no row is about, and "
        "no step was chosen.\n"
    )
    return f"{note}\n{_compared(rows)}\n\n{_by_difficulty(rows)}"


def _starts(rows: Sequence[Row]) -> list[Row]:
    """Return one row per seed: all methods start from the same model."""
    return list({row["seed"]: row for row in rows}.values())


def _exam(rows: Sequence[Row], which: str, mode: str) -> list[str]:
    exams = [row[which][mode] for row in rows]
    cells = {"accuracy": percent, "tokens": four, "think": percent}
    return [str(len(rows)), *(spread([exam[name] for exam in exams], write) for name, write in cells.items())]


def _saved(rows: Sequence[Row], which: str, mode: str) -> list[str]:
    saved = [1 - row[which][mode]["tokens"] / row["start"]["always"]["tokens"] for row in rows]
    return [spread(saved, percent), *[""] * (len(FIGURES) - 1)]


def _values(rows: Sequence[Row], figure: str) -> list[float]:
    return [row["figures"][figure] for row in rows if figure in row["figures"]]


def _by_difficulty(rows: Sequence[Row]) -> str:
    """Think rates and accuracies by difficulty, medians over seeds."""
    levels = [one["difficulty"] for one in rows[0]["learned"]["auto"]["bins"]]
    head = ["think rate at difficulty", *map(str, levels)]
    lines = [["start, ellipsis prompt", *_rates(_starts(rows), "start", "auto", "think")]]
    lines += [
        [name, *_rates([row for row in rows if row["method"] == method], "learned", "auto", "think")]
        for method, name in NAMES.items()
        if any(row["method"] == method for row in rows)
    ]
    lines += [
        [f"accuracy of the start, {PROMPTS[mode]}", *_rates(_starts(rows), "start", mode, "accuracy")]
        for mode in ("always", "never")
    ]
    return table(head, lines)


def _rates(rows: Iterable[Row], which: str, mode: str, name: str) -> list[str]:
    bins = [[one[name] for one in row[which][mode]["bins"]] for row in rows]
    columns = zip(*bins, strict=True)
    return [percent(median(values)) for values in columns]


def _pruned(rows: Sequence[Row]) -> str:
    lines = []
    for method, model in (("whole", "whole"), ("pruned", "0.7 of its FFN channels, repaired by imitation")):
        here = [row for row in rows if row["method"] == method]
        for state, which, mode in (
            ("always thinks", "start", "always"),
            ("ellipsis prompt alone", "start", "auto"),
            ("AutoThink's stages", "learned", "auto"),
        ):
            exams = [row[which][mode] for row in here]
            per_answer = [exam["tokens"] / exam["accuracy"] for exam in exams if exam["accuracy"]]
            lines.append([model, state, *_exam(here, which, mode), spread(per_answer, four)])
    note = f"Pruned, then trained when to think ({_machines(rows)}).\n"
    head = ["model", "", "seeds", "accuracy", "tokens", "thinks", "tokens to a correct answer"]
    return f"{note}\n{table(head, lines)}"


def _mixtures(rows: Sequence[Row], long_starts: dict[str, int]) -> str:
    lines = []
    for method in dict.fromkeys((row["task"], row["method"]) for row in rows):
        here = [row for row in rows if (row["task"], row["method"]) == method]
        accuracies = [row["learned"]["auto"]["accuracy"] for row in here]
        shares = [[row["imitation"][name] for row in here] for name in ("wanted", "drawn")]
        seconds = spread([row["cpu_seconds"] for row in here], four)
        lines.append(
            [*method, len(here), spread(accuracies, percent), *(spread(s, percent) for s in shares), seconds]
        )
    note = (
        "SASR-inspired switching between imitation and reinforcement, and its baselines, with equally many "
        "learning steps from nothing: accuracy on held-out problems, the share of imitation after the "
        "warm-up, as its probability asked for and as drawn, and what learning took, beside other work. "
        "A step of imitation costs about a third of one of reinforcement, hence the row with more of them.\n"
    )
    long = [row["start"]["auto"]["accuracy"] for row in rows if row["task"] in long_starts]
    if long:
        tasks, steps = ", ".join(long_starts), ", ".join(map(str, long_starts.values()))
        note += (
            f"On {tasks} a model that small knows nothing for long, so all begin from one that has imitated "
            f"{steps} steps and is {spread(long, percent)} right, shared by the seeds, and learn gently on.\n"
        )
    return (
        note
        + "\n"
        + table(["task", "method", "seeds", "accuracy", "asked for", "drawn", "CPU seconds"], lines)
    )


def _speed(rows: Sequence[Row]) -> str:
    row = rows[0]
    return (
        f"A whole learning step, in {row['unit']}: {four(row['ours'])} in this project's loop, "
        f"{four(row['trl'])} in TRL's trainer on the same model and batch, {row['ratio']:.2f} times as many "
        f"({', '.join(f'{ratio:.2f}' for ratio in row['ratios'])} in alternating rounds)."
    )
