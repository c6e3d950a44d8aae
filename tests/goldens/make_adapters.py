#!/usr/bin/env python3
"""Reference logits of small models with low-rank adapters merged into their weights, by PEFT.

    make_adapters.py OUT_DIR [--families DIR] [CASE ...]

For each case OUT_DIR/<case>/ gets case.json ({"family": a folder of DIR}), PEFT's own files
(adapter_config.json, adapter_model.safetensors) and golden.safetensors as make_families.py writes it.
The model is the family's config.json with weights by formula; merged and computed in float32.

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
}


def load_family(folder):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        values = json.load(f)
    config = transformers.AutoConfig.for_model(**values)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with tempfile.TemporaryDirectory() as tmp:
        model.save_pretrained(tmp)
        path = os.path.join(tmp, "model.safetensors")
        weights = {key: formula(key, tuple(value.shape)) for key, value in load_file(path).items()}
        save_file(weights, path, metadata={"format": "pt"})
        return transformers.AutoModelForCausalLM.from_pretrained(
            tmp, dtype=torch.float32, attn_implementation="eager").eval()


def fill(model, seed):
    """Factors whose product is about as large as half of what the layer does itself."""
    rng = np.random.Generator(np.random.PCG64(seed))
    for name, values in model.named_parameters():
        if ".lora_" not in name:
            continue
        scale = (0.5 if ".lora_B." in name else 1.0) / values.shape[1] ** 0.5
        drawn = torch.from_numpy(rng.standard_normal(values.shape).astype(np.float32) * scale)
        values.data.copy_(drawn.to(torch.bfloat16))


def make(case, out, families, seed):
    family, options = CASES[case]
    model = load_family(os.path.join(families, family))
    plain = references(model, seed, PROMPTS)
    config = peft.LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **options)
    adapted = peft.get_peft_model(model, config)
    fill(adapted, seed)
    os.makedirs(out, exist_ok=True)
    with tempfile.TemporaryDirectory() as tmp:
        adapted.save_pretrained(tmp)
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
    golden = references(adapted.merge_and_unload(), seed, PROMPTS)
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
    for seed, case in enumerate(CASES, 1):
        if not args.cases or case in args.cases:
            make(case, os.path.join(args.out, case), args.families, seed)


if __name__ == "__main__":
    main()
