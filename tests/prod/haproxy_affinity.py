"""Conversations through deploy/haproxy: they stay where their prefix is cached, and no server gets much more than its part.
The same conversations round robin, in the same run, are what that is compared with."""

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor

import farm
from rig import expect

CHATS, TURNS, CLIENTS = 200, 5, 64
# Of five turns the first finds nothing but what all chats begin with: 0.8 and a little is the most that can be had.
SYSTEM = "You tell stories to children, shortly and kindly, and never of war. " * 6
NAMES = ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total", "vllm:request_success_total")


def figures(servers):
    """For each server: hits and queries in tokens, requests."""
    rows = []
    for server in servers:
        rows.append([server.metric(name) for name in NAMES])
    return rows


def converse(port, name, chat):
    messages = [{"role": "system", "content": SYSTEM},
                {"role": "user", "content": f"{name} {chat}: a story of a boat and of a dog, please. " * 38}]
    for _ in range(TURNS):
        body = {"model": "demo", "messages": messages, "max_tokens": 1, "temperature": 0}
        with farm.post(port, "/v1/chat/completions", body) as answer:
            reply = json.load(answer)["choices"][0]["message"]
        messages += [{"role": "assistant", "content": reply["content"]}, {"role": "user", "content": "Go on."}]


def measure(servers, name, text, chats):
    """(hits per queried token, the most that a server got over the mean)"""
    with tempfile.TemporaryDirectory() as folder:
        before = figures(servers)
        one = farm.Farm(servers, folder, text)
        try:
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(lambda chat: converse(one.port, name, chat), range(chats)))
        finally:
            one.stop()
    rows = [[b - a for a, b in zip(*pair)] for pair in zip(before, figures(servers))]
    hits, queries, requests = (sum(column) for column in zip(*rows))
    share, load = hits / queries, max(row[2] for row in rows) / requests * len(rows)
    print(f"{name}: hits {share:.3f} of {queries:.0f} tokens, {requests:.0f} requests, load max/mean {load:.2f}",
          flush=True)
    expect(requests >= chats * TURNS, requests)
    return share, load


def main():
    farm.needs_haproxy()
    robin = farm.DEPLOYED.replace("balance hash var(txn.key)", "balance roundrobin").replace(
        "hash-balance-factor 150", "")
    with farm.three() as servers:
        plain, _ = measure(servers, "round robin", robin, 60)
        share, load = measure(servers, "as deployed", farm.DEPLOYED, CHATS)
    expect(share >= 0.80 and share >= 1.5 * plain, "hits", share, plain)
    expect(load <= 1.5, "load", load)


main()
