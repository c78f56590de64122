"""What the documents say is so: links and paths exist, snippets run, commands and recipes are understood."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import transformers
import typer
import yaml

from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe
from prunepolicy.agents.training.algorithms import algorithms
from prunepolicy.agents.training.recipe import Recipe
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.agents.training.train import train
from prunepolicy.cli import app, prune_app
from prunepolicy.envs.prune_case import invented_case
from prunepolicy.envs.prune_env import PruneEnv
from prunepolicy.envs.shaping import shapings
from prunepolicy.envs.thinking.sampling import samplers
from prunepolicy.envs.thinking.terms import terms
from prunepolicy.envs.thinking.verifiers import verifiers
from prunepolicy.metanet.group_network.layers import layers
from prunepolicy.metanet.weight_network.edge_layers import edge_layers
from prunepolicy.metanet.weight_network.metanetwork import Metanetwork, MetanetworkSettings
from prunepolicy.metanet.weight_network.weight_graph import weight_graph_of
from prunepolicy.policy.base import policies
from prunepolicy.policy.load import load_policy
from prunepolicy.policy.zoo.pull import pull
from prunepolicy.policy.zoo.sources import sources
from prunepolicy.policy.zoo.sources.package import SHIPPED
from prunepolicy.policy.zoo.zoo_handle import Zoo
from prunepolicy.pruning.adapters import adapter_for, adapters
from prunepolicy.pruning.allocators import allocators
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import finish, prepare
from prunepolicy.pruning.cost import cost_of
from prunepolicy.pruning.criteria import criteria
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.atomic import publish
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.registry import Registry
from prunepolicy.pruning.repair.registry import RepairContext, repairs
from prunepolicy.pruning.statistics.activations import activation_stats
from prunepolicy.pruning.statistics.gates import masked

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+(?:/\w+)+)\.py\n")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
PATH = re.compile(
    r"`((?:pruning|policy|envs|metanet|agents|configs|tests|benchmarks|docs|prunepolicy)/[\w./-]*)`"
)
REGISTRIES: dict[str, Registry[Any]] = {
    "adapters": adapters,
    "criteria": criteria,
    "allocators": allocators,
    "repair": repairs,
    "shaping": shapings,
    "layers": layers,
    "edge_layers": edge_layers,
    "kinds": policies,
    "terms": terms,
    "verifiers": verifiers,
    "sampling": samplers,
    "learned_pruning": algorithms,
    "sources": sources,
}
ENVIRONMENT = "prunepolicy/PruneSize-v0"
EXTENDING = ROOT / "docs" / "extending.md"
PLAIN = ("-v", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
WITHOUT_SUITE = {"net_saving", "prune_size_env", "hill_climb", "zip_file"}
"""Examples of components that have no contract suite; each has a test below."""
Make = Callable[..., Checkpoint]


@pytest.mark.parametrize("document", [file.relative_to(ROOT).as_posix() for file in DOCUMENTS])
def test_documents_point_at_what_is_there(document: str) -> None:
    text = BLOCK.sub("", (ROOT / document).read_text(encoding="utf-8"))
    targets = [(ROOT / document).parent / link for link in LINK.findall(text)]
    targets += [ROOT / path for path in PATH.findall(text)]
    assert not [target for target in targets if not target.exists()]


def blocks(document: Path, language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(document.read_text(encoding="utf-8")) if found == language]


def files_in(document: Path) -> dict[str, str]:
    """The components that a document shows, by path."""
    return {found[1]: block for block in blocks(document, "python") if (found := FILE.match(block))}


def name_of(path: str) -> str:
    return path.rpartition("/")[2]


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Put the snippets' files where they belong, run the other snippets, return the names these define."""
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        installed = []
        for block in blocks(EXTENDING, "python"):
            if file := FILE.match(block):
                installed.append(install(file[1], block, tmp_path_factory.mktemp("snippet"), patch))
            else:
                exec(block, names)
        yield names
        for module in installed:
            uninstall(module)
    gymnasium.registry.pop(ENVIRONMENT)


def install(path: str, text: str, folder: Path, patch: pytest.MonkeyPatch) -> str:
    """Let `folder` belong to the snippet's package, as if its file lay beside the others."""
    package = importlib.import_module(f"prunepolicy.{path.rpartition('/')[0].replace('/', '.')}")
    name = name_of(path)
    assert name not in registry_at(package.__name__), f"{name} exists: choose another example"
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    patch.setattr(package, "__path__", [*package.__path__, str(folder)])
    return importlib.import_module(f"{package.__name__}.{name}").__name__


def uninstall(module: str) -> None:
    package, _, name = module.rpartition(".")
    del sys.modules[module]
    registry_at(package).pop(name, None)


def registry_at(package: str) -> dict[str, Any]:
    """The components of a package by name; nothing for one that has no registry."""
    registry = REGISTRIES.get(package.rpartition(".")[2])
    return {} if registry is None or not len(registry) else registry._items


def half_of_the_channels(checkpoint: Checkpoint) -> Plan:
    keep = {g.name: tuple(range(0, g.size, 2)) for g in checkpoint.graph.of_kind("ffn")}
    return Plan(keep, Budget(0.5, of="ffn"), "test")


