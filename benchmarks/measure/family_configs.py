"""Tiny configurations of many model types, one per line where the common sizes suffice."""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]

SIZES: Settings = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
HEAD = {"head_dim": 16}
WINDOW = {"sliding_window": 16}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LOCAL_EXPERTS = {"num_local_experts": 8, "num_experts_per_tok": 2}
ROUTED = {
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_shared_experts": 2,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
}
LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
GPT: Settings = {
    "vocab_size": 300,
    "n_embd": 64,
    "n_layer": 4,
    "n_head": 4,
    "n_positions": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SEQ2SEQ: Settings = {
    "vocab_size": 300,
    "d_model": 64,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 80,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "decoder_start_token_id": 2,
}
T5: Settings = {
    "vocab_size": 300,
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 96,
    "num_layers": 3,
    "num_decoder_layers": 4,
    "num_heads": 4,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 2,
}
IMAGES: Settings = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
VISION: Settings = {
    "depth": 2,
    "hidden_size": 32,
    "out_hidden_size": 64,
    "num_heads": 4,
    "intermediate_size": 48,
    "patch_size": 8,
}
ROPE_3D = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}}


def sized(**own: Any) -> Settings:
    """Return the common sizes with a type's own settings."""
    return SIZES | own


def without(key: str, settings: Settings) -> Settings:
    """Return settings but one."""
    return {name: value for name, value in settings.items() if name != key}


