#!/usr/bin/env python3
"""Writes a hub checkpoint as a GGUF file, as its family's converter does: names, keys, order of rows.

    pip install gguf safetensors numpy && python tests/goldens/gguf_checkpoint.py DIR OUT.gguf --type Q8_0

Matrices get --type where their rows divide into its blocks, else F16; vectors stay F32.
"""
import argparse
import json
import math
import pathlib

import gguf
import numpy as np

ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "mixtral": "llama", "qwen2": "qwen2", "qwen3": "qwen3",
    "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gemma2": "gemma2", "gemma3_text": "gemma3", "phi3": "phi3",
    "gpt_oss": "gpt-oss", "olmo2": "olmo2", "olmo3": "olmo2", "exaone4": "exaone4", "olmoe": "olmoe", "glm4": "glm4",
    "granite": "granite", "smollm3": "smollm3", "deepseek_v3": "deepseek2", "glm4_moe": "glm4moe",
    "ministral3": "mistral3", "cohere2": "cohere2", "gpt2": "gpt2", "qwen3_5_text": "qwen35",
    "qwen3_5_moe_text": "qwen35moe", "gemma4_text": "gemma4"}
TURNED = {"llama", "granite", "smollm3", "mistral3"}
DELTA = {"qwen35", "qwen35moe"}
# Whose post_attention_layernorm keeps that name.
AFTER_ATTENTION = {"gemma2", "gemma3", "gemma4", "gpt-oss", "olmo2", "exaone4", "glm4moe", *DELTA}

COMMON = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b", "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm", "self_attn.kv_b_proj": "attn_kv_b", "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp",
    "mlp.router": "ffn_gate_inp", "block_sparse_moe.gate": "ffn_gate_inp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp", "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp", "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp", "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp", "linear_attn.in_proj_qkv": "attn_qkv",
    "linear_attn.in_proj_z": "attn_gate", "linear_attn.in_proj_b": "ssm_beta", "linear_attn.in_proj_a": "ssm_alpha",
    "linear_attn.conv1d": "ssm_conv1d", "linear_attn.norm": "ssm_norm", "linear_attn.out_proj": "ssm_out",
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    "input_layernorm": "attn_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm", "post_self_attn_layernorm": "post_attention_norm",
    "post_mlp_layernorm": "post_ffw_norm"}
BARE = {
    "self_attn.sinks": "attn_sinks.weight", "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
    "linear_attn.A_log": "ssm_a", "linear_attn.dt_bias": "ssm_dt.bias", "layer_scalar": "layer_output_scale.weight"}
WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight", "transformer.wte.weight": "token_embd.weight",
    "transformer.wpe.weight": "position_embd.weight", "transformer.ln_f.weight": "output_norm.weight",
    "transformer.ln_f.bias": "output_norm.bias"}
EXPERTS = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps",
           "w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps"}


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Every tensor as float32; numpy has no bfloat16."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + size])
    out = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + x for x in entry["data_offsets"])
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw[begin:end], np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            kind = {"F32": np.float32, "F16": np.float16}[entry["dtype"]]
            values = np.frombuffer(raw[begin:end], kind).astype(np.float32)
        out[name] = values.reshape(entry["shape"])
    return out


def turn(values: np.ndarray, heads: int) -> np.ndarray:
    """The halves of each head's rows become pairs."""
    return values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def tile(values: np.ndarray, axis: int, config: dict, size: int) -> np.ndarray:
    """Value heads of one key head lie together; in the file the first of every key head come first."""
    keys = config["linear_num_key_heads"]
    per_key = config["linear_num_value_heads"] // keys
    before, after = values.shape[:axis], values.shape[axis + 1:]
    return values.reshape(*before, keys, per_key, size, *after).swapaxes(axis, axis + 1).reshape(values.shape)


def tiled(values: np.ndarray, stem: str, config: dict) -> np.ndarray:
    size = config["linear_value_head_dim"]
    if stem in ("linear_attn.in_proj_qkv", "linear_attn.conv1d"):
        mixed = 2 * config["linear_num_key_heads"] * config["linear_key_head_dim"]
        return np.concatenate([values[:mixed], tile(values[mixed:], 0, config, size)])
    if stem == "linear_attn.in_proj_z":
        return tile(values, 0, config, size)
    if stem == "linear_attn.out_proj":
        return tile(values, 1, config, size)
    if stem in ("linear_attn.in_proj_a", "linear_attn.in_proj_b", "linear_attn.A_log", "linear_attn.dt_bias"):
        return tile(values, 0, config, 1)
    return values


