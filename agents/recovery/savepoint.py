"""Where a training that was killed goes on: tensors, and a small file that names them, written last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from prunepolicy.pruning.checkpoint.checkpoint import read_json
from prunepolicy.pruning.errors import BadCheckpointError, PrunePolicyError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import write_pieces, write_text
from prunepolicy.pruning.io.safetensors_file import (
    NAMES,
    TensorHeader,
    header_bytes,
    read_header,
    tensor_bytes,
)

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
        data = self.data()
        if data is None:
            return None
        name, sha256 = str(data.get("tensors")), str(data.get("sha256"))
        return data, _read(self.folder / Path(name).name, sha256)

    def data(self) -> dict[str, Any] | None:
        """Return what was saved last beside the tensors; None where nothing was.

        Raises:
            PrunePolicyError: when it is damaged.
        """
        if not (self.folder / STATE).is_file():
            return None
        data = read_json(self.folder / STATE)
        return data if data.get("key") == self.key else None

    def damaged(self, error: Exception) -> BadCheckpointError:
        """Return what to raise where a state that was loaded turns out to be useless."""
        return BadCheckpointError(
            f"{self.folder / STATE} and what it names are damaged: {bounded.why(error)}. "
            f"Remove {self.folder} to train from the start."
        )

    def save(self, epoch: int, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Save the state after `epoch`."""
        name = f"fit-{epoch}.safetensors"
        sha256 = _write(self.folder / name, tensors)
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


def _write(file: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors of any size without a second copy of them in memory, and return the file's SHA-256."""
    digest = hashlib.sha256()
    header = header_bytes(TensorHeader(name, NAMES[t.dtype], tuple(t.shape)) for name, t in tensors.items())

    def pieces() -> Iterator[bytes | memoryview]:
        yield header
        digest.update(header)
        for piece in map(_stored, tensors.values()):
            digest.update(piece)
            yield piece

    write_pieces(file, pieces(), len(header) + sum(tensor.nbytes for tensor in tensors.values()))
    return digest.hexdigest()


def _stored(tensor: Tensor) -> memoryview:
    return tensor_bytes(tensor.detach().cpu())


def _read(file: Path, sha256: str) -> dict[str, Tensor]:
    """Return the tensors of a file whose hash was recorded.

    Raises:
        PrunePolicyError: when it is missing, a link, damaged, or has another hash.
    """
    try:
        with bounded.open_regular(file, follow=False) as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise PrunePolicyError(f"{file} is missing, or a link that leads elsewhere.") from error
    if found != sha256:
        raise BadCheckpointError(
            f"{file} is not what was saved: its SHA-256 differs from the recorded one. Remove {file.parent} "
            "to train from the start."
        )
    return {entry.name: entry.read() for entry in read_header(file)}
