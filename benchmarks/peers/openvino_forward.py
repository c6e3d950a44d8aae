#!/usr/bin/env python3
"""Tokens per second of OpenVINO GenAI's continuous batching alone, in the rows of forward_bench.

    openvino_forward.py MODEL_DIR [--threads 2] [--prefills 512,2048] [--batches 1,4,16,32] [--context 128]
        [--seconds 3] [--set NAME=VALUE ...]

MODEL_DIR is one of openvino_model.py. Settings are those with which it is fastest on CPUs without fast
bfloat16: a hint of float32, activations rounded in groups of 128; --set names others (KV_CACHE_PRECISION,
...). Tokens are drawn greedily and answers never end by themselves. Needs openvino-genai from PyPI.
"""
import numpy
import openvino
import openvino_genai
import stepped


class OpenVino(stepped.Engine):
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
        self.handles = []   # a request lives as long as its handle
        self.next_id = 0

    def add(self, length, tokens):
        if not self.is_busy():
            self.handles.clear()
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = tokens
        config.ignore_eos = True
        config.do_sample = False
        ids = openvino.Tensor(self.random.integers(0, 32000, (1, length), dtype=numpy.int64))
        self.next_id += 1
        self.handles.append(self.pipeline.add_request(self.next_id, ids, config))

    def step(self):
        self.pipeline.step()

    def is_busy(self):
        return self.pipeline.has_non_finished_requests()


def main():
    parser = stepped.parser_of(__doc__)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    stepped.measure(OpenVino(args), args)


if __name__ == "__main__":
    main()
