"""The options that several commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Argument(help="A model folder, a .gguf file, smollm2-135m, or a hub id.", show_default=False),
]
PlanFile = Annotated[
    Path,
    typer.Argument(metavar="PLAN", help="A plan.json.", show_default=False, exists=True, dir_okay=False),
]
Out = Annotated[Path, typer.Option("--out", help="Where the result goes.", show_default=False)]
PolicyName = Annotated[
    str,
    typer.Option(
        "--policy",
        help="default, a name that `prunepolicy policies` lists, zoo:NAME.vN, or a path: ./mine.",
    ),
]
Keep = Annotated[float, typer.Option("--keep", help="Fraction that stays, e.g. 0.8.", show_default=False)]
Keeps = Annotated[
    str,
    typer.Option(
        "--keep",
        help="Fraction that stays, e.g. 0.8; several, as in 0.9,0.8,0.7, give a folder each: OUT/keep-0.9.",
        show_default=False,
    ),
]
Of = Annotated[
    str,
    typer.Option(
        "--of", help="Of what: params, flops, memory, latency, ffn, heads, layers, experts, channels."
    ),
]
Units = Annotated[
    str, typer.Option("--units", help="Unit kinds that may go, e.g. ffn,heads.", show_default="by policy")
]
PerLayer = Annotated[
    bool,
    typer.Option("--per-layer", help="Let widths differ by layer (the result carries a modelling file)."),
]
MultipleOf = Annotated[
    int | None, typer.Option("--multiple-of", help="Width multiple.", show_default="128 or less")
]
Context = Annotated[int, typer.Option("--context", help="Tokens in the KV-cache, with --of memory.")]
Probe = Annotated[
    str | None,
    typer.Option(
        "--probe",
        help="Watch on: self (what it writes), varied (more kinds of it), start, a text file, or self+FILE.",
        show_default="by policy",
    ),
]
Repair = Annotated[
    str | None,
    typer.Option(
        "--repair", help="After the cut: reconstruction, ridge, bias or none.", show_default="by policy"
    ),
]
Rounds = Annotated[
    int, typer.Option("--rounds", help="Remove in so many steps, watching the model anew after each.")
]
Recover = Annotated[
    int,
    typer.Option("--recover", min=0, help="Learn from the dense model in so many passes (language models)."),
]
Text = Annotated[
    Path | None,
    typer.Option(
        "--text", help="Held-out text to score before and after.", exists=True, dir_okay=False, readable=True
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        help="MODEL is a bare .safetensors file of this network: resnet20, vgg19, efficientnet-lite0, ...",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data", help="Train before and after the cut, and test, on images: fashion-mnist, or a folder."
    ),
]
Epochs = Annotated[
    str,
    typer.Option(
        "--epochs", help="With --data: epochs before and after the cut; 10,10 for what rewrites weights."
    ),
]
Shrink = Annotated[
    float,
    typer.Option(
        "--shrink",
        help="With --data: how strongly weak groups of weights shrink before the cut (sparse training); "
        "0.001 suits convolution networks.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Of everything random.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, …")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")]
Revision = Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit on the hub.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is at the target.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
NoMeasure = Annotated[bool, typer.Option("--no-measure", help="Skip quality and speed.")]
NoVerify = Annotated[bool, typer.Option("--no-verify", help="Skip the proof of loading.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and write nothing.")]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code", help="Run code that a folder carries, where transformers has none for it."
    ),
]
Plugin = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="A Python file that registers components of your own, under its name."),
]
