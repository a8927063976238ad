"""A tiny, seeded model of a transformers type, made from its own default configuration by making known fields small."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.zoo_hf.types import Type

_SEED = 10
_WIDTH, _HEADS, _LAYERS = 32, 4, 2
_SMALL: Mapping[str, int] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size", "dim_model"), _WIDTH),
    **dict.fromkeys(("embed_dim", "hidden_dim", "word_embed_proj_dim", "projection_dim"), _WIDTH),
    **dict.fromkeys(("decoder_hidden_size",), _WIDTH),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers"), _LAYERS),
    **dict.fromkeys(("decoder_layers", "num_decoder_layers", "depth", "num_encoder_layers"), _LAYERS),
    **dict.fromkeys(("decoder_num_hidden_layers", "encoder_num_hidden_layers", "n_encoder_layers"), _LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"), _HEADS),
    **dict.fromkeys(("decoder_attention_heads", "decoder_num_attention_heads", "num_key_value_heads"), _HEADS),
    **dict.fromkeys(("encoder_num_attention_heads", "encoder_num_key_value_heads"), _HEADS),
    **dict.fromkeys(("decoder_num_key_value_heads",), _HEADS),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim", "n_inner"), 48),
    **dict.fromkeys(("ffn_hidden_size", "decoder_intermediate_size", "moe_intermediate_size", "ffn_dim_expert"), 48),
    **dict.fromkeys(("shared_expert_intermediate_size", "feed_forward_size", "dim_feedforward", "hidden_dim_ff"), 48),
    **dict.fromkeys(("vocab_size", "decoder_vocab_size", "src_vocab_size", "tgt_vocab_size"), 99),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions"), 128),
    **dict.fromkeys(("head_dim", "d_kv", "attention_head_size", "global_head_dim", "v_head_dim"), 8),
    "image_size": 32, "patch_size": 8, "max_source_positions": 32, "num_mel_bins": 16, "num_queries": 8,
    "num_local_experts": 4, "num_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8,
    "state_size": 8, "ssm_state_size": 8, "num_labels": 5, "type_vocab_size": 2,
}  # fmt: skip
_LISTS: Mapping[str, int] = {
    **dict.fromkeys(("hidden_sizes", "neck_hidden_sizes", "embed_dims", "encoder_hidden_sizes", "dims"), 16),
    **dict.fromkeys(("conv_dim", "tdnn_dim"), 16),
    **dict.fromkeys(("depths", "layers_depth", "num_blocks"), 1),
}


def _configured(made_by: Any, others: Mapping[str, Any]) -> Any:
    """The tiny configuration of a class; ``others`` are fields of its own, dicts for configurations inside it."""
    default = made_by()
    fields = default.to_dict()
    small: dict[str, Any] = {}
    for name, value in fields.items():
        if name in _SMALL and isinstance(value, int) and not isinstance(value, bool):
            small[name] = _SMALL[name]
        elif name in _LISTS and isinstance(value, (list, tuple)) and value and isinstance(value[0], int):
            small[name] = [_LISTS[name]] * len(value)
    for name in getattr(made_by, "sub_configs", {}):
        inner = getattr(default, name, None)
        if inner is not None and not isinstance(inner, dict) and "model_type" not in others.get(name, {}):
            small[name] = _configured(type(inner), others.get(name, {}))
    plain = {name: value for name, value in others.items() if name not in small or not isinstance(value, dict)}
    limit = small.get("vocab_size")
    for name, value in fields.items():  # ids of special tokens beyond the small vocabulary
        if limit and name.endswith("_token_id") and isinstance(value, int) and value >= limit and name not in plain:
            small[name] = 2 if name.startswith("eos") else 1
        if limit and name.endswith("_token_id") and isinstance(value, list):
            small[name] = 2
    return made_by(**{**small, **plain})


def model(kind: Type) -> Any:
    """The model with seeded weights, none of them zero: a bias of zeros hides a bias that was forgotten."""
    import transformers

    torch.manual_seed(_SEED)
    config = _configured(transformers.CONFIG_MAPPING[kind.name], kind.fields)
    made = getattr(transformers, kind.architecture)(config).float().eval()
    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim < 2 and parameter.is_floating_point():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return made


def save(kind: Type, folder: Path) -> None:
    """Write the model as people have it, with the sizes of its images where its configuration names none."""
    model(kind).save_pretrained(folder)
    if kind.side:
        size = json.dumps({"size": {"height": kind.side, "width": kind.side}})
        (folder / "preprocessor_config.json").write_text(size, encoding="utf-8")
