"""What goes to a cluster and what comes back: only what is needed, checked, all or nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prunepolicy.agents.runtime.files import read_folder, write_folder
from prunepolicy.agents.training.recipe import Recipe
from prunepolicy.cli import main
from prunepolicy.commands.submit import package as package_module
from prunepolicy.commands.submit import submit as submit_module
from prunepolicy.commands.submit.dump_folder_script import MARK
from prunepolicy.commands.submit.package import JobPackage
from prunepolicy.commands.submit.submit import Submission, checked_run, place_of
from prunepolicy.pruning.errors import NotEnoughSpaceError, PrunePolicyError, UsageError
from prunepolicy.pruning.io.console import Console

SCRIPT = Path(package_module.__file__).with_name("dump_folder_script.py")
HELD = ["elsewhere/m", "/data/m", "models/also"]


OWN = "prunepolicy/"
SECRETS = (
    "zoo.pem", ".env", "prod.env", "id_rsa", "credentials.json", "secrets/key.txt", ".git/config", "data.csv",
    "models/wanted/.git/token", "models/wanted/.env", "models/wanted/credentials.json",
    "models/wanted/id_rsa", "models/wanted/notes.txt", "models/other/model.safetensors",
    "rivals/mine/key.pem",
)  # fmt: skip
NEEDED = (
    "train.yaml", "text.txt", "models/wanted/config.json", "models/wanted/model.safetensors",
    "models/wanted/tokenizer.json", "models/also/config.json", "models/also/model.safetensors",
    "rivals/mine/policy.json", "rivals/mine/weights.safetensors",
)  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with everything that people have in one."""
    root = tmp_path / "project"
    for name in (*NEEDED, *SECRETS, "pkg/code.py", "runs/a/recipe.yaml", "extra/a.txt", "extra/.env"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "out").symlink_to(tmp_path)
    (root / "shortcut").symlink_to(root / ".env")
    recipe = {
        "algorithm": "ppo",
        "policy": {"kind": "graph"},
        "models": ["models/wanted"],
        "held_out": HELD,
        "evaluation": {"text": "text.txt", "baselines": ["fisher", "rivals/mine"]},
    }
    (root / "train.yaml").write_text(json.dumps(recipe))
    monkeypatch.chdir(root)
    return root


def submission(recipe: str = "train.yaml", **settings: Any) -> Submission:
    return Submission(Path(recipe), "http://head:8265", **settings)


def sent(package: JobPackage) -> set[str]:
    return {file.as_posix() for file in package.files if not file.as_posix().startswith(OWN)}


def test_the_recipe_what_it_names_and_this_package_go_and_nothing_else(project: Path, tmp_path: Path) -> None:
    package = submission().package
    assert sent(package) == {*NEEDED}
    assert package.elsewhere == ("elsewhere/m", "/data/m")
    staged = tmp_path / "staged"
    staged.mkdir()
    package.stage(staged)
    assert (staged / "models/wanted/config.json").read_text() == "models/wanted/config.json"
    assert sum((staged / file).stat().st_size for file in package.files) == package.size


def test_the_package_goes_as_modules_and_data_wherever_it_is(project: Path, tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    staged.mkdir()
    package = submission().package
    package.stage(staged)
    own = {file.as_posix() for file in package.files} - sent(package)
    assert {f"{OWN}__init__.py", f"{OWN}configs/train/graph.yaml", f"{OWN}policy/shipped/index.signed"} <= own
    assert {Path(name).suffix for name in own} <= {
        ".py",
        ".typed",
        ".yaml",
        ".json",
        ".md",
        ".safetensors",
        ".signed",
    }
    program = "import prunepolicy.policy.load as it; print(it.__file__); it.load_policy('prunenet-rows')"
    environment = {**os.environ, "PYTHONPATH": str(staged)}
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=staged, env=environment, capture_output=True, text=True
    )
    assert found.stdout.strip() == str(staged / OWN / "policy/load.py"), found.stderr


