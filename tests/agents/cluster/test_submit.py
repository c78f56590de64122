"""What goes to a cluster and what comes back: only what is needed, checked, all or nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from prunepolicy.agents.cluster import package as package_module
from prunepolicy.agents.cluster import submit as submit_module
from prunepolicy.agents.cluster.files import read_folder, write_folder
from prunepolicy.agents.cluster.hand_over_script import MARK
from prunepolicy.agents.cluster.package import Package
from prunepolicy.agents.cluster.submit import Submission, checked_run, place_of
from prunepolicy.agents.training.recipe import Recipe
from prunepolicy.cli import main
from prunepolicy.pruning.errors import NotEnoughSpaceError, PrunePolicyError, UsageError

SCRIPT = Path(package_module.__file__).with_name("hand_over_script.py")
HELD = ["elsewhere/m", "/data/m", "models/also"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with everything that people have in one."""
    root = tmp_path / "project"
    for name in (
        "train.yaml", "text.txt", "pkg/code.py", "pkg/small.safetensors", "notes.bin",
        ".git/config", ".env", "pkg/__pycache__/code.pyc", ".venv/pyvenv.cfg", "env/pyvenv.cfg", "env/lib.py",
        "runs/a/recipe.yaml", "old/recipe.yaml", "old/run.json", "old/best/policy.json",
        "models/wanted/config.json", "models/wanted/model.safetensors", "models/wanted/tokenizer.json",
        "models/also/config.json", "models/also/model.safetensors",
        "models/other/config.json", "models/other/model.safetensors",
        "smaller/config.json", "x.egg-info/PKG-INFO",
    ):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "big.safetensors").write_bytes(bytes(package_module.SMALL + 1))
    (root / "src").symlink_to("pkg")
    (root / "out").symlink_to(tmp_path)
    recipe = {"algorithm": "ppo", "policy": {"kind": "graph"}, "models": ["models/wanted"], "held_out": HELD}
    (root / "train.yaml").write_text(json.dumps(recipe))
    monkeypatch.chdir(root)
    return root


def test_sources_and_named_models_go_and_nothing_else(project: Path, tmp_path: Path) -> None:
    package = Submission(Path("train.yaml"), "http://head:8265").package
    assert {file.as_posix() for file in package.files} == {
        "train.yaml", "text.txt", "pkg/code.py", "pkg/small.safetensors", "notes.bin", "src",
        "models/wanted/config.json", "models/wanted/model.safetensors", "models/wanted/tokenizer.json",
        "models/also/config.json", "models/also/model.safetensors",
    }  # fmt: skip
    assert package.elsewhere == ("elsewhere/m", "/data/m")
    staged = tmp_path / "staged"
    staged.mkdir()
    package.stage(staged)
    assert (staged / "src").is_symlink()
    assert (staged / "src" / "code.py").read_text() == "pkg/code.py"
    assert sum((staged / file).lstat().st_size for file in package.files) == package.size


def test_too_much_is_refused_before_anything_is_sent(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_module, "LARGEST", 40)
    with pytest.raises(NotEnoughSpaceError, match=r"Ray takes 0; the largest are train\.yaml"):
        _ = Submission(Path("train.yaml"), "http://head:8265").package


def test_recipes_and_models_outside_are_refused(project: Path, tmp_path: Path) -> None:
    (tmp_path / "far.yaml").write_text((project / "train.yaml").read_text())
    with pytest.raises(UsageError, match="lies outside the working directory"):
        _ = Submission(tmp_path / "far.yaml", "http://head:8265").package
    recipe = Recipe(algorithm="ppo", policy={"kind": "graph"}, models=("../models/m",))
    with pytest.raises(UsageError, match=r"\.\./models/m lies outside"):
        Package.of(project, recipe)


