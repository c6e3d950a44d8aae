"""Starts the real server on free ports and stops it again."""

import json
import os
import pathlib
import re
import signal
import subprocess
import time
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("PENSTOCK_BINARY", str(ROOT / "build/release/bin/penstock"))
DEMO = str(ROOT / "models/demo")
SANITIZED = bool(os.environ.get("PENSTOCK_SANITIZE"))
# Where this names a device, every server of a script runs on it, with little memory: the emulator keeps
# what it knows of every byte. A step is no stall where the machine has other things to do.
DEVICE = os.environ.get("PENSTOCK_E2E_DEVICE")
ON_DEVICE = (
    ["--device", DEVICE, "--set", "engine.kv_memory=2MiB", "--set", "engine.max_batch=4",
     "--set", "engine.max_step_tokens=64", "--max-model-len", "512", "--set", "limits.stall=1h"]
    if DEVICE else []
)


def few(tokens):
    """So many, or less where a token takes a tenth of a second."""
    return min(tokens, 4) if DEVICE else tokens


MANY = 400 if DEVICE else 1900  # tokens: more than a client waits for

HAS_GRPC = "grpc: yes" in subprocess.run([BINARY, "version"], capture_output=True, text=True).stdout


class Server:
    """One `penstock serve`; `log` collects what it wrote."""

    def __init__(self, tmp_path, *arguments, model=DEMO, env=None, wait=True):
        self.ready_file = tmp_path / "ready.json"
        self.log_path = tmp_path / "log"
        self.ready_file.unlink(missing_ok=True)
        command = (
            [BINARY, "serve"]
            + ([model] if model else [])
            + [
                "--port",
                "0",
                "--set",
                f"server.ready_file={self.ready_file}",
                "--set",
                "observe.log=json",
                *ON_DEVICE,
                *arguments,
            ]
        )
        if HAS_GRPC and "--grpc-port" not in arguments:
            command += ["--grpc-port", "0"]
        elif not HAS_GRPC:
            command += ["--set", "server.public.grpc="]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stderr=open(self.log_path, "w"),
            stdout=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
        )
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout=60):
        while not self.ready_file.exists():
            assert self.process.poll() is None, "the server ended: " + self.log
            assert time.monotonic() - self.started < timeout, "not ready: " + self.log
            time.sleep(0.002)
        ports = json.loads(self.ready_file.read_text())
        self.port, self.grpc_port = ports["http"], ports["grpc"]
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def log(self):
        return self.log_path.read_text()

    def log_lines(self):
        """Those that are written to the end, as objects."""
        whole = self.log.rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def logged(self, **fields):
        """The lines with these fields, once there is one: they are written beside the answer."""

        def found():
            return [
                line for line in self.log_lines()
                if all(line.get(key) == value for key, value in fields.items())
            ]
        self.until(found)
        return found()

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read().decode()

    def metrics(self):
        """name{labels} -> value. A page is kept for a quarter of a second: what is past now is on this one."""
        time.sleep(0.26)
        return {
            m[1]: float(m[2])
            for m in re.finditer(r"^([a-zA-Z_:]+(?:\{.*\})?) (\S+)$", self.get("/metrics"), re.M)
        }

    def metric(self, name, **labels):
        """The sum of a metric's series that have these labels."""
        want = [f'{k}="{v}"' for k, v in labels.items()]
        return sum(
            v
            for k, v in self.metrics().items()
            if k.split("{")[0] == name and all(w in k for w in want)
        )

    def until(self, condition, seconds=30):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it never came true"
            time.sleep(0.01)

    def stop(self, sig=signal.SIGTERM, timeout=120):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(timeout)


@pytest.fixture
def serve(tmp_path):
    """A function that starts servers; all are stopped, and must have ended cleanly, after the test."""
    servers = []

    def start(*arguments, **keywords):
        folder = tmp_path / str(len(servers))
        folder.mkdir()
        servers.append(Server(folder, *arguments, **keywords))
        return servers[-1]

    yield start
    for server in servers:
        code = server.process.poll()
        if code is None:
            assert server.stop() == 0, server.log
        assert (
            "ERROR: AddressSanitizer" not in server.log
            and "WARNING: ThreadSanitizer" not in server.log
        ), server.log
        assert "runtime error:" not in server.log, server.log


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One server on the demo model for a whole module."""
    server = Server(tmp_path_factory.mktemp("demo"))
    yield server
    assert server.stop() == 0, server.log
    assert "Sanitizer" not in server.log and "runtime error:" not in server.log, server.log