def test_more_goes_only_where_the_user_includes_it(project: Path) -> None:
    package = submission(include=["extra", "./pkg/code.py", "prod.env"]).package
    assert sent(package) == {*NEEDED, "extra/a.txt", "pkg/code.py", "prod.env"}
    for wrong, words in (
        ("out", "is a link"),
        ("shortcut", "is a link"),
        ("none", "missing"),
        ("../x", "outside"),
    ):
        with pytest.raises(UsageError, match=words):
            _ = submission(include=[wrong]).package


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("models/wanted/tokenizer.json", "models/wanted/.env"),
        ("models/wanted/tokenizer.json", "models/wanted/id_rsa"),
        ("models/wanted/config.json", "credentials.json"),
        ("models/wanted/model.safetensors", "../outside"),
        ("text.txt", ".env"),
        ("models/wanted", "../elsewhere"),
    ],
)
def test_links_carry_nothing_out_that_would_stay_by_its_own_name(
    project: Path, tmp_path: Path, name: str, target: str
) -> None:
    (tmp_path / "outside").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    place = project / name
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    place.symlink_to(project / target)
    with pytest.raises(UsageError, match=r"is a link to .* put a copy there"):
        _ = submission().package


def test_links_inside_a_model_are_sent_as_what_they_lead_to(project: Path, tmp_path: Path) -> None:
    (project / "models/wanted/tokenizer_config.json").symlink_to("config.json")
    package, staged = submission().package, tmp_path / "staged"
    staged.mkdir()
    package.stage(staged)
    copied = staged / "models/wanted/tokenizer_config.json"
    assert not copied.is_symlink()
    assert copied.read_text() == "models/wanted/config.json"


def test_too_much_is_refused_before_anything_is_sent(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_module, "LARGEST", 40)
    with pytest.raises(NotEnoughSpaceError, match=r"Ray takes 0; the largest are prunepolicy/"):
        _ = submission().package


def test_recipes_and_models_outside_are_refused(project: Path, tmp_path: Path) -> None:
    (tmp_path / "far.yaml").write_text((project / "train.yaml").read_text())
    with pytest.raises(UsageError, match="lies outside the working directory"):
        _ = submission(str(tmp_path / "far.yaml")).package
    recipe = Recipe(algorithm="ppo", policy={"kind": "graph"}, models=("../models/m",))
    with pytest.raises(UsageError, match=r"\.\./models/m lies outside"):
        JobPackage.of(project, recipe)


def test_a_dry_run_lists_every_file_and_needs_no_cluster(project: Path, capsys: Any) -> None:
    arguments = ["submit", "train.yaml", "--address", "http://127.0.0.1:1"]
    extra = ["--include", "extra/a.txt"]
    assert main([*arguments, *extra, "--dry-run", "--seed", "3", "--seeds", "2", "--set", "max_steps=5"]) == 0
    said = capsys.readouterr().out
    package = submission(include=["extra/a.txt"]).package
    assert f"{len(package.files)} files, {package.size:,} bytes" in said
    assert all(file.as_posix() in said for file in package.files)
    assert "The cluster has to have: elsewhere/m, /data/m." in said
    assert "train train.yaml --set max_steps=5 --set seed=3 --cluster ray --seeds 2 --out ~/.cache/" in said
    assert main(arguments) == 1
    assert "Nothing answers at 127.0.0.1:1" in capsys.readouterr().err
    assert main(["submit", "train.yaml", "--address", "head:8265"]) == 2
    (project / "full").mkdir()
    (project / "full" / "x").touch()
    assert main([*arguments, "--follow", "--out", "full"]) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["submit", "dry run", "fetch", "no address"])
def test_a_password_in_an_address_is_shown_nowhere(project: Path, command: str, capsys: Any) -> None:
    address = "me:hush-hush@head" if command == "no address" else "http://me:hush-hush@127.0.0.1:1"
    words = ["fetch", "other-0a1b2c3d"] if command == "fetch" else ["submit", "train.yaml"]
    code = main([*words, "--address", address, *(["--dry-run"] if command == "dry run" else [])])
    assert code == {"dry run": 0, "no address": 2}.get(command, 1)
    said = capsys.readouterr()
    assert "127.0.0.1:1" in said.out + said.err or command == "no address"
    assert "hush" not in said.out + said.err


