"""Train small language models on the prose of installed packages, for policies to learn and be judged on.

Everything comes from this machine: the text is in docstrings, the tokenizer is made from it, and every
model is an ordinary folder. A folder that is there is kept, so a run that was stopped continues. The
whole set takes about half an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from package_prose import PACKAGES, documents, split, token_stream, trained_tokenizer
from rich.console import Console
from torch import Tensor, nn
from transformers.utils.logging import disable_progress_bar

from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.atomic import check_target, publish, write_text
from prunepolicy.pruning.io.machine import device_name, versions
from prunepolicy.pruning.io.precision import compute_dtype
from prunepolicy.pruning.io.progress import ProgressReporter
from prunepolicy.pruning.io.working_folder import working_folder
from prunepolicy.pruning.measure.perplexity import score_text

CPU = torch.device("cpu")
FACTS = "training.json"
VALIDATION = "validation.txt"


@dataclass(frozen=True)
class Small:
    """One model to train.

    Attributes:
        config: what differs from the family's defaults, without what `full_config` adds.
        held_out: kept from training policies, to evaluate them on a family or a size they never saw.
    """

    name: str
    config: dict[str, Any]
    steps: int
    held_out: bool = False


def sized(model_type: str, hidden: int, layers: int, ffn: int, heads: tuple[int, int]) -> dict[str, Any]:
    """Return a configuration under the keys that most families share; `heads` are (query, key)."""
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": ffn,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
    }


GPT2 = {"model_type": "gpt2", "n_embd": 128, "n_layer": 6, "n_head": 4, "n_inner": 256}
GPT2 |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
OPT = {"model_type": "opt", "hidden_size": 128, "word_embed_proj_dim": 128, "ffn_dim": 256, "dropout": 0.0}
OPT |= {"num_hidden_layers": 6, "num_attention_heads": 4}
GEMMA = sized("gemma3_text", 192, 5, 320, (4, 2)) | {"head_dim": 48, "query_pre_attn_scalar": 48}
GEMMA |= {"sliding_window": 64, "layer_types": 4 * ["sliding_attention"] + ["full_attention"]}
NEOX = sized("gpt_neox", 128, 6, 256, (4, 4))
TIED = {"tie_word_embeddings": True}

# Feed-forward blocks are narrow, so that the models miss what goes.
MODELS = (
    Small("llama-1m", sized("llama", 128, 6, 256, (4, 4)) | TIED, 3000),
    Small("gpt2-1m", GPT2, 3000),
    Small("gpt_neox-1m", NEOX, 2000, held_out=True),
    Small("gemma3-2m", GEMMA, 1200),
    Small("phi3-2m", sized("phi3", 192, 5, 320, (6, 2)), 1200, held_out=True),
    Small("llama-5m", sized("llama", 256, 8, 448, (8, 4)) | TIED, 600, held_out=True),
    Small("opt-1m", OPT, 2000),
    Small("llama-2m", sized("llama", 192, 6, 320, (6, 2)) | TIED, 1000),
)


@dataclass(frozen=True)
class Schedule:
    """How every model is trained.

    Attributes:
        length: tokens of one sequence, which is also the model's context.
        peak: the learning rate after the warm-up, from which it falls to zero along a cosine.
        warmup: share of the steps.
    """

    length: int = 128
    batch: int = 8
    peak: float = 3e-3
    warmup: float = 0.05
    decay: float = 0.1
    clip: float = 1.0
    seed: int = 0

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate at `step` as a share of the peak."""
        warm = max(1, int(self.warmup * steps))
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def full_config(config: dict[str, Any], tokenizer: Any, schedule: Schedule) -> dict[str, Any]:
    """Add what all models share: vocabulary, special tokens and context."""
    context = "n_positions" if config["model_type"] == "gpt2" else "max_position_embeddings"
    tokens = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    return config | tokens | {"vocab_size": len(tokenizer), context: schedule.length}


def train(
    model: Any, stream: Tensor, steps: int, schedule: Schedule, advance: Callable[[int], None]
) -> list[float]:
    """Train on random windows of `stream` and return the loss of every step, in nats per token."""
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=schedule.peak, betas=(0.9, 0.95), weight_decay=schedule.decay, fused=True
    )
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: schedule.rate(step, steps))
    generator = torch.Generator().manual_seed(schedule.seed)
    offsets = torch.arange(schedule.length)
    dtype, losses = compute_dtype(CPU), []
    for _ in range(steps):
        starts = torch.randint(len(stream) - schedule.length, (schedule.batch, 1), generator=generator)
        rows = stream[starts + offsets]
        # Every sequence starts as generation and scoring start.
        rows[:, 0] = model.config.bos_token_id
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            loss = model(input_ids=rows, labels=rows, use_cache=False).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), schedule.clip)
        optimiser.step()
        optimiser.zero_grad()
        rates.step()
        losses.append(loss.item())
        advance(1)
    return losses


