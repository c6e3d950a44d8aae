#!/usr/bin/env python3
"""Tokens per second of OpenVINO GenAI's continuous batching alone, in the rows of forward_bench.

    openvino_forward.py MODEL_DIR [--threads 2] [--prefills 512,2048] [--batches 1,4,16,32] [--context 128]
        [--seconds 3] [--set NAME=VALUE ...]

MODEL_DIR is one of openvino_model.py. Settings are those with which it is fastest on CPUs without fast
bfloat16: a hint of float32, activations rounded in groups of 128; --set names others (KV_CACHE_PRECISION,
...). Tokens are drawn greedily and answers never end by themselves. Needs openvino-genai from PyPI.
"""
import argparse
import json
import statistics
import time

import numpy
import openvino
import openvino_genai


class Bench:
    def __init__(self, args):
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = 1                     # GiB
        scheduler.enable_prefix_caching = False
        scheduler.max_num_batched_tokens = 2048
        settings = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "128",
                    "INFERENCE_NUM_THREADS": args.threads}
        settings |= dict(entry.split("=", 1) for entry in args.set)
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(args.model, scheduler, "CPU", settings)
        self.random = numpy.random.default_rng(7)
        self.next_id = 0

    def add(self, length, tokens):
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = tokens
        config.ignore_eos = True
        config.do_sample = False
        ids = self.random.integers(0, 32000, (1, length), dtype=numpy.int64)
        self.next_id += 1
        return self.pipeline.add_request(self.next_id, openvino.Tensor(ids), config)

    def drain(self):
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()

    def prefill(self, length, seconds):
        times, start = [], time.monotonic()
        while len(times) < 2 or time.monotonic() - start < 2 * seconds:
            handle = self.add(length, 1)
            begin = time.monotonic()
            self.drain()
            times.append(time.monotonic() - begin)
            del handle
        return length / statistics.median(times), len(times)

    def decode(self, batch, context, seconds):
        steps = 100
        handles = [self.add(context, steps + 8) for _ in range(batch)]
        for _ in range(4 + batch * context // 2048):   # prompts, and what the first steps set up
            self.pipeline.step()
        times, start = [], time.monotonic()
        while len(times) < 5 or (time.monotonic() - start < seconds and len(times) < steps - batch):
            begin = time.monotonic()
            self.pipeline.step()
            times.append(time.monotonic() - begin)
        self.drain()
        del handles
        return batch / statistics.median(times), len(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefills", default="512,2048")
    parser.add_argument("--batches", default="1,4,16,32")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    bench = Bench(args)
    bench.prefill(64, 0)

    def row(name, result):
        print(json.dumps({"name": name, "tok_per_s": round(result[0], 1), "runs": result[1]}), flush=True)

    for length in filter(None, args.prefills.split(",")):
        row(f"prefill {length}", bench.prefill(int(length), args.seconds))
    for batch in filter(None, args.batches.split(",")):
        row(f"decode {batch}", bench.decode(int(batch), args.context, args.seconds))


if __name__ == "__main__":
    main()
