"""A cluster of two nodes on this machine loses one in the middle of a job, and the policy has the same bytes.

Both nodes are `ray start --block`; the job goes through `ray job submit`. Linux only, as it takes several
loopback addresses; a minute or two on a quiet machine. Exits with 1 where anything differs.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tokenizers
import torch
import transformers
import yaml

from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.io.atomic import write_text

RESULT = Path(__file__).parents[1] / "results" / "lost_node.json"
HEAD, OTHER = "127.0.0.2", "127.0.0.3"
PORT, DASHBOARD, CLIENT = 26380, 28266, 28267
STEPS, LOST_AT = 40, 8
FILES = ("best/policy.json", "best/weights.safetensors", "last/weights.safetensors", "metrics.jsonl")
RECIPE = {
    "algorithm": "ppo",
    "policy": {"kind": "graph", "hidden": 8, "samples": 4, "length": 12},
    "learner": {
        "episodes_per_step": 16,
        "episodes_per_context": 4,
        "batch_size": 8,
        "n_epochs": 1,
        "reward": "measured",
    },
    "models": ["models/tiny"],
    "budgets": {"of": "ffn", "keep": [0.75, 0.5]},
    "evaluation": {"every": 20, "samples": 4, "length": 12, "baselines": ["random"]},
    "max_steps": STEPS,
    "checkpoint_every": 10,
    "dtype": "float32",
}
CLUSTER = {
    "runner": "ray",
    "address": "auto",
    "workers": 2,
    "strategy": "SPREAD",
    "deadline": 60,
    "start": 120,
}
TRAIN = ["prunepolicy", "train", "tiny.yaml"]


def prepare(folder: Path) -> None:
    """Write a tiny random model, a recipe and the settings of the cluster."""
    adapter = adapter_for({"model_type": "llama"})
    config = {**adapter.tiny(), "model_type": "llama", "vocab_size": 258, "num_hidden_layers": 2}
    torch.manual_seed(0)
    model = adapter.build(config)
    assert isinstance(model, transformers.PreTrainedModel)
    model.save_pretrained(folder / "models" / "tiny")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    words = {token: number for number, token in enumerate(["</s>", "<s>", *alphabet])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(words, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    whole = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    )
    whole.save_pretrained(folder / "models" / "tiny")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    (folder / "two.yaml").write_text(yaml.safe_dump(CLUSTER), encoding="utf-8")


@contextmanager
def node(folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a node in a session of its own, and end it by the signal that ends all its processes."""
    command = ["ray", "start", "--block", "--num-cpus=1", "--disable-usage-stats", *options]
    with open(folder / f"node-{secrets.token_hex(2)}.log", "wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            yield child
        finally:
            child.terminate()
            child.wait(60)


def wait_for(port: int, host: str = "127.0.0.1", seconds: float = 120) -> None:
    """Wait until something listens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            socket.create_connection((host, port), 1).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise SystemExit(f"Nothing listens at {host}:{port}.")


def rows(run: Path) -> int:
    """Return the steps of a run so far."""
    metrics = run / "metrics.jsonl"
    return sum(1 for _ in metrics.open()) if metrics.is_file() else 0


def lose(child: subprocess.Popen[bytes], run: Path, job: subprocess.Popen[str]) -> int:
    """Kill a node's processes once the run has come far enough, and return how far it had come."""
    while rows(run) < LOST_AT and job.poll() is None:
        time.sleep(0.1)
    done = rows(run)
    for process in processes_of(child.pid):
        os.kill(process, signal.SIGKILL)
    return done


def processes_of(session: int) -> list[int]:
    """Return the processes of a session; workers have sessions of their own, and die with their node."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "-s", str(session)], capture_output=True, text=True, check=True
    )
    return [int(word) for word in found.stdout.split()]


def run_job(folder: Path, target: Path, other: subprocess.Popen[bytes]) -> tuple[int, str, int]:
    """Submit the job, lose the other node; return the exit code, the log, and the step of the loss."""
    environment = {**os.environ, "RAY_ADDRESS": f"http://127.0.0.1:{DASHBOARD}"}
    while subprocess.run(
        ["ray", "job", "submit", "--", "true"], env=environment, capture_output=True
    ).returncode:
        time.sleep(1)  # A dashboard answers before its agents can take jobs.
    command = ["ray", "job", "submit", "--working-dir", ".", "--", *TRAIN, "--cluster", "two.yaml"]
    job = subprocess.Popen(
        [*command, "--out", str(target)],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    done = lose(other, target, job)
    log, _ = job.communicate(timeout=600)
    return job.returncode, log, done


def main() -> None:
    """Train here and on the cluster, and compare."""
    with tempfile.TemporaryDirectory() as place:
        root, folder = Path(place), Path(place) / "project"
        prepare(folder)
        (root / "token").write_text(secrets.token_hex(32))
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(root / "token")}
        os.environ |= {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        here, there = root / "here" / "tiny", root / "there" / "tiny"
        subprocess.run([*TRAIN, "--out", str(here)], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        ports = [f"--port={PORT}", f"--ray-client-server-port={CLIENT}"]
        boards = ["--dashboard-host=127.0.0.1", f"--dashboard-port={DASHBOARD}"]
        with node(root, "--head", f"--node-ip-address={HEAD}", *ports, *boards):
            wait_for(DASHBOARD)
            # Nodes unpack the working directory below their temporary one: each needs its own.
            own = [f"--node-ip-address={OTHER}", f"--temp-dir={root / 'two'}"]
            with node(root, f"--address={HEAD}:{PORT}", *own) as other:
                code, log, done = run_job(folder, there, other)
        said = [line for line in log.splitlines() if line.startswith("Worker ")]
        equal = not code and all((here / name).read_bytes() == (there / name).read_bytes() for name in FILES)
        what = f"one of two nodes is killed after step {done} of {STEPS} of a job of `ray job submit`"
        text = json.dumps({"what": what, "said": said, "equal": equal, "exit": code}, indent=1)
        print(text)
        if code or not said or not equal:
            nodes = "\n".join(file.read_text() for file in root.glob("node-*.log"))
            sys.exit(f"It went wrong; the job's log:\n{log}\nThe nodes' logs:\n{nodes}")
        write_text(RESULT, text + "\n")


if __name__ == "__main__":
    main()
