"""The commands around a router for a served model: each parses, calls one function, and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunepolicy.entrypoint import console_for, continuing, error_console, invoked, present
from prunepolicy.help_panels import HelpCommand, help_without_command
from prunepolicy.options import OUTPUT, AsJson, Out, Overwrite, Plugin, Seed

SERVER, LEARNING = "Server", "What is asked and learned"
"""Panels of `--help`."""

Endpoint = Annotated[
    str,
    typer.Option(
        "--endpoint",
        help="Address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1.",
        show_default=False,
        rich_help_panel=SERVER,
    ),
]
ServedModel = Annotated[
    str,
    typer.Option("--model", help="Name of the served model.", show_default=False, rich_help_panel=SERVER),
]
ProblemFile = Annotated[
    Path,
    typer.Option(
        "--problems",
        help="JSON lines with question (or messages) and answer.",
        show_default=False,
        dir_okay=False,
        rich_help_panel=LEARNING,
    ),
]
Budgets = Annotated[
    str,
    typer.Option(
        "--budgets",
        help="Budgets to choose between: tokens of thought, or words that the server knows.",
        rich_help_panel=LEARNING,
    ),
]
Samples = Annotated[
    int,
    typer.Option(
        "--samples", min=1, help="Answers to every problem with every budget.", rich_help_panel=LEARNING
    ),
]
Control = Annotated[
    str,
    typer.Option(
        "--control",
        help="Where a request carries its budget: thinking_token_budget (vLLM), custom_params (SGLang), "
        "thinking_budget_tokens (llama.cpp), enable_thinking (chat template), reasoning_effort or "
        "max_tokens.",
        rich_help_panel=SERVER,
    ),
]
VerifierName = Annotated[
    str,
    typer.Option(
        "--verifier",
        help="How answers are checked: math_verify, integer, exact, expression or reasoning_gym.",
        rich_help_panel=LEARNING,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        min=0,
        help="Sampling temperature.",
        show_default="the server's",
        rich_help_panel=LEARNING,
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        min=1,
        help="Limit of a whole answer, in tokens.",
        show_default="the server's",
        rich_help_panel=LEARNING,
    ),
]
Concurrency = Annotated[
    int,
    typer.Option("--concurrency", min=1, max=1024, help="Requests at a time.", rich_help_panel=SERVER),
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.1, help="Seconds for one answer.", rich_help_panel=SERVER)
]
KeyVariable = Annotated[
    str,
    typer.Option(
        "--key-variable", help="Environment variable with the server's key.", rich_help_panel=SERVER
    ),
]
RolloutsOut = Annotated[
    Path,
    typer.Option(
        "--out",
        help="File for the answers, such as rollouts.jsonl; one that is there is continued.",
        show_default=False,
        dir_okay=False,
        rich_help_panel=OUTPUT,
    ),
]

think_app = typer.Typer(
    name="think",
    help="Learn how much a served model should think about each request, and route requests by it.",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@think_app.callback(invoke_without_command=True)
def _think(context: typer.Context) -> None:
    help_without_command(context)


@think_app.command(cls=HelpCommand)
def collect(
    *,
    endpoint: Endpoint,
    model: ServedModel,
    problems: ProblemFile,
    budgets: Budgets = "0,512,2048,8192",
    samples: Samples = 8,
    control: Control = "thinking_token_budget",
    verifier: VerifierName = "math_verify",
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    concurrency: Concurrency = 16,
    timeout: Timeout = 600.0,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    out: RolloutsOut,
    seed: Seed = 0,
    plugin: Plugin = None,
) -> None:
    """Let a served model answer every problem with every budget; an interrupted run continues.

    [bold]Example[/bold]

    prunepolicy think collect --endpoint http://127.0.0.1:8000/v1 --model qwen3 --problems train.jsonl
    --budgets 0,512,2048,8192 --out rollouts.jsonl
    """
    from prunepolicy.commands.think.collect import Collection, budgets_named
    from prunepolicy.commands.think.collect import collect as gather
    from prunepolicy.option_parsing import add_plugins
    from prunepolicy.pruning.io.progress import ProgressReporter

    add_plugins(plugin)
    sampling = {"temperature": temperature, "max_tokens": max_tokens}
    asked = Collection(
        endpoint, model, problems, budgets_named(budgets), samples, control, verifier,
        {name: value for name, value in sampling.items() if value is not None},
        seed, concurrency, timeout, key_variable,
    )  # fmt: skip
    console = console_for()
    with continuing(lambda: f"{out} is kept; run the same command again to continue, {invoked()}"):
        count = gather(asked, out, ProgressReporter(console))
    console.print(f"{count:,} answers are in {out}; prunepolicy think fit learns from them.", soft_wrap=True)


@think_app.command(cls=HelpCommand)
def fit(
    rollouts: Annotated[
        Path,
        typer.Argument(
            metavar="ROLLOUTS", help="The file that collect wrote.", show_default=False, dir_okay=False
        ),
    ],
    *,
    price: Annotated[
        str,
        typer.Option(
            "--price", help="What to save: tokens or seconds of an answer.", rich_help_panel=LEARNING
        ),
    ] = "tokens",
    keep_accuracy: Annotated[
        float,
        typer.Option(
            "--keep-accuracy",
            help="Share of the most accurate budget's accuracy to keep on held-out prompts.",
            rich_help_panel=LEARNING,
        ),
    ] = 0.99,
    out: Out,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    seed: Seed = 0,
) -> None:
    """Learn the cheapest router that keeps the accuracy, and value it on held-out prompts.

    [bold]Example[/bold]

    prunepolicy think fit rollouts.jsonl --keep-accuracy 0.99 --out router/
    """
    from prunepolicy.commands.think.fit import fit_router
    from prunepolicy.policy.load import as_place
    from prunepolicy.pruning.io.progress import ProgressReporter

    console = error_console if as_json else console_for()
    report = fit_router(rollouts, out, keep_accuracy, price, seed, overwrite, ProgressReporter(console))
    present(report, as_json)
    if not as_json:
        command = f"prunepolicy think serve {as_place(out)} --upstream http://HOST:PORT/v1"
        console.print(f"The router is in {out}; put it before the server: {command}", soft_wrap=True)


@think_app.command(cls=HelpCommand)
def serve(
    router: Annotated[
        str,
        typer.Argument(
            metavar="ROUTER", help="A router's folder, such as ./router, or zoo:NAME.vN.", show_default=False
        ),
    ],
    *,
    upstream: Annotated[
        str,
        typer.Option(
            "--upstream",
            help="Address of the OpenAI-compatible server behind, such as http://127.0.0.1:8000/v1.",
            show_default=False,
            rich_help_panel=SERVER,
        ),
    ],
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on.", rich_help_panel=SERVER)
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="Port to listen on.", rich_help_panel=SERVER)
    ] = 8080,
    log_prompts: Annotated[
        bool,
        typer.Option(
            "--log-prompts",
            help="Print every choice with its prompt; otherwise nothing of a request is logged.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
) -> None:
    """Serve the upstream server's API, with a budget of thought chosen for every chat request.

    Answers say what was chosen and why in the headers x-prunepolicy-budget and x-prunepolicy-reason.

    [bold]Example[/bold]

    prunepolicy think serve ./router --upstream http://127.0.0.1:8000/v1 --port 8080
    """
    from prunepolicy.commands.think.proxy import RoutingProxy, open_router
    from prunepolicy.commands.think.proxy import serve as run

    console = console_for()
    log = console.print if log_prompts else None
    proxy = RoutingProxy(open_router(router), upstream, log)
    console.print(f"http://{host}:{port}/v1 routes to {proxy.upstream}, {proxy.router.config.model}.")
    run(proxy, host, port)
