#!/usr/bin/env python3
"""Makes a compressed-tensors checkpoint as vLLM serves on the CPU, of one of 16-bit weights.

    vllm_model.py MODEL_DIR OUT_DIR [--weights int8-channel|int4-128]

int8-channel: weights of linear layers get a symmetric scale per output channel, activations one per token at
run time ("W8A8"); int4-128: a symmetric scale per 128 columns ("W4A16"). Embedding and head stay as they are.
Needs numpy, torch and safetensors from PyPI; the directory is one that Penstock serves as well.
"""
import argparse
import json
import pathlib
import shutil

import numpy
import safetensors.torch
import torch
from safetensors import safe_open

GROUP = 128


def scheme(form, weights, inputs):
    group = {"targets": ["Linear"], "weights": {"type": "int", "symmetric": True, "dynamic": False, **weights},
             "input_activations": inputs}
    return {"quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed",
            "ignore": ["lm_head"], "config_groups": {"group_0": group}}


def codes_of(weight, most):
    """(codes of the last axis, one scale for each)"""
    scale = numpy.maximum(numpy.abs(weight).max(axis=-1, keepdims=True) / most, 1e-10).astype(numpy.float32)
    return numpy.clip(numpy.rint(weight / scale), -most, most).astype(numpy.int8), scale


def bytes_of_channels(weight):
    codes, scale = codes_of(weight, 127)
    return {"weight": torch.from_numpy(codes), "weight_scale": torch.from_numpy(scale)}


def nibbles_of_groups(weight):
    rows, columns = weight.shape
    codes, scale = codes_of(weight.reshape(rows, -1, GROUP), 7)
    nibbles = (codes.reshape(rows, -1, 8).astype(numpy.int64) + 8).astype(numpy.uint32)
    words = (nibbles << numpy.arange(0, 32, 4, dtype=numpy.uint32)).sum(axis=-1, dtype=numpy.uint32)
    return {"weight_packed": torch.from_numpy(words.view(numpy.int32)),
            "weight_scale": torch.from_numpy(scale[..., 0]).to(torch.bfloat16),
            "weight_shape": torch.tensor([rows, columns])}


FORMS = {
    "int8-channel": (bytes_of_channels, scheme(
        "int-quantized", {"num_bits": 8, "strategy": "channel"},
        {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True})),
    "int4-128": (nibbles_of_groups, scheme(
        "pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": GROUP}, None)),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--weights", choices=FORMS, default="int8-channel")
    args = parser.parse_args()
    rounded, quantization = FORMS[args.weights]
    args.out.mkdir(parents=True, exist_ok=True)
    for path in args.model.iterdir():
        if path.suffix == ".json" and "index" not in path.name and path.name != "config.json":
            shutil.copy(path, args.out)
    tensors = {}
    for path in sorted(args.model.glob("*.safetensors")):
        with safe_open(path, "pt") as source:
            for name in source.keys():
                tensor = source.get_tensor(name)
                if "_proj.weight" in name:
                    stem = name.removesuffix("weight")
                    tensors |= {stem + kind: part for kind, part in rounded(tensor.float().numpy()).items()}
                else:
                    tensors[name] = tensor
    safetensors.torch.save_file(tensors, args.out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((args.model / "config.json").read_text())
    config["quantization_config"] = quantization
    (args.out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    print(args.out)


if __name__ == "__main__":
    main()
