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
from typing import Annotated, Any

import numpy as np
import torch
import yaml
from pydantic import Field
from torch import Tensor

from prunepolicy.agents.training.events import Events
from prunepolicy.agents.training.learner import LearnerState, SteppedLearner
from prunepolicy.agents.training.recipe import RunRecipe
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.agents.training.tracker import TENSORBOARD, Tracker
from prunepolicy.policy.base import Policy
from prunepolicy.policy.weights import read_tensors, write_tensors
from prunepolicy.pruning.checkpoint.checkpoint import read_json
from prunepolicy.pruning.errors import BadCheckpointError, PrunePolicyError, UsageError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import as_sentence, is_partial, replace_folder, write_text
from prunepolicy.pruning.io.claim import claimed
from prunepolicy.pruning.io.config import StrictConfig, checked
from prunepolicy.pruning.io.machine import versions

RECIPE, RUN, METRICS, CHECKPOINT = "recipe.yaml", "run.json", "metrics.jsonl", "checkpoint.json"
BEST, LAST, EVENTS = "best", "last", "events"
PACKAGES = ("prunepolicy", "torch", "transformers", "gymnasium", "stable-baselines3", "torch-geometric")
NOTHING = (RECIPE, RUN, EVENTS)
"""All there is of a run that hasn't learned anything: its recipe may have been wrong, so it may change."""
MAY_CHANGE = ("max_steps",)
"""Keys of a recipe that a resumed run may change: training for longer is the same training."""


BROKEN = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What generators and learners raise on a damaged state, which they take on trust."""
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RunFile(StrictConfig):
    """The content of `run.json`."""

    commands: list[str] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    cpu_seconds: Seconds = 0.0


@dataclass(frozen=True)
class RunProgress:
    """How far a run has come.

    Attributes:
        step: training steps done.
        best: highest validation score so far.
        stale: evaluations since then.
        metrics_bytes: length of the metrics file at this step.
    """

    step: Annotated[int, Field(ge=0)] = 0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    metrics_bytes: Annotated[int, Field(ge=0)] = 0


class CheckpointFile(StrictConfig):
    """The content of `checkpoint.json`.

    Attributes:
        learner: its state, beside the tensors.
        generators: states of the process's generators, likewise.
        tensors: name of the file with both tensors, and its hash.
    """

    progress: RunProgress
    learner: dict[str, Any]
    generators: dict[str, Any]
    tensors: str
    sha256: str


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    return sum(os.times()[:4])


@dataclass
class RunFolder:
    """Reads and writes one run's files; whatever is killed in between leaves the old or the new."""

    path: Path
    recipe: RunRecipe
    events: Events | None = field(default=None, repr=False)
    tracker: Tracker | None = field(default=None, repr=False)
    log_to: str = TENSORBOARD
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
        changed = [key for key in new if new[key] != old.get(key) and key not in MAY_CHANGE]
        if changed:
            raise UsageError(
                f"{path} was started with other {', '.join(changed)}; "
                f"resume with its own recipe ({path / RECIPE}), or choose another --out."
            )
        before = _run_file(path) if (path / RUN).is_file() else RunFile()
        write_text(path / RUN, _described([*before.commands, command], before.cpu_seconds))
        return cls(path, recipe)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one row to the metrics; no times, so that equal runs write equal bytes.

        Raises:
            PrunePolicyError: when they can't be written.
        """
        try:
            with open(self.path / METRICS, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **metrics}) + "\n")
        except OSError as error:
            raise as_sentence(error, self.path / METRICS) from error
        for log in self._open_logs:
            log.add(step, metrics)

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
        self._forget_states_but(name)
        self.count_cpu()

    def _forget_states_but(self, name: str) -> None:
        """Remove states of earlier checkpoints, also those that a killed run had no time to remove."""
        for old in self.path.glob("state-*.safetensors"):
            if old.name != name:
                old.unlink()

    def count_cpu(self) -> None:
        """Add to the run's description the CPU time that went since it was counted last."""
        known, now = _run_file(self.path), cpu_seconds()
        spent = round(known.cpu_seconds + now - self.cpu_counted, 2)
        self.cpu_counted = now
        data = known.model_copy(update={"cpu_seconds": spent}).model_dump()
        write_text(self.path / RUN, json.dumps(data, indent=2) + "\n")

    def restored(self, learner: SteppedLearner) -> RunProgress:
        """Return to the last checkpoint, the learner to the state that it had there.

        Raises:
            PrunePolicyError: when the checkpoint is damaged, or another learner's.
        """
        progress, state = self.latest()
        try:
            if progress.step:
                learner.restore(state)
        except BROKEN as error:
            raise self._damaged(error) from error
        return progress

    def latest(self) -> tuple[RunProgress, LearnerState]:
        """Return to the last checkpoint: its progress, the learner's state, metrics cut to its step.

        Generators of the process continue from it, too. A run without a checkpoint starts afresh.

        Raises:
            PrunePolicyError: when the checkpoint is damaged.
        """
        metrics = self.path / METRICS
        if not (self.path / CHECKPOINT).is_file():
            metrics.unlink(missing_ok=True)
            return RunProgress(), LearnerState()
        saved = _checkpoint_file(self.path)
        tensors = read_tensors(self.path / Path(saved.tensors).name, saved.sha256)
        try:
            restore_generators(LearnerState(_under("generator/", tensors), saved.generators))
            if metrics.is_file():
                _cut(metrics, saved.progress.metrics_bytes)
        except BROKEN as error:
            raise self._damaged(error) from error
        self._forget_states_but(Path(saved.tensors).name)
        return saved.progress, LearnerState(_under("learner/", tensors), saved.learner)

    def _damaged(self, error: Exception) -> BadCheckpointError:
        return BadCheckpointError(
            f"{self.path / CHECKPOINT} and what it names are damaged: {bounded.why(error)}. "
            "Choose another --out to start again."
        )

    @property
    def commands(self) -> list[str]:
        """The command lines that have started and continued the run."""
        return _run_file(self.path).commands

    def open_events(self, step: int) -> None:
        """Write TensorBoard events, too, where tensorboard is installed; those after `step` are void.

        Where `log_to` names a tracker, it gets them as well.
        """
        self.events = Events.opened(self.path / EVENTS, step)
        if self.log_to != TENSORBOARD:
            self.tracker = Tracker(self.log_to, self.path, self.recipe.model_dump(mode="json"))

    def close(self) -> None:
        """Flush and close the events."""
        for log in self._open_logs:
            log.close()
        self.events = self.tracker = None

    @property
    def _open_logs(self) -> list[Events | Tracker]:
        return [log for log in (self.events, self.tracker) if log is not None]


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
            with suppress(PrunePolicyError, OSError), claimed(path):  # Another process may be writing it.
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


