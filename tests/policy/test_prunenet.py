from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prunepolicy.policy.base import POLICY_FILE, Instruments
from prunepolicy.policy.kinds.prunenet import PruneNet, PruneNetConfig
from prunepolicy.policy.load import load_policy
from prunepolicy.policy.weights import WEIGHTS_FILE, write_tensors
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.plan import Budget
from prunepolicy.pruning.statistics.row_features import leverage, row_stats, scored_stats
from prunepolicy.pruning.statistics.stats import Stats

Make = Callable[..., Checkpoint]
HALF = Budget(0.5, of="ffn", multiple_of=1)


def trained(**settings: object) -> PruneNet:
    """A policy with random weights in every place."""
    policy = PruneNet(PruneNetConfig.model_validate({"features": ("weights",), **settings}))
    with torch.no_grad():
        for parameter in policy.scorer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return policy


def stats_of(checkpoint: Checkpoint) -> Stats:
    blocks = checkpoint.graph.of_kind("ffn")
    return row_stats(checkpoint, blocks).merged(scored_stats(checkpoint, blocks))


def test_saved_and_loaded_it_plans_the_same(tiny_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint, policy = tiny_checkpoint("llama"), trained()
    stats = stats_of(checkpoint)
    plan = policy.plan(checkpoint.graph, stats, HALF)
    policy.save(tmp_path / "policy")
    again = load_policy(tmp_path / "policy").plan(checkpoint.graph, stats, HALF)
    assert again == plan
    assert {len(kept) for kept in plan.keep.values()} == {24}
    assert sum(file.stat().st_size for file in (tmp_path / "policy").iterdir()) < 100_000
    assert plan != trained().plan(checkpoint.graph, stats, HALF)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "phi3", "bert"])
def test_one_policy_plans_for_every_family_and_budget(tiny_checkpoint: Make, family: str) -> None:
    checkpoint = tiny_checkpoint(family)
    for budget in (HALF, Budget(0.9, multiple_of=1)):
        plan = trained().plan(checkpoint.graph, stats_of(checkpoint), budget)
        plan.check(checkpoint.graph)
        assert plan.is_uniform(checkpoint.graph)
        assert plan.keep


def test_scores_follow_their_rows_in_any_order(tiny_checkpoint: Make) -> None:
    checkpoint, policy = tiny_checkpoint("llama"), trained()
    stats, group = stats_of(checkpoint), checkpoint.graph.of_kind("ffn")[0]
    order = torch.randperm(group.size)
    rows = dict(stats.values["rows"])
    rows[group.name] = rows[group.name][order]
    kept = policy.plan(checkpoint.graph, stats, HALF).kept(group)
    shuffled = policy.plan(checkpoint.graph, Stats({"rows": rows}), HALF).kept(group)
    assert sorted(order[list(shuffled)].tolist()) == list(kept)


def test_scaling_a_whole_matrix_changes_nothing(tiny_checkpoint: Make) -> None:
    checkpoint, policy = tiny_checkpoint("llama"), trained()
    stats = stats_of(checkpoint)
    scale = torch.tensor([10.0, 0.1, 3.0, 1.0])
    larger = Stats({"rows": {name: rows * scale for name, rows in stats.values["rows"].items()}})
    assert policy.plan(checkpoint.graph, larger, HALF) == policy.plan(checkpoint.graph, stats, HALF)


def test_a_smaller_plan_can_stay_within_a_larger_one(tiny_checkpoint: Make) -> None:
    checkpoint, policy = tiny_checkpoint("llama"), trained()
    stats = stats_of(checkpoint)
    outer = policy.plan(checkpoint.graph, stats, replace(HALF, keep=0.75))
    inner = policy.plan(checkpoint.graph, stats, HALF, Instruments(within=outer))
    assert all(set(inner.keep[name]) < set(outer.keep[name]) for name in outer.keep)


