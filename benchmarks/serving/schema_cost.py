#!/usr/bin/env python3
"""Tokens per second under a grammar beside those without one, on one server, turn and turn about: under an expression
that allows anything, so that the same work is done and the masks are all that differs, and under a JSON schema.

  schema_cost.py PENSTOCK MODEL_DIR [--rounds N] [--requests N] [--clients N] [--speculation ngram,off] [--output FILE]
"""

import argparse
import http.client
import json
import pathlib
import statistics
import threading
import time

from head import keep
from server import running

TEXT = {"type": "string", "minLength": 60}
GRAMMARS = {
    "anything": {"structured_outputs": {"regex": r"[\s\S]*"}},
    "schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": {
        "type": "object", "additionalProperties": False, "required": ["name", "age", "place", "tags"],
        "properties": {"name": TEXT, "age": {"type": "integer"}, "place": TEXT,
                       "tags": {"type": "array", "items": {"type": "string", "minLength": 20}, "minItems": 4}}}}}},
}


def rate(port, more, temperature, clients, requests):
    """Tokens per second of `requests` answers of at most 100 tokens, `clients` at a time."""
    bodies = [json.dumps({"model": "m", "prompt": "Once upon a time there was", "max_tokens": 100, "seed": seed,
                          "temperature": temperature, "ignore_eos": True, **more}) for seed in range(requests)]
    tokens = []

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while bodies:
            try:
                body = bodies.pop()
            except IndexError:  # another took the last
                return
            connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
            tokens.append(answer["usage"]["completion_tokens"])

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    assert len(tokens) == requests, "a request failed"
    return sum(tokens) / seconds


def compare(port, grammar, temperature, options):
    rates = {True: [], False: []}
    for number in range(-1, options.rounds):
        for masked in (True, False) if number % 2 else (False, True):
            figure = rate(port, grammar if masked else {}, temperature, options.clients, options.requests)
            if number >= 0:  # the first warms up
                rates[masked].append(figure)
    ratios = sorted(a / b for a, b in zip(rates[True], rates[False]))
    return {"with": round(statistics.median(rates[True])), "without": round(statistics.median(rates[False])),
            "ratio": round(statistics.median(ratios), 3), "least": round(ratios[0], 3), "most": round(ratios[-1], 3)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=480)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--speculation", default="ngram,off")
    parser.add_argument("--output")
    options = parser.parse_args()
    results = []
    for method in options.speculation.split(","):
        config = {"models": {"m": {"path": str(pathlib.Path(options.model).resolve())}},
                  "engine": {"speculation": {"method": method}}}
        with running(options.binary, config) as port:
            for temperature in (0, 0.7):
                for name, grammar in GRAMMARS.items():
                    figures = compare(port, grammar, temperature, options)
                    results.append({"speculation": method, "temperature": temperature, "grammar": name, **figures})
                    print(" ".join(f"{key}={value}" for key, value in results[-1].items()), flush=True)
    keep(options.output, "schema_cost", options.binary, {"rows": results})


if __name__ == "__main__":
    main()
