"""The commands that examine a model: its quality, its speed, its architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunepolicy.entrypoint import console_for, error_console, invoked, present
from prunepolicy.option_parsing import hardware_of, numbers_of, words_of
from prunepolicy.options import OUTPUT, AsJson, Device, Dtype, Model, Overwrite, Revision, Trust

Texts = Annotated[
    list[Path] | None,
    typer.Option("--text", help="Text file on which perplexity is measured; repeatable."),
]
Choices = Annotated[
    list[Path] | None,
    typer.Option("--choices", help="Multiple-choice questions, PIQA or BLiMP as JSON lines; repeatable."),
]
Tasks = Annotated[
    str,
    typer.Option(
        "--tasks",
        help="lm-eval tasks, such as arc_easy; with --think, reasoning tasks, such as addition:1-4.",
    ),
]
Think = Annotated[
    str | None,
    typer.Option("--think", help="Evaluate reasoning accuracy with thinking set to auto, always or never."),
]
ThinkOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Output folder for metrics and figure, with --think.",
        show_default="the run's folder",
        rich_help_panel=OUTPUT,
    ),
]
DraftOf = Annotated[
    str | None,
    typer.Option(
        "--as-draft-of",
        metavar="MODEL",
        help="Measure speculative decoding instead: MODEL answers prompts with this model as its draft.",
    ),
]
Other = Annotated[
    str | None,
    typer.Argument(metavar="OTHER", help="A second model that gets the same prompts.", show_default=False),
]
Prompt = Annotated[
    str | None,
    typer.Option("--prompt", help="Answer this and exit.", show_default="ask for prompts until Ctrl-D"),
]
IncludePath = Annotated[
    Path | None, typer.Option("--include-path", help="Folder with your own lm-eval tasks.")
]
Window = Annotated[
    int | None,
    typer.Option(
        "--window",
        help="Window length for perplexity, in tokens.",
        show_default="512, or the model's context length",
    ),
]


def evaluate(
    model: Model,
    text: Texts = None,
    choices: Choices = None,
    tasks: Tasks = "",
    include_path: IncludePath = None,
    think: Think = None,
    against: Annotated[str | None, typer.Option("--against", help="Dense model to compare with.")] = None,
    as_draft_of: DraftOf = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Questions per task, at most.")] = None,
    window: Window = None,
    out: ThinkOut = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Measure quality: perplexity, multiple choice, lm-eval tasks; with --think, reasoning accuracy.

    [bold]Examples[/bold]

    prunepolicy eval smaller/ --text held_out.txt --against smollm2-135m

    prunepolicy eval runs/autothink --think auto --tasks modular_chain:1-6

    prunepolicy eval smaller/ --as-draft-of smollm2-135m
    """
    if as_draft_of is not None:
        from prunepolicy.commands.evaluate.draft import DraftRequest, draft_bench
        from prunepolicy.pruning.errors import UsageError

        if think is not None or choices or tasks or against is not None or len(text or ()) > 1:
            raise UsageError("--as-draft-of measures nothing else beside it, and takes one --text.")
        drafted = DraftRequest(text=text[0] if text else None)
        hardware = hardware_of(device, dtype, trust_remote_code)
        present(draft_bench(model, as_draft_of, drafted, hardware), as_json)
        return
    if think is not None:
        from prunepolicy.agents.thinking.lm.evaluate import ThinkEvalRequest, evaluate_thinking

        asked = ThinkEvalRequest(think, words_of(tasks), limit)
        report = evaluate_thinking(model, asked, hardware_of(device, dtype, trust_remote_code))
        folder = report.save(out)
        present(report, as_json)
        if folder is not None and not as_json:
            console_for().print(f"Metrics and figure: {folder}", soft_wrap=True)
        return
    from prunepolicy.commands.evaluate.evaluate import EvalRequest, evaluate
    from prunepolicy.pruning.io.progress import ProgressReporter

    request = EvalRequest(
        tuple(text or ()), tuple(choices or ()), words_of(tasks), include_path, limit, window
    )
    hardware, progress = hardware_of(device, dtype, trust_remote_code), ProgressReporter(error_console)
    present(evaluate(model, request, against, hardware, progress), as_json)


