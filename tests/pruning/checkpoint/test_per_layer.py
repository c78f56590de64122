"""Layers of different widths load with the file their folder carries, and compute the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from prunepolicy.pruning.adapters import adapters
from prunepolicy.pruning.adapters.transformer import TransformerAdapter
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import finish, prepare
from prunepolicy.pruning.checkpoint.per_layer import carry, padded_cost, stock_class, who_can_load
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import BadCheckpointError, PrunePolicyError, UnsupportedModelError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.gates import masked
from prunepolicy.pruning.units import UnitGraph

Make = Callable[..., Checkpoint]
MEMBERS = [
    model_type
    for adapter in adapters.values()
    if isinstance(adapter, TransformerAdapter)
    for model_type in adapter.model_types
]


@pytest.fixture(autouse=True)
def _own_module_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "modules"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(cache))
    monkeypatch.syspath_prepend(str(cache))
    cache.mkdir()
    (cache / "__init__.py").touch()


def uneven_plan(graph: UnitGraph, seed: int = 0) -> Plan:
    """A plan with other counts in neighbouring layers, equal within one layer."""
    rng = np.random.default_rng(seed)
    keep = {}
    for group in graph.groups:
        if group.layer is not None:
            share = (0.75, 0.5, 1.0)[group.layer % 3]
            count = max(group.floor, int(share * group.size))
            keep[group.name] = tuple(sorted(rng.permutation(group.size)[:count].tolist()))
    return Plan(keep, Budget(0.5, uniform=False), "test")


def cut_to(checkpoint: Checkpoint, plan: Plan, target: Path) -> Path:
    folder = prepare(checkpoint, plan, target)
    finish(folder)
    return folder


def load(checkpoint: Checkpoint, folder: Path, **settings: bool | str) -> torch.nn.Module:
    loader = getattr(transformers, checkpoint.adapter.auto_class)
    model, info = loader.from_pretrained(folder, output_loading_info=True, dtype=torch.float32, **settings)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


def example_inputs(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    config = checkpoint.config
    if checkpoint.adapter.task == "vision":
        side = int(config["image_size"])
        return {"pixel_values": torch.randn(2, int(config["num_channels"]), side, side)}
    return {"input_ids": torch.randint(3, int(config["vocab_size"]), (2, 12))}


def outputs(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        result = model(**inputs)
    return result.logits if "logits" in result else result.last_hidden_state


@pytest.mark.parametrize("model_type", MEMBERS)
def test_uneven_layers_load_and_compute_the_same(
    model_type: str, tiny_checkpoint: Make, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(model_type)
    assert_same_function(checkpoint, uneven_plan(checkpoint.graph), tmp_path / f"uneven_{model_type}")


def test_layers_may_go_as_well(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("llama")
    plan = uneven_plan(checkpoint.graph)
    shallower = replace(plan, keep={**plan.keep, "layers": (1, 2)})
    assert_same_function(checkpoint, shallower, tmp_path / "shallow")


def test_head_size_stays_where_the_configuration_leaves_it_to_be_derived(
    tiny_checkpoint: Make, tmp_path: Path
) -> None:
    folder = tiny_checkpoint("qwen2").folder
    config = json.loads((folder / "config.json").read_text())
    config.pop("head_dim", None)
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = Checkpoint.open(folder)
    # The largest counts of all layers together look like the whole model, which no layer is.
    keep = {"layers.0.query_heads": (1,), "layers.1.kv_heads": (0,), "layers.2.kv_heads": (1,)}
    assert_same_function(checkpoint, Plan(keep, Budget(0.5), "test"), tmp_path / "derived")


def assert_same_function(checkpoint: Checkpoint, plan: Plan, target: Path) -> None:
    assert not plan.is_uniform(checkpoint.graph)
    dense, inputs = load(checkpoint, checkpoint.folder), example_inputs(checkpoint)
    with masked(dense, checkpoint.graph, plan):
        expected = outputs(dense, inputs)

    pruned = load(checkpoint, cut_to(checkpoint, plan, target), trust_remote_code=True)

    torch.testing.assert_close(outputs(pruned, inputs), expected, rtol=1e-5, atol=1e-5)
    parameters = sum(p.numel() for p in pruned.parameters())
    assert cost_of(checkpoint.graph, plan.keep).params == parameters
    if checkpoint.adapter.task == "causal":
        settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
        cached = pruned.generate(inputs["input_ids"], use_cache=True, **settings)
        torch.testing.assert_close(cached, pruned.generate(inputs["input_ids"], use_cache=False, **settings))


def test_kernel_can_be_switched_and_result_saved_again(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("llama")
    inputs = example_inputs(checkpoint)
    folder = cut_to(checkpoint, uneven_plan(checkpoint.graph), tmp_path / "uneven")
    pruned = load(checkpoint, folder, trust_remote_code=True, attn_implementation="sdpa")
    expected = outputs(pruned, inputs)
    pruned.set_attn_implementation("eager")
    torch.testing.assert_close(outputs(pruned, inputs), expected, rtol=1e-5, atol=1e-5)

    pruned.save_pretrained(tmp_path / "again")
    again = load(checkpoint, tmp_path / "again", trust_remote_code=True)
    torch.testing.assert_close(outputs(again, inputs), expected, rtol=1e-5, atol=1e-5)


def test_only_uneven_layers_bring_a_file(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("llama")
    uneven = cut_to(checkpoint, uneven_plan(checkpoint.graph), tmp_path / "uneven")
    text = (uneven / "modeling_pruned.py").read_text()
    assert "prunepolicy" not in text
    assert len(text.splitlines()) <= 60

    names = [group.name for group in checkpoint.graph.of_kind("ffn")]
    even = cut_to(
        checkpoint, Plan({name: tuple(range(16)) for name in names}, Budget(0.5), "test"), tmp_path / "even"
    )
    assert not (even / "modeling_pruned.py").exists()
    assert "auto_map" not in json.loads((even / "config.json").read_text())


def test_top_level_sizes_are_the_largest(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("llama")
    widths = (16, 40, 24)
    plan = Plan({f"layers.{i}.ffn": tuple(range(n)) for i, n in enumerate(widths)}, Budget(0.5), "test")
    config = json.loads((cut_to(checkpoint, plan, tmp_path / "cut") / "config.json").read_text())
    assert config["intermediate_size"] == 40
    assert config["per_layer_sizes"] == [{"intermediate_size": n} for n in widths]


def test_an_uneven_checkpoint_is_priced_but_not_cut_again(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("llama")
    plan = uneven_plan(checkpoint.graph)
    result = Checkpoint.open(cut_to(checkpoint, plan, tmp_path / "cut"))
    assert cost_of(result.graph) == cost_of(checkpoint.graph, plan.keep)
    with pytest.raises(UnsupportedModelError, match="original"):
        prepare(result, Plan({}, Budget(1.0), "test"), tmp_path / "twice")


def test_sentences_say_what_padding_would_cost(tiny_checkpoint: Make) -> None:
    graph = tiny_checkpoint("llama").graph
    plan = Plan({"layers.0.ffn": tuple(range(8)), "layers.1.ffn": tuple(range(8))}, Budget(0.5), "test")
    assert padded_cost(graph, plan) == cost_of(graph)
    uneven = " ".join(who_can_load(graph, plan))
    assert "trust_remote_code" in uneven
    assert "100.0% of the parameters" in uneven
    even = Plan({group.name: tuple(range(8)) for group in graph.of_kind("ffn")}, Budget(0.5), "test")
    assert padded_cost(graph, even) == cost_of(graph, even.keep)
    assert "trust_remote_code" not in " ".join(who_can_load(graph, even))


def test_a_plan_that_only_drops_layers_says_how_llama_cpp_does_the_same(tiny_checkpoint: Make) -> None:
    graph = tiny_checkpoint("llama", num_hidden_layers=4).graph
    dropped = Plan({"layers": (0, 2)}, Budget(0.5), "test")
    assert "llama-quantize --prune-layers 1,3 WHOLE.gguf" in " ".join(who_can_load(graph, dropped))
    narrower = {group.name: tuple(range(8)) for group in graph.of_kind("ffn") if group.layer in (0, 2)}
    for other in (
        Plan({**dropped.keep, **narrower}, Budget(0.5), "test"),
        replace(dropped, repair="reconstruction"),
        Plan(narrower, Budget(0.5), "test"),
    ):
        assert "--prune-layers" not in " ".join(who_can_load(graph, other))


@pytest.mark.parametrize("named", [None, [], ["os; import x"], [3]])
def test_only_a_class_name_may_enter_the_file(named: object) -> None:
    with pytest.raises(BadCheckpointError, match="architectures"):
        stock_class({"architectures": named})


def test_a_graph_without_layers_is_refused(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("llama")
    blocks = checkpoint.graph.of_kind("ffn", "kv_head", "query_head")
    flat = UnitGraph("flat", checkpoint.graph.tensors, blocks)
    with pytest.raises(PrunePolicyError, match="can't differ"):
        carry(checkpoint.config, flat, uneven_plan(flat), tmp_path)


def test_what_cannot_be_carried_is_refused_before_anything_is_written(
    tiny_checkpoint: Make, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint("llama")
    nameless = replace(checkpoint, config={**checkpoint.config, "architectures": None})
    with pytest.raises(BadCheckpointError, match="architectures"):
        prepare(nameless, uneven_plan(checkpoint.graph), tmp_path / "cut")
    assert not list(tmp_path.glob("cut*"))


def test_the_card_says_what_becomes_of_layers_that_take_turns() -> None:
    adapter = adapters["gemma"]
    config = {**adapter.tiny(), "model_type": "gemma2", "num_hidden_layers": 6}
    graph = adapter.units(config, adapter.shapes(config))
    assert graph["layers"].period == 2  # By the family's rule, which this configuration leaves unsaid.

    def said(*kept: int) -> str:
        return " ".join(who_can_load(graph, Plan({"layers": kept}, Budget(0.5), "test")))

    assert "went in whole turns" in said(0, 1, 4, 5)
    assert "went in whole turns" in said(0, 3, 4, 5)
    assert "no longer take turns every 2 layers" in said(0, 1, 2, 4, 5)
    assert "turns" not in said(*range(6))
