"""The options that several commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WHAT = "What to remove"
REPAIR = "Calibration and repair"
EVALUATION = "Evaluation"
IMAGES = "Image classifiers"
OUTPUT = "Hardware and output"
"""Panels of `--help`."""

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model folder, a .gguf file, a hub id, or smollm2-135m.",
        show_default=False,
    ),
]
PlanFile = Annotated[
    Path,
    typer.Argument(metavar="PLAN", help="A plan.json.", show_default=False, exists=True, dir_okay=False),
]
Out = Annotated[
    Path, typer.Option("--out", help="Output folder.", show_default=False, rich_help_panel=OUTPUT)
]
PolicyName = Annotated[
    str,
    typer.Option(
        "--policy",
        help="Policy that decides what to remove: a name that `prunepolicy policies` lists, zoo:NAME.vN, or "
        "a folder such as ./mine.",
        rich_help_panel=WHAT,
    ),
]
Keep = Annotated[
    float,
    typer.Option("--keep", help="Fraction to keep, such as 0.8.", show_default=False, rich_help_panel=WHAT),
]
Keeps = Annotated[
    str,
    typer.Option(
        "--keep",
        help="Fraction to keep, such as 0.8; several, as in 0.9,0.8,0.7, write one folder each: "
        "OUT/keep-0.9.",
        show_default=False,
        rich_help_panel=WHAT,
    ),
]
Of = Annotated[
    str,
    typer.Option(
        "--of",
        help="What the fraction counts: params, flops, memory, latency, ffn, heads, layers, experts, "
        "channels or vocabulary (the tokens).",
        rich_help_panel=WHAT,
    ),
]
Units = Annotated[
    str,
    typer.Option(
        "--units",
        help="Kinds of unit that may be removed, such as ffn,heads or vocabulary.",
        show_default="the policy's",
        rich_help_panel=WHAT,
    ),
]
PerLayer = Annotated[
    bool,
    typer.Option(
        "--per-layer",
        help="Allow a different width in every layer; the result carries the modelling file that loads it.",
        rich_help_panel=WHAT,
    ),
]
MultipleOf = Annotated[
    int | None,
    typer.Option(
        "--multiple-of",
        help="Keep a multiple of this many channels in every layer; with any number, layers go one by one "
        "where local and global ones take turns.",
        show_default="largest power of two up to 128 that meets the budget",
        rich_help_panel=WHAT,
    ),
]
Context = Annotated[
    int,
    typer.Option(
        "--context",
        help="Context length of the KV cache in tokens, with --of memory.",
        rich_help_panel=WHAT,
    ),
]
Probe = Annotated[
    str | None,
    typer.Option(
        "--probe",
        help="Calibration data: self (sampled from the model), varied (every second text sampled from a "
        "random first token), start (the start token only), a text file, or self+FILE, varied+FILE for both.",
        show_default="the policy's",
        rich_help_panel=REPAIR,
    ),
]
For = Annotated[
    str | None,
    typer.Option(
        "--for",
        help="Choose for this kind of text: a file with a few hundred tokens or more, or a task in words.",
        rich_help_panel=WHAT,
        show_default=False,
    ),
]
Languages = Annotated[
    str,
    typer.Option(
        "--languages",
        help="Languages that the model is used in, such as en,de (ISO 639-1): tokens with letters of other "
        "scripts go first, the rest as usual; with --of vocabulary or --units vocabulary.",
        rich_help_panel=WHAT,
        show_default="all",
    ),
]
Repair = Annotated[
    str | None,
    typer.Option(
        "--repair",
        help="Closed-form repair after pruning: reconstruction, ridge, bias or none.",
        show_default="the policy's",
        rich_help_panel=REPAIR,
    ),
]
Rounds = Annotated[
    int,
    typer.Option(
        "--rounds",
        help="Iterative pruning: number of rounds; statistics are recomputed after each.",
        rich_help_panel=WHAT,
    ),
]
Recover = Annotated[
    str,
    typer.Option(
        "--recover",
        help="Knowledge distillation from the dense model after pruning (language models): a time such as "
        "20m or 2h, '500k tokens', '400 steps', '3 epochs', or a plain number of epochs.",
        show_default="none",
        rich_help_panel=REPAIR,
    ),
]
RecoverWith = Annotated[
    str,
    typer.Option(
        "--recover-with",
        help="What learns: all weights, or lora: low-rank adapters, in less memory, merged at the end (needs "
        "the extra lora).",
        rich_help_panel=REPAIR,
    ),
]
On = Annotated[
    Path | None,
    typer.Option(
        "--on",
        help="Data to learn from: a text file, or JSON lines with messages (chat format) or text.",
        show_default="text sampled from the dense model",
        dir_okay=False,
        rich_help_panel=REPAIR,
    ),
]
Text = Annotated[
    Path | None,
    typer.Option(
        "--text",
        help="Held-out text file on which perplexity is measured before and after.",
        show_default="text sampled from the dense model",
        exists=True,
        dir_okay=False,
        readable=True,
        rich_help_panel=EVALUATION,
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        help="Architecture of MODEL where it is a bare .safetensors file: resnet20, vgg19, "
        "efficientnet-lite0, ...",
        rich_help_panel=IMAGES,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Labelled images for training and accuracy: fashion-mnist, or a folder.",
        rich_help_panel=IMAGES,
    ),
]
Epochs = Annotated[
    str,
    typer.Option(
        "--epochs",
        help="Training epochs before and after pruning, with --data; 10,10 suits policies that rewrite "
        "weights.",
        rich_help_panel=IMAGES,
    ),
]
Shrink = Annotated[
    float,
    typer.Option(
        "--shrink",
        help="Strength of the group-sparsity penalty during training before pruning, with --data; 0.001 "
        "suits convolutional networks.",
        rich_help_panel=IMAGES,
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Random seed.", rich_help_panel=OUTPUT)]
Device = Annotated[str, typer.Option("--device", help="Device: auto, cpu, cuda, …", rich_help_panel=OUTPUT)]
Dtype = Annotated[
    str,
    typer.Option("--dtype", help="Data type: auto, float32, bfloat16 or float16.", rich_help_panel=OUTPUT),
]
Revision = Annotated[
    str | None,
    typer.Option("--revision", help="Branch, tag or commit on the hub.", rich_help_panel=OUTPUT),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace the output folder if it exists.", rich_help_panel=OUTPUT),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.", rich_help_panel=OUTPUT)]
NoMeasure = Annotated[
    bool,
    typer.Option(
        "--no-measure", help="Skip the measurement of quality and speed.", rich_help_panel=EVALUATION
    ),
]
NoVerify = Annotated[
    bool,
    typer.Option(
        "--no-verify",
        help="Skip the check that a clean process loads the result.",
        rich_help_panel=EVALUATION,
    ),
]
Exported = Annotated[
    str,
    typer.Option(
        "--export",
        help="Write the result in these formats, too: gguf (llama.cpp's converter, on PATH or in "
        "LLAMA_CPP_DIR), onnx (optimum-cli).",
        show_default="none",
        rich_help_panel=OUTPUT,
    ),
]
PlanOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="File for the plan, such as plan.json.",
        show_default=False,
        dir_okay=False,
        rich_help_panel=OUTPUT,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show the plan and write nothing.", rich_help_panel=OUTPUT),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run the modelling code in the model's folder if transformers has none for it.",
        rich_help_panel=OUTPUT,
    ),
]
Plugin = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        help="Python file that registers components of your own, such as a criterion.",
        rich_help_panel=OUTPUT,
    ),
]
