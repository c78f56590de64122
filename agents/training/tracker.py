"""A run's metrics in an experiment tracker, through its own package: Weights & Biases, or trackio."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunepolicy.pruning.errors import UsageError, did_you_mean

TENSORBOARD = "tensorboard"
LOGGERS = (TENSORBOARD, "wandb", "trackio")
PROJECT = "prunepolicy"


def check_logger(name: str) -> None:
    """Raise `UsageError` where there is no such logger, or its package isn't installed."""
    if name not in LOGGERS:
        raise UsageError(f"Unknown logger {name!r:.80}.{did_you_mean(name, LOGGERS)}")
    if importlib.util.find_spec(name) is None:
        raise UsageError(f"--log-to {name} needs its package: `pip install {name}`.")


class Tracker:
    """Sends metrics to a tracker whose module has `init`, `log` and `finish`, as both have."""

    def __init__(self, name: str, folder: Path, config: Mapping[str, Any]) -> None:
        self._module = importlib.import_module(name)
        self._module.init(project=PROJECT, name=folder.name, config=dict(config))

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send the metrics of a step."""
        self._module.log(dict(metrics), step=step)

    def close(self) -> None:
        """Send what is left."""
        self._module.finish()
