"""Clients that go away, thousands of them at any moment of their requests: nothing stays behind, what is billed is what
was generated, and others' answers stay what they were. PENSTOCK_DISCONNECTS says how many."""

import asyncio
import json
import os
import pathlib
import random
import time

from rig import BINARY, expect, run, serving

DISCONNECTS = int(os.environ.get("PENSTOCK_DISCONNECTS", "10000"))
AT_ONCE = 64
LENGTH = 200  # tokens that each would get


def config(folder):
    (folder / "pepper").write_text("p" * 40)
    return {"server": {"state_dir": str(folder / "state"), "public": {"http": "127.0.0.1:0", "grpc": ""}},
            "auth": {"api_keys": {"pepper_file": "pepper"}},
            "engine": {"max_queue": 4096, "threads": 1, "kv_memory": "16MiB"},  # all of it is touched soon
            "observe": {"log": "json", "level": "warn"},
            "tenants": {"*": {}, "t": {"parallel": 1000, "budget": {"tokens": "1000M", "per": "1000h"}}}}


def request(key, number, tokens=LENGTH, stream=True, **more):
    body = json.dumps({"model": "demo", "prompt": f"Request {number} of many", "max_tokens": tokens, "ignore_eos": True,
                       "temperature": 0, "stream": stream, **more}).encode()
    head = ("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {key}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n")
    return head.encode() + body


async def leave(server, key, number):
    """Somewhere between the first byte of the request and the middle of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    kind = random.random()
    whole = request(key, number, stream=number % 4 != 0 or kind >= 0.7, n=1 + number % 2)
    writer.write(whole[:random.randrange(len(whole))] if kind < 0.1 else whole)
    await writer.drain()
    if 0.1 <= kind < 0.7:
        await asyncio.sleep(random.random() * 0.05)
    elif kind >= 0.7:
        seen, most = 0, random.randrange(1, 2500)
        while seen < most and (piece := await reader.read(4096)):
            seen += len(piece)
    writer.transport.abort()


async def storm(server, key, first, count):
    numbers = iter(range(first, first + count))

    async def one():
        for number in numbers:
            await leave(server, key, number)

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))


def resident(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def billed(server):
    done = run(BINARY, "admin", "usage", "--tenant", "t", "--json", "--config", server.config_path)
    expect(done.returncode == 0, done.stderr)
    row = json.loads(done.stdout)["usage"][0]
    return row["prompt_tokens"], row["completion_tokens"], row["budget_used"]


def main():
    random.seed(int(os.environ.get("PENSTOCK_SEED", "1")))
    with serving(config) as server:
        admin = server.keys("create", "--tenant", "watch", "--role", "scraper")["key"]
        key = server.keys("create", "--tenant", "t")["key"]
        for made, path in ((key, "/v1/models"), (admin, "/metrics")):
            server.wait(lambda: server.call("GET", path, credential=made)[0] == 200, "key")

        def ask():
            body = {"model": "demo", "prompt": "The old house", "max_tokens": 40, "temperature": 0, "ignore_eos": True}
            status, text = server.call("POST", "/v1/completions", body, key)
            expect(status == 200, text)
            return json.loads(text)["choices"][0]["text"]

        def at_rest():
            return not any(server.metric(name, admin) for name in (
                "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"))

        alone = ask()
        fds, sizes, began, part = descriptors(server), [], time.monotonic(), DISCONNECTS // 5
        for turn in range(5):
            asyncio.run(storm(server, key, turn * part, part))
            server.wait(at_rest, "all blocks free")
            server.wait(lambda: descriptors(server) <= fds, "all sockets closed")
            expect(ask() == alone, "an answer has changed")
            server.wait(at_rest, "idle")
            sizes.append(resident(server))
        generated = server.metric("vllm:generation_tokens_total", admin)
        prompts, completions, budget = billed(server)
        print(f"{5 * part} disconnects in {time.monotonic() - began:.0f} s; {generated:.0f} tokens generated,"
              f" {completions} billed; resident MiB {', '.join(f'{size:.0f}' for size in sizes)}", flush=True)
        expect(completions == generated > part, "billed is what was generated", completions, generated)
        expect(budget == prompts + completions, "the budget is what was billed", budget, prompts, completions)
        grown = [after - before for before, after in zip(sizes[1:], sizes[2:])]
        expect(min(grown) < 1 and sum(grown) < 16, "resident", sizes)


main()
