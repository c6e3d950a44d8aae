"""deploy/haproxy with a real HAProxy and three servers: one killed, one leaving, one standing still, under streams."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from rig import ROOT, expect, serving

HAPROXY = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
SECONDS = float(os.environ.get("PENSTOCK_PROD_SECONDS", "6"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Farm:
    """Three servers behind one HAProxy."""

    def __init__(self, servers, folder):
        self.servers, self.port = servers, free_port()
        env = {"PENSTOCK_BIND": f"127.0.0.1:{self.port}"}
        for i, server in enumerate(servers, 1):
            env[f"PENSTOCK_{i}"] = f"127.0.0.1:{server.port}"
            ready = json.loads((server.folder / "ready.json").read_text())
            env[f"PENSTOCK_AGENT_{i}"] = str(ready["agent_check"])
        log = open(pathlib.Path(folder) / "haproxy.log", "w")
        self.process = subprocess.Popen(
            [HAPROXY, "-db", "-f", str(ROOT / "deploy/haproxy/haproxy.cfg")],
            env={**os.environ, **env}, stderr=log, stdout=log,
        )
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                if self.ask("warm", 1)[0]:
                    return
            ended = self.process.poll() is not None
            expect(not ended and time.monotonic() < end, open(log.name).read())
            time.sleep(0.05)

    def ask(self, text, tokens, timeout=60):
        """(ended well, tokens seen)"""
        body = {"model": "demo", "prompt": text, "max_tokens": tokens, "stream": True, "ignore_eos": True}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/completions", json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        done = seen = 0
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            for line in answer:
                done |= line.startswith(b"data: [DONE]")
                seen += line.startswith(b"data: {")
        return bool(done), seen

class Load:
    """Streams without end until stopped; each has its beginning, its end and whether it ended well."""

    def __init__(self, farm, clients=6, timeout=60):
        self.farm, self.timeout, self.ended, self.stopping = farm, timeout, [], threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self, client):
        count = 0
        while not self.stopping.is_set():
            count += 1
            began = time.monotonic()
            try:
                well = self.farm.ask(f"client {client} turn {count}", 40, self.timeout)[0]
            except OSError as error:
                well = False
                self.last_error = error
            self.ended.append((began, time.monotonic(), well))

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        return self.ended


def config(_):
    return {
        "server": {"agent_check": "127.0.0.1:0", "public": {"http": "127.0.0.1:0", "grpc": ""}},
        "drain": {"announce": "3s"},
        "engine": {"threads": 1},
        "observe": {"log": "json", "level": "warn"},
    }


@contextlib.contextmanager
def farm():
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        made = Farm([stack.enter_context(serving(config)) for _ in range(3)], folder)
        try:
            yield made
        finally:
            made.process.terminate()
            made.process.wait(20)


def one_killed_breaks_only_what_it_was_answering(f):
    load = Load(f)
    time.sleep(SECONDS / 3)
    killed = time.monotonic()
    f.servers[0].kill()
    time.sleep(SECONDS)
    ended = load.stop()
    failed = [x for x in ended if not x[2]]
    print(f"{len(ended)} streams, {len(failed)} broken")
    expect(len(ended) > 20, ended)
    expect(all(began < killed for began, _, _ in failed) and len(failed) <= 6, killed, failed)


def one_leaving_loses_nothing(f):
    load = Load(f)
    time.sleep(SECONDS / 3)
    f.servers[1].stop()
    time.sleep(SECONDS / 2)
    ended = load.stop()
    print(f"{len(ended)} streams")
    expect(len(ended) > 20 and all(well for _, _, well in ended), [x for x in ended if not x[2]])


def one_standing_still_is_left_out_within_two_seconds(f):
    load = Load(f, timeout=2)
    time.sleep(SECONDS / 3)
    stopped = time.monotonic()
    f.servers[2].process.send_signal(signal.SIGSTOP)
    time.sleep(SECONDS)
    f.servers[2].process.send_signal(signal.SIGCONT)
    ended = load.stop()
    late = [began - stopped for began, _, well in ended if not well]
    print(f"{len(ended)} streams; the last that failed began {max(late, default=0):.1f} s after the stop")
    expect(len(ended) > 20 and max(late, default=0) <= 2.5, late)


def a_conversation_stays_where_its_prefix_is(f):
    chats, turns = 24, 4
    for chat in range(chats):
        text = [f"conversation number {chat}: " + "tell me more about it. " * 12]
        for _ in range(turns):
            body = {"model": "demo", "messages": [{"role": "user", "content": text[0]}]
                    + [{"role": "assistant", "content": "yes"}, {"role": "user", "content": "and?"}] * (len(text) - 1),
                    "max_tokens": 2}
            request = urllib.request.Request(
                f"http://127.0.0.1:{f.port}/v1/chat/completions", json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )
            urllib.request.urlopen(request, timeout=60).read()
            text.append("x")
    figures = [metrics(server) for server in f.servers]
    hits, queries, asked = (
        sum(page.get(name, 0) for page in figures)
        for name in ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total",
                     "penstock_requests_total")
    )
    print(f"hits {hits / queries:.2f} of {queries:.0f} tokens in {asked:.0f} requests")
    expect(hits / queries > 0.4, hits / queries)  # round robin: 0.2


def metrics(server):
    """name -> the sum of its series"""
    page = {}
    for line in server.call("GET", "/metrics")[1].splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            name = name.split("{")[0]
            page[name] = page.get(name, 0) + float(value)
    return page


if HAPROXY is None:
    print("haproxy is not installed")
    sys.exit(77)
for part in (
    one_killed_breaks_only_what_it_was_answering,
    one_leaving_loses_nothing,
    one_standing_still_is_left_out_within_two_seconds,
    a_conversation_stays_where_its_prefix_is,
):
    print(part.__name__, flush=True)
    with farm() as f:
        part(f)
