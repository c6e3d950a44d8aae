#!/usr/bin/env python3
"""What healthy streams notice of bad clients: the time between two arrivals of a stream, and from its first to its last
by the number of tokens, beside the bad clients of tests/e2e/test_streams.py and without them. These vanish, never
finish their request, or read a hundred bytes a second, in a process of their own; who has gone is followed by
another, so that there are always as many. Every round sends the same healthy streams both ways, the first of a
round swapping; figures are medians over rounds.

    PENSTOCK_BINARY=build/release/bin/penstock build/venv/bin/python -B benchmarks/serving/bad_clients.py
        [--healthy 600] [--bad 400] [--tokens 60] [--rounds 7] [--output FILE.json] [SERVER_ARGUMENT ...]
"""
import argparse
import asyncio
import contextlib
import multiprocessing
import os
import pathlib
import random
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))

import test_streams as streams  # noqa: E402
from conftest import BINARY, Server  # noqa: E402
from head import keep  # noqa: E402

KINDS = ("vanishes", "never_finishes", "reads_slowly")
STAYS = 3.0  # seconds, of one that does not go by itself


async def one_place(server, number):
    """A bad client after the other."""
    await asyncio.sleep(random.random())
    while True:
        kind, over = KINDS[number % len(KINDS)], asyncio.Event()
        asyncio.get_running_loop().call_later(STAYS * random.random(), over.set)
        more = () if kind == "vanishes" else (over,)
        with contextlib.suppress(OSError):
            await getattr(streams, kind)(server, streams.drawn_picks(1)[0], *more)
        await asyncio.sleep(random.random())


async def all_places(server, count):
    await asyncio.gather(*(one_place(server, number) for number in range(count)))


def bad_clients(server, count, seed):
    random.seed(seed)
    asyncio.run(all_places(server, count))


class Stream(asyncio.Protocol):
    """A healthy one: as little as can be between the socket and the clock."""

    def __init__(self, wire):
        self.wire, self.times, self.tail = wire, [], b""
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.wire)

    def data_received(self, data):
        now, seen = time.monotonic(), self.tail + data
        if b"data: {" in seen:
            self.times.append(now)
        self.tail = seen[-6:]
        if b"data: [DONE]" in seen[-64:]:
            self.transport.close()

    def connection_lost(self, error):
        self.over.set_result(error)


async def healthy(server, picks):
    loop = asyncio.get_running_loop()
    begun = [await loop.create_connection(lambda: Stream(streams.request(*pick)), "127.0.0.1", server.port)
             for pick in picks]
    for _, stream in begun:
        assert await stream.over is None and stream.times, "a healthy stream was cut off"
    return [stream.times for _, stream in begun]


def percentiles(values):
    cuts = statistics.quantiles(values, n=100)
    return cuts[49] * 1e3, cuts[98] * 1e3


def measured(server, picks, tokens, bad, seed):
    fds = streams.descriptors(server)
    others = multiprocessing.Process(target=bad_clients, args=(server, bad, seed))
    if bad:
        others.start()
        # In the long run: each is there for its time and away for half a second.
        server.until(lambda: streams.descriptors(server) > fds + bad // 2)
    begin = time.monotonic()
    seen = asyncio.run(healthy(server, picks))
    row = {"seconds": time.monotonic() - begin}
    if bad:
        others.terminate()
        others.join()
    server.until(lambda: streams.at_rest(server, fds), seconds=60)
    row["arrivals_per_stream"] = statistics.mean(map(len, seen))
    row["gap_p50_ms"], row["gap_p99_ms"] = percentiles(
        [after - before for times in seen for before, after in zip(times, times[1:])])
    row["token_p50_ms"], row["token_p99_ms"] = percentiles([(t[-1] - t[0]) / (tokens - 1) for t in seen])
    return row


def medians(rows):
    return {key: round(statistics.median(row[key] for row in rows), 3) for key in rows[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--healthy", type=int, default=600)
    parser.add_argument("--bad", type=int, default=400)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=pathlib.Path)
    options, arguments = parser.parse_known_args()
    seed = int(os.environ.get("PENSTOCK_SEED", "1"))
    random.seed(seed)
    rounds = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as folder:
        server = Server(pathlib.Path(folder), *streams.OPTIONS, *arguments)
        picks = [(random.choice(streams.PROMPTS), options.tokens) for _ in range(options.healthy)]
        measured(server, picks, options.tokens, 0, seed)  # warms up
        for turn in range(options.rounds):
            for name in ("without", "with") if turn % 2 == 0 else ("with", "without"):
                row = measured(server, picks, options.tokens, options.bad if name == "with" else 0, seed + turn)
                rounds[name].append(row)
                print(f"{name:8}", {key: round(value, 1) for key, value in row.items()}, flush=True)
        cancelled = server.metric("penstock_cancelled_total")
        server.stop()
    ratios = {key: [beside[key] / before[key] for before, beside in zip(rounds["without"], rounds["with"])]
              for key in ("gap_p50_ms", "gap_p99_ms", "token_p50_ms", "token_p99_ms")}
    report = {
        "what": "time between two arrivals of a healthy stream, and per token of it, beside bad clients and without",
        "load": os.getloadavg(),
        "healthy": options.healthy, "bad": options.bad, "tokens": options.tokens, "cancelled": cancelled,
        "server_arguments": [*streams.OPTIONS, *arguments],
        "without": medians(rounds["without"]), "with": medians(rounds["with"]),
        "ratio": {key: {"median": round(statistics.median(values), 3), "least": round(min(values), 3),
                        "most": round(max(values), 3)} for key, values in ratios.items()},
        "rounds": rounds,
    }
    for name in ("without", "with", "ratio"):
        print(f"{name:8}", report[name])
    keep(options.output, "bad_clients", BINARY, report)


main()
