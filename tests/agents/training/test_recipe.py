from __future__ import annotations

from pathlib import Path

import pytest

from prunepolicy.agents.training.recipe import BudgetRecipe, load_recipe
from prunepolicy.pruning.errors import UsageError

TEXT = "algorithm: reinforce\npolicy: {kind: prunenet}\nmodels: [a]\n"


def written(tmp_path: Path, text: str = TEXT) -> Path:
    (tmp_path / "recipe.yaml").write_text(text)
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize("file", sorted(Path(__file__).parents[3].glob("configs/train/*.yaml")), ids=str)
def test_recipes_that_ship_are_valid(file: Path) -> None:
    assert load_recipe(file).episodes


def test_overrides_have_yamls_types_and_reach_inside(tmp_path: Path) -> None:
    recipe = load_recipe(
        written(tmp_path), ["episodes=7", "learner.samples=4", "models=[b, c]", "evaluation.patience=null"]
    )
    assert (recipe.episodes, recipe.learner, recipe.models) == (7, {"samples": 4}, ("b", "c"))


@pytest.mark.parametrize(
    ("text", "overrides", "sentence"),
    [
        (TEXT + "modles: [b]\n", [], "models"),
        (TEXT + "evaluation: {evry: 3}\n", [], r"evaluation\.evry.*every"),
        (TEXT + "budgets: {of: fn}\n", [], r"budgets\.0\.of"),
        (TEXT + "budgets: [{of: ffn}, {uniforn: false}]\n", [], r"budgets\.1\.uniforn.*uniform"),
        (TEXT, ["episodes"], "key=value"),
        (TEXT, ["seed.x=1"], "seed"),
        (TEXT + "seed: 1\n", ["seed.x=1"], "'seed' has no keys"),
        (TEXT, ["episodes=[1"], "no YAML"),
        (TEXT, ["episodes=0"], "episodes"),
        ("- a list\n", [], "mapping"),
        ("a: [\n", [], "Can't read"),
        ("a: !!python/object/apply:os.system [ls]\n", [], "Can't read"),
        ("policy: {kind: prunenet}\nmodels: [a]\n", [], "algorithm"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, overrides: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        load_recipe(written(tmp_path, text), overrides)


def test_a_budget_that_keeps_too_much_is_refused() -> None:
    with pytest.raises(UsageError, match=r"0\.4"):
        BudgetRecipe(keep=(40,)).listed()


def test_one_kind_of_budget_is_a_list_of_one(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, TEXT + "budgets: {of: params, keep: [0.9, 0.8]}\n"))
    assert [(budget.of, budget.keep) for budget in recipe.every_budget] == [("params", 0.9), ("params", 0.8)]
    assert recipe.sizes == (0.9, 0.8)
