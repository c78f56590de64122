"""The folder of one training run: recipe, metrics, policies, and a checkpoint to continue from."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from prunepolicy.agents.training.learner import LearnerState
from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.policy.base import Policy
from prunepolicy.policy.weights import read_tensors, write_tensors
from prunepolicy.pruning.checkpoint.checkpoint import read_json
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import is_partial, replace_folder, write_text
from prunepolicy.pruning.io.claim import claimed
from prunepolicy.pruning.io.machine import versions

RECIPE, RUN, METRICS, CHECKPOINT = "recipe.yaml", "run.json", "metrics.jsonl", "checkpoint.json"
BEST, LAST, EVENTS = "best", "last", "events"
PACKAGES = ("prunepolicy", "torch", "transformers", "gymnasium", "stable-baselines3", "torch-geometric")
NOTHING = (RECIPE, RUN, EVENTS)
"""All there is of a run that hasn't learned anything: its recipe may have been wrong, so it may change."""
MAY_CHANGE = ("max_steps",)
"""Keys of a recipe that a resumed run may change: training for longer is the same training."""


@dataclass(frozen=True)
class RunProgress:
    """How far a run has come.

    Attributes:
        step: training steps done.
        best: highest validation score so far.
        stale: evaluations since then.
        metrics_bytes: length of the metrics file at this step.
    """

    step: int = 0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    metrics_bytes: int = 0


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    return sum(os.times()[:4])


@dataclass
class RunFolder:
    """Reads and writes one run's files; whatever is killed in between leaves the old or the new."""

    path: Path
    recipe: RunRecipe
    writer: Any = field(default=None, repr=False)
    cpu_counted: float = field(default_factory=cpu_seconds, repr=False)

    @classmethod
    def start(cls, path: Path, recipe: RunRecipe, command: str) -> RunFolder:
        """Begin a run in a folder that is absent, empty, or left by a run that never learned anything.

        Raises:
            UsageError: when the folder holds something else.
        """
        check_fresh(path)
        _empty(path)
        text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
        write_text(path / RUN, _described([command]))
        write_text(path / RECIPE, text)
        return cls(path, recipe)

    @classmethod
    def reopen(cls, path: Path, recipe: RunRecipe, command: str) -> RunFolder:
        """Open a run to continue it.

        Raises:
            UsageError: when there is none, or it has another recipe.
        """
        if not (path / RECIPE).is_file() or has_learned_nothing(path):
            return cls.start(path, recipe, command)
        old, new = (one.model_dump(mode="json") for one in (load_recipe(path / RECIPE), recipe))
        changed = [key for key in new if new[key] != old[key] and key not in MAY_CHANGE]
        if changed:
            raise UsageError(
                f"{path} was started with other {', '.join(changed)}; "
                f"resume with its own recipe ({path / RECIPE}), or choose another --out."
            )
        before = read_json(path / RUN) if (path / RUN).is_file() else {}
        commands = [*before.get("commands", []), command]
        write_text(path / RUN, _described(commands, before.get("cpu_seconds", 0.0)))
        return cls(path, recipe)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one row to the metrics; no times, so that equal runs write equal bytes."""
        with open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
        for name, value in metrics.items():
            if self.writer is not None:
                self.writer.add_scalar(name, value, step)

    def rows(self) -> list[dict[str, float]]:
        """Return the metrics logged so far."""
        metrics = self.path / METRICS
        if not metrics.is_file():
            return []
        try:
            lines = bounded.read_text(metrics, bounded.MOST_TEXT).splitlines()
            return [bounded.parsed_json(line) for line in lines]
        except (OSError, ValueError) as error:
            raise PrunePolicyError(f"Can't read the metrics {metrics}: {bounded.why(error)}.") from error

    def keep_policy(self, policy: Policy, name: str) -> None:
        """Save a policy as `best` or `last`, under the run's name."""
        policy.name = self.path.name
        self.keep(policy.save, name)

    def keep(self, save: Callable[[Path], object], name: str) -> None:
        """Let `save` write into a folder, and put it in the place of `name` in one step."""
        replace_folder(self.path / name, save)

    def checkpoint(self, progress: RunProgress, state: LearnerState) -> None:
        """Save everything that decides how the run continues.

        The JSON file names the tensors' file and its hash, and is written last: it is what makes a
        checkpoint one.
        """
        metrics = self.path / METRICS
        size = metrics.stat().st_size if metrics.is_file() else 0
        generators = generator_states()
        name = f"state-{progress.step}.safetensors"
        tensors = {f"learner/{key}": value for key, value in state.tensors.items()}
        tensors |= {f"generator/{key}": value for key, value in generators.tensors.items()}
        sha256 = write_tensors(self.path / name, tensors)
        data = {
            "progress": {**asdict(progress), "metrics_bytes": size},
            "learner": dict(state.data),
            "generators": dict(generators.data),
            "tensors": name,
            "sha256": sha256,
        }
        if metrics.is_file():
            with open(metrics, "rb") as file:
                os.fsync(file.fileno())
        write_text(self.path / CHECKPOINT, json.dumps(data, sort_keys=True) + "\n")
        for old in self.path.glob("state-*.safetensors"):
            if old.name != name:
                old.unlink()
        self.count_cpu()

    def count_cpu(self) -> None:
        """Add to the run's description the CPU time that went since it was counted last."""
        data, now = read_json(self.path / RUN), cpu_seconds()
        data["cpu_seconds"] = round(data.get("cpu_seconds", 0.0) + now - self.cpu_counted, 2)
        self.cpu_counted = now
        write_text(self.path / RUN, json.dumps(data, indent=2) + "\n")

    def latest(self) -> tuple[RunProgress, LearnerState]:
        """Return to the last checkpoint: its progress, the learner's state, metrics cut to its step.

        Generators of the process continue from it, too. A run without a checkpoint starts afresh.
        """
        metrics = self.path / METRICS
        if not (self.path / CHECKPOINT).is_file():
            metrics.unlink(missing_ok=True)
            return RunProgress(), LearnerState()
        data = read_json(self.path / CHECKPOINT)
        progress = RunProgress(**data["progress"])
        tensors = read_tensors(self.path / Path(str(data["tensors"])).name, str(data["sha256"]))
        restore_generators(LearnerState(_under("generator/", tensors), data["generators"]))
        with suppress(FileNotFoundError):
            os.truncate(metrics, progress.metrics_bytes)
        return progress, LearnerState(_under("learner/", tensors), data["learner"])

    def open_events(self, step: int) -> None:
        """Write TensorBoard events, too, where tensorboard is installed; those after `step` are void."""
        with suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.path / EVENTS), purge_step=step + 1 if step else None)

    def close(self) -> None:
        """Flush and close the events."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def check_fresh(path: Path) -> None:
    """Raise `UsageError` when a folder holds something other than a run that never learned anything."""
    if path.exists() and not has_learned_nothing(path):
        raise UsageError(f"{path} is not empty. Add --resume to continue it, or choose another --out.")


def has_learned_nothing(path: Path) -> bool:
    """Return whether a folder is there, and holds no more than a run that hasn't begun to learn."""
    return path.is_dir() and all(file.name in NOTHING or is_partial(file) for file in path.iterdir())