def test_a_job_that_fails_says_how_its_log_ends(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    class FakeJobs:
        def follow(self, job: str, write: Any) -> str:
            for text in ("step 1\n", "sh: 1: prunepolicy: not ", "found\n", "\n"):
                write(text)
            return "FAILED"

    monkeypatch.setattr(submit_module, "jobs_at", lambda address: FakeJobs())
    resumed = submission(resume="my-run-0a1b2c3d")
    with pytest.raises(PrunePolicyError, match=r"failed; its log ends with .*prunepolicy: not found"):
        resumed.follow("my-run-0a1b2c3d", Console())
    assert "step 1" in capsys.readouterr().out


@pytest.mark.parametrize(("settings", "reserved"), [("{}", 0.0), ("{learner: {gpus: 1}}", 1.0)])
def test_the_learners_gpu_is_reserved_where_the_clusters_file_says_so(
    settings: str, reserved: float, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    sent: list[float] = []

    class FakeJobs:
        def submit(self, package: Any, command: str, job: str, gpus: float) -> None:
            sent.append(gpus)

    monkeypatch.setattr(submit_module, "jobs_at", lambda address: FakeJobs())
    (project / "gpus.yaml").write_text(settings)
    assert main(["submit", "train.yaml", "--address", "http://h:8265", "--cluster", "gpus.yaml"]) == 0
    assert sent == [reserved]
    assert ("the learner reserves 1 GPUs" in " ".join(capsys.readouterr().out.split())) is bool(reserved)


def test_a_resumed_run_keeps_its_place_and_names_cannot_leave_it() -> None:
    resumed = submission(resume="my-run-0a1b2c3d")
    assert resumed.command.endswith("--resume --out ~/.cache/prunepolicy/jobs/my-run-0a1b2c3d/my-run")
    assert place_of("graph-00000000") == "~/.cache/prunepolicy/jobs/graph-00000000/graph"
    for wrong in ("graph", "../x-0a1b2c3d", "a b-0a1b2c3d", "$(x)-0a1b2c3d"):
        with pytest.raises(UsageError, match="is no run on a cluster"):
            checked_run(wrong)


def printed(folder: Path) -> str:
    command = [sys.executable, "-c", SCRIPT.read_text(encoding="utf-8"), str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_folder_comes_back_as_it_was_or_not_at_all(tmp_path: Path) -> None:
    ray_jobs = pytest.importorskip("prunepolicy.commands.submit.ray_jobs")
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
    ray_jobs = pytest.importorskip("prunepolicy.commands.submit.ray_jobs")
    line = {"name": name, "sha256": hashlib.sha256(b"x").hexdigest(), "data": base64.b64encode(b"x").decode()}
    files = ray_jobs.received(MARK + json.dumps(line) + "\n" + MARK + json.dumps({"files": 1}))
    with pytest.raises(PrunePolicyError, match="would leave its folder"):
        write_folder(tmp_path / "target", {"good": b"", **files})
    assert not any(tmp_path.iterdir())


def test_whoever_stops_following_is_told_how_to_go_on(tmp_path: Path) -> None:
    sent = Submission(
        Path("a b.yaml"), "http://head:8265", ["seed=3"], ["--cluster", "ray"], resume="a-b-1a2b3c4d"
    )
    said = sent.how_to_go_on(Path("runs/a b"))
    at = "--address http://head:8265"
    assert f"prunepolicy fetch a-b-1a2b3c4d {at} --out 'runs/a b'\n" in said
    again = f"prunepolicy submit 'a b.yaml' {at} --follow --out 'runs/a b' --set seed=3 --cluster ray"
    assert said.endswith(f"{again} --resume a-b-1a2b3c4d")