def test_the_architecture_is_cut_as_it_is_masked(
    tried: dict[str, Any], tiny_checkpoint: Make, tmp_path: Path
) -> None:
    assert tried["graph"].kinds == ("ffn", "layer", "vocabulary")
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
    edits = repairs["rescale"](
        RepairContext(checkpoint, model, plan, {"input_ids": torch.randint(3, 64, (4, 8))})
    )
    assert set(edits.tensors) == {f"model.layers.{i}.mlp.down_proj.weight" for i in range(3)}
    for name, weight in edits.tensors.items():
        ratio = weight / checkpoint.read(name)[:, ::2]
        assert weight.shape == (32, 24)
        assert ratio.min() > 1.1
        torch.testing.assert_close(ratio, ratio.new_full(ratio.shape, ratio.mean().item()))


def test_the_reward_pays_what_went_and_charges_the_rise(tried: dict[str, Any]) -> None:
    env = PruneEnv(shaping="net_saving", may_stop=True)
    env.reset(seed=0, options={"network": 0, "keep": 0.5})
    whole, ended, *_ = env.step(np.array([0.0, 1.0], np.float32))[1:]
    assert (whole, ended) == (0, True)
    env.reset(seed=0, options={"network": 0, "keep": 0.5})
    for _ in env.case.groups:
        _, reward, *_ = env.step(np.array([0.0, -1.0], np.float32))
    used, rise = env.case.meter(env.plan().keep), env.case.rise(env.plan().keep)
    assert reward == pytest.approx(1 - used - rise)


def test_the_environment_pays_more_for_going_than_for_staying_where_that_costs_little(
    tried: dict[str, Any],
) -> None:
    case = invented_case(0)
    rewards: list[list[float]] = []
    for rise in (0.0, 5.0):
        free = replace(case, measure=lambda keep, rise=rise: rise * (1 - case.meter(keep)))
        env = gymnasium.make(ENVIRONMENT, cases=[free]).unwrapped
        rewards.append([])
        for action in (-1.0, 1.0):
            env.reset(seed=0)
            rewards[-1].append(env.step(np.array([action], np.float32))[1])
    assert rewards[0] == pytest.approx([0.8, 0.0], abs=0.03)
    assert rewards[1] == pytest.approx([-3.2, 0.0], abs=0.12)


def run_suites(folder: Path) -> int:
    """Run the contract suites over the examples alone, in a process that has read no suite before."""
    with pytest.MonkeyPatch.context() as patch:
        for path, text in files_in(EXTENDING).items():
            install(path, text, folder, patch)
        names = " or ".join(name_of(path) for path in files_in(EXTENDING))
        return pytest.main([str(ROOT / "tests" / "contracts"), *PLAIN, "-k", names])


def test_the_examples_hold_what_components_must(tmp_path: Path) -> None:
    run = "import sys, test_docs; sys.exit(test_docs.run_suites(test_docs.Path(sys.argv[1])))"
    places = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(
        [sys.executable, "-c", run, str(tmp_path)], env=places, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tried = {
        name_of(path)
        for path in files_in(EXTENDING)
        if re.search(rf"\b{name_of(path)}\b.*PASSED", done.stdout)
    }
    assert {name_of(path) for path in files_in(EXTENDING)} - tried == WITHOUT_SUITE


def test_a_metanetwork_is_made_of_the_edge_layer(tried: dict[str, Any]) -> None:
    config = adapter_for({"model_type": "cifar_resnet"}).tiny()
    model = adapter_for(config).build(config)
    weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    modified = Metanetwork(MetanetworkSettings(layer="gated_mean"))(weight_graph_of(config), weights)
    assert all(torch.equal(modified[name], tensor) for name, tensor in weights.items())


def test_the_snippet_about_metanetworks_runs() -> None:
    names: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "metanet.md", "python"):
        exec(block, names)
    assert names["answers"].shape == (2, 10)
    assert all(torch.equal(names["modified"][name], w) for name, w in names["weights"].items())


def test_snippets_on_thinking_run(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "thinking.md", "python"):
        exec(block, names)
    assert names["shaped"].rewards.tolist() == pytest.approx([0.5, 2.0, -0.5, 0.5])
    assert "regret=0.0" in capsys.readouterr().out


def test_the_term_charges_what_is_beyond_the_free_tokens(tried: dict[str, Any]) -> None:
    envs = tried["thinkers"]
    envs.reset(seed=0)
    _, rewards, *_, info = envs.step(np.ones(256, np.int64))
    rollouts = info["rollouts"]
    charged = 0.1 * np.maximum(0, rollouts.length - 100) / 1000
    np.testing.assert_allclose(rewards, rollouts.correct - charged)


