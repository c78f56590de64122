"""What is a choice of channels at run time worth, and what does it cost?

A prompt from a kind of text that nothing was fitted to is read with all channels; the tokens that follow it
are scored with those that were chosen for it, after the same KV cache, as `AdaptiveModel` writes. `generic`
is one choice for all texts, `plain` the prompt's own statistic (the idea of GRIFFIN), `blend` both, `offsets`
both times the factors of a trained policy. One thread; rows are written one by one, and a run that was
stopped continues. With `--speed`, timings instead, on two threads.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from domain_texts import kinds_of_text
from scoring import Results, Row
from torch import Tensor
from torch.nn.functional import cross_entropy

from prunepolicy.commands.evaluate.adaptive_bench import adaptive_bench
from prunepolicy.commands.evaluate.bench import BenchRequest
from prunepolicy.policy.adaptive.adaptive_model import AdaptiveModel
from prunepolicy.policy.adaptive.choosers import GENERIC, Running, chooser_named
from prunepolicy.policy.adaptive.selection import Selection
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.source import resolve
from prunepolicy.pruning.checkpoint.tokens import start_of_text, token_ids
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.io.machine import device_name, versions

MODEL = "smollm2-135m"
KEEP = 0.5
POLICIES = ("generic", "plain", "blend")
TRAINED = "offsets"
PROMPTS = (512, 128)
SCORED = 128
KEY = ("kind", "prompt", "number", "policy")


class Bench:
    """The model, and what chooses for it."""

    def __init__(self, texts: int, trained: Path | None) -> None:
        self.adaptive = AdaptiveModel.from_pretrained(MODEL, "plain", KEEP, dtype="float32")
        checkpoint = Checkpoint.open(resolve(MODEL))
        probe = replace(GENERIC, samples=texts)
        running = Running(checkpoint, self.adaptive.model, self.adaptive.tokenizer, probe)
        norms = self.adaptive.selection.norms
        with self.adaptive.dense():
            choosers = {policy: chooser_named(policy, running) for policy in POLICIES}
        if trained is not None:
            choosers[TRAINED] = chooser_named(trained, running)
        self.selections = {
            policy: Selection(checkpoint.graph, chooser, norms, KEEP) for policy, chooser in choosers.items()
        }
        self.start = start_of_text(self.adaptive.model, self.adaptive.tokenizer)

    @torch.inference_mode()
    def rows(self, prompt: Tensor, held_back: Tensor) -> Iterator[Row]:
        """Yield the mean negative log-likelihood of what follows a prompt, dense and after each choice."""
        read = self.adaptive(input_ids=prompt[None], use_cache=True)
        assert self.adaptive.seen is not None
        with self.adaptive.dense() as model:
            yield {"policy": "dense", "nll": self._nll(model, read, held_back)}
        for policy, selection in self.selections.items():
            with self.adaptive.chosen(selection.choose(self.adaptive.seen)) as model:
                yield {"policy": policy, "nll": self._nll(model, read, held_back)}

    def _nll(self, model: Any, read: Any, held_back: Tensor) -> float:
        cache = read.past_key_values
        logits = model(input_ids=held_back[None, :-1], past_key_values=cache).logits[0]
        cache.crop(-logits.shape[0])
        logits = torch.cat([read.logits[0, -1:], logits])
        return float(cross_entropy(logits.float(), held_back))

    def prompts(self, count: int, prose: Path | None) -> Iterator[tuple[Row, Tensor, Tensor]]:
        """Yield where each prompt comes from, the prompt, and what follows it."""
        longest = max(PROMPTS)
        texts = kinds_of_text(prose).items()
        tokens = {kind: token_ids(self.adaptive.model, self.adaptive.tokenizer, text) for kind, text in texts}
        for number in range(count):
            for kind, ids in tokens.items():
                begin = number * (longest + SCORED)
                part = ids[begin : begin + longest + SCORED]
                for length in PROMPTS if len(part) == longest + SCORED else ():
                    shown = part[longest - length : longest]
                    if self.start is not None:
                        shown = torch.cat([torch.tensor([self.start]), shown])
                    yield {"kind": kind, "prompt": length, "number": number}, shown, part[longest:]


def measure(options: argparse.Namespace) -> None:
    """Score what is missing."""
    torch.set_num_threads(1)
    bench = Bench(options.texts, options.trained)
    last = POLICIES[-1] if options.trained is None else TRAINED
    described = {
        "model": "SmolLM2-135M-Instruct, dequantised from Q4_1",
        "machine": device_name(torch.device("cpu")),
        "dtype": "float32",
        "keep": KEEP,
        "scored": SCORED,
        "generic": f"{options.texts} texts of {GENERIC.length} tokens that the model wrote",
        "versions": versions("prunepolicy", "torch", "transformers"),
    }
    results = Results(options.json, KEY, described)
    for place, prompt, held_back in bench.prompts(options.prompts, options.prose):
        if {**place, "policy": last} not in results:
            for row in list(bench.rows(prompt, held_back)):
                results.add(place | row)


def main() -> None:
    """Measure quality, or speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prose", type=Path, help="stories, for two more kinds of text")
    parser.add_argument("--texts", type=int, default=GENERIC.samples, help="of the generic statistic")
    parser.add_argument(
        "--trained", type=Path, help="folder of the policy of configs/train/text_offsets.yaml"
    )
    parser.add_argument("--prompts", type=int, default=4, help="of each kind and length")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/adaptive.json"))
    parser.add_argument("--speed", action="store_true", help="time it instead")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    if options.speed:
        request = BenchRequest((1,), prompt=512, new=32, repeats=options.repeats, threads=2)
        report = adaptive_bench(MODEL, "blend", KEEP, request)
        write_text(options.json.with_name("adaptive_speed.json"), report.to_json())
    else:
        measure(options)


if __name__ == "__main__":
    main()