@dataclass
class Workshop:
    """Where models are made, and what they are made from.

    Attributes:
        folder: where the models and the validation text lie.
        packages: whose docstrings are the text.
    """

    folder: Path
    schedule: Schedule = Schedule()
    packages: tuple[str, ...] = PACKAGES
    progress: ProgressReporter = field(default_factory=ProgressReporter)

    @cached_property
    def texts(self) -> tuple[list[str], list[str]]:
        """The documents to learn from, and those to measure with, which are also written down."""
        with self.progress.step("read the docstrings of installed packages"):
            learn, measure = split(list(documents(self.packages)))
        write_text(self.folder / VALIDATION, "\n\n".join(measure) + "\n")
        return learn, measure

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer that all models share."""
        learn, _ = self.texts
        with self.progress.step("make the tokenizer"):
            return trained_tokenizer(learn)

    @cached_property
    def stream(self) -> Tensor:
        """The tokens to learn from."""
        tokenizer, (learn, _) = self.tokenizer, self.texts
        with self.progress.step("turn the text into tokens"):
            return token_stream(tokenizer, learn)

    def make(self, small: Small) -> dict[str, Any]:
        """Return the facts of a model, training it first where its folder is missing."""
        target = self.folder / small.name
        if not (target / FACTS).is_file():
            check_target(target, overwrite=True)
            model, losses = self.trained(small)
            prepared = working_folder(target)
            model.save_pretrained(prepared)
            self.tokenizer.save_pretrained(prepared)
            check_prunable(prepared)
            facts = self.facts(small, model, losses)
            write_text(prepared / FACTS, json.dumps(facts, indent=1) + "\n")
            publish(prepared, target)
        return dict(json.loads((target / FACTS).read_text(encoding="utf-8")))

    def trained(self, small: Small) -> tuple[Any, list[float]]:
        """Train one model, and return it with its losses."""
        config, stream = full_config(small.config, self.tokenizer, self.schedule), self.stream
        torch.manual_seed(self.schedule.seed)
        model: Any = adapter_for(config).build(config)
        model.set_attn_implementation("eager")  # The fastest backward pass of short bfloat16 rows on a CPU.
        with self.progress.step(f"train {small.name}", small.steps) as advance:
            losses = train(model, stream, small.steps, self.schedule, advance)
        return model.eval(), losses

    def facts(self, small: Small, model: Any, losses: Sequence[float]) -> dict[str, Any]:
        """Return what is worth knowing about a trained model."""
        with self.progress.step(f"measure {small.name}"):
            score = score_text(model, self.tokenizer, "\n\n".join(self.texts[1]))
        return {
            "name": small.name,
            "held_out": small.held_out,
            "parameters": model.num_parameters(),
            "steps": small.steps,
            "tokens": small.steps * self.schedule.batch * self.schedule.length,
            "training_nll": round(mean(losses[-50:]), 4),
            "validation_nll": round(score.nll, 4),
            "validation_perplexity": round(score.perplexity, 2),
            "validation_tokens": score.tokens,
            "made_with": {
                "machine": device_name(CPU),
                "dtype": str(compute_dtype(CPU)).removeprefix("torch."),
                "schedule": asdict(self.schedule),
                "versions": versions("prunepolicy", "tokenizers", *self.packages),
            },
        }


def check_prunable(folder: Path) -> None:
    """Raise `PrunePolicyError` unless the folder opens and its feed-forward channels have gates."""
    blocks = Checkpoint.open(folder).graph.of_kind("ffn")
    if not blocks or any(block.gate is None for block in blocks):
        raise PrunePolicyError(f"{folder} has no feed-forward channels with gates.")


def main() -> None:
    """Train what the folder lacks, and write the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="train these alone (default: all)")
    parser.add_argument("--folder", type=Path, default=Path("models"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/small_models.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    workshop = Workshop(options.folder, progress=ProgressReporter(Console()))
    facts = []
    known = {small.name: small for small in MODELS}
    if unknown := set(options.names) - known.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    for name in options.names or known:
        facts.append(workshop.make(known[name]))
        write_text(options.json, json.dumps({"models": facts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
