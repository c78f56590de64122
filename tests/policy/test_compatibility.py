"""Policies that earlier versions saved load and decide as they did; later ones say who reads them."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest

from prunepolicy.policy.base import policies, read_policy_file
from prunepolicy.policy.kinds.prunenet import PruneNet
from prunepolicy.policy.load import load_policy
from prunepolicy.policy.migrations import MIGRATIONS, POLICY_SCHEMA
from prunepolicy.pruning.errors import PrunePolicyError

FIXTURES = Path(__file__).parents[1] / "fixtures"
FREEZE = runpy.run_path(str(FIXTURES / "freeze.py"))
FROZEN = sorted(FREEZE["FROZEN"].glob("schema-*/*"))


@pytest.mark.parametrize("folder", FROZEN, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_frozen_policies_load_and_decide_as_they_did(folder: Path) -> None:
    policy = load_policy(folder)
    assert policy.kind == folder.name
    assert FREEZE["decided"](policy) == json.loads((folder / FREEZE["EXPECTED"]).read_text())


@pytest.mark.parametrize("folder", FROZEN, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_what_is_frozen_is_as_old_as_it_says_and_small(folder: Path) -> None:
    data = json.loads((folder / "policy.json").read_text())
    assert f"schema-{data['schema_version']}" == folder.parent.name
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10_000


def test_every_schema_and_kind_is_frozen() -> None:
    """A new kind, or a new schema: run `python tests/fixtures/freeze.py` and commit what it writes."""
    assert {folder.parent.name for folder in FROZEN} == {f"schema-{n}" for n in range(1, POLICY_SCHEMA + 1)}
    today = {folder.name for folder in FROZEN if folder.parent.name == f"schema-{POLICY_SCHEMA}"}
    assert today == set(policies)
    assert list(MIGRATIONS) == list(range(1, POLICY_SCHEMA))


@pytest.mark.parametrize("folder", FROZEN, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_saved_again_an_old_policy_is_one_of_today(folder: Path, tmp_path: Path) -> None:
    policy = load_policy(folder)
    policy.save(tmp_path)
    assert json.loads((tmp_path / "policy.json").read_text())["schema_version"] == POLICY_SCHEMA
    assert FREEZE["decided"](load_policy(tmp_path)) == FREEZE["decided"](policy)
    if (folder / "weights.safetensors").exists():
        weights = "weights.safetensors"
        assert (tmp_path / weights).read_bytes() == (folder / weights).read_bytes()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Today's frozen row policy, to be changed."""
    return Path(shutil.copytree(FREEZE["FROZEN"] / f"schema-{POLICY_SCHEMA}" / "prunenet", tmp_path / "rows"))


def edit(folder: Path, **changes: Any) -> None:
    file = folder / "policy.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("written_by", "reader"),
    [
        ("3.1.0", r"install prunepolicy 3\.1\.0 or newer\."),
        ("1.0rc1", r"install prunepolicy 1\.0rc1 or newer\."),
        (None, "install a newer prunepolicy"),
        ("\x1b[2J", "install a newer prunepolicy"),
        ("9" * 99, "install a newer prunepolicy"),
    ],
)
def test_a_later_schema_says_which_version_reads_it(rows: Path, written_by: Any, reader: str) -> None:
    later = POLICY_SCHEMA + 1
    edit(rows, schema_version=later, written_by=written_by, something_new=[1])
    with pytest.raises(PrunePolicyError, match=rf"has the policy schema {later}, .*{reader}"):
        load_policy(rows)


@pytest.mark.parametrize("version", [0, -1, True, 1.5, "2", None, [], 10**30])
def test_senseless_schemas_are_refused(rows: Path, version: Any) -> None:
    edit(rows, schema_version=version)
    with pytest.raises(PrunePolicyError):
        load_policy(rows)


@pytest.mark.parametrize("what", ["observation", "action"])
def test_other_observations_or_actions_are_refused_by_name_and_version(
    rows: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(rows, **{f"{what}_version": 2, "written_by": "2.0.0"})
    with pytest.raises(
        PrunePolicyError, match=rf"version 2 of the {what}s of .*install prunepolicy 2\.0\.0 or newer"
    ):
        load_policy(rows)
    monkeypatch.setattr(PruneNet, f"{what}_version", 3)
    with pytest.raises(PrunePolicyError, match=r"has version 3: install prunepolicy 2\.0\.0\."):
        load_policy(rows)


def test_a_saved_policy_names_its_versions(tmp_path: Path) -> None:
    PruneNet().save(tmp_path)
    file = read_policy_file(tmp_path)
    assert (file.observation_version, file.action_version) == (1, 1)
    assert file.written_by[0].isdigit()
