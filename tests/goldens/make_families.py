#!/usr/bin/env python3
"""Reference logits of small models of every family, by Hugging Face transformers.

    make_families.py OUT_DIR [--seed N] [--weights] [FAMILY ...]

For each family OUT_DIR/<family>/ gets config.json and golden.safetensors (p<i>.ids int32 [n],
p<i>.logits float32 [n, vocab], p<i>.greedy int32 [g], p<i>.gap float32 [g]). The weights are a formula
of (tensor name, index), the one of MakeFormulaSource in src/model/tensor_source.h, so that they need
no file; --weights writes them nevertheless, as model.safetensors. The shapes are drawn by --seed.

Needs torch and transformers 5.23 (requirements.txt beside this file).
"""
import argparse
import json
import os
import random
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

GREEDY = 8
PROMPTS = (1, 21, 43)
MASK = (1 << 64) - 1


def formula(name, shape):
    """bfloat16 values as MakeFormulaSource gives them."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    size = int(np.prod(shape)) if len(shape) else 1
    with np.errstate(over="ignore"):
        x = np.uint64(h) + np.arange(size, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    u = (x >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    if name.endswith("norm.weight"):
        u = np.float32(1) + u / np.float32(8)
    else:
        u = u * np.sqrt(np.float32(3) / np.float32(shape[-1]))
    return torch.from_numpy(u.reshape(shape)).to(torch.bfloat16)


def dense(r, **more):
    """Sizes that are no multiple of a vector's width."""
    kv = r.choice((1, 2))
    sizes = dict(vocab_size=61, hidden_size=r.choice((48, 60)), intermediate_size=r.choice((52, 76)),
                 num_hidden_layers=r.choice((2, 3)), num_attention_heads=kv * r.choice((2, 3)),
                 num_key_value_heads=kv, head_dim=r.choice((12, 20)), max_position_embeddings=128,
                 rms_norm_eps=r.choice((1e-5, 1e-6)), tie_word_embeddings=r.random() < 0.5,
                 bos_token_id=1, eos_token_id=2, pad_token_id=0)
    return {**sizes, **more}


def even(r, **more):
    """As dense, where head_dim is hidden_size / num_attention_heads."""
    sizes = dense(r, **more)
    sizes["hidden_size"] = sizes["num_attention_heads"] * sizes.pop("head_dim")
    return sizes


def moe(r, **more):
    return dense(r, num_experts_per_tok=2, **more)


def yarn(original=32, **more):
    return {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
            "original_max_position_embeddings": original, **more}


def types(num, pattern):
    return ["sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(num)]


LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 32}


def longrope(r, sizes):
    pairs = sizes["hidden_size"] // sizes["num_attention_heads"] // 2
    return {"rope_type": "longrope", "rope_theta": 10000.0,
            "short_factor": [1.0 + 0.1 * i for i in range(pairs)],
            "long_factor": [2.0 + 0.5 * i for i in range(pairs)],
            "original_max_position_embeddings": 32}


def phi3(r):
    sizes = even(r, sliding_window=r.choice((None, 17)))
    sizes["rope_parameters"] = longrope(r, sizes)
    sizes["original_max_position_embeddings"] = 32
    return sizes


def gemma4(r):
    return dense(r, num_hidden_layers=3, layer_types=types(3, 3), sliding_window=17,
                 hidden_size_per_layer_input=0, num_kv_shared_layers=0, global_head_dim=24,
                 final_logit_softcapping=r.choice((None, 20.0)),
                 attention_k_eq_v=r.random() < 0.5, num_global_key_value_heads=1)


def falcon(r, **more):
    """Of the forms with rotary embeddings."""
    heads = r.choice((4, 6))
    return dict(vocab_size=61, hidden_size=12 * heads, num_hidden_layers=2, num_attention_heads=heads,
                ffn_hidden_size=100, parallel_attn=True, bias=False, alibi=False, max_position_embeddings=128,
                bos_token_id=1, eos_token_id=2, **more)


def qwen3_5_moe(r, **more):
    sizes = dense(r, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1, head_dim=16,
                  layer_types=["linear_attention", "full_attention"], linear_key_head_dim=8,
                  linear_value_head_dim=12, linear_num_key_heads=2, linear_num_value_heads=2,
                  num_experts=6, num_experts_per_tok=2, moe_intermediate_size=28,
                  shared_expert_intermediate_size=20)
    sizes.pop("intermediate_size")
    return {**sizes, **more}


