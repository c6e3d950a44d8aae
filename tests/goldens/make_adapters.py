#!/usr/bin/env python3
"""Reference logits of small models with low-rank adapters merged into their weights, by PEFT.

    make_adapters.py OUT_DIR [--families DIR] [CASE ...]

For each case OUT_DIR/<case>/ gets case.json ({"family": a folder of DIR}), PEFT's own files
(adapter_config.json, adapter_model.safetensors) and golden.safetensors as make_families.py writes it.
The model is the family's config.json with weights by formula; merged and computed in float32. Embedding
and head are weights of their own before PEFT wraps one of them, as it changes that one alone.

The cases of CHECKPOINT_CASES are wrapped as a tree of linear layers by the checkpoint's names: transformers
keeps experts in stacked parameters and routers outside linear layers, its versions before 5 did not, and
adapters of those are named so.

Needs torch, transformers 5.23 and peft 0.21 (requirements.txt beside this file).
"""
import argparse
import json
import os
import shutil
import tempfile

import numpy as np
import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

from make_families import formula, references

PROMPTS = (1, 37)
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SELF_ATTENTION = r".*\.layers\.\d+\.self_attn\.[qkvo]_proj"

CASES = {
    "llama": ("llama", dict(r=4, lora_alpha=8, target_modules=ALL)),
    "llama_other": ("llama", dict(r=8, lora_alpha=4, target_modules=["q_proj", "v_proj"])),
    "llama_patterns": ("llama3_rope", dict(
        r=4, lora_alpha=6, use_rslora=True, target_modules=r".*(self_attn|mlp)\..*_proj",
        rank_pattern={"k_proj": 6, "layers.1.mlp.down_proj": 2},
        alpha_pattern={"self_attn.o_proj": 20, "layers.0.mlp.up_proj": 3})),
    "llama_layer": ("llama", dict(r=4, lora_alpha=8, target_modules=ALL, layers_to_transform=[1])),
    "qwen3": ("qwen3", dict(r=5, lora_alpha=10, target_modules="all-linear")),
    "gemma2": ("gemma2", dict(r=4, lora_alpha=8, target_modules=ALL)),
    "gemma4": ("gemma4", dict(r=4, lora_alpha=8, target_modules=ALL)),
    "phi3": ("phi3", dict(r=6, lora_alpha=8, target_modules="all-linear")),
    "glm4": ("glm4", dict(r=4, lora_alpha=8, target_modules="all-linear")),
    "cohere2": ("cohere2", dict(r=4, lora_alpha=8, target_modules=ALL)),
    "olmo2": ("olmo2", dict(r=4, lora_alpha=8, target_modules=ALL, exclude_modules=["k_proj"])),
    "granite": ("granite", dict(r=4, lora_alpha=8, target_modules=ALL)),
    "gpt2": ("gpt2", dict(r=4, lora_alpha=8, fan_in_fan_out=True,
                          target_modules=["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"])),
    "gpt_neox": ("gpt_neox", dict(r=4, lora_alpha=8, target_modules=[
        "query_key_value", "attention.dense", "dense_h_to_4h", "dense_4h_to_h"])),
    "qwen3_moe": ("qwen3_moe", dict(r=4, lora_alpha=8, target_modules=SELF_ATTENTION)),
    "qwen3_5": ("qwen3_5", dict(r=4, lora_alpha=8, target_modules=ALL)),
    "llama_rank_256": ("llama", dict(r=256, lora_alpha=256, target_modules=["q_proj", "down_proj", "lm_head"])),
    "llama_head": ("llama", dict(r=4, lora_alpha=8, target_modules=["lm_head", "v_proj"])),
    "qwen3_head": ("qwen3", dict(r=4, lora_alpha=8, target_modules=["lm_head"])),
    "gemma2_head": ("gemma2", dict(r=4, lora_alpha=8, target_modules=["lm_head", "o_proj"])),
    "granite_head": ("granite", dict(r=4, lora_alpha=8, target_modules=["lm_head", "o_proj"])),
    "gpt_neox_head": ("gpt_neox", dict(r=4, lora_alpha=8, target_modules=["lm_head", "embed_in"])),
    "qwen2_moe_shared": ("qwen2_moe", dict(r=4, lora_alpha=8, target_modules=[
        "gate_proj", "up_proj", "down_proj", "shared_expert_gate"])),
    "granitemoeshared": ("granitemoeshared", dict(r=4, lora_alpha=8, target_modules=[
        "shared_mlp.input_linear", "shared_mlp.output_linear", "v_proj"])),
    "qwen3_next": ("qwen3_next", dict(r=4, lora_alpha=8, target_modules=[
        "q_proj", "k_proj", "v_proj", "o_proj", "in_proj_qkvz", "in_proj_ba", "out_proj", "shared_expert_gate"])),
    "qwen3_5_recurrent": ("qwen3_5", dict(r=4, lora_alpha=8, target_modules=[
        "in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj"])),
    "deepseek_v2_latent": ("deepseek_v2", dict(r=4, lora_alpha=8, target_modules=[
        "q_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"])),
    "deepseek_v3_latent": ("deepseek_v3", dict(r=4, lora_alpha=8, target_modules=[
        "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"])),
    "llama_embedding": ("llama", dict(r=4, lora_alpha=8, target_modules=["embed_tokens", "q_proj"])),
    "gemma_embedding": ("gemma", dict(r=4, lora_alpha=8, target_modules=["embed_tokens", "lm_head"])),
    "gpt2_embedding": ("gpt2", dict(r=4, lora_alpha=8, target_modules=["wte"])),
}