def bench(
    model: Model,
    against: Annotated[str | None, typer.Option("--against", help="Dense model to compare with.")] = None,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Compare with itself, its FFN channels chosen for each prompt.")
    ] = False,
    policy: Annotated[
        str, typer.Option("--policy", help="With --adaptive: the text policy or scorer that chooses them.")
    ] = "blend",
    keep: Annotated[
        float, typer.Option("--keep", help="With --adaptive: fraction of the FFN channels to keep.")
    ] = 0.5,
    batch: Annotated[str, typer.Option("--batch", help="Batch sizes, separated by commas.")] = "1,8",
    prompt: Annotated[
        int | None,
        typer.Option("--prompt", help="Prompt length in tokens (prefill).", show_default="128, adaptive 512"),
    ] = None,
    new: Annotated[int, typer.Option("--new", help="Tokens to generate (decode).")] = 32,
    repeats: Annotated[int, typer.Option("--repeats", help="Timed runs per model and batch size.")] = 10,
    threads: Annotated[
        int | None, typer.Option("--threads", help="CPU threads.", show_default="torch's choice")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Measure speed: prefill and decode of both models in turn, with the ratio and its interval.

    [bold]Examples[/bold]

    prunepolicy bench smaller/ --against smollm2-135m

    prunepolicy bench smollm2-135m --adaptive --keep 0.5 --batch 1
    """
    from prunepolicy.commands.evaluate.adaptive_bench import PROMPT, adaptive_bench
    from prunepolicy.commands.evaluate.bench import BenchRequest, bench
    from prunepolicy.pruning.errors import UsageError
    from prunepolicy.pruning.io.progress import ProgressReporter

    if adaptive == (against is not None):
        raise UsageError(
            "bench compares a model with another one, --against MODEL, or with --adaptive itself."
        )
    sizes = tuple(int(size) for size in numbers_of(batch, "--batch"))
    request = BenchRequest(sizes, prompt or (PROMPT if adaptive else 128), new, repeats, threads)
    hardware, progress = hardware_of(device, dtype, trust_remote_code), ProgressReporter(error_console)
    if against is None:
        present(adaptive_bench(model, policy, keep, request, hardware, progress), as_json)
    else:
        present(bench(model, against, request, hardware, progress), as_json)


def chat(
    model: Model,
    other: Other = None,
    prompt: Prompt = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", help="File with one prompt a line; the answers go into the page --out."),
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", help="HTML file for the answers, with --prompts.", rich_help_panel=OUTPUT),
    ] = Path("answers.html"),
    overwrite: Overwrite = False,
    tokens: Annotated[int, typer.Option("--tokens", help="Length of an answer in tokens, at most.")] = 128,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Sample at this temperature; 0 doesn't sample.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Random seed, with --temperature.")] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Talk to a model, or to two at once: the same prompt, answers side by side, tokens per second.

    Prompts are put in the model's chat template; a model without one continues them as text.

    [bold]Examples[/bold]

    prunepolicy chat smollm2-135m smaller/

    prunepolicy chat smollm2-135m smaller/ --prompt "What is the capital of France?"

    prunepolicy chat smollm2-135m smaller/ --prompts questions.txt --out answers.html
    """
    from prunepolicy.commands.evaluate.chat import Chat, answered_page, talk, to_json
    from prunepolicy.pruning.errors import UsageError
    from prunepolicy.pruning.io.progress import ProgressReporter
    from prunepolicy.pruning.measure.replies import DecodingSettings

    if prompt is None and prompts is None and as_json:
        raise UsageError("--json needs --prompt or --prompts.")
    listed = _prompts_listed(prompt, prompts, None if as_json or overwrite else out)
    how = DecodingSettings(tokens, temperature, seed)
    names = [model] if other is None else [model, other]
    opened = Chat.opened(names, how, hardware_of(device, dtype, trust_remote_code))
    console = console_for()
    if as_json:
        print(to_json([opened.answer(each) for each in listed or [prompt or ""]]), end="")
    elif listed:
        answered_page(opened, listed, invoked(), out, ProgressReporter(console))
        console.print(f"Answers to {len(listed)} prompts: {out}", soft_wrap=True)
    elif prompt is None:
        talk(opened, console)
    elif opened.show(prompt, console).stopped:
        raise KeyboardInterrupt


def _prompts_listed(prompt: str | None, prompts: Path | None, page: Path | None) -> list[str]:
    """Return the prompts of a file; `page` is what must not be there yet."""
    from prunepolicy.commands.evaluate.chat import prompts_in
    from prunepolicy.pruning.errors import UsageError

    if prompts is None:
        return []
    if prompt is not None:
        raise UsageError("--prompt answers one prompt, --prompts those of a file; give one of them.")
    if page is not None and page.exists():
        raise UsageError(f"{page} exists. Choose another --out or add --overwrite.")
    return prompts_in(prompts)


def doctor(
    model: Model,
    tp: Annotated[
        int | None, typer.Option("--tp", help="Say whether it splits over this many devices.")
    ] = None,
    group: Annotated[
        int | None,
        typer.Option("--group", help="Say whether this quantisation group size fits; with --tp, each share."),
    ] = None,
    revision: Revision = None,
    as_json: AsJson = False,
) -> None:
    """Report the detected architecture, the prunable units and the supported runtimes.

    [bold]Examples[/bold]

    prunepolicy doctor smollm2-135m

    prunepolicy doctor smaller/ --tp 4 --group 128
    """
    from prunepolicy.commands.doctor.doctor import doctor

    present(doctor(model, revision, tp, group), as_json)
