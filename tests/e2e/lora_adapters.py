"""Adapters of the demo model as PEFT writes them, drawn from a seed, and the model with one merged in."""

import json
import pathlib
import shutil
import struct

import numpy as np
from conftest import DEMO

MODULES = {
    "self_attn.q_proj": (256, 256),
    "self_attn.k_proj": (128, 256),
    "self_attn.v_proj": (128, 256),
    "self_attn.o_proj": (256, 256),
    "mlp.gate_proj": (704, 256),
    "mlp.up_proj": (704, 256),
    "mlp.down_proj": (256, 704),
}
LAYERS = 4
HEAD = (4096, 256)


def read_safetensors(path):
    """name -> float32 array, of BF16 and F32"""
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    out = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + at for at in entry["data_offsets"])
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(data[begin:end], "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(data[begin:end], "<f4")
        out[name] = values.reshape(entry["shape"])
    return out


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, values in tensors.items():
        size = values.size * 4
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            f.write(values.astype("<f4").tobytes())


def make_adapter(folder, seed, rank=4, alpha=8, modules=tuple(MODULES), head=False, scale=1.0, **more):
    """Writes PEFT's two files; returns module -> what it adds to the weight. `head`: also to the head's. `scale`: of
    each factor."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    rng = np.random.Generator(np.random.PCG64(seed))
    tensors, deltas = {}, {}
    sizes = {f"model.layers.{layer}.{module}": MODULES[module] for layer in range(LAYERS) for module in modules}
    if head:
        sizes["lm_head"] = HEAD
    for name, (n, k) in sizes.items():
        a = rng.standard_normal((rank, k), dtype=np.float32) / np.float32(k) ** 0.5 * np.float32(scale)
        b = rng.standard_normal((n, rank), dtype=np.float32) / np.float32(rank) ** 0.5 * 0.3 * np.float32(scale)
        tensors[f"base_model.model.{name}.lora_A.weight"] = a
        tensors[f"base_model.model.{name}.lora_B.weight"] = b
        deltas[name] = alpha / rank * (b.astype(np.float64) @ a.astype(np.float64))
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted({m.split(".")[1] for m in modules} | ({"lm_head"} if head else set())),
        "bias": "none",
        **more,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return deltas


def merge(folder, deltas):
    """The demo model with `deltas` added to its weights."""
    folder = pathlib.Path(folder)
    folder.mkdir()
    for file in pathlib.Path(DEMO).glob("*.json"):
        shutil.copy(file, folder)
    tensors = read_safetensors(pathlib.Path(DEMO) / "model.safetensors")
    if "lm_head" in deltas:  # which is the embedding as well: the adapter changes the head alone
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    for name, delta in deltas.items():
        tensors[name + ".weight"] = tensors[name + ".weight"] + delta.astype(np.float32)
    write_safetensors(folder / "model.safetensors", tensors)
    return str(folder)
