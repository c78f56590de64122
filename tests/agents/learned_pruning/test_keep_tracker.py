"""What is logged and drawn about what a policy keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from prunepolicy.agents.learned_pruning.evaluator import Evaluator
from prunepolicy.agents.learned_pruning.keep_tracker import KeepTracker, history, moved_share
from prunepolicy.agents.learned_pruning.learning_plots import KeptHistory, plot_kept, plot_learning
from prunepolicy.agents.training.recipe import EvaluationRecipe
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.policy.load import load_policy
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.units import UnitGraph


def graph_of(model_type: str = "llama") -> UnitGraph:
    adapter = adapter_for({"model_type": model_type})
    return adapter.units(adapter.tiny(), adapter.shapes(adapter.tiny()))


@pytest.fixture
def evaluator(model: Callable[..., str]) -> Callable[..., Evaluator]:
    session = ModelSession("tiny", Checkpoint.open(Path(model())), Hardware("cpu", "float32"))

    def make(uniform: bool) -> Evaluator:
        budgets = tuple(Budget(keep, "ffn", uniform=uniform, multiple_of=1) for keep in (0.9, 0.5, 0.75))
        return Evaluator((session,), budgets, EvaluationRecipe(samples=2, length=12))

    return make


def test_shares_kept_are_logged_where_widths_may_differ(evaluator: Callable[..., Evaluator]) -> None:
    watch = KeepTracker(evaluator(uniform=False), ())
    row = watch.row(Heuristic(HeuristicConfig(criterion="fisher", samples=4, length=12)))
    assert set(row) == {f"kept/layers.{layer}.ffn" for layer in range(3)}
    assert sum(row.values()) / 3 == pytest.approx(0.75, abs=0.01)
    assert len(set(row.values())) > 1


def test_departures_from_the_best_heuristic_are_logged_where_widths_are_equal(
    evaluator: Callable[..., Evaluator], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {"magnitude": 2.0, "magnitude_l1": 1.0, "random": 3.0}
    monkeypatch.setattr(Evaluator, "scores", lambda self, policy: {"": scores[policy.name]})
    watch = KeepTracker(evaluator(uniform=True), tuple(scores))
    assert watch.rival_name == "magnitude_l1"
    assert set(watch.row(load_policy("magnitude_l1")).values()) == {0.0}
    row = watch.row(load_policy("random"))
    assert set(row) == {f"moved/layers.{layer}.ffn" for layer in range(3)}
    assert all(0 < share < 0.5 for share in row.values())
    assert KeepTracker(evaluator(uniform=True), ()).row(load_policy("random")) == {}


def test_what_moved_is_counted_among_the_kept() -> None:
    group = graph_of()["layers.0.ffn"]
    budget = Budget(0.1, "ffn")
    plan, other = (Plan({group.name: units}, budget, "") for units in ((0, 1, 2, 3), (2, 3, 4, 5)))
    assert moved_share(group, plan, other) == 0.5
    assert moved_share(group, plan, Plan({}, budget, "")) == 0.0


def test_history_takes_evaluations_alone() -> None:
    rows = [
        {"step": 1, "reward": 0.5},
        {"step": 2, "held_out/score": -1.0, "kept/a.ffn": 0.5, "moved/b": 1.0},
    ]
    assert history(rows, "kept/") == [(2, {"a.ffn": 0.5})]


def kept_history(model_type: str = "llama", kinds: tuple[str, ...] = ("ffn",)) -> KeptHistory:
    graph = graph_of(model_type)
    groups = [group for group in graph.groups if group.kind in kinds]
    rows = [(step, {g.name: (step + i) / 20 for i, g in enumerate(groups)}) for step in (2, 4, 6)]
    return KeptHistory(graph, rows, 4, "Units kept", "tiny", "share")


def test_panels_have_a_line_per_layer_and_average_experts() -> None:
    assert kept_history().panels == {"ffn": [[0.1, 0.2, 0.3], [0.15, 0.25, 0.35], [0.2, 0.3, 0.4]]}
    experts = kept_history("mixtral").panels["ffn"]
    assert len(experts) == 3
    assert experts[0] == pytest.approx([(2 + 1.5) / 20, (4 + 1.5) / 20, (6 + 1.5) / 20])
    assert set(kept_history(kinds=("ffn", "kv_head", "layer")).panels) == {"ffn", "kv_head"}


@pytest.mark.parametrize("kinds", [("ffn",), ("ffn", "kv_head", "query_head")])
def test_the_picture_shows_every_cell_and_is_the_same_every_time(
    kinds: tuple[str, ...], tmp_path: Path
) -> None:
    for name in ("one.png", "two.png"):
        plot_kept(kept_history(kinds=kinds), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    picture = np.asarray(Image.open(tmp_path / "one.png").convert("RGB")).reshape(-1, 3)
    _, counts = np.unique(picture, axis=0, return_counts=True)
    assert (counts > 2000).sum() >= 5  # white, and the five values of the cells


def test_nothing_is_drawn_without_layers(tmp_path: Path) -> None:
    plot_kept(kept_history(kinds=("layer",)), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_equal_numbers_can_be_drawn_and_a_curve_of_one_step(tmp_path: Path) -> None:
    history = kept_history()
    rows = [(1, dict.fromkeys(history.rows[0][1], 0.8))]
    plot_kept(KeptHistory(history.graph, rows, 1, "", "", ""), tmp_path / "flat.png")
    plot_learning([(1, 0.5)], [(1, 0.2)], {"before learning": 0.3}, tmp_path / "curve.png")
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("flat.png", "curve.png"))


def test_looking_leaves_the_generators_alone(evaluator: Callable[..., Evaluator]) -> None:
    watch = KeepTracker(evaluator(uniform=True), ("magnitude", "random"))
    policy = load_policy("random")
    watch.row(policy)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    watch.row(policy)
    assert torch.equal(torch.rand(4), expected)
