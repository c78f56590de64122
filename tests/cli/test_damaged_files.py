"""Files with one wrong value: each loader reads them or says in one sentence why not, and soon."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from prunepolicy.agents.learned_pruning.policy_card import CARD_DATA, read_card
from prunepolicy.agents.runtime.settings import load_settings
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.agents.training.run_report import REPORT, RunReport
from prunepolicy.commands.prune.stored_plan import stored_plan
from prunepolicy.commands.report.report import PruneReport
from prunepolicy.policy.base import POLICY_FILE
from prunepolicy.policy.load import load_policy_folder
from prunepolicy.policy.weights import WEIGHTS_FILE
from prunepolicy.pruning.checkpoint.checkpoint import CONFIG, INDEX, Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.plan import Budget, Plan

CASES = 80
ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "policy/shipped/prunenet-rows.v1"
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 10**9, 10**18, 10**400, -0.5, 1e308, float("inf"), float("nan"), "", "0-9999999",
    "../../x", "/dev/zero", "\0", "\u202e", "x" * 5000, [], {}, [None], [[[]]], {"": None}, [1e9] * 20,
)  # fmt: skip
Load = Callable[[Path], object]
Make = Callable[..., Checkpoint]


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all values inside."""
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in pairs:
        yield (*path, key)
        yield from places(value, (*path, key))


def damaged(data: Any, seed: int) -> Any:
    """Replace, remove, rename, wrap or swap one or two values."""
    drawn, data = random.Random(seed), copy.deepcopy(data)
    for _ in range(drawn.choice((1, 1, 2))):
        known = list(places(data))
        if not known:
            return data
        *way, last = drawn.choice(known)
        holder = data
        for key in way:
            holder = holder[key]
        value = holder.pop(last)
        change = drawn.choice(("replace", "replace", "replace", "remove", "wrap", "rename"))
        if change == "remove":
            continue
        put = {"wrap": [value], "rename": value}.get(change, drawn.choice(ODD))
        if isinstance(holder, list):
            holder.insert(last, put)
        else:
            holder[f"{last}x" if change == "rename" else last] = put
    return data


def sentence_of(load: Load, file: Path) -> str:
    """Return why a file isn't read; nothing where it is."""
    try:
        load(file)
    except PrunePolicyError as error:
        return str(error)
    return ""


def attack(load: Load, file: Path, data: Any, write: Callable[[Any], str] = json.dumps) -> None:
    """See every damaged file read, or refused in one sentence; some of both."""
    said = []
    file.write_text(write(data), encoding="utf-8")
    load(file)
    for seed in range(CASES):
        file.write_text(write(damaged(data, seed)), encoding="utf-8")
        said.append(sentence_of(load, file))
    assert all(not text or text.endswith((".", "?")) for text in said)
    assert all("\n" not in text and len(text) < 2000 for text in said)
    assert sum(map(bool, said)) > CASES // 8


def test_plans(tmp_path: Path) -> None:
    probe = {"source": "self", "samples": 4, "length": 8, "seed": 0}
    found = {"probe": probe, "recover": 1, "policy": {"place": "built-in", "sha256": "0" * 64}}
    keep = {"layers.0.ffn": (0, 1, 5), "layers.1.ffn": (2,)}
    plan = Plan(keep, Budget(0.5, "ffn"), "test", "0" * 64, "bias", found)

    def load(file: Path) -> None:
        read = stored_plan(file, None)
        assert read.decided_by
        assert read.to_json()

    attack(load, tmp_path / "plan.json", json.loads(plan.to_json()))


def test_reports(report: PruneReport, tmp_path: Path) -> None:
    def load(file: Path) -> None:
        read = PruneReport.from_json(file.read_text(encoding="utf-8"))
        assert read.to_json()

    attack(load, tmp_path / "report.json", json.loads(report.to_json()))


def test_cards(tmp_path: Path) -> None:
    attack(
        lambda file: read_card(file.parent),
        tmp_path / CARD_DATA,
        json.loads((SHIPPED / CARD_DATA).read_text()),
    )


def test_policies(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS_FILE).write_bytes((SHIPPED / WEIGHTS_FILE).read_bytes())
    data = json.loads((SHIPPED / POLICY_FILE).read_text())
    attack(lambda file: load_policy_folder(file.parent), tmp_path / POLICY_FILE, data)


@pytest.mark.parametrize("name", ["prunenet", "graph", "metanet_llama", "gradient_gates"])
def test_recipes(name: str, tmp_path: Path) -> None:
    data = yaml.safe_load((ROOT / f"configs/train/{name}.yaml").read_text())
    attack(load_recipe, tmp_path / "recipe.yaml", data, lambda data: yaml.safe_dump(data, allow_unicode=True))


def test_clusters(tmp_path: Path) -> None:
    data = yaml.safe_load((ROOT / "configs/cluster/ray.yaml").read_text())
    attack(lambda file: load_settings(str(file)), tmp_path / "cluster.yaml", data, yaml.safe_dump)


@pytest.mark.parametrize("name", [CONFIG, INDEX])
def test_model_folders(name: str, tiny_checkpoint: Make) -> None:
    """No number in a configuration is believed before the tensors agree with it."""
    folder = tiny_checkpoint(num_hidden_layers=2, intermediate_size=16, max_shard_size="8KB").folder

    def load(file: Path) -> None:
        opened = Checkpoint.open(file.parent)
        assert opened.graph
        assert opened.fingerprint

    attack(load, folder / name, json.loads((folder / name).read_text()))


def test_reports_of_runs(tmp_path: Path) -> None:
    from prunepolicy.agents.thinking.bandit.report import BanditReport

    for text in ("{", "[]", "{}", "[" * 10_000, '{"folder": 1}', "null"):
        (tmp_path / REPORT).write_text(text)
        kind: type[RunReport] = BanditReport
        with pytest.raises(PrunePolicyError, match="missing or damaged"):
            kind.load(tmp_path)
