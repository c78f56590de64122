"""Qwen2-MoE and Qwen3-MoE: small experts, a shared one beside them, dense layers in between."""

from __future__ import annotations

from prunepolicy.pruning.adapters.base import Config
from prunepolicy.pruning.adapters.blocks import Ffn
from prunepolicy.pruning.adapters.experts import Experts, MixtureAdapter
from prunepolicy.pruning.adapters.registry import register
from prunepolicy.pruning.adapters.transformer import LAYERS
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import UnitGraph


@register
class QwenMoe(MixtureAdapter):
    """Gated experts and grouped-query attention; Qwen2 adds a shared expert, Qwen3 q/k norms."""

    model_types = ("qwen2_moe", "qwen3_moe")
    ffn = Ffn(("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj", "intermediate_size")
    experts = Experts(
        router="mlp.gate",
        prefix="mlp.experts.",
        ffn=Ffn(("gate_proj", "up_proj"), "down_proj", "moe_intermediate_size"),
        count_keys=("num_local_experts", "num_experts"),
        shared=Ffn(
            ("mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj"),
            "mlp.shared_expert.down_proj",
            "shared_expert_intermediate_size",
        ),
    )

    def edit_config(self, config: Config, graph: UnitGraph, plan: Plan) -> Config:
        """Write the sizes that stay, and the numbers that dense layers have after others have gone."""
        edited = super().edit_config(config, graph, plan)
        if plan.dropped_layers(graph):
            sparse = {group.layer for group in graph.of_kind("expert")}
            kept = plan.kept(graph[LAYERS])
            edited["mlp_only_layers"] = [new for new, layer in enumerate(kept) if layer not in sparse]
            edited["decoder_sparse_step"] = 1
        return edited

    def tiny(self) -> Config:
        """A three-layer network whose second layer is dense; four experts, two of them per token."""
        return {
            "model_type": "qwen2_moe",
            "architectures": ["Qwen2MoeForCausalLM"],
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 24,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 20,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "mlp_only_layers": [1],
            "max_position_embeddings": 64,
        }
