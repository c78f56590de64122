"""A result as GGUF, by llama.cpp's own converter, and read back: F16, and quantised."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunepolicy.commands.export.compared import Export, NextLogits, compared
from prunepolicy.commands.export.program import found, run_program
from prunepolicy.pruning.checkpoint.gguf_conversion import READER
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.temporary import temporary_folder

CONVERTER, QUANTISER = "convert_hf_to_gguf.py", "llama-quantize"
QUANTISED = "Q4_K_M"
PLACE = "LLAMA_CPP_DIR"
"""Environment variable that names a checkout of llama.cpp."""
UNPROVEN = (
    "Not compared with the model: `pip install llama-cpp-python` (or the extra `demo`) reads the file here."
)


def converter() -> Path:
    """Return llama.cpp's converter.

    Raises:
        UsageError: where it isn't installed.
    """
    script = found(CONVERTER, _checkout())
    if script is None:
        raise UsageError(
            f"GGUF files are written by llama.cpp's {CONVERTER}, which isn't on PATH: set {PLACE} to a "
            "checkout of llama.cpp."
        )
    return script


def export_gguf(folder: Path) -> Export:
    """Write `NAME-F16.gguf` into a model folder, compare it with the model, and quantise it if possible.

    Raises:
        UsageError: where llama.cpp's converter is missing.
        PrunePolicyError: when it fails, or what the file predicts isn't what the model predicts; nothing is
            left then.
    """
    script, quantiser, name = converter(), found(QUANTISER, _checkout()), folder.resolve().name
    with temporary_folder(folder) as working:
        half = working / f"{name}-F16.gguf"
        words: list[str | Path] = [sys.executable, script, folder, "--outfile", half, "--outtype", "f16"]
        run_program(words, f"llama.cpp's {CONVERTER}")
        if not half.is_file():
            raise PrunePolicyError(f"llama.cpp's {CONVERTER} wrote no {half.name}.")
        reader = _reader(half)
        comparison, files = compared(folder, *reader) if reader else None, [half]
        if quantiser is not None:
            files.append(working / f"{name}-{QUANTISED}.gguf")
            run_program([quantiser, half, files[1], QUANTISED], f"llama.cpp's {QUANTISER}")
        for file in files:
            os.replace(file, folder / file.name)
    written = tuple(str(folder / file.name) for file in files)
    missing = f"No {QUANTISED} file: llama.cpp's {QUANTISER} isn't on PATH or in {PLACE}."
    return Export(
        "gguf", written, comparison, "" if comparison else UNPROVEN, () if quantiser else (missing,)
    )


def _checkout() -> list[Path]:
    named = os.environ.get(PLACE)
    return [Path(named), Path(named) / "build" / "bin"] if named else []


def _reader(file: Path) -> tuple[str, NextLogits] | None:
    """Return what reads the file here: llama.cpp itself, or transformers, which unpacks it."""
    if importlib.util.find_spec("llama_cpp") is not None:
        return "llama.cpp", _by_llama_cpp(file)
    if all(importlib.util.find_spec(package) is not None for package in READER):
        return "transformers, which unpacks the file,", _by_transformers(file)
    return None


def _by_llama_cpp(file: Path) -> NextLogits:
    import llama_cpp

    model = llama_cpp.Llama(str(file), n_ctx=512, logits_all=True, verbose=False)

    def next_logits(ids: list[int]) -> NDArray[np.float32]:
        model.reset()
        model.eval(ids)
        return np.array(model.scores[: len(ids)], dtype=np.float32)

    return next_logits


def _by_transformers(file: Path) -> NextLogits:
    import torch
    import transformers

    from prunepolicy.pruning.io.transformers_loading import first_line, without_bars

    try:
        with without_bars():
            model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
            ).eval()
    except Exception as error:  # The reader trusts the file, so that anything may be raised.
        raise PrunePolicyError(f"transformers can't read {file.name}: {first_line(error)}") from error

    def next_logits(ids: list[int]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = model(input_ids=torch.tensor([ids])).logits[0].float().numpy()
        return logits

    return next_logits