WRITERS: dict[str, Settings] = {
    "llama": sized(),
    "mistral": sized(**WINDOW),
    "ministral": sized(**HEAD, **WINDOW),
    "ministral3": sized(**HEAD),
    "qwen2": sized(),
    "qwen3": sized(head_dim=32),
    "qwen2_moe": sized(**EXPERTS, shared_expert_intermediate_size=48),
    "qwen3_moe": sized(**EXPERTS, head_dim=32),
    "qwen3_next": sized(**EXPERTS, **HEAD, **LINEAR, shared_expert_intermediate_size=48, num_hidden_layers=8),
    "qwen3_5_text": sized(**HEAD, **LINEAR, num_hidden_layers=8),
    "qwen3_5_moe_text": sized(
        **EXPERTS, **HEAD, **LINEAR, shared_expert_intermediate_size=48, num_hidden_layers=8
    ),
    "gemma": sized(head_dim=32),
    "gemma2": sized(head_dim=32, **WINDOW),
    "gemma3_text": sized(head_dim=32, **WINDOW, num_hidden_layers=8),
    "gemma3n_text": sized(
        **HEAD, **WINDOW, num_hidden_layers=10, intermediate_size=[96] * 10, vocab_size_per_layer_input=300,
        hidden_size_per_layer_input=16, num_kv_shared_layers=4, laurel_rank=8, altup_num_inputs=2,
        activation_sparsity_pattern=[0.0] * 10,
        layer_types=(["sliding_attention"] * 4 + ["full_attention"]) * 2,
    ),
    "gemma4_text": sized(
        **HEAD, **WINDOW, num_hidden_layers=10, global_head_dim=16, vocab_size_per_layer_input=300,
        hidden_size_per_layer_input=16, num_kv_shared_layers=4,
    ),
    "phi": sized(),
    "phi3": sized(original_max_position_embeddings=128),
    "phimoe": sized(
        **LOCAL_EXPERTS, original_max_position_embeddings=128, attention_bias=True, lm_head_bias=True
    ),
    "smollm3": sized(no_rope_layers=[1, 1, 1, 0]),
    "granite": sized(attention_multiplier=0.1, residual_multiplier=0.22),
    "granitemoe": sized(**LOCAL_EXPERTS),
    "granitemoehybrid": sized(
        **LOCAL_EXPERTS, layer_types=["mamba", "mamba", "attention", "mamba"], mamba_n_heads=8,
        mamba_d_state=16, mamba_d_head=16, shared_intermediate_size=48,
    ),
    "olmo": sized(),
    "olmo2": sized(),
    "olmo3": sized(**WINDOW),
    "olmoe": sized(num_experts=8, num_experts_per_tok=2),
    "flex_olmo": sized(num_experts=8, num_experts_per_tok=2),
    "stablelm": sized(),
    "starcoder2": sized(),
    "cohere": sized(),
    "cohere2": sized(**WINDOW),
    "falcon": without("num_key_value_heads", sized(multi_query=True, new_decoder_architecture=False)),
    "falcon_h1": sized(mamba_d_ssm=128, mamba_n_heads=8, mamba_d_head=16, mamba_d_state=16),
    "falcon_mamba": sized(state_size=8),
    "mamba": sized(state_size=8),
    "gpt2": GPT,
    "gptj": GPT | {"rotary_dim": 8},
    "codegen": GPT | {"rotary_dim": 8, "n_ctx": 128},
    "gpt_bigcode": GPT,
    "gpt_neo": sized(num_layers=4, num_heads=4, attention_types=[[["global", "local"], 2]], window_size=16),
    "gpt_neox": sized(),
    "gpt_oss": sized(**HEAD, **WINDOW, **LOCAL_EXPERTS),
    "bloom": GPT | {"hidden_size": 64},
    "mpt": {
        "vocab_size": 300, "d_model": 64, "n_layers": 4, "n_heads": 4, "max_seq_len": 128,
        "expansion_ratio": 2,
    },
    "opt": sized(ffn_dim=96, word_embed_proj_dim=64),
    "deepseek_v2": sized(**LATENT, **ROUTED),
    "deepseek_v3": sized(**LATENT, **ROUTED),
    "glm": sized(**HEAD),
    "glm4": sized(**HEAD),
    "glm4_moe": sized(**HEAD, **ROUTED),
    "glm4_moe_lite": sized(**LATENT, **ROUTED),
    "dots1": sized(**ROUTED),
    "ernie4_5": sized(**HEAD),
    "ernie4_5_moe": sized(
        moe_num_experts=8, moe_k=2, moe_intermediate_size=32, moe_num_shared_experts=1,
        moe_layer_start_index=1,
    ),
    "llama4_text": sized(**HEAD, **LOCAL_EXPERTS, intermediate_size_mlp=80, attention_chunk_size=16),
    "mixtral": sized(**LOCAL_EXPERTS),
    "minimax_m2": sized(**HEAD, **LOCAL_EXPERTS),
    "hunyuan_v1_dense": sized(**HEAD),
    "nemotron": sized(**HEAD),
    "nemotron_h": sized(
        **HEAD, num_hidden_layers=8, mamba_num_heads=8, mamba_head_dim=16, ssm_state_size=16, n_groups=2
    ),
    "exaone4": sized(**WINDOW, sliding_window_pattern=4),
    "internlm3": sized(**HEAD),
    "minicpm3": sized(**LATENT),
    "jamba": sized(
        num_hidden_layers=8, num_experts=4, num_experts_per_tok=2, attn_layer_period=4, attn_layer_offset=2,
        mamba_d_state=8, use_mamba_kernels=False,
    ),
    "bamba": sized(
        attn_layer_indices=[2], mamba_n_heads=8, mamba_d_head=16, mamba_d_state=16, mamba_n_groups=1
    ),
    "zamba": sized(
        num_hidden_layers=8, num_key_value_heads=4, attn_layer_period=4, attn_layer_offset=2, n_mamba_heads=2,
        mamba_d_state=8, use_mamba_kernels=False,
    ),
    "lfm2": sized(layer_types=["conv", "conv", "full_attention", "conv"]),
    "arcee": sized(),
    "apertus": sized(),
    "seed_oss": sized(**HEAD),
    "bitnet": sized(),
    "cwm": sized(**HEAD, **WINDOW),
    "diffllama": sized(),
    "hyperclovax": sized(),
    "nanochat": sized(),
    "helium": sized(**HEAD),
    "recurrent_gemma": sized(**HEAD, num_hidden_layers=6, lru_width=64, attention_window_size=16),
    "modernbert-decoder": sized(local_attention=16, num_hidden_layers=6, cls_token_id=1, sep_token_id=2),
}  # fmt: skip
READERS: dict[str, Settings] = {
    "bert": sized(),
    "roberta": sized(pad_token_id=1, bos_token_id=0, max_position_embeddings=130),
    "xlm-roberta": sized(pad_token_id=1, bos_token_id=0, max_position_embeddings=130),
    "distilbert": {"vocab_size": 300, "dim": 64, "hidden_dim": 96, "n_layers": 4, "n_heads": 4},
    "deberta-v2": sized(relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=16),
    "electra": sized(embedding_size=64),
    "mpnet": sized(pad_token_id=1),
    "albert": sized(embedding_size=32),
    "esm": sized(mask_token_id=3),
    "modernbert": sized(local_attention=16, num_hidden_layers=6, cls_token_id=1, sep_token_id=2),
    "eurobert": sized(),
}
TRANSLATORS: dict[str, Settings] = {
    "t5": T5,
    "mt5": T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "bart": SEQ2SEQ,
    "marian": SEQ2SEQ,
    "m2m_100": SEQ2SEQ,
    "whisper": SEQ2SEQ | {"num_mel_bins": 16, "max_source_positions": 64, "max_target_positions": 64},
}
SEERS: dict[str, Settings] = {
    "vit": IMAGES,
    "beit": IMAGES,
    "dinov2": without("intermediate_size", IMAGES) | {"mlp_ratio": 2},
    "clip_vision_model": IMAGES,
    "siglip_vision_model": IMAGES,
}
JOINED: dict[str, Settings] = {
    "gemma3": {
        "text_config": sized(head_dim=32, **WINDOW, num_hidden_layers=8),
        "vision_config": IMAGES,
        "mm_tokens_per_image": 4,
    },
    "mistral3": {
        "text_config": sized(model_type="mistral", **HEAD),
        "vision_config": IMAGES | {"model_type": "pixtral"},
    },
    "llava": {
        "text_config": sized(model_type="llama"),
        "vision_config": IMAGES | {"model_type": "clip_vision_model"},
        "image_token_id": 5,
    },
    "smolvlm": {
        "text_config": sized(model_type="llama"),
        "vision_config": IMAGES,
        "image_token_id": 5,
        "scale_factor": 2,
    },
    "qwen2_5_vl": {
        "text_config": sized(**ROPE_3D),
        "vision_config": VISION | {"fullatt_block_indexes": [1]},
    },
    "qwen3_vl": {
        "text_config": sized(**HEAD, **ROPE_3D),
        "vision_config": VISION | {"deepstack_visual_indexes": [0], "num_position_embeddings": 16},
    },
    "qwen3_5": {
        "text_config": sized(**HEAD, **LINEAR, num_hidden_layers=8),
        "vision_config": VISION | {"num_position_embeddings": 16},
    },
}
LOADERS: dict[str, dict[str, Settings]] = {
    "AutoModelForCausalLM": WRITERS,
    "AutoModelForMaskedLM": READERS,
    "AutoModelForSeq2SeqLM": TRANSLATORS,
    "AutoModel": SEERS,
    "AutoModelForImageTextToText": JOINED,
}
"""What loads a model type, and the types with their settings."""


def described(model_type: str) -> tuple[str, Settings]:
    """Return what loads a tiny network of a type, and its configuration, which names its class."""
    import transformers

    for loader, types in LOADERS.items():
        if model_type in types:
            own = "AutoModelForSpeechSeq2Seq" if model_type == "whisper" else loader
            named = getattr(transformers, own)._model_mapping._model_mapping[model_type]
            return own, {"model_type": model_type, "architectures": [named]} | types[model_type]
    raise KeyError(model_type)


def model_types() -> list[str]:
    """Return all types there are configurations for."""
    return [name for types in LOADERS.values() for name in types]
