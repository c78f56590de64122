"""What the documents say is so: links and paths exist, every snippet of docs/extending.md runs."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from prunepolicy.pruning.activations import activation_stats
from prunepolicy.pruning.adapters import adapters
from prunepolicy.pruning.allocators import allocators
from prunepolicy.pruning.atomic import publish
from prunepolicy.pruning.checkpoint import Checkpoint
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.criteria import criteria
from prunepolicy.pruning.cut import finish, prepare
from prunepolicy.pruning.gates import masked
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.registry import Registry
from prunepolicy.pruning.repair.registry import Patient, repairs

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+(?:/\w+)+)\.py\n")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
PATH = re.compile(
    r"`((?:pruning|policy|envs|metanet|agents|configs|tests|benchmarks|docs|prunepolicy)/[\w./-]*)`"
)
REGISTRIES: dict[str, Registry[Any]] = {
    "adapters": adapters,
    "criteria": criteria,
    "allocators": allocators,
    "repair": repairs,
}
Make = Callable[..., Checkpoint]


@pytest.mark.parametrize("document", [file.relative_to(ROOT).as_posix() for file in DOCUMENTS])
def test_documents_point_at_what_is_there(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = [(ROOT / document).parent / link for link in LINK.findall(text)]
    targets += [ROOT / path for path in PATH.findall(text)]
    assert not [target for target in targets if not target.exists()]


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Put the snippets' files where they belong, run the other snippets, return the names these define."""
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        installed = []
        for block in BLOCK.findall((ROOT / "docs" / "extending.md").read_text(encoding="utf-8")):
            if file := FILE.match(block):
                installed.append(install(file[1], block, tmp_path_factory.mktemp("snippet"), patch))
            else:
                exec(block, names)
        yield names
        for module in installed:
            package, _, name = module.rpartition(".")
            del sys.modules[module], REGISTRIES[package.rpartition(".")[2]]._items[name]


def install(path: str, text: str, folder: Path, patch: pytest.MonkeyPatch) -> str:
    """Let `folder` belong to the snippet's package, as if its file lay beside the others."""
    package = importlib.import_module(f"prunepolicy.{path.rpartition('/')[0].replace('/', '.')}")
    name = path.rpartition("/")[2]
    assert name not in REGISTRIES[path.split("/")[1]], f"{name} exists: choose another example"
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    patch.setattr(package, "__path__", [*package.__path__, str(folder)])
    return importlib.import_module(f"{package.__name__}.{name}").__name__


def half_of_the_channels(checkpoint: Checkpoint) -> Plan:
    keep = {g.name: tuple(range(0, g.size, 2)) for g in checkpoint.graph.of_kind("ffn")}
    return Plan(keep, Budget(0.5, of="ffn"), "test")


def test_the_architecture_is_cut_as_it_is_masked(
    tried: dict[str, Any], tiny_checkpoint: Make, tmp_path: Path
) -> None:
    assert tried["graph"].kinds == ("ffn", "layer")
    checkpoint = tiny_checkpoint("starcoder2")
    assert cost_of(tried["graph"]).params == cost_of(checkpoint.graph).params
    plan, tokens = half_of_the_channels(checkpoint), torch.randint(3, 64, (2, 8))
    prepared = prepare(checkpoint, plan, tmp_path / "cut")
    finish(prepared)
    publish(prepared, tmp_path / "cut")
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    pruned = checkpoint.adapter.load(tmp_path / "cut", torch.float32)
    with torch.no_grad(), masked(model, checkpoint.graph, plan):
        torch.testing.assert_close(pruned(tokens).logits, model(tokens).logits, rtol=1e-5, atol=1e-5)


def test_criterion_and_allocator_make_a_policy(tried: dict[str, Any], tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("llama", num_hidden_layers=4, intermediate_size=64)
    graph = checkpoint.graph
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    stats = activation_stats(model, graph, graph.of_kind("ffn"), {"input_ids": torch.randint(3, 64, (4, 8))})
    plan = tried["policy"].plan(graph, stats, Budget(0.75, of="ffn", uniform=False, multiple_of=1))
    assert set(plan.keep) == {"layers.1.ffn", "layers.2.ffn"}
    for name, kept in plan.keep.items():
        peaks = stats.get("max", name)
        gone = sorted(set(range(64)) - set(kept))
        assert len(kept) == 32
        assert peaks[list(kept)].min() >= peaks[gone].max()


def test_the_repair_restores_the_size_of_what_is_written(
    tried: dict[str, Any], tiny_checkpoint: Make
) -> None:
    checkpoint = tiny_checkpoint("llama")
    plan = half_of_the_channels(checkpoint)
    model = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    edits = repairs["rescale"](Patient(checkpoint, model, plan, {"input_ids": torch.randint(3, 64, (4, 8))}))
    assert set(edits.tensors) == {f"model.layers.{i}.mlp.down_proj.weight" for i in range(3)}
    for name, weight in edits.tensors.items():
        ratio = weight / checkpoint.read(name)[:, ::2]
        assert weight.shape == (32, 24)
        assert ratio.min() > 1.1
        torch.testing.assert_close(ratio, ratio.new_full(ratio.shape, ratio.mean().item()))
