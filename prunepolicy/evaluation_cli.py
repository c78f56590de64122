"""The commands that look at a model: how good it is, how fast it is, what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunepolicy.options import AsJson, Device, Dtype, Model, Revision, Trust
from prunepolicy.parsing import hardware_of, numbers_of, words_of
from prunepolicy.running import console_for, present


def evaluate(
    model: Model,
    text: Annotated[list[Path] | None, typer.Option("--text", help="Text files for perplexity.")] = None,
    choices: Annotated[list[Path] | None, typer.Option("--choices", help="PIQA or BLiMP lines.")] = None,
    tasks: Annotated[
        str,
        typer.Option("--tasks", help="lm-eval's, e.g. arc_easy; with --think ours, e.g. addition:1-4."),
    ] = "",
    think: Annotated[
        str | None, typer.Option("--think", help="Ask reasoning problems: auto, always or never think.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="With --think, for numbers and picture.", show_default="inside a run"),
    ] = None,
    include_path: Annotated[Path | None, typer.Option("--include-path", help="Own lm-eval tasks.")] = None,
    against: Annotated[str | None, typer.Option("--against", help="A model to compare with.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Questions per task at most.")] = None,
    window: Annotated[
        int | None,
        typer.Option("--window", help="Tokens the model sees at once.", show_default="512, or its context"),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Measure quality: perplexity on text, multiple choice, lm-eval tasks; or when a model thinks.

    [bold]Examples[/bold]

    prunepolicy eval smaller/ --text held_out.txt --against smollm2-135m

    prunepolicy eval runs/autothink --think auto --tasks modular_chain:1-6
    """
    if think is not None:
        from prunepolicy.agents.thinking.lm.evaluate import ThinkEvalRequest, evaluate_thinking

        asked = ThinkEvalRequest(think, words_of(tasks), limit)
        report = evaluate_thinking(model, asked, hardware_of(device, dtype, trust_remote_code))
        folder = report.save(out)
        present(report, as_json)
        if folder is not None and not as_json:
            console_for().print(f"Numbers and picture: {folder}", soft_wrap=True)
        return
    from prunepolicy.commands.evaluate.evaluate import EvalRequest, evaluate

    request = EvalRequest(
        tuple(text or ()), tuple(choices or ()), words_of(tasks), include_path, limit, window
    )
    present(evaluate(model, request, against, hardware_of(device, dtype, trust_remote_code)), as_json)


def bench(
    model: Model,
    against: Annotated[str, typer.Option("--against", help="The model to compare with.", show_default=False)],
    batch: Annotated[str, typer.Option("--batch", help="Batch sizes.")] = "1,8",
    prompt: Annotated[int, typer.Option("--prompt", help="Tokens to read.")] = 128,
    new: Annotated[int, typer.Option("--new", help="Tokens to write.")] = 32,
    repeats: Annotated[int, typer.Option("--repeats", help="Timings per model.")] = 10,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Measure speed: reading and writing, both models in turn, median, spread and ratio.

    [bold]Example[/bold]

    prunepolicy bench smaller/ --against smollm2-135m
    """
    from prunepolicy.commands.evaluate.bench import BenchRequest, bench

    sizes = tuple(int(size) for size in numbers_of(batch, "--batch"))
    request = BenchRequest(sizes, prompt, new, repeats, threads)
    present(bench(model, against, request, hardware_of(device, dtype, trust_remote_code)), as_json)


def doctor(model: Model, revision: Revision = None, as_json: AsJson = False) -> None:
    """Say what was recognised, what can go, which runtimes load the result, what is missing.

    [bold]Example[/bold]

    prunepolicy doctor smollm2-135m
    """
    from prunepolicy.commands.doctor.doctor import doctor

    present(doctor(model, revision), as_json)
