"""A result as ONNX, by optimum's own exporter, and run by onnxruntime."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunepolicy.commands.export.compared import Export, NextLogits, compared
from prunepolicy.commands.export.program import found, run_program
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.atomic import replace_folder

EXPORTER = "optimum-cli"
MODEL = "model.onnx"
UNPROVEN = "Not compared with the model: `pip install onnxruntime` runs the file here."


def exporter() -> Path:
    """Return optimum's command line, which may lie in an environment of its own.

    Raises:
        UsageError: where it isn't installed.
    """
    program = found(EXPORTER)
    if program is None:
        raise UsageError(
            f"ONNX files are written by {EXPORTER}, which isn't on PATH: `pip install optimum-onnx`, in an "
            "environment of its own where it asks for an older transformers."
        )
    return program


def export_onnx(folder: Path) -> Export:
    """Write the model into `onnx/` of its folder, and compare what it predicts.

    Raises:
        UsageError: where optimum is missing.
        PrunePolicyError: when it fails or doesn't know the family, or what the file predicts isn't what the
            model predicts; an earlier export stays then.
    """
    program, target = exporter(), folder / "onnx"
    comparisons = []

    def write(working: Path) -> None:
        words: list[str | Path] = [
            program,
            "export",
            "onnx",
            "--model",
            folder,
            "--task",
            "text-generation",
            working,
        ]
        run_program(words, EXPORTER)
        if not (working / MODEL).is_file():
            raise PrunePolicyError(f"{EXPORTER} wrote no {MODEL}.")
        if importlib.util.find_spec("onnxruntime") is not None:
            comparisons.append(compared(folder, "onnxruntime", _by_onnxruntime(working / MODEL)))

    replace_folder(target, write)
    files = tuple(str(file) for file in sorted(target.iterdir(), key=lambda file: file.name != MODEL))
    comparison = comparisons[0] if comparisons else None
    return Export("onnx", files, comparison, "" if comparison else UNPROVEN)


def _by_onnxruntime(file: Path) -> NextLogits:
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    wanted = {one.name for one in session.get_inputs()}

    def next_logits(ids: list[int]) -> NDArray[np.float32]:
        row = np.array([ids], dtype=np.int64)
        known = {
            "input_ids": row,
            "attention_mask": np.ones_like(row),
            "position_ids": np.arange(len(ids), dtype=np.int64)[None],
        }
        if unknown := wanted - known.keys():
            raise PrunePolicyError(f"{file.name} asks for {', '.join(sorted(unknown))}, unknown here.")
        feed = {name: known[name] for name in wanted}
        logits: NDArray[np.float32] = session.run(["logits"], feed)[0][0].astype(np.float32)
        return logits

    return next_logits
