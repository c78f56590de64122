"""What this package writes, each as one call on a folder of its own: for kills, and for full disks."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

from chaos import tiny_model
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.agents.training.train import train
from prunepolicy.commands.prune.job import PruneSettings, carry_out, open_session
from prunepolicy.commands.prune.prune import prune
from prunepolicy.commands.submit import ray_jobs
from prunepolicy.commands.submit.submit import Submission
from prunepolicy.policy.kinds.heuristic import Heuristic, HeuristicConfig
from prunepolicy.policy.kinds.prunenet import PruneNet, PruneNetConfig
from prunepolicy.policy.zoo import pinned_keys
from prunepolicy.policy.zoo.index import Listing
from prunepolicy.policy.zoo.mirror import mirror
from prunepolicy.policy.zoo.pull import pull
from prunepolicy.policy.zoo.push import Parcel, push
from prunepolicy.policy.zoo.signing import public_text
from prunepolicy.policy.zoo.zoo_handle import Zoo
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io import cache
from prunepolicy.pruning.io.console import Console
from prunepolicy.pruning.plan import Budget, Plan

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "configs/think/bandit.yaml"
SHORT = [
    "episodes=4",
    "evaluation.every=2",
    "checkpoint_every=2",
    "prompts.simulated=16",
    "learner.prompts=4",
]
POLICIES = ("tiny-rows.v1", "tiny-fisher.llama-v1")
PARTS = ("out", "cache", "tmp", "runs")
"""Where a deed may write: the output, caches, temporary files, a run's folder."""


@dataclass(frozen=True)
class Deed:
    """Something that writes.

    Attributes:
        do: does it below a folder whose parts are `PARTS`; told whether an earlier try was interrupted.
        before: puts there what lies there before.
        written: the parts in which it writes for good.
    """

    name: str
    do: Callable[[Path, bool], object]
    before: Callable[[Path], object] = lambda place: None
    written: tuple[str, ...] = ("out",)

    def prepare(self, place: Path) -> None:
        """Make the folder."""
        for part in PARTS:
            (place / part).mkdir(parents=True)
        self.before(place)

    def done(self, place: Path, again: bool) -> str:
        """Do it in this process, whose caches and temporary files go below `place`."""
        os.environ["XDG_CACHE_HOME"] = os.environ["HF_HOME"] = str(place / "cache")
        os.environ["TMPDIR"] = tempfile.tempdir = str(place / "tmp")
        cache.temporary_folder.cache_clear()
        os.chdir(place)
        self.do(place, again)
        return ""


def deeds(scratch: Path) -> Iterator[Deed]:
    """Make what the deeds read in `scratch`, and yield them."""
    pinned_keys.PINNED = (public_text(KEY),)
    model = str(tiny_model(scratch / "model", "16KB"))
    zoo = small_zoo(scratch)
    shutil.copyfile(RECIPE, scratch / "recipe.yaml")
    plain = PruneSettings(measure=False, verify=False, overwrite=True, repair="none")
    plan = _plan(Path(model))
    again = Plan.load(scratch / "plan.json") if plan.save(scratch / "plan.json") else plan

    def cut(place: Path, interrupted: bool) -> None:
        carry_out(open_session(model, plain), again, place / "out/smaller", plain)

    def cut_once(place: Path, interrupted: bool) -> None:
        try:
            carry_out(
                open_session(model, plain), again, place / "out/smaller", replace(plain, overwrite=False)
            )
        except UsageError as error:
            if not interrupted or "is not empty" not in str(error):
                raise

    def pruned(place: Path, interrupted: bool) -> None:
        prune(model, place / "out/smaller", Budget(0.5, "ffn"), "magnitude", plain)

    def old(place: Path) -> None:
        shutil.copytree(model, place / "out/smaller")
        (place / "out/smaller/earlier.txt").write_text("earlier")

    yield Deed("cut", cut)
    yield Deed("cut, overwriting nothing", cut_once)
    yield Deed("cut over an old result", cut, old)
    yield Deed("prune", pruned, written=("out", "cache"))
    recipe = load_recipe(RECIPE, SHORT)
    yield Deed(
        "train", lambda place, again: train(recipe, place / "runs/run", resume=again), written=("runs",)
    )
    yield Deed("pull", lambda place, again: pull(Zoo.open(str(zoo)), POLICIES[0]), written=("cache",))
    parcel = _parcel(scratch / "prepared-0", POLICIES[0], "1.0.0")
    yield Deed("push", lambda place, again: _pushed(parcel, place / "out/zoo", again))
    yield Deed(
        "push into a zoo",
        lambda place, again: _pushed(parcel, place / "out/zoo", again),
        _one_listed(scratch),
    )
    yield Deed(
        "mirror",
        lambda place, again: mirror(Zoo.open(str(zoo)), place / "out/copy"),
        written=("out", "cache"),
    )
    yield Deed("submit", functools.partial(_submitted, scratch), written=("tmp",))
    yield Deed("fetch", functools.partial(_fetched, _log()), written=("runs",))