def test_the_policy_kind_lies_between_its_parts_and_survives_its_files(
    tried: dict[str, Any], tmp_path: Path
) -> None:
    case, budget = invented_case(0), Budget(0.6, "ffn", uniform=False)
    plans = {}
    for share in (0.0, 0.5, 1.0):
        policy = policies["blend"](policies["blend"].config_type(share=share), "blend")
        policy.save(tmp_path / str(share))
        plans[share] = load_policy(tmp_path / str(share)).plan(case.graph, case.stats, budget).keep
    ends = [load_policy(name).plan(case.graph, case.stats, budget).keep for name in ("taylor", "fisher")]
    assert [plans[0.0], plans[1.0]] == ends
    assert plans[0.5] not in ends


@pytest.fixture
def model(tiny_checkpoint: Make, byte_tokenizer: transformers.PreTrainedTokenizerFast) -> str:
    folder = tiny_checkpoint("llama", vocab_size=258, num_hidden_layers=2).folder
    byte_tokenizer.save_pretrained(folder)
    return str(folder)


def test_the_learner_climbs_and_resumes_to_the_same_bytes(
    tried: dict[str, Any], model: str, tmp_path: Path
) -> None:
    settings = {
        "algorithm": "hill_climb",
        "policy": {"kind": "blend"},
        "models": [model],
        "budgets": {"keep": [0.75]},
        "evaluation": {"every": 2, "samples": 2, "length": 12, "baselines": []},
        "checkpoint_every": 2,
        "dtype": "float32",
    }
    short, long = (Recipe.model_validate({**settings, "max_steps": episodes}) for episodes in (2, 4))
    train(long, tmp_path / "whole" / "run")
    train(short, tmp_path / "cut" / "run")
    train(long, tmp_path / "cut" / "run", resume=True)
    metrics = [(tmp_path / name / "run" / "metrics.jsonl").read_text() for name in ("whole", "cut")]
    assert metrics[0] == metrics[1]
    rewards = [row["reward"] for row in map(yaml.safe_load, metrics[0].splitlines()) if "reward" in row]
    assert len(rewards) == 4
    assert rewards == sorted(rewards)


def test_the_snippets_about_training_run(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "training.md", "python"):
        # The same program, on a network and with texts that take no minutes.
        exec(block.replace("models/llama-1m", model).replace("Probe(", "Probe(length=12, "), names)
    assert load_policy(tmp_path / "agent").kind == "graph"
    observation, _ = names["env"].reset(seed=0)
    stays = np.zeros(names["env"].action_space.shape, np.float32)
    seen, reward, done, *_ = names["env"].step(stays)
    assert (reward, done) == (0, False)
    assert not np.array_equal(seen["groups"], observation["groups"])
    _, reward, done, *_ = names["env"].step(stays)
    assert done
    assert np.isfinite(reward)


def test_the_snippets_about_choosing_at_run_time_run(
    tiny_checkpoint: Make,
    byte_tokenizer: transformers.PreTrainedTokenizerFast,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tiny_checkpoint("llama", vocab_size=258, max_position_embeddings=256).folder
    byte_tokenizer.save_pretrained(folder)
    names: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "adaptive.md", "python"):
        exec(block.replace("smollm2-135m", str(folder)), names)
    assert capsys.readouterr().out.startswith("The harbour lay still")
    assert names["same"].shape == names["tokens"].shape
    assert {int(mask.sum()) for mask in names["choice"].masks.values()} == {24}
    assert (names["logits"] - names["whole"](**names["prompt"]).logits).abs().max() > 1e-3


def test_the_snippet_about_the_hub_saves_and_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "zoo.md", "python"):
        exec(block, names)
    assert (names["policy"].name, names["policy"].kind) == ("mine", "heuristic")


def test_the_source_reads_a_zoo_from_its_archive(
    tried: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    archive = shutil.make_archive(str(tmp_path / "zoo"), "zip", SHIPPED)
    zoo = Zoo.open(f"zip://{archive}")
    assert load_policy(pull(zoo, zoo.find("prunenet-rows"))).kind == "prunenet"
    with pytest.raises(PrunePolicyError, match="Can't read"):
        Zoo.open(f"zip://{tmp_path}")


def commands(document: Path) -> list[list[str]]:
    """Return the calls of our programs that a document tells to type, comments removed."""
    lines = [line for block in blocks(document, "sh") for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line and line[0].startswith("prune")]


TYPED = [pytest.param(line, id=" ".join(line)) for document in DOCUMENTS for line in commands(document)]


@pytest.mark.parametrize("line", TYPED)
def test_commands_in_the_documents_are_understood(line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    program, *words = line
    if program == "prune-with-policy":
        typer.main.get_command(prune_app).make_context(program, words)
        return
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    context = command.make_context(program, words)
    if command.name == "train":
        for recipe in context.params["recipes"]:
            load_recipe(recipe, context.params["set_"] or ())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_parts_of_recipes_in_the_documents_are_understood(document: Path) -> None:
    whole = {"algorithm": "ppo", "policy": {"kind": "graph"}, "models": ["model"]}
    think = {"algorithm": "grpo", "stages": [{"name": "only", "terms": [{"name": "naive"}]}]}
    for block in blocks(document, "yaml"):
        part = yaml.safe_load(block)
        if "problems" in part:
            ThinkRecipe.model_validate({**think, **part})
        else:
            Recipe.model_validate({**whole, **part})