CHECKPOINT_CASES = {
    "qwen3_moe_experts": ("qwen3_moe", dict(r=4, lora_alpha=8, target_modules=[
        "gate_proj", "up_proj", "down_proj", "gate"])),
    "mixtral_experts": ("mixtral", dict(r=4, lora_alpha=8, target_modules=["w1", "w2", "w3", "gate", "q_proj"])),
    "deepseek_v3_experts": ("deepseek_v3", dict(r=4, lora_alpha=8, target_modules=[
        "gate_proj", "up_proj", "down_proj"], layers_to_transform=[0, 2])),
    "qwen3_next_everything": ("qwen3_next", dict(
        r=3, lora_alpha=6, target_modules=r".*(proj|proj_qkvz|proj_ba|gate|embed_tokens)|lm_head")),
}


def checkpoint(folder):
    """(config, name -> weight): the family's, as its files would hold it."""
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        values = json.load(f)
    config = transformers.AutoConfig.for_model(**values)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with tempfile.TemporaryDirectory() as tmp:
        model.save_pretrained(tmp)
        weights = load_file(os.path.join(tmp, "model.safetensors"))
    weights = {key: formula(key, tuple(value.shape)) for key, value in weights.items()}
    if config.tie_word_embeddings:
        head = {"gpt_neox": "embed_out"}.get(config.model_type, "lm_head") + ".weight"
        table = [key for key in weights if key.endswith(("embed_tokens.weight", "wte.weight", "embed_in.weight"))]
        weights[head] = weights[table[0]].clone()
        config.tie_word_embeddings = False
    return config, weights


def load(config, weights):
    """The model of these weights, in float32."""
    with tempfile.TemporaryDirectory() as tmp:
        config.save_pretrained(tmp)
        save_file(weights, os.path.join(tmp, "model.safetensors"), metadata={"format": "pt"})
        return transformers.AutoModelForCausalLM.from_pretrained(
            tmp, dtype=torch.float32, attn_implementation="eager").eval()


