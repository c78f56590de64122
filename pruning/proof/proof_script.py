"""The program of the clean process that proves a folder loads; it knows nothing of our package.

It reads a request (JSON) from standard input and writes its answer (JSON) to the file that the
request names.
"""

from __future__ import annotations

import json
import platform
import re
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file

TOLERANCE = 1e-3
"""Largest difference between answers with a cache and without, in standard deviations."""
STATES = ("missing_keys", "unexpected_keys")
ANSWERS = ("logits", "prediction_logits", "start_logits", "last_hidden_state")


def load(request: dict[str, Any]) -> torch.nn.Module:
    """Load the folder in float32: with the file it carries, where it needs one, or with transformers."""
    if request["modelling_file"]:
        namespace = runpy.run_path(str(Path(request["folder"]) / request["modelling_file"]))
        model: torch.nn.Module = namespace["load"](request["folder"])
        return model.float().eval()
    return load_with_transformers(request)


def load_with_transformers(request: dict[str, Any]) -> torch.nn.Module:
    """Load the folder; refuse it when a weight is missing or left over that isn't in its source, too."""
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
    asked = request["source"] and any(map(info.get, STATES))
    source = loading_info(type(loaded), request) if asked else {}
    for state in STATES:
        usual = {without_numbers(name) for name in source.get(state, ())}
        names = sorted(name for name in info[state] if without_numbers(name) not in usual)
        if names:
            raise ValueError(f"{len(names)} weights are {state.split('_')[0]}, the first is {names[0]}")
    model: torch.nn.Module = loaded
    return model.eval()


def loading_info(found: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Return what the class of the result misses and leaves over in its source.

    Only headers are read: every weight is one number that seems to fill a tensor.
    """
    stock = getattr(transformers, found.__name__, found)
    weights: dict[str, torch.Tensor] = {}
    for file in request["source_files"]:
        with safe_open(file, "pt") as stored:
            shapes = {name: stored.get_slice(name).get_shape() for name in stored.keys()}
        weights |= {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    config = transformers.AutoConfig.from_pretrained(
        request["source"], local_files_only=True, trust_remote_code=False
    )
    _, info = stock.from_pretrained(
        None,
        config=config,
        state_dict=weights,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        trust_remote_code=False,
    )
    seen: dict[str, Any] = info
    return seen


def without_numbers(name: str) -> str:
    """Return a tensor's name without its layer: layers that follow a removed one have other numbers."""
    return re.sub(r"\d+", "#", name)


def check_tokenizer(request: dict[str, Any]) -> None:
    """Raise where the folder's tokenizer, of which tokens have gone, reads a text otherwise than expected."""
    if not request["texts"]:
        return
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        request["folder"], local_files_only=True, trust_remote_code=request["own_code"]
    )
    for text, expected in request["texts"].items():
        if tokenizer(text, add_special_tokens=False)["input_ids"] != expected:
            raise ValueError(f"its tokenizer reads {text!r:.40} as other tokens than before")


def answers_of(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the model's logits, or its last hidden state, row by row.

    A classifier without a padding token refuses several rows at once.
    """
    rows = zip(*(tensor.split(1) for tensor in inputs.values()), strict=True)
    with torch.inference_mode():
        return torch.cat([answer_of(model(**dict(zip(inputs, row, strict=True)))) for row in rows])


def answer_of(outputs: torch.Tensor | dict[str, torch.Tensor]) -> torch.Tensor:
    """Return what a head answers, under whichever name."""
    if isinstance(outputs, torch.Tensor):
        return outputs
    return outputs[next(name for name in ANSWERS if name in outputs)]


def cache_agrees(model: Any, prompt: torch.Tensor) -> bool:
    """Return whether greedy generation gives the same answers with a KV-cache as without.

    The folder's settings for generation say how to write well, and may need a tokenizer; they don't
    belong to the question.
    """
    prompt = prompt[:1, : prompt.shape[1] * 2 // 3 or 1]
    new_tokens = max(1, prompt.shape[1] // 2)
    model.generation_config = transformers.GenerationConfig(
        max_new_tokens=new_tokens, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    mask = torch.ones_like(prompt)
    cached, plain = (model.generate(prompt, attention_mask=mask, use_cache=use) for use in (True, False))
    for one, other in zip(cached.logits, plain.logits, strict=True):
        if float((one - other).abs().max()) > TOLERANCE * spread_of(other):
            return False
        if not torch.equal(one.argmax(-1), other.argmax(-1)):
            break  # Two tokens are equally likely; from here on the texts differ.
    return True


def spread_of(answers: torch.Tensor) -> float:
    """Return the standard deviation; of nearly equal answers, a hundredth of their size, against rounding."""
    return max(float(answers.std()), float(answers.square().mean().sqrt()) / 100)


def generation(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return whether the cache agrees, and why nothing was generated where that fails."""
    try:
        return {"cache_agrees": cache_agrees(model, inputs["input_ids"]), "trouble": ""}
    except Exception as error:  # Whatever transformers raises here is the answer.
        return {"cache_agrees": False, "trouble": first_line(error)}


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
    check_tokenizer(request)
    found = answers_of(model, tensors).float()
    if found.shape != expected.shape:
        raise ValueError(f"the outputs have shape {tuple(found.shape)} instead of {tuple(expected.shape)}")
    return {
        "difference": float((found - expected).abs().max()),
        "spread": spread_of(expected),
        **(generation(model, tensors) if request["generates"] else {"cache_agrees": None, "trouble": ""}),
        "seconds": time.perf_counter() - start,
        "peak_memory": peak_memory(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    try:
        reply = answer(request)
    except Exception as error:  # Whatever transformers raises here is the answer.
        reply = {"error": first_line(error)}
    Path(request["reply"]).write_text(json.dumps(reply), encoding="utf-8")


if __name__ == "__main__":
    main()