def _empty(path: Path) -> None:
    """Remove what a run that has learned nothing has left, half-written files included."""
    for file in path.iterdir() if path.is_dir() else ():
        if file.name in (RECIPE, RUN) or is_partial(file):
            file.unlink()
    shutil.rmtree(path / EVENTS, ignore_errors=True)


@contextmanager
def leaving_nothing(paths: Sequence[Path]) -> Iterator[None]:
    """Where the work fails before a run has learned anything, remove its folder, and parents made for it."""
    made = [folder for path in paths for folder in (path, *path.parents) if not folder.exists()]
    try:
        yield
    except Exception:
        for path in paths:
            with suppress(UsageError, OSError), claimed(path):  # Another process may be writing it.
                if has_learned_nothing(path):
                    _empty(path)
        for folder in sorted({*made}, key=lambda folder: -len(folder.parts)):
            with suppress(OSError):  # It holds something, or was never made.
                folder.rmdir()
        raise


def seed_generators(seed: int) -> None:
    """Seed every generator of the process."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def generator_states() -> LearnerState:
    """Return the states of the process's generators: torch, NumPy and Python."""
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return LearnerState(
        {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys, dtype=np.int64))},
        {"numpy": [position, has_gauss, cached], "python": [version, list(internal), gauss]},
    )


def restore_generators(state: LearnerState) -> None:
    """Continue the process's generators from what `generator_states` returned."""
    torch.set_rng_state(state.tensors["torch"])
    keys = state.tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, *state.data["numpy"]))
    version, internal, gauss = state.data["python"]
    random.setstate((version, tuple(internal), gauss))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def saved_step(folder: Path) -> int:
    """Return the step from which a run would continue; 0 where it would begin."""
    file = folder / CHECKPOINT
    return int(read_json(file)["progress"]["step"]) if file.is_file() else 0


def cpu_spent(folder: Path) -> float | None:
    """Return the CPU seconds of a run, or of the runs of all seeds in `folder`; None when it isn't known."""
    runs = [folder / RUN, *folder.glob(f"seed-*/{RUN}")]
    spent = [read_json(file).get("cpu_seconds") for file in runs if file.is_file()]
    known = [float(seconds) for seconds in spent if isinstance(seconds, int | float)]
    return sum(known) if known and len(known) == len(spent) else None


def _described(commands: list[str], cpu: float = 0.0) -> str:
    data = {"commands": commands, "versions": versions(*PACKAGES), "cpu_seconds": cpu}
    return json.dumps(data, indent=2) + "\n"