def latent_halves(values: np.ndarray, config: dict, block: str) -> dict[str, np.ndarray]:
    """Keys of each head, transposed, and values."""
    heads, nope = config["num_attention_heads"], config["qk_nope_head_dim"]
    by_head = values.reshape(heads, -1, values.shape[-1])
    return {f"{block}attn_k_b.weight": by_head[:, :nope].swapaxes(1, 2), f"{block}attn_v_b.weight": by_head[:, nope:]}


def gpt_oss_experts(values: np.ndarray, role: str, block: str) -> dict[str, np.ndarray]:
    kind = "bias" if role.endswith("_bias") else "weight"
    if kind == "weight":
        values = values.swapaxes(1, 2)
    if role.startswith("gate_up"):
        return {f"{block}ffn_gate_exps.{kind}": values[:, ::2], f"{block}ffn_up_exps.{kind}": values[:, 1::2]}
    return {f"{block}ffn_down_exps.{kind}": values}


def converted(tensors: dict[str, np.ndarray], config: dict, arch: str, old: bool) -> dict[str, np.ndarray]:
    names = dict(COMMON)
    names["post_attention_layernorm"] = "post_attention_norm" if arch in AFTER_ATTENTION else "ffn_norm"
    out: dict[str, np.ndarray] = {}
    stacks: dict[str, dict[int, np.ndarray]] = {}
    heads = {"attn_q": config.get("num_attention_heads"), "attn_k": config.get("num_key_value_heads")}
    for name, values in tensors.items():
        plus_one = arch in ("gemma2", "gemma3") or (arch in DELTA and not name.endswith("linear_attn.norm.weight"))
        if plus_one and name.endswith("norm.weight"):
            values = values + np.float32(1)
        if name in WHOLE:
            out[WHOLE[name]] = values
            continue
        _, _, layer, rest = name.split(".", 3)
        stem, _, suffix = rest.rpartition(".") if rest.endswith((".weight", ".bias")) else (rest, "", "weight")
        block = f"blk.{layer}."
        if arch == "gpt-oss" and ".experts." in rest:
            out |= gpt_oss_experts(values, rest.split(".experts.")[1], block)
            continue
        if ".experts." in stem:
            expert, role = stem.split(".experts.")[1].split(".")
            stacks.setdefault(f"{block}{EXPERTS[role]}.{suffix}", {})[int(expert)] = values
            continue
        if stem == "self_attn.kv_b_proj" and not old:
            out |= latent_halves(values, config, block)
            continue
        if "linear_attn." in stem:
            values = tiled(values.squeeze(), stem, config)
        if stem == "linear_attn.A_log":
            values = -np.exp(values)
        if arch == "gpt2" and "c_" in stem and suffix == "weight":
            values = values.T
        if stem in BARE:
            out[block + BARE[stem]] = values
            continue
        target = names[stem]
        if arch in TURNED and target in heads:
            values = turn(values, heads[target])
        out[f"{block}{target}.{suffix}"] = values.squeeze() if target == "ffn_gate_inp_shexp" else values
    for name, experts in stacks.items():
        out[name] = np.stack([experts[i] for i in range(len(experts))])
    return out


def rope_of(config: dict) -> tuple[float, dict]:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope = rope.get("full_attention", rope)
    return rope.get("rope_theta", config.get("rope_theta", 10000.0)), rope