def tree(weights):
    """Linear layers and embedding by the names of a checkpoint."""
    root = torch.nn.Module()
    for key, weight in weights.items():
        if weight.dim() != 2 or not key.endswith(".weight"):
            continue
        *path, name = key.removesuffix(".weight").split(".")
        parent = root
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, torch.nn.Module())
            parent = getattr(parent, part)
        kind = torch.nn.Embedding if name == "embed_tokens" else torch.nn.Linear
        sizes = weight.shape if kind is torch.nn.Embedding else reversed(weight.shape)
        child = kind(*sizes) if kind is torch.nn.Embedding else kind(*sizes, bias=False)
        child.weight.data = weight.float()
        parent.add_module(name, child)
    return root


def fill(model, seed):
    """Factors whose product is about as large as half of what the layer does itself."""
    rng = np.random.Generator(np.random.PCG64(seed))
    for name, values in model.named_parameters():
        if ".lora_" not in name:
            continue
        scale = (0.5 if ".lora_B." in name else 1.0) / values.shape[1] ** 0.5
        if ".lora_embedding_A." in name:
            scale = 1.0
        if ".lora_embedding_B." in name:
            scale = 0.5 / (values.shape[0] * values.shape[1]) ** 0.5
        drawn = torch.from_numpy(rng.standard_normal(values.shape).astype(np.float32) * scale)
        values.data.copy_(drawn.to(torch.bfloat16))


def make(case, out, families, seed):
    by_checkpoint = case in CHECKPOINT_CASES
    family, options = {**CASES, **CHECKPOINT_CASES}[case]
    model_config, weights = checkpoint(os.path.join(families, family))
    model = load(model_config, weights)
    plain = references(model, seed, PROMPTS)
    config = peft.LoraConfig(task_type=None if by_checkpoint else "CAUSAL_LM", lora_dropout=0.0, **options)
    adapted = peft.get_peft_model(tree(weights) if by_checkpoint else model, config)
    fill(adapted, seed)
    os.makedirs(out, exist_ok=True)
    with tempfile.TemporaryDirectory() as tmp:
        adapted.save_pretrained(tmp, save_embedding_layers=False)
        tensors = load_file(os.path.join(tmp, "adapter_model.safetensors"))
        save_file({key: value.to(torch.bfloat16).contiguous() for key, value in tensors.items()},
                  os.path.join(out, "adapter_model.safetensors"), metadata={"format": "pt"})
        shutil.copy(os.path.join(tmp, "adapter_config.json"), out)
    path = os.path.join(out, "adapter_config.json")
    with open(path, encoding="utf-8") as f:
        written = json.load(f)
    written["base_model_name_or_path"] = family
    if isinstance(written["target_modules"], list):
        written["target_modules"].sort()
    with open(path, "w", encoding="utf-8") as f:
        json.dump(written, f, indent=1, sort_keys=True)
        f.write("\n")
    with open(os.path.join(out, "case.json"), "w", encoding="utf-8") as f:
        json.dump({"family": family}, f)
        f.write("\n")
    merged = adapted.merge_and_unload()
    if by_checkpoint:
        changed = {f"{name}.weight": module.weight.data for name, module in merged.named_modules()
                   if hasattr(module, "weight")}
        merged = load(model_config, {**{key: value.float() for key, value in weights.items()}, **changed})
    golden = references(merged, seed, PROMPTS)
    change = torch.norm(golden["p1.logits"] - plain["p1.logits"]) / torch.norm(plain["p1.logits"])
    assert change > 0.05, f"{case}: the adapter hardly matters: {change}"
    save_file(golden, os.path.join(out, "golden.safetensors"))
    print(f"{case}: {len(tensors)} tensors, logits change by {change:.2f}", flush=True)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--families", default=os.path.join(here, "families"))
    args = parser.parse_args()
    for seed, case in enumerate([*CASES, *CHECKPOINT_CASES], 1):
        if not args.cases or case in args.cases:
            make(case, os.path.join(args.out, case), args.families, seed)


if __name__ == "__main__":
    main()
