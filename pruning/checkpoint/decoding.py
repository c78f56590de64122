"""Write token after token with whatever a model remembers of the tokens before."""

from __future__ import annotations

from typing import Any

MEMORIES = ("past_key_values", "cache_params", "state")
"""What attention, state-space and recurrent models call it, as input and as output."""


def memory_of(output: Any) -> dict[str, Any]:
    """Return the inputs with which the next call continues; none where every call reads all tokens again."""
    return {name: output[name] for name in MEMORIES if name in output and output[name] is not None}
