"""Which programs load a pruned model: what is proved, what is expected, what nobody checked."""

from __future__ import annotations

from dataclasses import dataclass

from prunepolicy.pruning.adapters import ModelAdapter

NOT_CHECKED = "not checked"
STOCK_CLASSES = ("llama",)
"""Families whose stock classes other runtimes build from the sizes in config.json."""


@dataclass(frozen=True)
class RuntimeSupport:
    """What one program makes of a result.

    Attributes:
        uniform: of layers of equal width, some of which may be gone.
        per_layer: of layers that differ in width.
    """

    runtime: str
    uniform: str
    per_layer: str


def runtimes_for(adapter: ModelAdapter, family: str) -> tuple[RuntimeSupport, ...]:
    """Return what is known about each runtime for results of one family.

    Only transformers is tried, by the proof after every cut. For the rest, "expected" means that
    the runtime reads the sizes from the configuration; nobody has run it here.
    """
    if adapter.carries:
        own = f"loads with the file it carries ({', '.join(adapter.carries)}); tried after every cut"
        return (RuntimeSupport("torch", own, own),)
    others = ("vLLM", "llama.cpp (GGUF)") if adapter.task == "causal" else ()
    expected = "expected: an ordinary, smaller configuration" if family in STOCK_CLASSES else NOT_CHECKED
    return (
        RuntimeSupport(
            "transformers",
            "loads; tried after every cut",
            "loads with trust_remote_code=True and the file it carries; tried after every cut"
            if adapter.task == "causal"
            else NOT_CHECKED,
        ),
        # Per-layer sizes in vLLM: requests 24859 and 24873 were closed without a merge.
        *(RuntimeSupport(name, expected, "doesn't load: expects equal layers") for name in others),
        RuntimeSupport("ONNX export", NOT_CHECKED, NOT_CHECKED),
    )
