"""kill -9 at any moment: what is billed is what clients were handed, but for what was on its way to them."""

import json
import pathlib
import random
import tempfile
import threading
import time

from rig import BINARY, Server, expect, run

CLIENTS = 6


def config(folder):
    (folder / "pepper").write_text("p" * 40)
    return {
        "server": {"state_dir": str(folder / "state"), "admin": {"unix": str(folder / "admin.sock")},
                   "public": {"http": "127.0.0.1:0", "grpc": ""}},
        "auth": {"api_keys": {"pepper_file": "pepper"}},
        "tenants": {"t": {"budget": {"tokens": "10M", "per": "1000h"}},
                    "small": {"budget": {"tokens": 100, "per": "1000h"}}},
    }


def usage(server, tenant):
    done = run(BINARY, "admin", "usage", "--tenant", tenant, "--json", "--config", server.config_path)
    expect(done.returncode == 0, done.stderr)
    rows = json.loads(done.stdout)["usage"]
    return rows[0] if rows else {"requests": 0, "prompt_tokens": 0, "completion_tokens": 0}


def stream(server, key, seen, on_token=lambda n: None, tokens=400, **more):
    """Counts what comes in [requests that began, prompt tokens, tokens, ended well]."""
    body = {"model": "demo", "prompt": "Once upon a time", "max_tokens": tokens, "ignore_eos": True, "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True}, **more}
    connection = server.connect()
    mine = [0, 0]
    try:
        connection.request("POST", "/v1/completions", json.dumps(body),
                           {"Authorization": "Bearer " + key, "Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            return answer.status
        for line in answer:
            if not line.startswith(b"data: {") or not line.endswith(b"}\n"):
                continue
            counts = json.loads(line[6:]).get("usage")
            if counts:
                mine = [counts["prompt_tokens"], counts["completion_tokens"]]
                on_token(counts["completion_tokens"])
        return 200
    except OSError:
        return 0
    except Exception as error:  # noqa: BLE001: http.client has many words for a connection that broke
        expect("http.client" in type(error).__module__, repr(error))
        return 0
    finally:
        seen.append(mine)
        connection.close()


def kills(folder):
    """Under load, a few times; the whole of it is compared after each."""
    random.seed(7)
    seen, total_open = [], 0
    server = Server(folder, config(folder))
    key = server.keys("create", "--tenant", "t")["key"]
    server.wait(lambda: server.call("GET", "/v1/models", credential=key)[0] == 200, "key")
    for turn in range(4):
        stop = threading.Event()

        def client():
            while not stop.is_set():
                stream(server, key, seen)

        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        before = len(seen)
        for thread in threads:
            thread.start()
        server.wait(lambda: len(seen) > before + 3, "answers")
        time.sleep(random.random())
        server.kill()
        stop.set()
        for thread in threads:
            thread.join()
        total_open += CLIENTS
        billed = usage(server, "t")  # from the file that the killed process counted in
        handed = [sum(s[0] for s in seen), sum(s[1] for s in seen)]
        more = billed["completion_tokens"] - handed[1]
        print(f"kill {turn}: clients were handed {handed[1]} tokens, billed {billed['completion_tokens']}"
              f" (+{more}, of {total_open} streams cut off)", flush=True)
        # Never less than clients got; more by what was in buffers of streams that were cut off.
        expect(0 <= more <= 400 * total_open, handed, billed)
        expect(0 <= billed["prompt_tokens"] - handed[0] <= total_open * 20, handed, billed)
        server = Server(folder, config(folder))
        after = usage(server, "t")
        expect(all(after[name] == billed[name] for name in ("requests", "prompt_tokens", "completion_tokens")), after)
        expect(after["budget_used"] == after["prompt_tokens"] + after["completion_tokens"], after)
    return server


def budgets(server, folder):
    """A budget that is used up stays used up, whatever happened to the process."""
    key = server.keys("create", "--tenant", "small")["key"]
    server.wait(lambda: server.call("GET", "/v1/models", credential=key)[0] == 200, "key")
    ask = lambda s: stream(s, key, [], tokens=60)
    expect(ask(server) == 200, "there is a budget")
    expect(ask(server) == 429, "it is used up")
    server.kill()
    server = Server(folder, config(folder))
    expect(ask(server) == 429, "still, after kill -9")
    server.stop()
    server = Server(folder, config(folder))
    expect(ask(server) == 429, "still, after a restart")
    return server


def cancels(server):
    """A client that leaves pays for what was generated until then, not for what it asked."""
    key = server.keys("create", "--tenant", "c")["key"]
    server.wait(lambda: server.call("GET", "/v1/models", credential=key)[0] == 200, "key")

    class Enough(OSError):
        pass

    def leave(n):
        if n >= 20:
            raise Enough

    seen = []
    for _ in range(5):
        stream(server, key, seen, leave, tokens=1500, n=16)
    handed = sum(s[1] for s in seen)
    idle = lambda: 'vllm:num_requests_running{engine="0",model_name="demo"} 0' in server.call("GET", "/metrics")[1]
    server.wait(idle, "idle")
    server.wait(lambda: usage(server, "c")["requests"] == 5, "five requests")
    billed = usage(server, "c")["completion_tokens"]
    print(f"cancelled: {handed} tokens read, {billed} billed of {5 * 16 * 1500} asked for", flush=True)
    expect(handed <= billed < 5 * 16 * 1500, handed, billed)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server = kills(folder)
        try:
            server = budgets(server, folder)
            cancels(server)
            text = server.call("GET", "/metrics")[1]
            expect("penstock_usage_write_errors_total 0" in text, "write errors")
            server.stop()
        finally:
            if server.process.poll() is None:
                server.process.kill()


main()