def llama3_factors(rope: dict, theta: float, dim: int) -> np.ndarray:
    low, high = (rope["original_max_position_embeddings"] / rope[f"{x}_freq_factor"] for x in ("low", "high"))
    out = []
    for i in range(0, dim, 2):
        wave = 2 * math.pi * theta ** (i / dim)
        smooth = (rope["original_max_position_embeddings"] / wave - rope["low_freq_factor"]) / (
            rope["high_freq_factor"] - rope["low_freq_factor"])
        out.append(1.0 if wave < high else rope["factor"] if wave > low else
                   1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(out, np.float32)


def add_keys(writer: gguf.GGUFWriter, config: dict, arch: str, tensors: dict[str, np.ndarray], old: bool) -> None:
    def put(key, value):
        if value is None:
            return
        add = (writer.add_bool if isinstance(value, bool) else
               writer.add_uint32 if isinstance(value, int) else
               writer.add_float32 if isinstance(value, float) else
               writer.add_string if isinstance(value, str) else writer.add_array)
        add(f"{arch}.{key}", value)

    config = {{"n_embd": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers",
               "n_positions": "max_position_embeddings", "layer_norm_epsilon": "layer_norm_eps"}.get(k, k): v
              for k, v in config.items()}
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    theta, rope = rope_of(config)
    put("context_length", config["max_position_embeddings"])
    put("embedding_length", config["hidden_size"])
    put("block_count", config["num_hidden_layers"])
    put("feed_forward_length", config.get("intermediate_size") or 4 * config["hidden_size"])
    put("attention.head_count", heads)
    if arch == "deepseek2":
        put_latent(put, config, old)
    else:
        put("attention.head_count_kv", config.get("num_key_value_heads"))
        put("attention.key_length", head_dim)
        put("attention.value_length", head_dim)
    if "layer_norm_eps" in config:
        put("attention.layer_norm_epsilon", config["layer_norm_eps"])
    else:
        put("attention.layer_norm_rms_epsilon", float(config["rms_norm_eps"]))
    if arch != "gpt2":
        put_rope(put, config, arch, tensors, head_dim, theta, rope)
    put_experts(put, config, arch)
    if arch in ("gemma2", "gemma3", "gemma4", "gpt-oss", "phi3", "llama", "olmo2", "exaone4", "cohere2"):
        put("attention.sliding_window", config.get("sliding_window"))
    if arch in ("gemma2", "gemma3"):
        put("attn_logit_softcapping", config.get("attn_logit_softcapping"))
        put("final_logit_softcapping", config.get("final_logit_softcapping"))
        put("attention.scale", config["query_pre_attn_scalar"] ** -0.5)
    if arch in ("gemma3", "gemma4", "olmo2", "exaone4") and config.get("sliding_window"):
        put("attention.sliding_window_pattern", [t == "sliding_attention" for t in config["layer_types"]])
    if arch == "gemma4":
        put_gemma4(put, config, tensors)
    if arch in ("granite", "cohere2"):
        put("logit_scale", config["logits_scaling" if arch == "granite" else "logit_scale"])
    if arch == "granite":
        put("embedding_scale", config["embedding_multiplier"])
        put("residual_scale", config["residual_multiplier"])
        put("attention.scale", config["attention_multiplier"])
    if arch in DELTA:
        put_delta(put, config)


def put_latent(put, config: dict, old: bool) -> None:
    """Newer files have the sizes of the latents, and those of heads under names of their own."""
    rope, rank = config["qk_rope_head_dim"], config["kv_lora_rank"]
    put("attention.head_count_kv", config["num_attention_heads"] if old else 1)
    put("attention.q_lora_rank", config["q_lora_rank"])
    put("attention.kv_lora_rank", rank)
    key = config["qk_nope_head_dim"] + rope
    put("attention.key_length", key if old else rank + rope)
    put("attention.value_length", config["v_head_dim"] if old else rank)
    if not old:
        put("attention.key_length_mla", key)
        put("attention.value_length_mla", config["v_head_dim"])


def put_rope(put, config: dict, arch: str, tensors: dict[str, np.ndarray], head_dim: int, theta: float,
             rope: dict) -> None:
    put("rope.freq_base", float(theta))
    partial = rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    put("rope.dimension_count", int(config.get("qk_rope_head_dim", head_dim) * partial))
    if arch in DELTA:
        put("rope.dimension_sections", [11, 11, 10, 0])
    if arch == "gemma3":
        put("rope.freq_base_swa", float(config["rope_local_base_freq"]))
    kind = rope.get("rope_type", "default")
    if kind in ("linear", "yarn"):
        put("rope.scaling.type", kind)
        put("rope.scaling.factor", float(rope["factor"]))
        put("rope.scaling.original_context_length", rope.get("original_max_position_embeddings"))
        put("rope.scaling.yarn_beta_fast", rope.get("beta_fast"))
        put("rope.scaling.yarn_beta_slow", rope.get("beta_slow"))
    elif kind == "llama3":
        tensors["rope_freqs.weight"] = llama3_factors(rope, theta, head_dim)
    if arch == "cohere2":
        put("rope.scaling.type", "none")
    if arch == "mistral3":
        put("rope.scaling.yarn_log_multiplier", float(rope["mscale_all_dim"]))
        put("attention.temperature_scale", float(rope["llama_4_scaling_beta"]))
    if arch == "deepseek2" and "mscale_all_dim" in rope:
        put("rope.scaling.yarn_log_multiplier", 0.1 * rope["mscale_all_dim"])


def put_experts(put, config: dict, arch: str) -> None:
    count = config.get("num_local_experts", config.get("num_experts", config.get("n_routed_experts")))
    if count is None:
        return
    put("expert_count", count)
    put("expert_used_count", config.get("num_experts_per_tok"))
    put("expert_feed_forward_length", config.get("moe_intermediate_size"))
    put("expert_shared_feed_forward_length", config.get("shared_expert_intermediate_size"))
    if "n_routed_experts" in config:
        put("expert_shared_count", config["n_shared_experts"])
        put("leading_dense_block_count", config["first_k_dense_replace"])
        put("expert_group_count", config["n_group"])
        put("expert_group_used_count", config["topk_group"])
        put("expert_weights_scale", float(config["routed_scaling_factor"]))
        put("expert_weights_norm", config["norm_topk_prob"])
        put("expert_gating_func", 2)


def put_gemma4(put, config: dict, tensors: dict[str, np.ndarray]) -> None:
    dim = config["head_dim"]
    turned = dim // 2 // 4
    put("attention.shared_kv_layers", 0)
    put("embedding_length_per_layer_input", 0)
    put("attention.key_length_swa", dim)
    put("attention.value_length_swa", dim)
    put("rope.dimension_count_swa", dim)
    put("rope.freq_base_swa", 10000.0)
    put("final_logit_softcapping", config["final_logit_softcapping"])
    tensors["rope_freqs.weight"] = np.array([1.0] * turned + [1e30] * (dim // 2 - turned), np.float32)


def put_delta(put, config: dict) -> None:
    put("ssm.conv_kernel", config["linear_conv_kernel_dim"])
    put("ssm.state_size", config["linear_key_head_dim"])
    put("ssm.group_count", config["linear_num_key_heads"])
    put("ssm.time_step_rank", config["linear_num_value_heads"])
    put("ssm.inner_size", config["linear_value_head_dim"] * config["linear_num_value_heads"])
    put("full_attention_interval", 4)


def add_tokenizer(writer: gguf.GGUFWriter, directory: pathlib.Path) -> None:
    """A byte-level BPE of tokenizer.json whose words are cut as Llama 3 cuts them."""
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    settings = json.loads((directory / "tokenizer_config.json").read_text())
    model = tokenizer["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    kinds = [gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    writer.add_bos_token_id(special[settings["bos_token"]])
    writer.add_eos_token_id(special[settings["eos_token"]])
    writer.add_add_bos_token(True)
    writer.add_chat_template(settings["chat_template"])


def convert(directory: pathlib.Path, out: pathlib.Path, kind: str, shards: int = 1, dequantized: bool = False,
            old: bool = False) -> None:
    """`dequantized`: the values that the quantised file stands for, as F32. `old`: as older converters did."""
    config = json.loads((directory / "config.json").read_text())
    arch = ARCHITECTURES[config["model_type"]]
    tensors = converted(read_safetensors(directory / "model.safetensors"), config, arch, old)
    writer = gguf.GGUFWriter(out, arch, split_max_tensors=-(-(len(tensors) + 1) // shards) if shards > 1 else 0)
    add_keys(writer, config, arch, tensors, old)
    if (directory / "tokenizer.json").exists():
        add_tokenizer(writer, directory)
    wanted = gguf.GGMLQuantizationType[kind]
    block = gguf.GGML_QUANT_SIZES[wanted][0]
    for name, values in tensors.items():
        values = np.ascontiguousarray(values)
        if values.ndim < 2 or name.endswith(".bias") or "ffn_gate_inp" in name or "ssm_conv1d" in name:
            writer.add_tensor(name, values)
            continue
        fits = values.shape[-1] % block == 0
        own = wanted if fits else gguf.GGMLQuantizationType.F16
        rows = gguf.quantize(values, own)
        if dequantized:
            writer.add_tensor(name, gguf.dequantize(rows, own).astype(np.float32).reshape(values.shape))
        else:
            writer.add_tensor(name, rows, raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--type", default="F32")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--dequantized", action="store_true")
    arguments = parser.parse_args()
    convert(arguments.directory, arguments.out, arguments.type, arguments.shards, arguments.dequantized)