FAMILIES = {
    "llama": ("llama", lambda r: dense(r, attention_bias=True, mlp_bias=True)),
    "llama3_rope": ("llama", lambda r: dense(r, rope_parameters=LLAMA3)),
    "llama_linear": ("llama", lambda r: dense(r, rope_parameters={
        "rope_type": "linear", "rope_theta": 10000.0, "factor": 3.0})),
    "mistral": ("mistral", lambda r: dense(r, sliding_window=19)),
    "ministral3": ("ministral3", lambda r: dense(r, rope_parameters=yarn(
        16, llama_4_scaling_beta=0.1, mscale=1.0, mscale_all_dim=1.0))),
    "qwen2": ("qwen2", lambda r: even(r, rope_parameters=yarn())),
    "qwen3": ("qwen3", lambda r: dense(r, num_hidden_layers=3, use_sliding_window=True,
                                       sliding_window=17, max_window_layers=1)),
    "gemma": ("gemma", lambda r: dense(r, tie_word_embeddings=True)),
    "gemma2": ("gemma2", lambda r: dense(r, sliding_window=17, query_pre_attn_scalar=30,
                                         tie_word_embeddings=True)),
    "gemma3": ("gemma3_text", lambda r: dense(
        r, num_hidden_layers=3, sliding_window=17, layer_types=types(3, 3),
        query_pre_attn_scalar=30, tie_word_embeddings=True, final_logit_softcapping=25.0)),
    "gemma4": ("gemma4_text", gemma4),
    "phi3": ("phi3", phi3),
    "olmo2": ("olmo2", lambda r: even(r)),
    "olmo3": ("olmo3", lambda r: even(r, num_hidden_layers=4, sliding_window=17)),
    "granite": ("granite", lambda r: even(r, attention_multiplier=0.2, embedding_multiplier=3.0,
                                          residual_multiplier=0.3, logits_scaling=2.0)),
    "smollm3": ("smollm3", lambda r: even(r, num_hidden_layers=3, no_rope_layers=[1, 0, 1])),
    "glm4": ("glm4", lambda r: dense(r, attention_bias=True)),
    "cohere2": ("cohere2", lambda r: even(r, num_hidden_layers=4, sliding_window=17,
                                          tie_word_embeddings=True, logit_scale=0.4)),
    "exaone4": ("exaone4", lambda r: dense(r, num_hidden_layers=4, sliding_window=17,
                                           sliding_window_pattern=2)),
    "seed_oss": ("seed_oss", lambda r: dense(r, attention_bias=True, attention_out_bias=r.random() < 0.5,
                                             mlp_bias=True)),
    "arcee": ("arcee", lambda r: dense(r)),
    "nemotron": ("nemotron", lambda r: dense(r)),
    "stablelm": ("stablelm", lambda r: even(r, head_dim=24, use_qkv_bias=True,
                                             use_parallel_residual=r.random() < 0.5)),
    "starcoder2": ("starcoder2", lambda r: even(r, sliding_window=17, residual_dropout=0.0,
                                                embedding_dropout=0.0)),
    "phi": ("phi", lambda r: even(r, tie_word_embeddings=False)),
    "phi_tied": ("phi", lambda r: even(r, tie_word_embeddings=True)),
    "cohere": ("cohere", lambda r: even(r, tie_word_embeddings=True, logit_scale=0.4)),
    "ernie4_5": ("ernie4_5", lambda r: dense(r, use_bias=True)),
    "glm": ("glm", lambda r: dense(r, attention_bias=True)),
    "olmo": ("olmo", lambda r: even(r)),
    "helium": ("helium", lambda r: dense(r, hidden_size=80, num_attention_heads=4, head_dim=20)),
    "falcon": ("falcon", lambda r: falcon(r, multi_query=True)),
    "falcon_grouped": ("falcon", lambda r: falcon(r, new_decoder_architecture=True, num_kv_heads=2)),
    "granitemoe": ("granitemoe", lambda r: even(
        r, num_local_experts=5, num_experts_per_tok=2, attention_multiplier=0.2, embedding_multiplier=3.0,
        residual_multiplier=0.3, logits_scaling=2.0)),
    "granitemoeshared": ("granitemoeshared", lambda r: even(
        r, num_local_experts=5, num_experts_per_tok=2, shared_intermediate_size=36, attention_multiplier=0.2,
        embedding_multiplier=3.0, residual_multiplier=0.3, logits_scaling=2.0)),
    "dots1": ("dots1", lambda r: dense(
        r, num_hidden_layers=3, n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=28,
        n_shared_experts=2, first_k_dense_replace=1, n_group=2, topk_group=1, routed_scaling_factor=1.5,
        sliding_window=17, layer_types=types(3, 3))),
    "deepseek_v2": ("deepseek_v2", lambda r: dense(
        r, num_key_value_heads=4, num_attention_heads=4, head_dim=8, q_lora_rank=r.choice((None, 20)),
        kv_lora_rank=24, qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=10, n_routed_experts=8,
        num_experts_per_tok=3, moe_intermediate_size=28, n_shared_experts=2, first_k_dense_replace=1,
        topk_method="group_limited_greedy", n_group=4, topk_group=2, routed_scaling_factor=2.5)),
    "qwen3_next": ("qwen3_next", lambda r: qwen3_5_moe(r, intermediate_size=52)),
    "minimax_m2": ("minimax_m2", lambda r: moe(r, num_local_experts=5, rotary_dim=8)),
    "ernie4_5_moe": ("ernie4_5_moe", lambda r: dense(
        r, num_hidden_layers=3, moe_num_experts=6, moe_k=2, moe_intermediate_size=28,
        moe_num_shared_experts=2, moe_layer_start_index=1)),
    "gpt2": ("gpt2", lambda r: dict(vocab_size=61, n_embd=40, n_layer=2, n_head=4, n_positions=128,
                                    bos_token_id=1, eos_token_id=2)),
    "gpt_neox": ("gpt_neox", lambda r: dict(
        vocab_size=61, hidden_size=48, intermediate_size=100, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=128, rotary_pct=0.5, bos_token_id=1,
        eos_token_id=2, use_parallel_residual=r.random() < 0.5)),
    "mixtral": ("mixtral", lambda r: moe(r, num_local_experts=5)),
    "qwen2_moe": ("qwen2_moe", lambda r: even(
        r, num_hidden_layers=3, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=28,
        shared_expert_intermediate_size=36, decoder_sparse_step=2, mlp_only_layers=[])),
    "qwen3_moe": ("qwen3_moe", lambda r: moe(r, num_experts=6, moe_intermediate_size=28,
                                             norm_topk_prob=False, mlp_only_layers=[0])),
    "olmoe": ("olmoe", lambda r: even(r, num_experts=6, num_experts_per_tok=2,
                                      norm_topk_prob=True)),
    "gpt_oss": ("gpt_oss", lambda r: moe(r, num_local_experts=5, sliding_window=17,
                                         rope_parameters=yarn(truncate=False))),
    "glm4_moe": ("glm4_moe", lambda r: moe(
        r, num_hidden_layers=3, n_routed_experts=8, moe_intermediate_size=28, n_shared_experts=1,
        first_k_dense_replace=1, n_group=2, topk_group=1, routed_scaling_factor=1.5,
        use_qk_norm=False, attention_bias=True)),
    "deepseek_v3": ("deepseek_v3", lambda r: dense(
        r, num_key_value_heads=4, num_attention_heads=4, head_dim=8, q_lora_rank=r.choice((None, 20)),
        kv_lora_rank=24, qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=10,
        n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=28, n_shared_experts=2,
        first_k_dense_replace=1, n_group=4, topk_group=2,
        rope_parameters=yarn(mscale=1.0, mscale_all_dim=0.8))),
    "qwen3_5_moe": ("qwen3_5_moe_text", lambda r: qwen3_5_moe(r)),
    "qwen3_5": ("qwen3_5_text", lambda r: dense(
        r, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        linear_conv_kernel_dim=r.choice((3, 4)), linear_key_head_dim=12, linear_value_head_dim=20,
        linear_num_key_heads=2, linear_num_value_heads=4)),
}


