"""deploy/haproxy with a real HAProxy and three servers: one killed, one leaving, one standing still, under streams."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import pytest
from e2e_conftest import DEMO, ROOT

HAPROXY = shutil.which("haproxy") or ("/usr/sbin/haproxy" if os.path.exists("/usr/sbin/haproxy") else None)
pytestmark = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
SECONDS = float(os.environ.get("PENSTOCK_PROD_SECONDS", "6"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Farm:
    def __init__(self, serve, tmp_path, announce):
        self.servers = [
            serve(
                "--set", "server.agent_check=127.0.0.1:0", "--set", f"drain.announce={announce}",
                "--set", "engine.threads=1", "--set", "observe.level=warn", "--set", "server.public.grpc=",
                model=DEMO,
            )
            for _ in range(3)
        ]
        self.port = free_port()
        env = {"PENSTOCK_BIND": f"127.0.0.1:{self.port}"}
        for i, server in enumerate(self.servers, 1):
            agent = json.loads(server.ready_file.read_text())["agent_check"]
            env[f"PENSTOCK_{i}"] = f"127.0.0.1:{server.port}"
            env[f"PENSTOCK_AGENT_{i}"] = str(agent)
        self.log = open(tmp_path / "haproxy.log", "w")
        self.process = subprocess.Popen(
            [HAPROXY, "-db", "-f", str(ROOT / "deploy/haproxy/haproxy.cfg")],
            env={**os.environ, **env}, stderr=self.log, stdout=self.log,
        )
        end = time.monotonic() + 20
        while True:
            try:
                if self.ask("warm", 1)[0]:
                    return
            except OSError:
                pass
            assert time.monotonic() < end and self.process.poll() is None, open(self.log.name).read()
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

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


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


@pytest.fixture
def farm(serve, tmp_path):
    farms = []

    def make(announce="3s"):
        farms.append(Farm(serve, tmp_path, announce))
        return farms[-1]

    yield make
    for f in farms:
        f.stop()


def test_one_killed_breaks_only_what_it_was_answering(farm):
    f = farm()
    load = Load(f)
    time.sleep(SECONDS / 3)
    killed = time.monotonic()
    f.servers[0].process.kill()
    f.servers[0].process.wait()
    time.sleep(SECONDS)
    ended = load.stop()
    failed = [x for x in ended if not x[2]]
    print(f"{len(ended)} streams, {len(failed)} broken")
    assert len(ended) > 20
    assert all(began < killed for began, _, _ in failed), (killed, failed)
    assert len(failed) <= 6
    f.servers[0].process.returncode = 0  # as it should be, for the fixture


def test_one_leaving_loses_nothing(farm):
    f = farm()
    load = Load(f)
    time.sleep(SECONDS / 3)
    assert f.servers[1].stop() == 0
    time.sleep(SECONDS / 2)
    ended = load.stop()
    print(f"{len(ended)} streams")
    assert len(ended) > 20 and all(well for _, _, well in ended), [x for x in ended if not x[2]]


def test_one_standing_still_is_left_out_within_two_seconds(farm):
    f = farm()
    load = Load(f, timeout=2)
    time.sleep(SECONDS / 3)
    stopped = time.monotonic()
    f.servers[2].process.send_signal(signal.SIGSTOP)
    time.sleep(SECONDS)
    f.servers[2].process.send_signal(signal.SIGCONT)
    ended = load.stop()
    late = [began - stopped for began, _, well in ended if not well]
    print(f"{len(ended)} streams; the last that failed began {max(late, default=0):.1f} s after the stop")
    assert len(ended) > 20 and max(late, default=0) <= 2.5


def test_a_conversation_stays_where_its_prefix_is(farm):
    f = farm()
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
    hits = sum(s.metric("vllm:prefix_cache_hits_total") for s in f.servers)
    queries = sum(s.metric("vllm:prefix_cache_queries_total") for s in f.servers)
    share = [s.metric("penstock_requests_total", code="200") for s in f.servers]
    print(f"hits {hits / queries:.2f}, requests {share}")
    assert hits / queries > 0.4  # round robin: 0.2
