"""What transformers 4 calls the settings that transformers 5 renamed, so that both read one config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.io.atomic import write_text

BASES = {
    "gpt_neox": ("rotary_emb_base", None),
    "gpt_neox_japanese": ("rotary_emb_base", None),
    "gemma3_text": ("rope_theta", "rope_local_base_freq"),
    "gemma3n_text": ("rope_theta", "rope_local_base_freq"),
    "modernbert": ("global_rope_theta", "local_rope_theta"),
    "modernbert-decoder": ("global_rope_theta", "local_rope_theta"),
    "olmo3": ("rope_theta", None),
}
"""By model type, the old keys of the RoPE base: that of full (or all) layers, and that of sliding ones.

Other families have `rope_theta`, and one base; transformers 4 has none of the younger ones with several.
"""

ROTARY_SHARES = {"gpt_neox": "rotary_pct", "gpt_neox_japanese": "rotary_pct"}
"""By model type, the old key of the share of a head that RoPE turns."""

RENAMED = {
    "qwen3_moe": {"num_local_experts": "num_experts"},
    "qwen3_vl_moe_text": {"num_local_experts": "num_experts"},
}
"""By model type, new keys and what they were called."""

HYBRIDS = ("granitemoehybrid", "zamba", "zamba2")
LAYER_TYPES = {"linear_attention": "mamba", "full_attention": "attention"}
"""Names that hybrids had for their layers; transformers 5 takes either."""

PHI3_SCALING = ("type", "long_factor", "short_factor")
"""Phi-3's old class refuses a scaling with any other field."""


YOUNGER_TOKENIZER, OLDER_TOKENIZER = "TokenizersBackend", "PreTrainedTokenizerFast"
"""Names of one class; transformers 5 knows both."""


def add_older_keys(folder: Path) -> None:
    """Let transformers 4, too, read what `save_pretrained` has just written into `folder`."""
    config, tokenizer = folder / "config.json", folder / "tokenizer_config.json"
    _rewrite(config, with_older_keys(_content(config)))
    if tokenizer.is_file():
        _rewrite(tokenizer, older_tokenizer(_content(tokenizer)))


def older_tokenizer(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tokenizer's settings in the words that both versions of transformers read."""
    older = dict(config)
    if config.get("tokenizer_class") == YOUNGER_TOKENIZER:
        older["tokenizer_class"] = OLDER_TOKENIZER
        older.pop("backend", None)
    if isinstance(config.get("extra_special_tokens"), list):
        older["additional_special_tokens"] = older.pop("extra_special_tokens")
    return older


def _content(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = bounded.read_json(file)
    return content


def _rewrite(file: Path, content: Mapping[str, Any]) -> None:
    write_text(file, json.dumps(content, indent=2) + "\n")


def with_older_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with the old keys beside the new ones, in its parts too.

    Where both are there, the new ones are right; transformers 5 reads the same as before.
    """
    model_type = str(config.get("model_type"))
    older = {
        key: with_older_keys(value) if key.endswith("_config") and isinstance(value, dict) else value
        for key, value in config.items()
    }
    for new, old in ({"dtype": "torch_dtype"} | RENAMED.get(model_type, {})).items():
        if config.get(new) is not None:
            older[old] = config[new]
    for key in ("layer_types", "layers_block_type"):
        if model_type in HYBRIDS and isinstance(config.get(key), list):
            older[key] = [LAYER_TYPES.get(kind, kind) for kind in config[key]]
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and not config.get("rope_scaling"):  # Else both versions read that.
        older |= _older_rope(model_type, rope)
    return older


def _older_rope(model_type: str, rope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the old keys for `rope_parameters`, which may hold an entry per type of layer."""
    base, local_base = BASES.get(model_type, ("rope_theta", None))
    nested = any(isinstance(value, dict) for value in rope.values())
    if nested and model_type not in BASES:
        return {}
    main = rope.get("full_attention") or {} if nested else rope
    found = {
        base: main.get("rope_theta"),
        ROTARY_SHARES.get(model_type, "partial_rotary_factor"): main.get("partial_rotary_factor"),
    }
    if local_base and nested:
        found[local_base] = (rope.get("sliding_attention") or {}).get("rope_theta")
    present = {key: value for key, value in found.items() if value is not None}
    return present | {"rope_scaling": _older_scaling(model_type, main)}


def _older_scaling(model_type: str, rope: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what stays of a RoPE's parameters beside base and share; None where nothing is scaled."""
    scaling = {
        key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")
    }
    scaling["rope_type"] = scaling["type"] = scaling.get("rope_type") or scaling.get("type") or "default"
    if scaling == {"rope_type": "default", "type": "default"}:
        return None
    if model_type == "phi3":
        return {key: scaling[key] for key in PHI3_SCALING if key in scaling}
    return scaling
