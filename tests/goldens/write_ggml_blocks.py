#!/usr/bin/env python3
"""Writes ggml_blocks.gguf: rows of every ggml type that is decoded, and their values as package `gguf` sees them.

Tensor <type>.blocks [2, 256] holds the rows, <type>.values [2, 256] the float32 values. Rows are random bytes whose
scales are finite: every code, scale and minimum occurs, whatever a quantizer would choose.

    pip install -r tests/goldens/requirements.txt && python tests/goldens/write_ggml_blocks.py
"""
import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

ROWS, K = 2, 256
# Where a block's half-float scales lie.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.MXFP4: []}


def random_rows(kind: T, rng: np.random.Generator) -> np.ndarray:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (ROWS * K // block, size), dtype=np.uint8)
    for at in HALVES[kind]:
        halves = rng.normal(0, 0.05, len(blocks)).astype(np.float16)
        halves[0] = 6e-8  # the smallest subnormal number
        blocks[:, at:at + 2] = halves.view(np.uint8).reshape(-1, 2)
    if kind == T.MXFP4:
        blocks[:, 0] = rng.integers(100, 140, len(blocks))
        blocks[:3, 0] = [0, 1, 2]  # subnormal scales
    return blocks.reshape(ROWS, -1)


def main() -> None:
    rng = np.random.default_rng(4)
    writer = gguf.GGUFWriter(pathlib.Path(__file__).parent / "ggml_blocks.gguf", "blocks")
    for kind in HALVES:
        rows = random_rows(kind, rng)
        writer.add_tensor(f"{kind.name}.blocks", rows, raw_dtype=kind)
        writer.add_tensor(f"{kind.name}.values", gguf.dequantize(rows, kind).astype(np.float32).reshape(ROWS, K))
    values = rng.normal(0, 1, (ROWS, K)).astype(np.float32)
    for kind in (T.F32, T.F16, T.BF16):
        rows = gguf.quantize(values, kind)
        writer.add_tensor(f"{kind.name}.blocks", rows, raw_dtype=kind)
        writer.add_tensor(f"{kind.name}.values", gguf.dequantize(rows, kind).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