def _cut(metrics: Path, size: int) -> None:
    """Cut the metrics to `size` bytes, or raise `ValueError` when there are fewer."""
    if metrics.stat().st_size < size:
        raise ValueError(f"{metrics.name} has lost rows")
    os.truncate(metrics, size)


def saved_step(folder: Path) -> int:
    """Return the step from which a run would continue; 0 where it would begin."""
    return _checkpoint_file(folder).progress.step if (folder / CHECKPOINT).is_file() else 0


def cpu_spent(folder: Path) -> float | None:
    """Return the CPU seconds of a run, or of the runs of all seeds in `folder`; None when it isn't known."""
    runs = [folder / RUN, *folder.glob(f"seed-*/{RUN}")]
    spent = [_run_file(file.parent) for file in runs if file.is_file()]
    known = [one.cpu_seconds for one in spent if "cpu_seconds" in one.model_fields_set]
    return sum(known) if known and len(known) == len(spent) else None


def _run_file(folder: Path) -> RunFile:
    return checked(RunFile, read_json(folder / RUN), str(folder / RUN))


def _checkpoint_file(folder: Path) -> CheckpointFile:
    return checked(CheckpointFile, read_json(folder / CHECKPOINT), str(folder / CHECKPOINT))


def _described(commands: list[str], cpu: float = 0.0) -> str:
    data = RunFile(commands=commands, versions=versions(*PACKAGES), cpu_seconds=cpu)
    return json.dumps(data.model_dump(), indent=2) + "\n"
