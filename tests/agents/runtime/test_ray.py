"""Ray's actors as workers: the same bytes with any number of them, dying or not; sentences where it fails."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import ray
import torch
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError

from prunepolicy.agents.learned_pruning.ppo_config import PPOConfig
from prunepolicy.agents.learned_pruning.prune_agent import PruneAgent
from prunepolicy.agents.runtime import LocalRunner, Runner
from prunepolicy.agents.runtime.open_runner import open_runner
from prunepolicy.agents.runtime.ray_pool import cause_of, places
from prunepolicy.agents.runtime.settings import ClusterSettings
from prunepolicy.envs.prune_case import PruneCase, invented_case
from prunepolicy.policy.kinds.graph import Graph, GraphConfig
from prunepolicy.pruning.errors import PrunePolicyError

QUICK = PPOConfig(episodes_per_step=16, episodes_per_context=4, batch_size=8, n_epochs=1)
FILES = ("policy.json", "weights.safetensors", "agent.safetensors")


@contextmanager
def opened(notes: list[str], **settings: object) -> Iterator[Runner]:
    with open_runner(
        ClusterSettings.model_validate({"address": "local", **settings}), notes.append
    ) as runner:
        yield runner


def learned(runner: Runner, folder: Path, flag: Path) -> dict[str, bytes]:
    """Train a little; the worker that has the flag's episode dies where the flag isn't there yet."""
    rise = importlib.import_module("cluster_work").Rise(str(flag))
    invented = [invented_case(0), invented_case(1, widths=24, layers=2)]
    cases = [PruneCase(case.name, case.graph, case.stats, measure=rise) for case in invented]
    torch.manual_seed(0)
    PruneAgent(Graph(GraphConfig(hidden=8)), cases, (0.8, 0.6), QUICK, runner=runner).learn(32).save(folder)
    return {name: (folder / name).read_bytes() for name in FILES}


def happened(notes: list[str]) -> list[str]:
    """Return what was noted, less that workers wait for a place, as they do on a busy machine."""
    return [note for note in notes if not note.startswith("Still no place")]


@pytest.mark.usefixtures("cluster")
def test_any_number_of_workers_and_their_deaths_leave_the_same_bytes(tmp_path: Path) -> None:
    expected = learned(LocalRunner(), tmp_path / "here", tmp_path / "none")
    for kind, count in (("ray", 1), ("ray", 4), ("processes", 2)):
        notes: list[str] = []
        flag = tmp_path / f"{kind}-{count}"
        with opened(notes, runner=kind, workers=count) as runner:
            assert learned(runner, tmp_path / f"run-{kind}-{count}", flag) == expected
        cause = "died: its process was killed or crashed" if kind == "ray" else "was ended by SIGKILL"
        _, said = happened(notes)
        assert said.split(" ", 2)[2].startswith(f"{cause}; job ")


@pytest.mark.usefixtures("cluster")
def test_a_stopped_actor_is_replaced_and_errors_and_gpus_arrive(tmp_path: Path) -> None:
    work, notes = importlib.import_module("cluster_work"), list[str]()
    jobs = [(number, str(tmp_path / "flag") if number == 1 else "", signal.SIGSTOP) for number in range(5)]
    with opened(notes, workers=2, gpus=0.5, cpus=0.5, deadline=3.0, strategy="SPREAD") as runner:
        assert list(runner.map(work.square, jobs)) == [0, 1, 4, 9, 16]
        assert "had no answer after 3 s and was ended; job 2 of 5 is done again." in happened(notes)[1]
        assert list(runner.map(work.gpus, range(2))) == [["0"], ["0"]]
        with pytest.raises(ValueError, match="3 is odd"):
            list(runner.map(work.half, [2, 3]))
        table = runner.share(torch.arange(4))
        assert [int(answer) for answer, _, _ in runner.map(work.Adds(table), range(4))] == [0, 1, 2, 3]


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_always_dies_and_a_cluster_too_small_end_in_sentences() -> None:
    work, notes = importlib.import_module("cluster_work"), list[str]()
    with (
        opened(notes, workers=1, attempts=2) as runner,
        pytest.raises(PrunePolicyError, match="was given to 2 workers, and all were lost; the last one died"),
    ):
        list(runner.map(work.deadly, [0]))
    with pytest.raises(
        PrunePolicyError, match="no room for 9 workers with 1 CPU each; it has 4 CPU and 1 GPU"
    ):
        with opened(notes, workers=9, start=0.1):
            pass
    with pytest.raises(PrunePolicyError, match="no room for any workers with 1 CPU and 2 GPU each"):
        with opened(notes, gpus=2):
            pass


STRANGER = """
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address={address!r})
except AuthenticationError:
    print("refused")
else:
    print("joined")
"""


@pytest.mark.usefixtures("cluster")
def test_a_cluster_that_is_started_here_is_on_the_loopback_and_obeys_no_stranger() -> None:
    (node,) = ray.nodes()
    assert node["NodeManagerAddress"].startswith("127.")
    program = STRANGER.format(address=ray.get_runtime_context().gcs_address)
    for token, expected in (("0" * 64, "refused"), (os.environ["RAY_AUTH_TOKEN"], "joined")):
        environment = {**os.environ, "RAY_AUTH_TOKEN": token}
        found = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True
        )
        assert found.stdout.strip() == expected, found.stderr
    # Every server of Ray, its workers' too, listens for this machine alone.
    family = psutil.Process().children(recursive=True)
    listening = {
        connection.laddr.ip
        for process in family
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening
    assert {ip.removeprefix("::ffff:") for ip in listening} <= {"127.0.0.1", "::1"}
    environments = str(ray.get_runtime_context().runtime_env)
    assert os.environ["RAY_AUTH_TOKEN"] not in environments


def test_causes_are_a_few_words() -> None:
    assert cause_of(OutOfMemoryError("used 4.88GB")) == "was ended by Ray because its node ran out of memory"
    assert cause_of(NodeDiedError("gone")) == "was lost with its node"
    assert cause_of(RayError("a\n  b")) == "was lost (RayError: a b)"


def test_places_are_counted_node_by_node() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}},
        {"Alive": True, "Resources": {"CPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    assert places(nodes, {"CPU": 1}) == 5
    assert places(nodes, {"CPU": 2}) == 2
    assert places(nodes, {"CPU": 0.1, "GPU": 0.1}) == 10