def references(model, seed, prompts):
    """Logits, greedy continuations and their gaps of random prompts of these lengths."""
    rng = np.random.Generator(np.random.PCG64(seed))
    golden = {}
    for i, length in enumerate(prompts):
        ids = torch.from_numpy(rng.integers(3, 61, length)).long()
        with torch.no_grad():
            golden[f"p{i}.logits"] = model(ids[None], use_cache=False).logits[0].float().contiguous()
            greedy, gap, text = [], [], ids
            for _ in range(GREEDY):
                logits = model(text[None], use_cache=False).logits[0, -1].float()
                best = torch.topk(logits, 2)
                greedy.append(int(best.indices[0]))
                gap.append(float(best.values[0] - best.values[1]))
                text = torch.cat((text, best.indices[:1]))
        golden[f"p{i}.ids"] = ids.int()
        golden[f"p{i}.greedy"] = torch.tensor(greedy, dtype=torch.int32)
        golden[f"p{i}.gap"] = torch.tensor(gap, dtype=torch.float32)
    return golden


def make(name, out, seed, keep_weights):
    model_type, draw = FAMILIES[name]
    config = transformers.AutoConfig.for_model(model_type, **draw(random.Random(f"{seed} {name}")))
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with tempfile.TemporaryDirectory() as tmp:
        model.save_pretrained(tmp)
        path = os.path.join(tmp, "model.safetensors")
        weights = {key: formula(key, tuple(value.shape)) for key, value in load_file(path).items()}
        save_file(weights, path, metadata={"format": "pt"})
        model = transformers.AutoModelForCausalLM.from_pretrained(
            tmp, dtype=torch.float32, attn_implementation="eager").eval()
        with open(os.path.join(tmp, "config.json"), encoding="utf-8") as f:
            written = json.load(f)
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as f:
        json.dump(written, f, indent=1, sort_keys=True)
        f.write("\n")
    if keep_weights:
        save_file(weights, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    golden = references(model, seed, PROMPTS)
    save_file(golden, os.path.join(out, "golden.safetensors"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("families", nargs="*")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--weights", action="store_true")
    args = parser.parse_intermixed_args()
    for name in args.families or FAMILIES:
        make(name, os.path.join(args.out, name), args.seed, args.weights)
        print(name, flush=True)


if __name__ == "__main__":
    main()
