from __future__ import annotations

from pathlib import Path

import pytest

from prunepolicy.agents.training.recipe import BudgetRecipe
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.pruning.errors import UsageError

TEXT = "algorithm: reinforce\npolicy: {kind: prunenet}\nmodels: [a]\n"


def written(tmp_path: Path, text: str = TEXT) -> Path:
    (tmp_path / "recipe.yaml").write_text(text)
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize("file", sorted(Path(__file__).parents[3].glob("configs/train/*.yaml")), ids=str)
def test_recipes_that_ship_are_valid(file: Path) -> None:
    assert load_recipe(file).max_steps


def test_overrides_have_yamls_types_and_reach_inside(tmp_path: Path) -> None:
    recipe = load_recipe(
        written(tmp_path),
        ["max_steps=7", "learner.choices_per_layer=4", "models=[b, c]", "evaluation.patience=null"],
    )
    assert (recipe.max_steps, recipe.learner, recipe.models) == (7, {"choices_per_layer": 4}, ("b", "c"))


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
        (TEXT, ["max_steps=[1"], "no YAML"),
        (TEXT, ["max_steps=0"], "max_steps"),
        ("- a list\n", [], "mapping"),
        ("a: [\n", [], "Can't read"),
        ("a: !!python/object/apply:os.system [ls]\n", [], "Can't read"),
        ("policy: {kind: prunenet}\nmodels: [a]\n", [], "algorithm"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, overrides: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        load_recipe(written(tmp_path, text), overrides)


PPO = "algorithm: ppo\npolicy: {kind: graph}\nmodels: [a]\n"
GATES = "algorithm: gradient_gates\npolicy: {kind: gates}\nmodels: [a]\n"
BANDIT = "algorithm: think_bandit\n"
METANET = (
    "algorithm: metanet\npolicy: {kind: metanet}\ndata: {text: a}\nnetwork: {hidden: 32}\n"
    "pipeline: {cut: {uniform: true}}\n"
)
THINK = (
    "algorithm: grpo\nnew: {hidden: 16, heads: 2}\nproblems: {tasks: [{task: parity}]}\n"
    "stages: [{name: a, terms: [{name: naive}]}]\n"
)


@pytest.mark.parametrize(
    ("text", "overrides", "sentence"),
    [
        (TEXT, ["held_out=[a]"], "a is held out, and trained on"),
        (TEXT, ["budgets=[]"], "budgets"),
        (TEXT, ["evaluation.patience=1", "max_steps=5"], "first comes after step 20"),
        (TEXT, ["policy.repair=ridg"], "Did you mean 'ridge'"),
        (TEXT, ["learner.shaping=function_awar"], "Did you mean 'function_aware'"),
        (TEXT, ["learner.shaping=ternary"], "doesn't measure 'reference_rise'"),
        (TEXT, ["learner.choices_per_layer=1"], "at least 2 choices_per_layer"),
        (TEXT, ["learner.keep=[0.9, 0.5]"], r"learner\.keep"),
        (TEXT, ["policy.hiden=3"], "hidden"),
        (PPO, ["learner.episodes_per_step=32", "learner.batch_size=24"], r"multiple of learner\.batch_size"),
        (PPO, ["learner.shaping=ks"], "doesn't measure 'dense_spectrum'"),
        (GATES, ["held_out=[b]"], "one model, none as held_out"),
        (GATES, ["learner.texts=2"], r"learner\.batch_size \(4\) is more than learner\.texts \(2\)"),
        (GATES, ["policy.criterion=fishr"], "Did you mean 'fisher'"),
        (METANET, ["family={count: 2, held_out: 2}"], r"held_out \(2\) leaves none of 2"),
        (METANET, ["network={arch: resnet20}"], r"images with network\.arch"),
        (METANET, ["network.heads=5"], "multiple of twice the heads"),
        (METANET, ["policy.head=gates"], "learns from cuts alone"),
        (METANET, ["pipeline.cut.criterion=group_nrm"], "Did you mean 'group_norm'"),
        (METANET, ["evaluation.test_speedups=[0.5]"], r"evaluation\.test_speedups"),
        (THINK, ["warm_up.steps=300"], r"warm_up\.steps \(300\) is more than max_steps \(200\)"),
        (THINK, ["reinforcement.minibatches=999"], "more than the 128 completions"),
        (THINK, ["reinforcement.max_tokens=[256]"], r"no room for a problem in new\.context"),
        (THINK, ["switch={name: sas}"], "Did you mean 'sasr'"),
        (THINK, ["problems.tasks=[{task: parity, levels: [1, 3]}]"], "difficulties 2 to 24"),
        (THINK, ["stages=[{name: a, terms: [{name: naiv}]}]"], "Did you mean 'naive'"),
        (BANDIT, ["evaluation.reward={name: balance}"], "pays no outcome by itself"),
        (BANDIT, ["learner.sampler={name: rando}"], "Did you mean 'random'"),
        (BANDIT, ["prompts.rollouts=nowhere"], "no file of rollouts at nowhere"),
    ],
)
def test_contradictions_are_found_before_anything_is_opened(
    tmp_path: Path, text: str, overrides: list[str], sentence: str
) -> None:
    load_recipe(written(tmp_path, text))
    with pytest.raises(UsageError, match=sentence) as refused:
        load_recipe(written(tmp_path, text), overrides)
    assert "Value error" not in str(refused.value)


def test_a_budget_that_keeps_too_much_is_refused() -> None:
    with pytest.raises(UsageError, match=r"0\.4"):
        BudgetRecipe(keep=(40,)).listed()


def test_one_kind_of_budget_is_a_list_of_one(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, TEXT + "budgets: {of: params, keep: [0.9, 0.8]}\n"))
    assert [(budget.of, budget.keep) for budget in recipe.every_budget] == [("params", 0.9), ("params", 0.8)]
    assert recipe.sizes == (0.9, 0.8)