def test_a_dry_run_says_what_would_be_sent_and_needs_no_cluster(project: Path, capsys: Any) -> None:
    arguments = ["submit", "train.yaml", "--address", "http://127.0.0.1:1"]
    assert main([*arguments, "--dry-run", "--seed", "3", "--seeds", "2", "--set", "episodes=5"]) == 0
    said = capsys.readouterr().out
    assert "11 files" in said
    assert "The cluster has to have: elsewhere/m, /data/m." in said
    assert "train train.yaml --set episodes=5 --set seed=3 --cluster ray --seeds 2 --out ~/.cache/" in said
    assert main(arguments) == 1
    assert "Nothing answers at 127.0.0.1:1" in capsys.readouterr().err
    assert main(["submit", "train.yaml", "--address", "head:8265"]) == 2
    (project / "full").mkdir()
    (project / "full" / "x").touch()
    assert main([*arguments, "--follow", "--out", "full"]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_a_job_that_fails_says_how_its_log_ends(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    class FakeJobs:
        def follow(self, job: str, write: Any) -> str:
            for text in ("step 1\n", "sh: 1: prunepolicy: not ", "found\n", "\n"):
                write(text)
            return "FAILED"

    monkeypatch.setattr(submit_module, "jobs_at", lambda address: FakeJobs())
    submission = Submission(Path("train.yaml"), "http://head:8265", resume="my-run-0a1b2c3d")
    with pytest.raises(PrunePolicyError, match=r"failed; its log ends with .*prunepolicy: not found"):
        submission.follow("my-run-0a1b2c3d", Console())
    assert "step 1" in capsys.readouterr().out


def test_a_resumed_run_keeps_its_place_and_names_cannot_leave_it() -> None:
    submission = Submission(Path("train.yaml"), "http://head:8265", resume="my-run-0a1b2c3d")
    assert submission.command.endswith("--resume --out ~/.cache/prunepolicy/jobs/my-run-0a1b2c3d/my-run")
    assert place_of("graph-00000000") == "~/.cache/prunepolicy/jobs/graph-00000000/graph"
    for wrong in ("graph", "../x-0a1b2c3d", "a b-0a1b2c3d", "$(x)-0a1b2c3d"):
        with pytest.raises(UsageError, match="is no run on a cluster"):
            checked_run(wrong)


def printed(folder: Path) -> str:
    command = [sys.executable, "-c", SCRIPT.read_text(encoding="utf-8"), str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_folder_comes_back_as_it_was_or_not_at_all(tmp_path: Path) -> None:
    ray_jobs = pytest.importorskip("prunepolicy.agents.cluster.ray_jobs")
    source = tmp_path / "source"
    for name in ("a.json", "best/weights.safetensors"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(name.encode() * 100)
    log = "some line of the log\n" + printed(source)
    write_folder(tmp_path / "target", ray_jobs.received(log))
    assert read_folder(tmp_path / "target") == read_folder(source)
    lines = log.splitlines()
    damaged = (
        "\n".join(lines[:-1]),
        "\n".join([lines[0], *lines[2:]]),
        log.replace('"sha256": "', '"sha256": "0'),
    )
    for text in damaged:
        with pytest.raises(PrunePolicyError, match="arrived damaged"):
            ray_jobs.received(text)
    assert ray_jobs.received(printed(tmp_path / "missing")) == {}


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up", "a\\b", ""])
def test_files_that_would_leave_their_folder_are_refused(tmp_path: Path, name: str) -> None:
    ray_jobs = pytest.importorskip("prunepolicy.agents.cluster.ray_jobs")
    line = {"name": name, "sha256": hashlib.sha256(b"x").hexdigest(), "data": base64.b64encode(b"x").decode()}
    files = ray_jobs.received(MARK + json.dumps(line) + "\n" + MARK + json.dumps({"files": 1}))
    with pytest.raises(PrunePolicyError, match="would leave its folder"):
        write_folder(tmp_path / "target", {"good": b"", **files})
    assert not any(tmp_path.iterdir())
