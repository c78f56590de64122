"""What is derived from a configuration equals what is written by hand, and holds where nothing is written."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

from prunepolicy.commands.doctor.doctor import doctor
from prunepolicy.pruning.adapters import adapter_for, adapters
from prunepolicy.pruning.adapters.blocks import period_of
from prunepolicy.pruning.adapters.derived import found
from prunepolicy.pruning.adapters.derived.adapter import DerivedAdapter
from prunepolicy.pruning.adapters.derived.derive import derive
from prunepolicy.pruning.adapters.derived.layers import per_layer
from prunepolicy.pruning.adapters.derived.movement import movement
from prunepolicy.pruning.adapters.derived.network import completed, network
from prunepolicy.pruning.adapters.derived.paths import joined, number, restated
from prunepolicy.pruning.adapters.transformer import TransformerAdapter
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import prepare
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.errors import BadCheckpointError, UnsupportedModelError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.activations import activation_stats
from prunepolicy.pruning.statistics.gates import gates
from prunepolicy.pruning.units import VOCABULARY, UnitGroup

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "measure"))

from families import cut_in_half, tiny_model
from family_configs import described

TEXT = [
    (name, model_type)
    for name, adapter in ((name, adapters[name]) for name in adapters)
    if isinstance(adapter, TransformerAdapter) and adapter.task != "vision"
    for model_type in adapter.model_types
]
EVERY_LAYOUT = {
    "stablelm": ("ffn", "layer"),
    "glm": ("kv_head", "query_head", "ffn", "layer"),
    "codegen": ("ffn", "layer"),
    "minicpm3": ("kv_head", "ffn"),
    "deepseek_v3": ("kv_head", "expert", "ffn", "layer"),
    "ernie4_5_moe": ("kv_head", "query_head", "expert", "ffn", "layer"),
    "minimax_m2": ("expert", "ffn", "layer"),
    "gpt_oss": ("kv_head", "query_head", "expert", "ffn", "layer"),
    "nemotron_h": ("kv_head", "query_head", "expert", "ffn"),
    "gemma3n_text": ("ffn",),
    "qwen3_5_text": ("kv_head", "query_head", "ffn", "layer"),
    "gemma3": ("kv_head", "query_head", "ffn", "layer"),
    "modernbert": ("ffn",),
    "t5": ("ffn",),
    "bart": ("ffn",),
    "siglip_vision_model": ("ffn", "layer"),
    "dinov2": ("kv_head", "layer"),
    "beit": ("kv_head", "ffn", "layer"),
}
"""Model types that among them show every way in which entries of units lie, and the kinds they offer."""


def owned(group: UnitGroup) -> dict[Any, set[int]]:
    """Return the entries that every unit of a group owns, whatever slices say so."""
    entries: dict[Any, set[int]] = defaultdict(set)
    for part in group.slices:
        for unit in range(group.size):
            indices = part.indices(torch.tensor([unit]).numpy()).ravel()
            entries[unit, part.tensor, part.axis, part.consumer] |= set(indices.tolist())
    return entries


@pytest.mark.parametrize(("family", "model_type"), TEXT)
def test_derived_groups_equal_those_written_by_hand(family: str, model_type: str) -> None:
    config = {**adapters[family].tiny(), "model_type": model_type}
    if model_type != adapters[family].model_types[0]:
        del config["architectures"]
    by_hand = adapters[family].for_config(config)
    derived = DerivedAdapter(config, derive(config))
    shapes = by_hand.shapes(config)
    assert derived.shapes(config) == shapes
    expected, found_out = by_hand.units(config, shapes), derived.units(config, shapes)
    for kind in (kind for kind in expected.kinds if kind != VOCABULARY):
        ours = sorted(expected.of_kind(kind), key=str)
        theirs = {(g.layer, g.gate): g for g in found_out.of_kind(kind)}
        assert len(theirs) == len(ours)
        for group in ours:
            other = theirs[group.layer, group.gate]
            assert owned(other) == owned(group)
            assert (other.size, other.prefix) == (group.size, group.prefix)
            assert kind == "expert" or other.tie == group.tie  # Checkpoints know two names of this number.
            assert (other.within, other.floor) == (group.within, group.floor)
            assert (other.multiple_of, other.period) == (group.multiple_of, group.period)
            assert kind == "layer" or other.cache == group.cache
    assert found_out.heads_divide == expected.heads_divide
    assert cost_of(found_out).params == cost_of(expected).params
    assert cost_of(found_out).flops == pytest.approx(cost_of(expected).flops)


@pytest.mark.parametrize("model_type", EVERY_LAYOUT)
def test_what_is_offered_can_be_cut(model_type: str, tmp_path: Path) -> None:
    auto_class = tiny_model(model_type, tmp_path / "model")
    checkpoint = Checkpoint.open(tmp_path / "model")
    assert {*checkpoint.graph.kinds} - {VOCABULARY} == {*EVERY_LAYOUT[model_type]}
    assert checkpoint.adapter.auto_class == auto_class
    dense = checkpoint.adapter.load(checkpoint.folder, torch.float32)
    assert cost_of(checkpoint.graph).params == sum(p.numel() for p in dense.parameters())
    for kind in checkpoint.graph.kinds:
        difference, change, counted = cut_in_half(checkpoint, dense, kind, tmp_path / kind)
        assert difference < 1e-4
        assert change > 1e-3
        assert counted


@pytest.mark.parametrize(
    ("model_type", "kind", "says"),
    [
        ("llama4_text", "expert", "they run in a form that has no gates here"),
        ("bloom", "ffn", "its configuration states no width of feed-forward blocks, but a ratio or a rule"),
        ("bitnet", "ffn", "the network without them computes something else"),
        ("olmo2", "kv_head", "the network without them computes something else"),
        ("stablelm", "kv_head", "no tensor shrinks with the number of heads"),
        ("minicpm3", "layer", "the network without them computes something else"),
        ("t5", "layer", "they are no single stack that its configuration counts"),
    ],
)
def test_what_fails_the_trial_is_not_offered_and_the_reason_is_told(
    model_type: str, kind: str, says: str, tmp_path: Path
) -> None:
    tiny_model(model_type, tmp_path)
    diagnosis = doctor(str(tmp_path))
    assert kind not in {facts.kind for facts in diagnosis.kinds}
    assert any(says in problem for problem in diagnosis.problems)


def test_a_network_of_which_nothing_can_go_is_refused_with_the_reasons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, config = described("recurrent_gemma")
    stay = {"ffn": "no axes of tensors follow it"}
    monkeypatch.setattr(found, "derive", lambda config: found.Findings(refusals=stay))
    with pytest.raises(UnsupportedModelError, match="FFN channels stay: no axes of tensors follow"):
        adapter_for(config)


@pytest.mark.parametrize("model_type", ["xlm-roberta", "stablelm", "nemotron_h"])
def test_tokens_own_every_row_that_their_number_counts(model_type: str) -> None:
    auto_class, config = described(model_type)
    stored = network(completed(config), auto_class).stored
    tokens = DerivedAdapter(config, derive(config)).units(config, stored)[VOCABULARY]
    assert (tokens.size, tokens.tie, tokens.floor) == (300, "vocab_size", 75)
    assert {part.tensor for part in tokens.slices} == {n for n, shape in stored.items() if 300 in shape}


def test_tokens_that_several_parts_of_a_network_read_or_weigh_stay() -> None:
    for model_type in ("gemma3n_text", "t5", "qwen3_vl", "esm"):
        _, config = described(model_type)
        assert VOCABULARY not in {offer.kind for offer in derive(config).offers}


def test_findings_are_kept_between_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    _, config = described("stablelm")
    first = found.findings_of(config)
    monkeypatch.setattr(found, "derive", lambda config: pytest.fail("derived again"))
    assert found.findings_of(config) == first
    file = found._file(config)
    for damage in ("{", json.dumps({"offers": [{"kind": "ffn", "tie": "x", "run": "code"}]})):
        file.write_text(damage)
        with pytest.raises(pytest.fail.Exception):
            found.findings_of(config)


def test_a_configuration_and_weights_that_disagree_are_refused(tmp_path: Path) -> None:
    tiny_model("stablelm", tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(BadCheckpointError, match=r"config\.json implies 'model.layers.0.mlp"):
        assert Checkpoint.open(tmp_path).graph
    file.write_text(json.dumps(config | {"num_hidden_layers": 10**9}))
    with pytest.raises(BadCheckpointError, match="num_hidden_layers = 1000000000, but the weights hold"):
        Checkpoint.open(tmp_path)


def test_units_of_joined_networks_are_stated_where_their_part_is(tmp_path: Path) -> None:
    tiny_model("gemma3", tmp_path / "model")
    checkpoint = Checkpoint.open(tmp_path / "model")
    keep = {g.name: tuple(range(48)) for g in checkpoint.graph.of_kind("ffn")} | {"layers": (0, 1, 2, 5, 7)}
    folder = prepare(checkpoint, Plan(keep, Budget(0.5), "test"), tmp_path / "cut")
    text = json.loads((folder / "config.json").read_text())["text_config"]
    before = json.loads((tmp_path / "model" / "config.json").read_text())["text_config"]
    assert (text["intermediate_size"], text["num_hidden_layers"]) == (48, 5)
    assert text["layer_types"] == [before["layer_types"][layer] for layer in (0, 1, 2, 5, 7)]
    seen = {name for name in checkpoint.tensors if "vision" in name}
    assert seen <= Checkpoint.open(folder).tensors.keys()


@pytest.mark.parametrize(
    ("model_type", "period"),
    [("gpt_oss", 2), ("gemma3", 1), ("smollm3", 1), ("modernbert", 3), ("llama4_text", 1)],
)
def test_it_is_found_after_how_many_layers_their_kinds_repeat(model_type: str, period: int) -> None:
    _, config = described(model_type)
    whole = completed(config)
    part = "text_config" if "text_config" in whole else ""
    depth = number(whole, joined(part, "num_hidden_layers"))
    assert depth is not None
    assert period_of(*per_layer(whole, part, depth)) == period


def test_routers_that_choose_among_groups_keep_as_many_experts_in_each() -> None:
    auto_class, config = described("deepseek_v3")
    graph = DerivedAdapter(config, derive(config)).units(
        config, network(completed(config), auto_class).stored
    )
    router = graph["layers.1.experts"]
    assert (router.floor, router.multiple_of) == (4, 2)  # two groups, of which a token visits the two best
    assert {part.tensor.rpartition(".")[2] for part in router.slices} == {"weight", "e_score_correction_bias"}
    assert graph["layers.1.experts.3.ffn"].within == ("layers.1.experts", 3)
    expert = graph.tensors["model.layers.1.mlp.experts.3.up_proj.weight"]
    assert (expert.flops, expert.average_over) == (4.0, "layers.1.experts")


@pytest.mark.parametrize("model_type", ["gpt_oss", "granitemoe", "minimax_m2", "nemotron_h"])
def test_experts_of_every_form_are_watched_and_gated_per_sample(model_type: str, tmp_path: Path) -> None:
    tiny_model(model_type, tmp_path)
    checkpoint = Checkpoint.open(tmp_path)
    model, graph = checkpoint.adapter.load(tmp_path, torch.float32), checkpoint.graph
    tokens = torch.randint(16, 300, (2, 12), generator=torch.Generator().manual_seed(0))
    groups = graph.of_kind("expert", "ffn")
    with torch.no_grad():
        whole = model(tokens).logits
        watched = activation_stats(model, graph, groups, {"input_ids": tokens})
        halves = {group.name: torch.full((2, group.size), 0.5) for group in groups if group.kind == "ffn"}
        with gates(model, graph, {name: torch.ones_like(values) for name, values in halves.items()}):
            torch.testing.assert_close(model(tokens).logits, whole, atol=1e-4, rtol=1e-4)
        for values in halves.values():
            values[0] = 1
        with gates(model, graph, halves):
            apart = model(tokens).logits
    torch.testing.assert_close(apart[0], whole[0], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(apart[1], whole[1], atol=1e-2)
    for group in groups:
        assert watched.values["output"][group.name].shape == (group.size,)
    routed = watched.values["routed"][graph.of_kind("expert")[0].name]
    assert float(routed.sum()) == pytest.approx(2)


def test_other_names_of_a_number_that_changed_are_dropped() -> None:
    _, config = described("olmoe")
    adapter = DerivedAdapter(config, derive(config))
    graph = adapter.units(config, adapter.shapes(config))
    keep = {group.name: (0, 3, 5) for group in graph.of_kind("expert")}
    stated = config | {"num_local_experts": 8}
    edited = adapter.edit_config(stated, graph, Plan(keep, Budget(0.5), "test"))
    assert edited["num_experts"] == 3
    assert edited.get("num_local_experts", 3) == 3


def test_numbers_are_found_and_set_by_path() -> None:
    config = {"text_config": {"width": 8, "widths": [4, 4], "mixed": [4, 8]}}
    assert number(config, "text_config.width") == 8
    assert number(config, "text_config.widths") == 4
    assert number(config, "text_config.mixed") is None
    assert number(config, "nowhere.width") is None
    changed = restated(config, {"text_config.widths": 2, "depth": 3})
    assert changed == {"text_config": {"width": 8, "widths": [2, 2], "mixed": [4, 8]}, "depth": 3}
    assert config["text_config"]["widths"] == [4, 4]


def test_axes_follow_a_number_only_in_proportion() -> None:
    auto_class, config = described("glm")
    moved = movement(config, auto_class, "intermediate_size")
    assert moved is not None
    assert moved.count == 96
    assert {axis: moved.per_unit(axis) for axis in moved.axes if axis[0].startswith("model.layers.0.")} == {
        ("model.layers.0.mlp.gate_up_proj.weight", 0): 2,
        ("model.layers.0.mlp.down_proj.weight", 1): 1,
    }
    assert movement(config, auto_class, "max_position_embeddings") is None
