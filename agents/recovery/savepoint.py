"""Where a training that was killed goes on: tensors, and a small file that names them, written last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from prunepolicy.policy.weights import read_tensors, write_tensors
from prunepolicy.pruning.checkpoint.checkpoint import read_json
from prunepolicy.pruning.errors import BadCheckpointError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import write_text

STATE = "fit.json"


@dataclass(frozen=True)
class Savepoint:
    """A folder for the state of one training.

    Attributes:
        key: says what is trained and how; a state of another key is not continued.
    """

    folder: Path
    key: str

    def load(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Return what was saved last; None where nothing was.

        Raises:
            PrunePolicyError: when it is damaged.
        """
        if not (self.folder / STATE).is_file():
            return None
        data = read_json(self.folder / STATE)
        if data.get("key") != self.key:
            return None
        name, sha256 = str(data.get("tensors")), str(data.get("sha256"))
        return data, read_tensors(self.folder / Path(name).name, sha256)

    def damaged(self, error: Exception) -> BadCheckpointError:
        """Return what to raise where a state that was loaded turns out to be useless."""
        return BadCheckpointError(
            f"{self.folder / STATE} and what it names are damaged: {bounded.why(error)}. "
            f"Remove {self.folder} to train from the start."
        )

    def save(self, epoch: int, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Save the state after `epoch`."""
        name = f"fit-{epoch}.safetensors"
        sha256 = write_tensors(self.folder / name, tensors)
        whole = {**data, "key": self.key, "epoch": epoch, "tensors": name, "sha256": sha256}
        write_text(self.folder / STATE, json.dumps(whole, sort_keys=True) + "\n")
        self._clear(keep=name)

    def finish(self) -> None:
        """Remove the state of a training that is over, and the folder where nothing else is in it."""
        (self.folder / STATE).unlink(missing_ok=True)
        self._clear(keep="")
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _clear(self, keep: str) -> None:
        for old in self.folder.glob("fit-*.safetensors"):
            if old.name != keep:
                old.unlink()
