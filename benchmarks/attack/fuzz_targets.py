"""The files that damage is done to, undamaged, and what reads them."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chaos import tiny_model
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save as saved_arrays

from prunepolicy.agents.images.networks import NetworkRecipe
from prunepolicy.agents.images.sources import read_images
from prunepolicy.agents.images.task import ImageRecipe, ImageTask
from prunepolicy.agents.learned_pruning.policy_card import read_card
from prunepolicy.agents.recovery.documents import documents
from prunepolicy.agents.recovery.fit import Fit, FitRecipe
from prunepolicy.agents.recovery.savepoint import Savepoint
from prunepolicy.agents.runtime.settings import load_settings
from prunepolicy.agents.thinking.bandit.experiment import stored_weights
from prunepolicy.agents.thinking.bandit.learner import ThinkBandit
from prunepolicy.agents.thinking.bandit.report import BanditReport
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.agents.training.run_folder import RunFolder, cpu_spent, saved_step
from prunepolicy.agents.training.run_monitor import steps_done
from prunepolicy.agents.training.train import train
from prunepolicy.commands.prune.evidence import licence_of
from prunepolicy.commands.prune.stored_plan import stored_plan
from prunepolicy.commands.report.report import Facts, KeptUnits, Origin, PruneReport
from prunepolicy.commands.submit.ray_jobs import received
from prunepolicy.envs.thinking.cached import CachedSource
from prunepolicy.envs.thinking.simulated import SimulatedSource
from prunepolicy.policy.kinds.graph import Graph, GraphConfig
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.policy.kinds.prunenet import PruneNet, PruneNetConfig
from prunepolicy.policy.load import load_policy_folder
from prunepolicy.policy.zoo.index import parsed_index
from prunepolicy.policy.zoo.settings import zoo_settings
from prunepolicy.policy.zoo.signing import public_text, signed, verified
from prunepolicy.policy.zoo.sources.package import SHIPPED
from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.checkpoint.bare_weights import folder_with_weights
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.cut import side_files_of
from prunepolicy.pruning.checkpoint.loading import load_tokenizer
from prunepolicy.pruning.convnets import networks as convnets
from prunepolicy.pruning.cost import Cost, cost_of
from prunepolicy.pruning.io.claim import claimed
from prunepolicy.pruning.measure.multiple_choice import read_choices
from prunepolicy.pruning.measure.perplexity import TextScore
from prunepolicy.pruning.measure.speedup import Speedup
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.proof.proof import Receipt

ROOT = Path(__file__).parents[2]
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BANDIT = [
    "episodes=4",
    "evaluation.every=2",
    "checkpoint_every=2",
    "prompts.simulated=16",
    "learner.prompts=4",
]
Load = Callable[[Path], object]


@dataclass(frozen=True)
class Target:
    """One kind of file and its reader.

    Attributes:
        files: content by name, as they lie in one folder.
        damage: names of those that are damaged, to the format that their damage knows.
        load: reads the folder; whatever it raises but a sentence of ours is a failure.
        portion: inputs in a row.
    """

    name: str
    files: dict[str, bytes]
    damage: dict[str, str]
    load: Load = field(repr=False)
    portion: int = 400


def targets(scratch: Path) -> Iterator[Target]:
    """Make all targets; `scratch` is for what making them leaves."""
    model = scratch / "model"
    tiny_model(model, "16KB")
    yield from _plans(model)
    yield from _policies(scratch)
    yield from _models(model)
    yield from _zoo()
    yield from _runs(scratch)
    yield from _savepoints(scratch)
    yield from _settings()
    yield from _data()


def _plans(model: Path) -> Iterator[Target]:
    checkpoint = Checkpoint.open(model)
    settings = {"probe": {"source": "self", "samples": 4, "length": 8, "seed": 0}, "recover": 1}
    keep = {group.name: tuple(range(0, group.size, 2)) for group in checkpoint.graph.of_kind("ffn")}
    plan = Plan(keep, Budget(0.5, "ffn"), "test", checkpoint.fingerprint, "bias", settings)

    def load(folder: Path) -> None:
        read = stored_plan(folder / "plan.json", None)
        assert read.to_json()
        read.check(checkpoint.graph)
        read.counts(checkpoint.graph)

    yield Target("plan.json", {"plan.json": plan.to_json().encode()}, {"plan.json": "json"}, load)


def _policies(scratch: Path) -> Iterator[Target]:
    made = {
        "heuristic": Heuristic(HeuristicConfig(criterion="fisher", samples=4), "tiny"),
        "prunenet": PruneNet(PruneNetConfig(hidden=4), "tiny"),
        "graph": Graph(GraphConfig(hidden=8), "tiny"),
    }
    for kind, policy in made.items():
        policy.save(scratch / kind)
        files = _files(scratch / kind)
        yield Target(f"policy.json, {kind}", files, {"policy.json": "json"}, load_policy_folder)
        if "weights.safetensors" in files:
            damage = {"weights.safetensors": "safetensors"}
            yield Target(f"weights.safetensors, {kind}", files, damage, _with_fitting_hash)
    card = {"card.json": (SHIPPED / "prunenet-rows.v1/card.json").read_bytes()}
    yield Target("card.json", card, {"card.json": "json"}, read_card)


def _with_fitting_hash(folder: Path) -> None:
    """Load a policy as somebody would have made it who knows its format."""
    data = json.loads((folder / "policy.json").read_bytes())
    data["weights_sha256"] = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    (folder / "policy.json").write_text(json.dumps(data))
    load_policy_folder(folder)


def _models(model: Path) -> Iterator[Target]:
    files = _files(model)
    shard = next(name for name in files if name.endswith("00001-of-00003.safetensors") or "-00001-" in name)
    files["README.md"] = b"---\nlicense: apache-2.0\ntags: [a, b]\nmodel-index:\n- name: x\n---\n# Tiny\n"
    files["modules.json"] = json.dumps([{"idx": 0, "name": "0", "path": "1_Dense", "type": "x"}]).encode()

    def opened(folder: Path) -> None:
        checkpoint = Checkpoint.open(folder)
        assert cost_of(checkpoint.graph).params
        assert checkpoint.fingerprint
        assert checkpoint.stored_names
        assert side_files_of(checkpoint).travelling

    yield Target("config.json", files, {"config.json": "json"}, opened, 10)
    yield Target("safetensors, header", files, {shard: "safetensors"}, opened, 10)
    yield Target("model.safetensors.index.json", files, {"model.safetensors.index.json": "json"}, opened, 10)
    yield Target("modules.json", files, {"modules.json": "json"}, opened, 10)
    readme = {"README.md": files["README.md"]}
    yield Target("README.md, head", readme, {"README.md": "card"}, lambda folder: licence_of(folder, {}))
    names = [name for name in files if "token" in name]
    tokenizer = {name: files[name] for name in ("config.json", *names)}
    yield Target("tokenizer", tokenizer, dict.fromkeys(names, "json"), load_tokenizer, 5)
    yield from _networks(model.parent)


def _networks(scratch: Path) -> Iterator[Target]:
    """Convolutional networks, which this package loads itself."""
    config = adapter_for({"model_type": "cifar_resnet"}).tiny()
    convnets.save(adapter_for(config).build(config), scratch / "convnet")
    files = _files(scratch / "convnet")

    def load(folder: Path) -> None:
        checkpoint = Checkpoint.open(folder)
        assert cost_of(checkpoint.graph).params
        checkpoint.adapter.load(folder, torch.float32)

    yield Target("config.json, resnet", files, {"config.json": "json"}, load, 10)
    bare = {"bare.safetensors": files["model.safetensors"]}

    def describe(folder: Path) -> None:
        shutil.rmtree(scratch / "described", ignore_errors=True)
        folder_with_weights(folder / "bare.safetensors", "resnet8", scratch / "described")

    yield Target("weights without configuration", bare, {"bare.safetensors": "safetensors"}, describe, 10)


def _zoo() -> Iterator[Target]:
    text = (SHIPPED / "index.signed").read_bytes().partition(b"\n")[2]
    whole, trusted = signed(text, [KEY]), [public_text(KEY)]

    def forged(folder: Path) -> None:
        read = verified((folder / "index.signed").read_bytes(), trusted, "the zoo")
        if read.text != text:
            raise AssertionError("text that nobody signed is believed")
        parsed_index(read.text, "the zoo")

    index = {"index.json": text}
    yield Target(
        "index.json, as if signed",
        index,
        {"index.json": "json"},
        lambda folder: parsed_index((folder / "index.json").read_bytes(), "the zoo"),
    )
    yield Target("index.signed", {"index.signed": whole}, {"index.signed": "signed"}, forged)


def _runs(scratch: Path) -> Iterator[Target]:
    recipe = load_recipe(ROOT / "configs/think/bandit.yaml", BANDIT)
    train(recipe, scratch / "run")
    files = {name: data for name, data in _files(scratch / "run").items() if not name.startswith("events")}
    state = next(name for name in files if name.startswith("state-"))
    learner = ThinkBandit(recipe.learner, SimulatedSource(None, 16), 0)  # type: ignore[attr-defined]

    def reopened(folder: Path) -> None:
        run = RunFolder.reopen(folder, recipe, "again")
        run.restored(learner)
        run.rows()
        run.count_cpu()
        saved_step(folder)
        steps_done(folder)
        cpu_spent(folder)

    def stated(folder: Path) -> None:
        data = json.loads((folder / "checkpoint.json").read_bytes())
        data["sha256"] = hashlib.sha256((folder / state).read_bytes()).hexdigest()
        (folder / "checkpoint.json").write_text(json.dumps(data))
        reopened(folder)

    for name, form in (("checkpoint.json", "json"), ("run.json", "json"), ("metrics.jsonl", "lines")):
        yield Target(f"run: {name}", files, {name: form}, reopened, 10)
    yield Target("run: recipe.yaml", files, {"recipe.yaml": "yaml"}, reopened, 10)
    yield Target("run: state of the learner", files, {state: "safetensors"}, stated, 10)
    report = {"train_report.json": files["train_report.json"]}
    yield Target("run: train_report.json", report, {"train_report.json": "json"}, BanditReport.load)

    def decided(folder: Path) -> None:
        stored_weights(folder, learner.weights.shape)

    decision = {"decision.json": files["best/decision.json"]}
    yield Target("run: decision.json", decision, {"decision.json": "json"}, decided)
    recipes = [*(ROOT / "configs/train").glob("*.yaml"), *(ROOT / "configs/think").glob("*.yaml")]
    for file in sorted(recipes):
        recipe_file = {"recipe.yaml": file.read_bytes()}
        name = f"recipe: {file.stem}"
        yield Target(
            name, recipe_file, {"recipe.yaml": "yaml"}, lambda at: load_recipe(at / "recipe.yaml"), 20
        )


@cache
def _images() -> ImageTask:
    images = ImageRecipe(source="shapes", train=64, validation=16, test=16, side=8, shift=0, flip=False)
    return images.open(torch.device("cpu"))


def _savepoints(scratch: Path) -> Iterator[Target]:
    recipe = FitRecipe(epochs=2, batch=32)

    def fit(folder: Path) -> None:
        model = NetworkRecipe(arch="resnet8", width=2).build(_images(), 0)
        Fit(_images(), recipe, savepoint=Savepoint(folder, "one")).train(model)

    fit(scratch / "fit")
    files = _files(scratch / "fit")
    tensors = next(name for name in files if name.endswith(".safetensors"))

    def sealed(folder: Path) -> None:
        data = json.loads((folder / "fit.json").read_bytes())
        data["sha256"] = hashlib.sha256((folder / tensors).read_bytes()).hexdigest()
        (folder / "fit.json").write_text(json.dumps(data))
        fit(folder)

    yield Target("fit.json", files, {"fit.json": "json"}, fit, 10)
    yield Target("fit.json's tensors", files, {tensors: "safetensors"}, sealed, 10)


def _settings() -> Iterator[Target]:
    for file in sorted((ROOT / "configs/cluster").glob("*.yaml")):
        files = {"cluster.yaml": file.read_bytes()}
        name = f"cluster: {file.stem}"
        yield Target(
            name, files, {"cluster.yaml": "yaml"}, lambda at: load_settings(str(at / "cluster.yaml"))
        )
    toml = (
        b'[zoo]\nsource = "https://example.org/zoo"\ntrusted_keys = ["' + public_text(KEY).encode() + b'"]\n'
    )
    place = "prunepolicy/config.toml"

    def user(folder: Path) -> None:
        os.environ["XDG_CONFIG_HOME"] = str(folder)
        zoo_settings()

    yield Target("config.toml", {place: toml}, {place: "bytes"}, user)
    yield Target("lock file", {".out.lock": b"1 here"}, {".out.lock": "bytes"}, _claim)
    sent = [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "data": "eA=="}
        for name, data in (("best/policy.json", b"x"), ("metrics.jsonl", b"x"))
    ]
    lines = b"".join(
        b"prunepolicy-file " + json.dumps(line).encode() + b"\n" for line in (*sent, {"files": 2})
    )

    def arrived(folder: Path) -> None:
        for name in received((folder / "log").read_text(errors="replace")):
            assert isinstance(name, str)

    yield Target("log with a folder", {"log": lines}, {"log": "bytes"}, arrived)


def _claim(folder: Path) -> None:
    with claimed(folder / "out"):
        pass


def _data() -> Iterator[Target]:
    """Data sets, questions, rollouts and reports."""
    pixels, labels = struct.pack(">IIII", 0x803, 4, 8, 8), struct.pack(">II", 0x801, 4)
    idx = {
        "train-images-idx3-ubyte": pixels + bytes(256),
        "train-labels-idx1-ubyte": labels + bytes(4),
    }
    packed = {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in idx.items()}
    for files in (idx, packed):
        kind = "IDX, gzipped" if files is packed else "IDX"
        yield Target(f"images: {kind}", files, dict.fromkeys(files, "bytes"), lambda at: read_images(str(at)))
    cifar = {"test_batch.bin": bytes(3 * 3073)}
    yield Target("images: CIFAR", cifar, {"test_batch.bin": "bytes"}, lambda at: read_images(str(at)))
    rows = [{"goal": "g", "sol1": "a", "sol2": "b", "label": 1}, {"good": "x", "bad": "y"}]
    questions = {"choices.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()}
    yield Target(
        "questions", questions, {"choices.jsonl": "lines"}, lambda at: read_choices(at / "choices.jsonl")
    )
    said = [{"messages": [{"role": "user", "content": "Hi"}]}, {"text": "plain"}]
    chats = {"chats.jsonl": "".join(json.dumps(row) + "\n" for row in said).encode()}
    yield Target(
        "conversations", chats, {"chats.jsonl": "lines"}, lambda at: documents(at / "chats.jsonl", None)
    )
    rollouts = {"rollouts.safetensors": _rollouts()}
    yield Target(
        "rollouts",
        rollouts,
        {"rollouts.safetensors": "safetensors"},
        lambda at: CachedSource.load(at / "rollouts.safetensors"),
    )
    report = {"prune_report.json": _invented_report().to_json().encode()}
    yield Target("prune_report.json", report, {"prune_report.json": "json"}, _report)


def _invented_report() -> PruneReport:
    times = {"reading 512 tokens": 0.2}
    facts = Facts(Cost(1000, 2000.0, 4000, 64), TextScore(3.0, 20.0, 4096, 512), times, ("It was | a day.",))
    versions = {"torch": "2"}
    origin = Origin("acme/tiny", "ab" * 32, "prunepolicy prune", 7, "heuristic", versions=versions)
    return PruneReport(
        origin=origin, folder="tiny", model_type="llama", task="causal", load=("import x",), uniform=True,
        budget=Budget(0.8), reached=0.8, before=facts, after=facts,
        kept=(KeptUnits("layers.0.ffn", "ffn", 0, 64, 32),), text="prose",
        speedups={"reading": Speedup(1.1, 1.0, 1.2)},
        proof=Receipt(True, True, "It loads.", 1e-6, 2e-6, 1e-3, True, versions={"torch": "2"}),
        loaders=("Plain transformers loads it.",), seconds=12.5,
    )  # fmt: skip


def _report(folder: Path) -> None:
    read = PruneReport.read(folder)
    assert read.to_json()


def _rollouts() -> bytes:
    columns: dict[str, Any] = {
        "features": np.zeros((3, 2)),
        "difficulty": np.full(3, 0.5),
        **{f"{mode}_correct": np.ones((3, 2), bool) for mode in ("think", "answer")},
        **{f"{mode}_length": np.full((3, 2), 9.0) for mode in ("think", "answer")},
    }
    return saved_arrays(columns)


def _files(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
