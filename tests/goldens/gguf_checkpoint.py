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
    "granite": "granite", "smollm3": "smollm3"}
TURNED = {"llama", "granite", "smollm3"}

COMMON = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.qkv_proj": "attn_qkv", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "self_attn.sinks": "attn_sinks", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp",
    "mlp.router": "ffn_gate_inp", "block_sparse_moe.gate": "ffn_gate_inp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp", "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp", "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "input_layernorm": "attn_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm", "post_self_attn_layernorm": "post_attention_norm",
    "post_mlp_layernorm": "post_ffw_norm"}
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


def converted(tensors: dict[str, np.ndarray], config: dict, arch: str) -> dict[str, np.ndarray]:
    names = dict(COMMON)
    names["post_attention_layernorm"] = (
        "post_attention_norm" if arch in ("gemma2", "gemma3", "gpt-oss", "olmo2", "exaone4") else "ffn_norm")
    out: dict[str, np.ndarray] = {}
    stacks: dict[str, dict[int, np.ndarray]] = {}
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for name, values in tensors.items():
        whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
                 "lm_head.weight": "output.weight"}.get(name)
        if arch in ("gemma2", "gemma3") and name.endswith("norm.weight"):
            values = values + np.float32(1)
        if whole:
            out[whole] = values
            continue
        _, _, layer, rest = name.split(".", 3)
        stem, _, suffix = rest.rpartition(".") if rest.endswith((".weight", ".bias")) else (rest, "", "weight")
        block = f"blk.{layer}."
        if arch == "gpt-oss" and ".experts." in rest:
            role = rest.split(".experts.")[1]
            kind = "bias" if role.endswith("_bias") else "weight"
            if kind == "weight":
                values = values.swapaxes(1, 2)
            if role.startswith("gate_up"):
                out[f"{block}ffn_gate_exps.{kind}"] = values[:, ::2]
                out[f"{block}ffn_up_exps.{kind}"] = values[:, 1::2]
            else:
                out[f"{block}ffn_down_exps.{kind}"] = values
            continue
        if ".experts." in stem:
            expert, role = stem.split(".experts.")[1].split(".")
            stacks.setdefault(f"{block}{EXPERTS[role]}.{suffix}", {})[int(expert)] = values
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


def add_keys(writer: gguf.GGUFWriter, config: dict, arch: str, tensors: dict[str, np.ndarray]) -> None:
    def put(key, value):
        if value is None:
            return
        add = (writer.add_bool if isinstance(value, bool) else
               writer.add_uint32 if isinstance(value, int) else
               writer.add_float32 if isinstance(value, float) else
               writer.add_string if isinstance(value, str) else writer.add_array)
        add(f"{arch}.{key}", value)

    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    theta, rope = rope_of(config)
    put("context_length", config["max_position_embeddings"])
    put("embedding_length", config["hidden_size"])
    put("block_count", config["num_hidden_layers"])
    put("feed_forward_length", config["intermediate_size"])
    put("attention.head_count", heads)
    put("attention.head_count_kv", config["num_key_value_heads"])
    put("attention.key_length", head_dim)
    put("attention.value_length", head_dim)
    put("attention.layer_norm_rms_epsilon", float(config["rms_norm_eps"]))
    put("rope.freq_base", float(theta))
    partial = rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    put("rope.dimension_count", int(head_dim * partial))
    kind = rope.get("rope_type", "default")
    if kind in ("linear", "yarn"):
        put("rope.scaling.type", kind)
        put("rope.scaling.factor", float(rope["factor"]))
        put("rope.scaling.original_context_length", rope.get("original_max_position_embeddings"))
    elif kind == "llama3":
        tensors["rope_freqs.weight"] = llama3_factors(rope, theta, head_dim)
    put("expert_count", config.get("num_local_experts", config.get("num_experts")))
    put("expert_used_count", config.get("num_experts_per_tok"))
    put("expert_feed_forward_length", config.get("moe_intermediate_size"))
    put("expert_shared_feed_forward_length", config.get("shared_expert_intermediate_size"))
    if arch in ("gemma2", "gemma3", "gpt-oss", "phi3", "llama", "olmo2", "exaone4"):
        put("attention.sliding_window", config.get("sliding_window"))
    if arch in ("gemma2", "gemma3"):
        put("attn_logit_softcapping", config.get("attn_logit_softcapping"))
        put("final_logit_softcapping", config.get("final_logit_softcapping"))
        put("attention.scale", config["query_pre_attn_scalar"] ** -0.5)
    if arch in ("gemma3", "olmo2", "exaone4") and config.get("sliding_window"):
        put("attention.sliding_window_pattern", [t == "sliding_attention" for t in config["layer_types"]])
    if arch == "gemma3":
        put("rope.freq_base_swa", float(config["rope_local_base_freq"]))
    if arch == "granite":
        put("embedding_scale", config["embedding_multiplier"])
        put("residual_scale", config["residual_multiplier"])
        put("logit_scale", config["logits_scaling"])
        put("attention.scale", config["attention_multiplier"])


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


def convert(directory: pathlib.Path, out: pathlib.Path, kind: str, shards: int = 1, dequantized: bool = False) -> None:
    """`dequantized`: the values that the quantised file stands for, as F32."""
    config = json.loads((directory / "config.json").read_text())
    arch = ARCHITECTURES[config["model_type"]]
    tensors = converted(read_safetensors(directory / "model.safetensors"), config, arch)
    writer = gguf.GGUFWriter(out, arch, split_max_tensors=-(-(len(tensors) + 1) // shards) if shards > 1 else 0)
    add_keys(writer, config, arch, tensors)
    if (directory / "tokenizer.json").exists():
        add_tokenizer(writer, directory)
    wanted = gguf.GGMLQuantizationType[kind]
    block = gguf.GGML_QUANT_SIZES[wanted][0]
    for name, values in tensors.items():
        values = np.ascontiguousarray(values)
        if values.ndim < 2 or name.endswith(".bias") or "ffn_gate_inp" in name:
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
