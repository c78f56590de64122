"""`--export` and `prunepolicy export`: a result in the formats that other runtimes read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from prunepolicy.commands.export.compared import Export
from prunepolicy.commands.export.gguf import converter, export_gguf
from prunepolicy.commands.export.onnx import export_onnx, exporter
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import UsageError, did_you_mean

EXPORTERS: dict[str, tuple[Callable[[], Path], Callable[[Path], Export]]] = {
    "gguf": (converter, export_gguf),
    "onnx": (exporter, export_onnx),
}
"""By format: what finds its converter, or raises, and what writes it."""


def check_forms(forms: Sequence[str]) -> None:
    """Raise `UsageError` where there is no such format, or its converter isn't installed."""
    for form in forms:
        if form not in EXPORTERS:
            raise UsageError(f"Unknown format {form!r:.80}.{did_you_mean(form, EXPORTERS)}")
        find, _ = EXPORTERS[form]
        find()


def export(folder: str | Path, forms: Sequence[str]) -> list[Export]:
    """Write the language model in `folder` in other formats, and compare each with the model.

    Raises:
        UsageError: for an unknown format, a missing converter, or a model that writes no text.
        PrunePolicyError: when a converter fails, or what it wrote predicts something else.
    """
    check_forms(forms)
    if not forms:
        return []
    checkpoint = Checkpoint.open(Path(folder))
    if checkpoint.adapter.task != "causal":
        raise UsageError(f"{folder} holds no causal language model, which is what can be exported.")
    return [EXPORTERS[form][1](Path(folder)) for form in forms]
