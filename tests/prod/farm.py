"""Three servers behind a real HAProxy under deploy/haproxy, and streams without end through it."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from rig import ROOT, expect, free_port, serving

HAPROXY = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
DEPLOYED = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()


def post(port, path, body, timeout=60):
    """The answer, as it opens."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=timeout)


class Farm:
    """HAProxy before `servers`, with what `text` says."""

    def __init__(self, servers, folder, text=DEPLOYED):
        self.servers, self.port = servers, free_port()
        env = {"PENSTOCK_BIND": f"127.0.0.1:{self.port}"}
        for i, server in enumerate(servers, 1):
            env[f"PENSTOCK_{i}"] = f"127.0.0.1:{server.port}"
            ready = json.loads((server.folder / "ready.json").read_text())
            env[f"PENSTOCK_AGENT_{i}"] = str(ready["agent_check"])
        config, log = pathlib.Path(folder) / "haproxy.cfg", open(pathlib.Path(folder) / "haproxy.log", "w")
        config.write_text(text)
        self.process = subprocess.Popen([HAPROXY, "-db", "-f", str(config)], env={**os.environ, **env},
                                        stderr=log, stdout=log)
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                if self.ask("warm", 1)[0]:
                    return
            ended = self.process.poll() is not None
            expect(not ended and time.monotonic() < end, open(log.name).read())
            time.sleep(0.05)

    def ask(self, text, tokens, timeout=60, on_first=lambda: None):
        """(ended well, pieces seen)"""
        body = {"model": "demo", "prompt": text, "max_tokens": tokens, "stream": True, "ignore_eos": True}
        done = seen = 0
        with post(self.port, "/v1/completions", body, timeout) as answer:
            for line in answer:
                done |= line.startswith(b"data: [DONE]")
                if line.startswith(b"data: {"):
                    seen += 1
                    if seen == 1:
                        on_first()
        return bool(done), seen

    def up(self):
        """Which of the servers HAProxy gives requests to."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics/haproxy", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        ups = [line for line in lines if line.startswith("haproxy_server_status{") and 'state="UP"' in line]
        return [any(f'server="s{i}"' in line and line.endswith(" 1") for line in ups)
                for i in range(1, len(self.servers) + 1)]

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


class Load:
    """Streams without end until stopped; each has its beginning, its end and whether it ended well."""

    def __init__(self, farm, clients=6, timeout=60, tokens=40):
        self.farm, self.timeout, self.tokens = farm, timeout, tokens
        self.ended, self.running, self.lock = [], 0, threading.Lock()
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self, client):
        count = 0
        while not self.stopping.is_set():
            count += 1
            answering = []

            def first():
                answering.append(True)
                with self.lock:
                    self.running += 1

            began = time.monotonic()
            try:
                well = self.farm.ask(f"client {client} turn {count}", self.tokens, self.timeout, first)[0]
            except OSError:
                well = False
            except Exception as error:  # noqa: BLE001: http.client has many words for a connection that broke
                expect("http.client" in type(error).__module__, repr(error))
                well = False
            with self.lock:
                self.running -= len(answering)
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


def needs_haproxy():
    if HAPROXY is None:
        print("haproxy is not installed")
        sys.exit(77)


@contextlib.contextmanager
def three(config=config):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(serving(config)) for _ in range(3)]


@contextlib.contextmanager
def farm(config=config):
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        made = Farm(stack.enter_context(three(config)), folder)
        try:
            yield made
        finally:
            made.stop()
