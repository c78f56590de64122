"""What a word for a policy means: a bare one never a folder, one with a separator never anything else."""

from __future__ import annotations

import os
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from prunepolicy.policy.base import POLICY_FILE, StoredPolicy
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.policy.kinds.prunenet import PruneNet, PruneNetConfig
from prunepolicy.policy.load import load_policy, load_stored
from prunepolicy.pruning.errors import PrunePolicyError, UsageError


@pytest.mark.parametrize("name", ["default", "fisher", "greedy", "llama-graph.v1", "prunenet-rows"])
def test_a_folder_here_stands_in_for_no_known_policy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_policy(name)
    Heuristic(HeuristicConfig(criterion="random"), "impostor").save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    found = load_policy(name)
    assert (found.name, found.config, found.provenance) == (
        expected.name,
        expected.config,
        expected.provenance,
    )
    assert str(found.provenance).startswith(("built-in, SHA-256 ", "shipped, SHA-256 "))
    for path in (f"./{name}", f"{name}/", str(tmp_path / name), Path(name)):
        impostor = load_policy(path)
        assert impostor.name == "impostor"
        assert impostor.provenance is not None
        assert impostor.provenance.place == f"folder {Path(path)}"
        assert impostor.provenance.sha256 == sha256((tmp_path / name / POLICY_FILE).read_bytes()).hexdigest()


def test_an_unknown_name_of_a_folder_is_refused_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Heuristic(HeuristicConfig(), "mine").save(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=rf"There is no policy 'mine'.*write \.{os.sep}mine\."):
        load_policy("mine")
    with pytest.raises(UsageError, match="There is no policy at none/here"):
        load_policy("none/here")


def test_what_was_read_is_used_whatever_becomes_of_the_files(tmp_path: Path) -> None:
    policy = PruneNet(PruneNetConfig(hidden=4), "rows")
    policy.save(tmp_path / "rows")
    stored = StoredPolicy.read(tmp_path / "rows")
    shutil.rmtree(tmp_path / "rows")
    again = load_stored(stored)
    assert all((again.weights()[name] == tensor).all() for name, tensor in policy.weights().items())


def test_pipes_and_links_are_no_policies(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / POLICY_FILE)
    with pytest.raises(PrunePolicyError, match="missing, or a link"):
        StoredPolicy.read(tmp_path)