def test_the_published_policy_draws_by_seed_and_knows_one_shape(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("llama")
    policy = trained(scorer="affine", selection="concrete", shape=(48, 32))
    stats = stats_of(checkpoint)
    first, again = (policy.plan(checkpoint.graph, stats, HALF) for _ in range(2))
    assert first == again
    assert first != policy.plan(checkpoint.graph, replace(stats, seed=1), HALF)
    other = tiny_checkpoint("llama", intermediate_size=64)
    with pytest.raises(PrunePolicyError, match=r"\(64, 32\)"):
        policy.plan(other.graph, stats_of(other), HALF)
    with pytest.raises(UsageError, match="shape"):
        PruneNet(PruneNetConfig(scorer="affine"))


def test_the_published_score_is_affine_in_the_row() -> None:
    scorer = trained(scorer="affine", shape=(10, 4)).scorer
    a, b = torch.randn(2, 10, 4)
    context = torch.zeros(2)
    middle = scorer((a + b) / 2, context)
    torch.testing.assert_close(middle, (scorer(a, context) + scorer(b, context)) / 2, rtol=1e-4, atol=1e-4)


def test_other_kinds_of_unit_are_refused(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("llama")
    with pytest.raises(UsageError, match="FFN channels only"):
        trained().plan(checkpoint.graph, Stats(), Budget(0.5, of="heads"))


def test_leverage_is_the_diagonal_of_the_projection() -> None:
    rows = torch.randn(20, 5, dtype=torch.float64)
    expected = (rows @ torch.linalg.pinv(rows)).diagonal()
    torch.testing.assert_close(leverage(rows), expected, rtol=1e-4, atol=1e-5)
    assert torch.isfinite(leverage(torch.zeros(4, 3))).all()


def edit_json(folder: Path, **changes: object) -> None:
    data = json.loads((folder / POLICY_FILE).read_text()) | changes
    (folder / POLICY_FILE).write_text(json.dumps(data))


def swap_weights(folder: Path, tensors: dict[str, torch.Tensor], honest: bool = True) -> None:
    sha256 = write_tensors(folder / WEIGHTS_FILE, tensors)
    if honest:
        edit_json(folder, weights_sha256=sha256)


def with_nan(folder: Path) -> None:
    weights = dict(trained().weights())
    weights["score.bias"] = torch.full_like(weights["score.bias"], torch.nan)
    swap_weights(folder, weights)


def elsewhere(folder: Path) -> None:
    target = folder.parent / "elsewhere.safetensors"
    (folder / WEIGHTS_FILE).rename(target)
    (folder / WEIGHTS_FILE).symlink_to(target)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "other weights": (lambda f: swap_weights(f, dict(trained().weights()), honest=False), "SHA-256"),
    "no hash": (lambda f: edit_json(f, weights_sha256=None), "SHA-256"),
    "NaN": (with_nan, "NaN"),
    "other shapes": (lambda f: swap_weights(f, dict(trained(hidden=8).weights())), "doesn't hold"),
    "other names": (lambda f: swap_weights(f, {"x": torch.zeros(1)}), "doesn't hold"),
    "a link": (elsewhere, "link"),
    "no weights": (lambda f: (f / WEIGHTS_FILE).unlink(), "missing"),
    "no safetensors": (lambda f: (f / WEIGHTS_FILE).write_bytes(b"\x80\x04pickle"), "SHA-256"),
    "another schema": (lambda f: edit_json(f, schema_version=99), "policy schema 99"),
    "an unknown key": (lambda f: edit_json(f, confg={}), "config"),
    "an unknown kind": (lambda f: edit_json(f, kind="../prunenet"), "policy kind"),
    "an unknown setting": (lambda f: edit_json(f, config={"hiden": 8}), "hidden"),
    "an absurd size": (lambda f: edit_json(f, config={"hidden": 10**9}), "hidden"),
    "no JSON": (lambda f: (f / POLICY_FILE).write_text("{"), "policy"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_policy_files_are_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    trained().save(folder)
    harm, sentence = HOSTILE[name]
    harm(folder)
    with pytest.raises(PrunePolicyError, match=sentence) as caught:
        load_policy(folder)
    assert "\n" not in str(caught.value)
