"""What access, limits and a chain cost a request, by the server's own clock: CPU time of its front threads from one
page of metrics to the next. benchmarks/serving/front_cost.py has the other parts and how they grow."""

import json

from rig import QUIET, expect, serving

REQUESTS = 400
MOST = 150e-6  # seconds of all three
LUA = 'function prompt(text) if text:find("forbidden", 1, true) then return deny(400, "no") end return text end\n'


def config(folder):
    (folder / "pepper").write_text("0123456789abcdef" * 4)
    (folder / "house.lua").write_text(LUA)
    return {
        "server": {"state_dir": str(folder / "state"), "public": {"http": "127.0.0.1:0", "grpc": ""}},
        "auth": {"api_keys": {"pepper_file": "pepper"}},
        "tenants": {"a": {"rpm": 100_000_000, "tpm": "100G", "parallel": 1000,
                          "budget": {"tokens": "100G", "per": "1000h"}}},
        "guards": {"schema": {"use": "schema", "max_tokens": 4096, "max_prompt": 200000},
                   "limit": {"use": "limit", "max_tokens": 2048},
                   "template": {"use": "template", "system": "Be kind."},
                   "trim": {"use": "trim", "max_tokens": 3000},
                   "ban": {"use": "ban", "words": [f"forbidden{i}" for i in range(50)],
                           "patterns": ["[0-9]{3}-[0-9]{4}", "[a-z]+@[a-z]+\\.com"], "where": "prompt"},
                   "house": {"use": "lua", "file": "house.lua"}},
        "chain": ["schema", "limit", "template", "trim", "ban", "house"],
        "observe": {"log": "json", "level": "warn"},
    }


def main():
    with serving(config) as server:
        key = server.keys("create", "--tenant", "a", "--role", "user", "--role", "scraper")["key"]
        server.wait(lambda: server.call("GET", "/v1/models", credential=key)[0] == 200, "the new key is known")
        part = lambda name: server.metric(f'penstock_front_cpu_seconds_total{{part="{name}"}}', key)
        before = {name: part(name) for name in ("access", "limits", "chain")}
        connection = server.connect()
        for i in range(REQUESTS):
            body = {"model": "demo", "max_tokens": 1,
                    "messages": [{"role": "user", "content": f"{i}: " + "The old house stood by the sea. " * 8}]}
            status, text = server.call("POST", "/v1/chat/completions", json.dumps(body), key, connection=connection)
            expect(status == 200, status, text)
        each = {name: (part(name) - before[name]) / REQUESTS for name in before}
        print(", ".join(f"{name} {seconds * 1e6:.1f} us" for name, seconds in each.items()), flush=True)
        expect(all(seconds > 0 for seconds in each.values()), each)
        expect(not QUIET or sum(each.values()) <= MOST, each)


main()
