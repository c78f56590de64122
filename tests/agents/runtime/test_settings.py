"""Clusters by name: what ships is read, what is wrong is one sentence, and only Ray's users need Ray."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from prunepolicy.agents.runtime import LocalRunner
from prunepolicy.agents.runtime.open_runner import open_runner
from prunepolicy.agents.runtime.settings import SHIPPED, ClusterSettings, load_settings
from prunepolicy.cli import main
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

ROOT = Path(__file__).resolve().parents[3]


def test_what_ships_is_read() -> None:
    known = {file.stem: load_settings(file.stem) for file in SHIPPED.glob("*.yaml")}
    assert set(known) == {"local", "ray", "ray_gpu", "processes"}
    assert (known["local"].address, known["ray"].address, known["processes"].runner) == (
        "local",
        "auto",
        "processes",
    )
    assert known["ray_gpu"].needs == {"CPU": 1.0, "GPU": 0.5}
    assert known["ray"].needs == {"CPU": 1.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workerz: 2", "unknown key 'workerz'. Did you mean 'workers'?"),
        ("gpus: -1", "gpus: Input should be greater than or equal to 0"),
        ("strategy: pack", "strategy: Input should be 'PACK'"),
        ("- ray", "must be a mapping"),
        ("a: [", "Can't read the cluster"),
    ],
)
def test_wrong_settings_are_one_sentence(tmp_path: Path, capsys: Any, text: str, words: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UsageError) as raised:
        load_settings(str(tmp_path / "mine.yaml"))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_unknown_clusters_name_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no cluster 'locl'.*Did you mean 'local'"):
        load_settings("locl")
    with pytest.raises(UsageError, match="no cluster"):
        load_settings(str(tmp_path / "missing.yaml"))


def test_without_a_cluster_work_is_done_here() -> None:
    with open_runner(None) as runner:
        assert isinstance(runner, LocalRunner)
        assert list(runner.map(abs, [-1, 2])) == [1, 2]


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        ("http://127.0.0.1:1", 2, "takes jobs: prunepolicy submit RECIPE"),
        ("127.0.0.1:1", 1, "Nothing answers at 127.0.0.1:1"),
        ("head", 2, "An address is HOST:PORT"),
    ],
)
def test_wrong_addresses_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, address: str, code: int, words: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests may have joined a cluster
    recipe = str(ROOT / "configs" / "train" / "prunenet.yaml")
    assert main(["train", recipe, "--cluster", "ray", "--out", str(tmp_path / "run")]) == code
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def answering(reply: bytes) -> Iterator[str]:
    """Yield the address of a server that says one thing to whoever comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(64)
                connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize("reply", [b"HTTP/1.0 400 Bad request\r\n\r\n", b"", b"\0\0"])
def test_a_server_that_isnt_rays_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, reply: bytes
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **options: pytest.fail("Ray would wait for minutes"))
    for address in answering(reply):
        monkeypatch.setenv("RAY_ADDRESS", address)
        recipe = str(ROOT / "configs" / "train" / "prunenet.yaml")
        assert main(["train", recipe, "--cluster", "ray", "--out", str(tmp_path / "run")]) == 1
        said = capsys.readouterr().err
        assert f"What answers at {address} isn't Ray." in said
        assert said.count("\n") == 1


WITHOUT_RAY = """
import json, sys
sys.modules["ray"] = None
from prunepolicy.cli import main
codes = [main(arguments) for arguments in json.loads(sys.argv[1])]
print(json.dumps(codes))
"""


def test_without_ray_there_is_one_sentence(tmp_path: Path) -> None:
    recipe, out = str(ROOT / "configs" / "train" / "prunenet.yaml"), str(tmp_path / "run")
    commands = [
        ["train", recipe, "--cluster", "local", "--out", out],
        ["submit", "configs/train/prunenet.yaml", "--address", "http://127.0.0.1:1"],
    ]
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, json.dumps(commands)], cwd=ROOT, capture_output=True, text=True
    )
    assert json.loads(run.stdout.splitlines()[-1]) == [1, 1]
    assert run.stderr.count("error: A Ray cluster needs an extra: pip install 'prunepolicy[cluster]'.") == 2
    assert run.stderr.count("\n") == 2


def test_settings_are_data_that_no_wrong_value_enters() -> None:
    with pytest.raises(PrunePolicyError, match=r"address: (String|Input)"):
        load_from({"address": ""})
    assert load_from({}) == ClusterSettings()


def load_from(data: dict[str, Any]) -> ClusterSettings:
    from prunepolicy.pruning.io.config import checked

    return checked(ClusterSettings, data, "here")


def test_clusters_to_launch_ask_for_a_token() -> None:
    launch = ROOT / "configs" / "launch"
    kubernetes = yaml.safe_load((launch / "kuberay.yaml").read_text())
    assert kubernetes["spec"]["authOptions"] == {"mode": "token"}
    machines = yaml.safe_load((launch / "ray_up.yaml").read_text())
    commands = machines["head_start_ray_commands"] + machines["worker_start_ray_commands"]
    guarded = "RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 ray start "
    assert all(command.startswith(guarded) for command in commands)


def test_ray_is_imported_only_by_modules_that_say_so() -> None:
    imports = re.compile(r"^\s*(import ray\b|from ray\b)", re.MULTILINE)
    files = [
        file
        for folder in ("agents", "policy", "envs", "prunepolicy/commands")
        for file in (ROOT / folder).rglob("*.py")
    ]
    found = {file.name for file in files if imports.search(file.read_text(encoding="utf-8"))}
    assert found == {"ray_connection.py", "ray_pool.py", "ray_jobs.py"}
