"""GPT-2: weights stored as (in, out), heads whose size transformers derives."""

from __future__ import annotations

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.registry import register
from prunepolicy.pruning.adapters.transformer import Ffn, TransformerAdapter
from prunepolicy.pruning.errors import UnsupportedModelError
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import UnitGraph


@register
class Gpt2(TransformerAdapter):
    """Feed-forward channels and layers; `n_inner` may be null, which means 4 * n_embd."""

    model_types = ("gpt2",)
    marker = "h."
    layers_key = "n_layer"
    hidden_key = "n_embd"
    ffn = Ffn(("mlp.c_fc",), "mlp.c_proj", "n_inner", transposed=True)
    tables = ("wte.", "wpe.")
    ties_head = True

    def edit_config(self, config: Config, graph: UnitGraph, plan: Plan) -> Config:
        """Write the sizes that stay.

        Raises:
            UnsupportedModelError: when layers go whose attention is scaled by their number.
        """
        if config.get("scale_attn_by_inverse_layer_idx") and plan.dropped_layers(graph):
            raise UnsupportedModelError(
                "This GPT-2 divides attention by the layer's number (scale_attn_by_inverse_layer_idx), so "
                "layers that move up would compute something else; prune its FFN channels instead."
            )
        return super().edit_config(config, graph, plan)

    def tiny(self) -> Config:
        """A three-layer network with the default inner size."""
        return {
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "vocab_size": 64,
            "n_embd": 16,
            "n_inner": None,
            "n_layer": 3,
            "n_head": 2,
            "n_positions": 64,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