def _plan(model: Path) -> Plan:
    checkpoint = Checkpoint.open(model)
    keep = {group.name: tuple(range(0, group.size, 2)) for group in checkpoint.graph.of_kind("ffn")}
    return Plan(keep, Budget(0.5, "ffn"), "test", checkpoint.fingerprint)


def small_zoo(scratch: Path) -> Path:
    """Write a zoo of two policies, signed by a key of the tests."""
    for number, name in enumerate(POLICIES):
        folder = scratch / f"prepared-{number}"
        learned = PruneNet(PruneNetConfig(hidden=4), name)
        (learned if number == 0 else Heuristic(HeuristicConfig(), name)).save(folder)
        (folder / "README.md").write_text("card\n")
        push(_parcel(folder, name, "1.0.0"), scratch / "zoo", [KEY])
    return scratch / "zoo"


def _parcel(folder: Path, name: str, version: str) -> Parcel:
    return Parcel.of(name, folder, Listing(version=version, source="a test"))


def _one_listed(scratch: Path) -> Callable[[Path], object]:
    other = _parcel(scratch / "prepared-1", POLICIES[1], "1.0.0")
    return lambda place: push(other, place / "out/zoo", [KEY])


def _pushed(parcel: Parcel, folder: Path, again: bool) -> None:
    """Push; where the killed run came as far as the index, the policy is listed already."""
    try:
        push(parcel, folder, [KEY])
    except UsageError as error:
        if not again or "is there already" not in str(error):
            raise


class _Client:
    """Takes jobs as a cluster's head node would."""

    def __init__(self, address: str) -> None:
        self.address = address

    def submit_job(self, **job: Any) -> None:
        folder = job["runtime_env"].get("working_dir")
        assert folder is None or any(Path(folder).rglob("*.yaml"))

    def get_job_status(self, job: str) -> Any:
        return ray_jobs.JobStatus.SUCCEEDED


def _submitted(scratch: Path, place: Path, again: bool) -> None:
    job = Submission(Path("recipe.yaml"), "http://127.0.0.1:8265", root=scratch)
    with (
        mock.patch.object(ray_jobs, "JobSubmissionClient", _Client),
        mock.patch.object(ray_jobs, "check_reachable"),
    ):
        os.chdir(scratch)
        job.send(Console(quiet=True))


def _fetched(log: str, place: Path, again: bool) -> None:
    with (
        mock.patch.object(ray_jobs, "JobSubmissionClient", _Client),
        mock.patch.object(ray_jobs, "check_reachable"),
        mock.patch.object(_Client, "get_job_logs", return_value=log, create=True),
    ):
        ray_jobs.Jobs("http://127.0.0.1:8265").fetch("~/run", place / "runs/run")


def _log() -> str:
    files = {
        f"{name}.json": os.urandom(8) * 0 + name.encode() * 100
        for name in ("best/policy", "last/policy", "run")
    }
    lines = [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "data": base64.b64encode(data).decode()}
        for name, data in files.items()
    ]
    return "".join(f"prunepolicy-file {json.dumps(line)}\n" for line in [*lines, {"files": len(lines)}])
