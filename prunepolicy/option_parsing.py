"""From command-line options to the arguments of the package's functions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prunepolicy.entrypoint import invoked
from prunepolicy.pruning.io.console import Console

if TYPE_CHECKING:
    from prunepolicy.commands.prune.finetune_images import RecoverySettings
    from prunepolicy.commands.prune.job import PruneSettings
    from prunepolicy.pruning.plan import Budget
    from prunepolicy.pruning.session.opened_model import Hardware


def budget_of(
    keep: float, of: str, units: str, per_layer: bool, multiple_of: int | None, context: int
) -> Budget:
    """Return what may stay."""
    from prunepolicy.pruning.plan import Budget

    return Budget(keep, of, context, not per_layer, words_of(units), multiple_of)  # type: ignore[arg-type]


def budgets_of(
    keeps: str, of: str, units: str, per_layer: bool, multiple_of: int | None, context: int
) -> list[Budget]:
    """Return what may stay in each of several sizes."""
    sizes = dict.fromkeys(numbers_of(keeps, "--keep"))
    return [budget_of(size, of, units, per_layer, multiple_of, context) for size in sizes]


def hardware_of(device: str, dtype: str, trust_remote_code: bool = False) -> Hardware:
    """Return what to compute on."""
    from prunepolicy.pruning.session.opened_model import Hardware

    return Hardware(device, dtype, trust_remote_code)


def recovery_of(data: str | None, epochs: str, shrink: float) -> RecoverySettings | None:
    """Return how a pruned network is trained; None where no data is given."""
    from prunepolicy.commands.prune.finetune_images import RecoverySettings
    from prunepolicy.pruning.errors import UsageError

    numbers = numbers_of(epochs, "--epochs")
    if len(numbers) != 2 or any(number < 0 or number % 1 for number in numbers):
        raise UsageError(f"--epochs takes two whole numbers, such as 0,20; got {epochs!r}.")
    if not 0 <= shrink < 1:
        raise UsageError(f"--shrink lies between 0 and 1, such as 0.001; got {shrink:g}.")
    if shrink and (data is None or not numbers[0]):
        raise UsageError("--shrink needs --data, and epochs before the cut to shrink anything in.")
    return None if data is None else RecoverySettings(data, int(numbers[0]), int(numbers[1]), shrink)


def settings_of(console: Console, hardware: Hardware, seed: int) -> PruneSettings:
    """Return the settings of this command line, with progress on `console`."""
    from prunepolicy.commands.prune.job import PruneSettings
    from prunepolicy.pruning.io.progress import ProgressReporter

    return PruneSettings(hardware=hardware, seed=seed, command=invoked(), progress=ProgressReporter(console))


def words_of(text: str) -> tuple[str, ...]:
    """Return the parts of a list with commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def numbers_of(text: str, option: str) -> list[float]:
    """Return the numbers of a list with commas, given to `option`."""
    from prunepolicy.pruning.errors import UsageError

    try:
        numbers = [float(word) for word in words_of(text)]
    except ValueError:
        numbers = []
    if not numbers:
        raise UsageError(f"{option} takes numbers separated by commas; got {text!r}.")
    return numbers


def add_plugins(files: list[Path] | None) -> None:
    """Let registries import the user's own files."""
    from prunepolicy.pruning.plugins import add_plugin

    for file in files or ():
        add_plugin(file)
