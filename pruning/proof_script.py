"""The program of the clean process that proves a folder loads; it knows nothing of our package.

It reads a request (JSON) from standard input and writes its answer (JSON) to the file that the
request names.
"""

from __future__ import annotations

import json
import platform
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file

NEW_TOKENS = 12
PROMPT_TOKENS = 16


def load(request: dict[str, Any]) -> torch.nn.Module:
    """Load the folder in float32: with the file it carries, where it needs one, or with transformers."""
    if request["modelling_file"]:
        namespace = runpy.run_path(str(Path(request["folder"]) / request["modelling_file"]))
        model: torch.nn.Module = namespace["load"](request["folder"])
        return model.float().eval()
    return load_with_transformers(request)


def load_with_transformers(request: dict[str, Any]) -> torch.nn.Module:
    """Load the folder and refuse it when a weight is missing, left over or of another shape."""
    loaded, info = getattr(transformers, request["auto_class"]).from_pretrained(
        request["folder"],
        dtype=torch.float32,
        output_loading_info=True,
        local_files_only=True,
        trust_remote_code=request["own_code"],
        ignore_mismatched_sizes=True,  # They are refused below, by name.
    )
    for name, stored, implied in sorted(info["mismatched_keys"]):
        raise ValueError(f"{name} is stored as {tuple(stored)}, the configuration implies {tuple(implied)}")
    for state in ("missing", "unexpected"):
        names = sorted(info[f"{state}_keys"])
        if names:
            raise ValueError(f"{len(names)} weights are {state}, the first is {names[0]}")
    model: torch.nn.Module = loaded
    return model.eval()


def logits_of(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the model's logits, or its last hidden state."""
    with torch.inference_mode():
        outputs: torch.Tensor | dict[str, torch.Tensor] = model(**inputs)
    if isinstance(outputs, torch.Tensor):
        return outputs
    return outputs["logits"] if "logits" in outputs else outputs["last_hidden_state"]


def cache_agrees(model: Any, prompt: torch.Tensor) -> bool:
    """Return whether greedy generation writes the same tokens with a KV-cache as without."""
    prompt = prompt[:1, :PROMPT_TOKENS]
    settings = {
        "max_new_tokens": NEW_TOKENS,
        "min_new_tokens": NEW_TOKENS,
        "do_sample": False,
        "pad_token_id": 0,
    }
    cached, plain = (
        model.generate(prompt, attention_mask=torch.ones_like(prompt), use_cache=use, **settings)
        for use in (True, False)
    )
    return torch.equal(cached, plain)


def peak_memory() -> int | None:
    """Return the most bytes this process held."""
    status = Path("/proc/self/status")
    if status.is_file():
        # What getrusage says on Linux starts at the parent's size, because it outlives exec.
        held = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(held[0]) * 1024 if held else None
    try:
        import resource
    except ImportError:  # Windows has no such module.
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Load, run, compare and generate; return what was seen."""
    if "prunepolicy" in sys.modules:
        raise RuntimeError("prunepolicy is loaded in the process that must do without it")
    start = time.perf_counter()
    tensors = load_file(request["tensors"])
    expected = tensors.pop("expected")
    model = load(request)
    found = logits_of(model, tensors).float()
    if found.shape != expected.shape:
        raise ValueError(f"the outputs have shape {tuple(found.shape)} instead of {tuple(expected.shape)}")
    return {
        "difference": float((found - expected).abs().max()),
        "spread": float(expected.std()),
        "cache_agrees": cache_agrees(model, tensors["input_ids"]) if request["generates"] else None,
        "seconds": time.perf_counter() - start,
        "peak_memory": peak_memory(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    try:
        reply = answer(request)
    except Exception as error:  # Whatever transformers raises here is the answer.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reply = {"error": lines[0] if lines else type(error).__name__}
    Path(request["reply"]).write_text(json.dumps(reply), encoding="utf-8")


if __name__ == "__main__":
    main()
