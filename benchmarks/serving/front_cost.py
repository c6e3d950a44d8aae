#!/usr/bin/env python3
"""What a request costs a running server in front of its engine, by the server's own clock: CPU time of its front
threads (penstock_front_cpu_seconds_total) from one page of metrics to the next, around chats of two sizes and streams
of two lengths, with limits and a chain and without. The network is one layer of made-up weights, so that what is
measured does not depend on it; tokenizer and chat template are the model's.

  front_cost.py PENSTOCK MODEL_DIR TEXT_FILE [--output FILE] [--clients 1,16]
"""

import argparse
import contextlib
import http.client
import json
import pathlib
import shutil
import tempfile
import threading
import time

from head import keep
from server import running

SMALL, LARGE = 256, 256 + 2 * 1024
KEY = "a-key-that-clients-share"
CHECKED = {
    "tenants": {"*": {"rpm": 100_000_000, "tpm": "100G", "parallel": 1000,
                      "budget": {"tokens": "100G", "per": "1000h"}}},
    "guards": {
        "schema": {"use": "schema", "max_tokens": 4096, "max_prompt": 200000},
        "limit": {"use": "limit", "max_tokens": 2048},
        "template": {"use": "template", "system": "Be kind."},
        "ban": {"use": "ban", "words": [f"forbidden{i}" for i in range(50)],
                "patterns": ["[0-9]{3}-[0-9]{4}", "[a-z]+@[a-z]+\\.com"], "where": "prompt"},
    },
    "chain": ["schema", "limit", "template", "ban"],
}


@contextlib.contextmanager
def serving(binary, model, more):
    with tempfile.TemporaryDirectory() as name:
        tiny = pathlib.Path(name) / "model"
        shutil.copytree(model, tiny, ignore=shutil.ignore_patterns("*.safetensors", "*.gguf"))
        shape = json.loads((tiny / "config.json").read_text())
        shape.update({"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
                      "num_key_value_heads": 1, "head_dim": 32})
        (tiny / "config.json").write_text(json.dumps(shape))
        config = {"models": {"demo": {"path": str(tiny), "weights": "formula"}}, "engine": {"threads": 1}, **more}
        with running(binary, config, "--api-key", KEY) as port:
            yield port


def front(port):
    """Microseconds by part; a page is kept for a moment, hence the pause."""
    time.sleep(0.5)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    parts = {}
    for line in connection.getresponse().read().decode().splitlines():
        if line.startswith("penstock_front_cpu_seconds_total{"):
            parts[line.split('"')[1]] = float(line.split()[-1]) * 1e6
    return parts


class Load:
    def __init__(self, port, text):
        self.port, self.text, self.number = port, text, 0

    def body(self, size, tokens, stream):
        self.number += 1
        at = self.number * 7919 % (len(self.text) - size)
        return json.dumps({"messages": [{"role": "user", "content": self.text[at:at + size]}], "model": "demo",
                           "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": stream})

    def client(self, bodies):
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        for body in bodies:
            connection.request("POST", "/v1/chat/completions", body,
                               {"Content-Type": "application/json", "Authorization": "Bearer " + KEY})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status

    def cost(self, size, tokens, stream, clients, requests):
        """Microseconds of a request, by part: the round that took least, as neighbours on the machine only add."""
        rounds = []
        for _ in range(7):
            each = [[self.body(size, tokens, stream) for _ in range(requests // clients)] for _ in range(clients)]
            before = front(self.port)
            threads = [threading.Thread(target=self.client, args=(bodies,)) for bodies in each]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            after = front(self.port)
            rounds.append({part: (after[part] - before[part]) / (requests // clients * clients) for part in after})
        return min(rounds, key=lambda parts: sum(parts.values()))


def measure(port, text, clients):
    load = Load(port, text)
    load.cost(SMALL, 1, False, clients, 64)  # warms up
    small = load.cost(SMALL, 1, False, clients, 320)
    large = load.cost(LARGE, 1, False, clients, 64)
    few = load.cost(SMALL, 8, True, clients, 64)
    many = load.cost(SMALL, 136, True, clients, 32)
    further = (LARGE - SMALL) / 1024
    return {
        "request": {p: round(v, 2) for p, v in small.items()},
        "further_kb": {p: round((large[p] - small[p]) / further, 2) for p in small},
        "streamed_token": {p: round((many[p] - few[p]) / 128, 2) for p in small},
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--output")
    parser.add_argument("--clients", default="1,16")
    options = parser.parse_args()
    text = "".join(c if c.isascii() else "-" for c in pathlib.Path(options.text).read_text())
    results = []
    for name, more in (("plain", {}), ("limits and chain", CHECKED)):
        with serving(options.binary, options.model, more) as port:
            for clients in map(int, options.clients.split(",")):
                result = measure(port, text, clients)
                results.append({"server": name, "clients": clients, "microseconds": result})
                print(f"{name}, {clients} at a time")
                for what, parts in result.items():
                    share = ", ".join(f"{p} {v:.1f}" for p, v in parts.items() if abs(v) >= 0.05)
                    print(f"  {what:15} {sum(parts.values()):8.1f} us  ({share})", flush=True)
    keep(options.output, "front_cost", options.binary, {"rows": results})


if __name__ == "__main__":
    main()
