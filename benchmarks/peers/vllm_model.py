#!/usr/bin/env python3
"""Makes a compressed-tensors checkpoint of 8-bit weights, as vLLM serves on the CPU, of 16-bit ones.

    vllm_model.py MODEL_DIR OUT_DIR

Weights of linear layers get a symmetric scale per output channel, activations one per token at run time
("W8A8"); embedding and head stay as they are. Needs numpy, torch and safetensors from PyPI; the directory is one
that Penstock serves as well.
"""
import argparse
import json
import pathlib
import shutil

import numpy
import safetensors.torch
import torch
from safetensors import safe_open

SCHEME = {
    "quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {"group_0": {
        "targets": ["Linear"],
        "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False},
        "input_activations": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token",
                              "dynamic": True}}}}


def rounded(weight):
    scale = numpy.maximum(numpy.abs(weight).max(axis=1, keepdims=True) / 127.0, 1e-10).astype(numpy.float32)
    return numpy.clip(numpy.rint(weight / scale), -127, 127).astype(numpy.int8), scale


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
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
                    codes, scale = rounded(tensor.float().numpy())
                    tensors[name] = torch.from_numpy(codes)
                    tensors[name.removesuffix("weight") + "weight_scale"] = torch.from_numpy(scale)
                else:
                    tensors[name] = tensor
    safetensors.torch.save_file(tensors, args.out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((args.model / "config.json").read_text())
    config["quantization_config"] = SCHEME
    (args.out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    print(args.out)


if __name__ == "__main__":
    main()
