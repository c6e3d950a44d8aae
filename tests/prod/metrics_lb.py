"""`/metrics/lb` as four pickers poll it, twenty times a second each, beside a full batch: what it says is true and of
this moment, and what it takes is no load: judged by the process's own CPU time. Streams with pollers and without, turn
and turn about, are told and not judged: on a machine with other work they differ by more than any page takes."""

import http.client
import json
import os
import pathlib
import threading
import time

from rig import LONG, LONG_QUEUE, QUIET, expect, serving

BATCH, WAITING, POLLERS, HERTZ = 4, 3, 4, 20
ROUNDS, SECONDS = 5, 1
SEQUENCES = len(LONG["prompt"]) * LONG["n"]
SERIES = ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
          "vllm:cache_config_info", "vllm:lora_requests_info", "penstock_ready", "penstock_draining",
          "penstock_queue_predicted_wait_seconds", "penstock_last_step_timestamp_seconds"]


def config(_):
    return {"server": {"public": {"http": "127.0.0.1:0", "grpc": ""}},
            "engine": {"max_batch": BATCH, "max_queue": LONG_QUEUE, "threads": 1, "speculation": {"method": "off"}},
            "observe": {"log": "json", "level": "warn"}}


def cpu(server):
    """Seconds of all its threads."""
    fields = pathlib.Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Page:
    """Asked for on one connection, as pickers do."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def read(self, path="/metrics/lb"):
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        text = answer.read().decode()
        expect(answer.status == 200, answer.status, text)
        return {line.split("{")[0].split(" ")[0]: float(line.rsplit(" ", 1)[1])
                for line in text.splitlines() if line[0] not in "#{"}


def cheap(server):
    page = Page(server)
    best = {"/health": 1, "/metrics/lb": 1}
    for _ in range(3):  # the least of them: what else the machine does is no cost of the page
        for path in best:
            before = cpu(server)
            for _ in range(2000):
                values = page.read(path)
            best[path] = min(best[path], (cpu(server) - before) / 2000)
    health, lb = best.values()
    share = lb * POLLERS * HERTZ
    print(f"{lb * 1e6:.0f} us of CPU a page, {health * 1e6:.0f} us an answer of /health: {share:.2%} of a core",
          flush=True)
    expect(sorted(values) == sorted(SERIES), values)
    # On a slow machine: little more than another answer takes.
    expect(share <= 0.01 or (not QUIET and lb <= 3 * health), "what pages take", best)


class Streams:
    """Keeps so many requests in the server; the times between pieces of those that run."""

    def __init__(self, server, count):
        self.server, self.stopping, self.gaps, self.tokens = server, threading.Event(), [], 0
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        body = {"model": "demo", "prompt": f"Stream {number}", "max_tokens": 1500, "ignore_eos": True, "stream": True}
        while not self.stopping.is_set():
            connection = self.server.connect()
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            answer, last = connection.getresponse(), None
            expect(answer.status == 200, answer.status)
            for line in answer:
                if not line.startswith(b"data: {"):
                    continue
                now = time.monotonic()
                if last is not None:
                    self.gaps.append(now - last)
                last = now
                if self.stopping.is_set():
                    break
            connection.close()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def polled(server, seconds):
    """Four pollers for so long; what they saw: (seconds that a page took, its values, age of the last step)."""
    seen, end = [], time.monotonic() + seconds

    def poll(number):
        page = Page(server)
        due = time.monotonic() + number / POLLERS / HERTZ
        while due < end:
            time.sleep(max(0, due - time.monotonic()))
            began, clock = time.monotonic(), time.time()
            values = page.read()
            seen.append((time.monotonic() - began, values, clock - values["penstock_last_step_timestamp_seconds"]))
            due += 1 / HERTZ

    threads = [threading.Thread(target=poll, args=(i,)) for i in range(POLLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def percentile(values, share):
    return sorted(values)[int(len(values) * share)]


def told(seen):
    """The 99th percentiles of what a page takes and of the age of its last step."""
    took, _, ages = zip(*seen)
    print(f"{len(seen)} pages: p50 {percentile(took, 0.5) * 1e3:.2f} ms, p99 {percentile(took, 0.99) * 1e3:.2f} ms;"
          f" age of the last step p50 {percentile(ages, 0.5) * 1e3:.1f} ms, p99 {percentile(ages, 0.99) * 1e3:.1f} ms",
          flush=True)
    return percentile(took, 0.99), percentile(ages, 0.99)


def beside_streams(server):
    """Of which on a quick machine not always one runs: they are ended before their clients have read them."""
    streams = Streams(server, BATCH + WAITING)
    try:
        ratios, seen = [], []
        for turn in range(ROUNDS):
            rates = {}
            for with_pollers in (True, False) if turn % 2 else (False, True):
                streams.gaps.clear()
                if with_pollers:
                    seen += polled(server, SECONDS)
                else:
                    time.sleep(SECONDS)
                gaps = list(streams.gaps)
                rates[with_pollers] = sum(gaps) / max(1, len(gaps))
            if rates[False] > 0:
                ratios.append(rates[True] / rates[False])
    finally:
        streams.stop()
    print("time between pieces beside pollers / without", *(f"{percentile(ratios, 0.5):.3f}" for _ in ratios[:1]),
          flush=True)
    return told(seen)[0]


def beside_a_full_batch(server):
    work = server.begin(LONG)
    page = Page(server)

    def full():
        values = page.read()
        return values["vllm:num_requests_running"] == BATCH and values["vllm:num_requests_waiting"] > 0

    server.wait(full, "a full batch")
    seen = polled(server, ROUNDS * SECONDS)
    work.close()
    server.wait(lambda: page.read()["vllm:num_requests_running"] == 0, "the end of it")
    age = told(seen)[1]
    expect(not QUIET or age < 0.1, "older than 100 ms", age)
    pages = [values for _, values, _ in seen]
    running, waiting = ([p[f"vllm:num_requests_{what}"] for p in pages] for what in ("running", "waiting"))
    expect(max(running) == BATCH and percentile(running, 0.1) == BATCH, "running", running)
    expect(0 < min(waiting) and max(waiting) <= SEQUENCES - BATCH, "waiting", waiting)
    # Those of a batch end with one step: for a moment none runs.
    expect(all(p["penstock_ready"] == 1 and 0 < p["vllm:kv_cache_usage_perc"] <= 1
               for p in pages if p["vllm:num_requests_running"] == BATCH), "ready, usage", pages)


with serving(config) as server:
    cheap(server)
    beside_a_full_batch(server)
    for attempt in range(3):  # a page waits where the machine has other work
        took = beside_streams(server)
        if not QUIET or took <= 0.002:
            break
    expect(not QUIET or took <= 0.002, "a page takes", took)
