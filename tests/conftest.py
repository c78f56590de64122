"""One thread, fixed seeds, no network, tiny models."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers

from prunepolicy.agents.learned_pruning.report import TrainReport
from prunepolicy.agents.training.recipe import Recipe
from prunepolicy.commands.report.report import Facts, KeptUnits, Origin, PruneReport
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.convnets import networks as convnets
from prunepolicy.pruning.cost import Cost
from prunepolicy.pruning.measure.perplexity import TextScore
from prunepolicy.pruning.measure.speedup import Speedup
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.proof.proof import Receipt

Make = Callable[..., Any]
TIMES = {"Prefill (512 tokens)": 0.2, "Decode (per token)": 0.03}

torch.set_num_threads(1)
transformers.utils.logging.disable_progress_bar()


@pytest.fixture(autouse=True)
def _seeded(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("COLUMNS", raising=False)  # Workers of pytest-xdist have it.


def build_model(config: dict[str, Any]) -> torch.nn.Module:
    """Return a random model in which every unit matters (no zero biases, no tiny weights)."""
    adapter = adapter_for(config)
    torch.manual_seed(0)
    model = adapter.build(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15 + (parameter.dim() == 1) * 0.8)
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    return model.eval()


@pytest.fixture
def tiny_checkpoint(tmp_path: Path) -> Callable[..., Checkpoint]:
    """A function that writes a tiny random model of a family and opens it."""

    def make(model_type: str = "llama", max_shard_size: str = "1GB", **changes: Any) -> Checkpoint:
        config = {**adapter_for({"model_type": model_type}).tiny(), "model_type": model_type, **changes}
        folder = tmp_path / f"model-{model_type}"
        model = build_model(config)
        if isinstance(model, transformers.PreTrainedModel):
            model.save_pretrained(folder, max_shard_size=max_shard_size)
        else:
            convnets.save(model.to(getattr(torch, config.get("dtype", "float32"))), folder)
        return Checkpoint.open(folder)

    return make


@pytest.fixture
def byte_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer with one token per byte, a start token and an end token: 258 in all."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["</s>", "<s>", *alphabet])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@pytest.fixture
def report() -> PruneReport:
    """Four layers, the third one gone, half the channels of the others; everything measured."""
    before = Facts(Cost(1000, 2000.0, 4000, 64), TextScore(3.0, 20.0, 4096, 512), TIMES, ("It was | a day.",))
    after = Facts(
        Cost(800, 1500.0, 3200, 48),
        TextScore(3.2, 24.0, 4096, 512),
        {name: 0.9 * seconds for name, seconds in TIMES.items()},
        ("It was\n# a dog.",),
    )
    kept = [KeptUnits(f"layers.{i}.ffn", "ffn", i, 64, 0 if i == 2 else 32) for i in range(4)]
    return PruneReport(
        origin=Origin(
            model="acme/tiny",
            fingerprint="ab" * 32,
            command="prunepolicy prune acme/tiny --keep 0.8",
            seed=7,
            made_by="heuristic",
            versions={"torch": "2.13.0", "transformers": "5.23.0"},
            machine="a processor",
            base_model="acme/tiny",
            licence="apache-2.0",
        ),
        folder="tiny-pruned",
        model_type="llama",
        task="causal",
        load=(
            "from transformers import AutoModelForCausalLM",
            'model = AutoModelForCausalLM.from_pretrained("{folder}")',
        ),
        uniform=True,
        budget=Budget(0.8),
        reached=0.8,
        before=before,
        after=after,
        kept=(*kept, KeptUnits("layers", "layer", None, 4, 3)),
        text="held-out prose",
        speedups={name: Speedup(1.11, 1.05, 1.18) for name in TIMES},
        proof=Receipt(
            True, True, "A clean process loads it.", 1e-6, 2e-6, 1e-3, True, versions={"torch": "2.13.0"}
        ),
        loaders=("Plain transformers loads it.",),
        seconds=12.5,
    )


@pytest.fixture
def model(tiny_checkpoint: Make, byte_tokenizer: Any) -> Make:
    """A function that writes a tiny model folder with all its user needs, and returns its name."""

    def make(model_type: str = "llama", **changes: Any) -> str:
        reads_text = model_type not in ("vit", "cifar_resnet", "resnet")
        sizes = {"vocab_size": 258} if reads_text else {}
        folder: Path = tiny_checkpoint(model_type, **sizes, **changes).folder
        if reads_text:
            byte_tokenizer.save_pretrained(folder)
        return str(folder)

    return make


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch) -> Make:
    """A function that lets a method be interrupted when it is called for the so-manieth time."""

    def make(owner: Any, name: str, call: int) -> None:
        calls, function = count(1), getattr(owner, name)

        def dying(*arguments: Any, **named: Any) -> Any:
            if next(calls) == call:
                torch.rand(7)  # whatever else has used the process's generators must not matter
                raise KeyboardInterrupt
            return function(*arguments, **named)

        monkeypatch.setattr(owner, name, dying)

    return make


@pytest.fixture
def quick(tmp_path: Path) -> str:
    """The folder of a policy that watches the model briefly."""
    folder = tmp_path / "quick"
    Heuristic(HeuristicConfig(samples=4, length=16, repair="ridge"), "quick").save(folder)
    return str(folder)


@pytest.fixture
def invented() -> Make:
    """A function that returns the report of a run: its mean, and that of the one heuristic."""

    def make(learned: float, fisher: float | None = 1.0, seed: int = 0, selected: float = 0.0) -> TrainReport:
        recipe = Recipe(algorithm="reinforce", policy={"kind": "prunenet"}, models=("m",), seed=seed)
        places = ("m, keep 0.8 of ffn", "m, keep 0.7 of ffn")
        scores = {"run": dict.fromkeys(places, learned)}
        if fisher is not None:
            scores["fisher"] = dict.fromkeys(places, fisher)
        data = recipe.model_dump(mode="json")
        evidence = {"surrogate_correlation": 0.8}
        return TrainReport("run", "runs/run", data, 20, 10, scores, evidence, selected)

    return make
