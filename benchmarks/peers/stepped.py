"""Measures an engine that is stepped by hand, in the rows of forward_bench: {"name", "tok_per_s", "runs"}."""
import argparse
import json
import statistics
import time


class Engine:
    """What is measured. `add` takes a prompt of so many token ids, of which `tokens` follow however they read."""

    def add(self, length, tokens):
        raise NotImplementedError

    def step(self):
        raise NotImplementedError

    def is_busy(self):
        raise NotImplementedError

    def drain(self):
        while self.is_busy():
            self.step()


def prefill(engine, length, seconds):
    """(tokens per second, runs): a prompt to its first token."""
    times, start = [], time.monotonic()
    while len(times) < 2 or time.monotonic() - start < 2 * seconds:
        engine.add(length, 1)
        begin = time.monotonic()
        engine.drain()
        times.append(time.monotonic() - begin)
    return length / statistics.median(times), len(times)


def decode(engine, batch, context, seconds):
    """(tokens per second, steps) of `batch` sequences behind `context` positions each."""
    steps = 100
    for _ in range(batch):
        engine.add(context, steps + 8)
    for _ in range(4 + batch * context // 2048):   # prompts, and what the first steps set up
        engine.step()
    times, start = [], time.monotonic()
    while len(times) < 5 or (time.monotonic() - start < seconds and len(times) < steps - batch):
        begin = time.monotonic()
        engine.step()
        times.append(time.monotonic() - begin)
    engine.drain()
    return batch / statistics.median(times), len(times)


def parser_of(doc):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefills", default="512,2048")
    parser.add_argument("--batches", default="1,4,16,32")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=3)
    return parser


def measure(engine, args):
    prefill(engine, 64, 0)   # compiles what is compiled at first use

    def row(name, result):
        print(json.dumps({"name": name, "tok_per_s": round(result[0], 1), "runs": result[1]}), flush=True)

    for length in filter(None, args.prefills.split(",")):
        row(f"prefill {length}", prefill(engine, int(length), args.seconds))
    for batch in filter(None, args.batches.split(",")):
        row(f"decode {batch}", decode(engine, int(batch), args.context, args.seconds))
