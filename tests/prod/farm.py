"""Three servers behind a real HAProxy under deploy/haproxy, and streams without end through it."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from rig import ROOT, expect, free_port, serving

PATH = os.environ.get("PATH", "") + ":/usr/sbin"
HAPROXY, NGINX = shutil.which("haproxy", path=PATH), shutil.which("nginx", path=PATH)
DEPLOYED = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()


def post(port, path, body, timeout=60):
    """The answer, as it opens."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=timeout)


class Farm:
    """HAProxy before `servers`, with what `text` says."""

    def __init__(self, servers, folder, text=DEPLOYED):
        self.servers, self.port, self.metrics = servers, free_port(), free_port()
        env = {"PENSTOCK_BIND": f"127.0.0.1:{self.port}", "PENSTOCK_METRICS": f"127.0.0.1:{self.metrics}"}
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
                if all(self.up()):
                    return
            ended = self.process.poll() is not None
            expect(not ended and time.monotonic() < end, open(log.name).read())
            time.sleep(0.05)

    def ask(self, text, tokens, timeout=60, on_first=lambda: None):
        """Whether it ended well. What comes is not looked at, so that many may ask at once."""
        body = {"model": "demo", "prompt": text, "max_tokens": tokens, "stream": True, "ignore_eos": True}
        end = b""
        with post(self.port, "/v1/completions", body, timeout) as answer:
            while piece := answer.read1(1 << 20):
                if not end:
                    on_first()
                end = (end + piece)[-32:]
        return end.endswith(b"data: [DONE]\n\n")

    def figures(self, name, label=""):
        """What HAProxy's exporter says of each of the servers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=10) as answer:
            lines = [line for line in answer.read().decode().splitlines()
                     if line.startswith(f"haproxy_server_{name}{{") and label in line]
        return [sum(float(line.split()[-1]) for line in lines if f'server="s{i}"' in line)
                for i in range(1, len(self.servers) + 1)]

    def up(self):
        """Which of the servers HAProxy gives requests to."""
        return [figure == 1 for figure in self.figures("status", 'state="UP"')]

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


class Load:
    """Streams without end until stopped; each has its beginning, its end and whether it ended well. What the next ones
    ask for may be changed meanwhile."""

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
                well = self.farm.ask(f"client {client} turn {count}", self.tokens, self.timeout, first)
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


@contextlib.contextmanager
def nginx(ports):
    """nginx with deploy/nginx before these ports."""
    port = free_port()
    text = (ROOT / "deploy/nginx/penstock.conf").read_text().replace("listen 8080", f"listen 127.0.0.1:{port}")
    for wanted, given in zip((9001, 9002, 9003), ports):
        text = text.replace(f"127.0.0.1:{wanted} ", f"127.0.0.1:{given} ")
    with tempfile.TemporaryDirectory() as folder:
        whole = pathlib.Path(folder) / "nginx.conf"
        temporary = "".join(f"{name}_temp_path {folder}/{name};\n"
                            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        whole.write_text(f"daemon off; pid {folder}/pid; error_log {folder}/errors;\nevents {{}}\n"
                         f"http {{ access_log off;\n{temporary}{text}}}\n")
        process = subprocess.Popen([NGINX, "-c", str(whole), "-p", folder, "-e", f"{folder}/errors"],
                                   stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 20
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                expect(process.poll() is None and time.monotonic() < end, "nginx does not listen")
                time.sleep(0.02)
            yield port
        finally:
            process.terminate()
            process.wait(20)
