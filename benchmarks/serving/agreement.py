#!/usr/bin/env python3
"""Holds `penstock bench serve` to other clients and to the truth, and weighs what it costs.

    build/venv/bin/python benchmarks/serving/agreement.py [--build build/release] [--rounds 7] [--output FILE.json]

A server without a model (`paced_server`) sends each token when it is due. In every round it is measured by our load
generator, by the `openai` SDK, and by the loop of vLLM's serving benchmark (aiohttp, a clock read at each chunk with
text), one stream at a time; the server says when it really wrote. Then 64 streams of about 20,000 tokens a second in
all show what the generator's own thread spends per token.
"""
import argparse
import asyncio
import json
import pathlib
import statistics
import subprocess
import tempfile
import time
import urllib.request

import aiohttp
import openai

from head import keep

ROOT = pathlib.Path(__file__).resolve().parents[2]
REQUESTS, TOKENS = 20, 32


def bench(build, port, **scenario):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [build / "bin/penstock", "bench", "serve", "--target", f"127.0.0.1:{port}",
                   "--allow-busy-generator", "--output", out.name]
        for key, value in scenario.items():
            command += ["--set", f"{key}={value}"]
        subprocess.run([str(c) for c in command], check=True, capture_output=True)
        return json.load(open(out.name))["runs"][0]["result"]


def by_penstock(build, port):
    result = bench(build, port, requests=REQUESTS, concurrency=1, max_tokens=TOKENS)
    return {"ttft": result["ttft_seconds"]["p50"], "itl": result["itl_seconds"]["p50"]}


def medians(ttft, gaps):
    return {"ttft": statistics.median(ttft), "itl": statistics.median(gaps)}


def by_openai(_, port):
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
    ttft, gaps = [], []
    for _ in range(REQUESTS):
        began, last = time.perf_counter(), None
        for chunk in client.completions.create(model="paced", prompt="a", max_tokens=TOKENS, stream=True):
            if chunk.choices and chunk.choices[0].text:
                now = time.perf_counter()
                ttft.append(now - began) if last is None else gaps.append(now - last)
                last = now
    return medians(ttft, gaps)


async def aiohttp_loop(port):
    ttft, gaps = [], []
    body = {"model": "paced", "prompt": "a", "max_tokens": TOKENS, "stream": True}
    async with aiohttp.ClientSession() as session:
        for _ in range(REQUESTS):
            began, last = time.perf_counter(), None
            async with session.post(f"http://127.0.0.1:{port}/v1/completions", json=body) as answer:
                async for line in answer.content:
                    text = line.strip().removeprefix(b"data: ")
                    if not text or text == b"[DONE]":
                        continue
                    choices = json.loads(text)["choices"]
                    if choices and choices[0].get("text"):
                        now = time.perf_counter()
                        ttft.append(now - began) if last is None else gaps.append(now - last)
                        last = now
    return medians(ttft, gaps)


def by_aiohttp(_, port):
    return asyncio.run(aiohttp_loop(port))


CLIENTS = {"penstock": by_penstock, "openai": by_openai, "vllm's loop": by_aiohttp}


class Paced:
    def __init__(self, build, first, gap):
        self.process = subprocess.Popen([build / "benchmarks/serving/paced_server", str(first), str(gap)],
                                        stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def truth(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/truth") as answer:
            return json.load(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=pathlib.Path)
    options = parser.parse_args()
    seen = {name: {"ttft": [], "itl": [], "ttft_over_truth": [], "itl_over_truth": []} for name in CLIENTS}
    with Paced(options.build, 0.1, 0.02) as server:
        for turn in range(options.rounds):
            order = list(CLIENTS)
            for name in order[turn % 3:] + order[:turn % 3]:
                server.truth()
                figures = CLIENTS[name](options.build, server.port)
                truth = server.truth()
                for key, value in figures.items():
                    seen[name][key].append(value)
                    seen[name][f"{key}_over_truth"].append(value / truth[key])
    table = {name: {key: statistics.median(values) for key, values in of.items()} for name, of in seen.items()}
    print(f"{'':12} {'ttft ms':>9} {'itl ms':>9} {'ttft/truth':>11} {'itl/truth':>10}")
    for name, row in table.items():
        print(f"{name:12} {row['ttft'] * 1e3:9.3f} {row['itl'] * 1e3:9.3f} {row['ttft_over_truth']:11.4f}"
              f" {row['itl_over_truth']:10.4f}")
    costs = []
    with Paced(options.build, 0.001, 64 / 20500) as server:
        for _ in range(5):
            result = bench(options.build, server.port, requests=256, concurrency=64, max_tokens=400)
            costs.append({"tokens_per_second": result["output_tokens_per_second"],
                          "us_per_token": result["generator"]["cpu_us_per_piece"]})
    print("generator, us per token at tokens/s:",
          ", ".join(f"{c['us_per_token']:.1f} at {c['tokens_per_second']:.0f}" for c in costs))
    keep(options.output, "agreement", options.build / "bin/penstock", {"clients": table, "generator": costs})


main()
