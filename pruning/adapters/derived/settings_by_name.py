"""What configurations call their numbers: which of them may count units, and which are safe to lower."""

from __future__ import annotations

WIDTHS = ("intermediate", "ffn", "inner", "hidden_dim", "d_ff", "mlp", "ff_dim")
"""Parts of the names of feed-forward widths."""
NO_WIDTHS = (
    "ratio",
    "layer",
    "bias",
    "size_per",
    "_act",
    "groups",
    "dropout",
    "every",
    "factor",
    "expansion",
)
"""Parts of names that speak of feed-forward blocks, but of no width."""
HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv")
HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
TOP_K = ("num_experts_per_tok", "moe_k", "moe_topk", "moe_top_k", "num_experts_per_token", "top_k_experts")
"""How many experts a token visits."""
GROUPS = ("n_group",)
CHOSEN_GROUPS = ("topk_group",)
"""In how many groups of experts a token's experts lie."""
WINDOWS = ("sliding_window", "window_size", "local_attention", "attention_chunk_size")


def is_width(key: str) -> bool:
    """Return whether a setting of this name may be the width of a feed-forward block."""
    return any(word in key for word in WIDTHS) and not any(word in key for word in NO_WIDTHS)
