"""What a proxy adds to a stream: deploy/nginx and deploy/haproxy with the real programs. Pieces that say when they were
sent, directly and through the proxy, turn and turn about; then a stream of the server through nginx."""

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

import farm
from rig import ROOT, expect, serving

PIECES, GAP = 150, 0.004
MOST = 0.001  # seconds that a proxy may add


class Clock(threading.Thread):
    """Answers every request but a probe's with pieces of a stream that hold the time of their sending."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(65536)
                if not piece:
                    return
                head += piece
            if not head.startswith(b"POST"):
                return connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            for _ in range(PIECES):
                time.sleep(GAP)
                connection.sendall(b"data: %d\n\n" % time.monotonic_ns())


def delays(port):
    """Seconds of each piece on its way."""
    seen = []
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
                       b"Connection: close\r\n\r\n{}")
        for line in client.makefile("rb"):
            if line.startswith(b"data: "):
                seen.append((time.monotonic_ns() - int(line[6:])) / 1e9)
    expect(len(seen) == PIECES, len(seen))
    return seen


@contextlib.contextmanager
def haproxy(ports):
    """HAProxy with deploy/haproxy before these ports, whose health is not asked for."""
    port = farm.free_port()
    text = farm.DEPLOYED.replace("agent-check agent-inter 500ms", "")
    for i in (1, 2, 3):
        text = text.replace(f'agent-port "${{PENSTOCK_AGENT_{i}}}"', "")
    env = {"PENSTOCK_BIND": f"127.0.0.1:{port}", "PENSTOCK_METRICS": f"127.0.0.1:{farm.free_port()}",
           **{f"PENSTOCK_{i}": f"127.0.0.1:{p}" for i, p in enumerate(ports, 1)}}
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "haproxy.cfg"
        config.write_text(text)
        process = subprocess.Popen([farm.HAPROXY, "-db", "-f", str(config)], env={**os.environ, **env},
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 20
            while True:
                with contextlib.suppress(OSError):
                    if len(delays(port)) == PIECES:
                        break
                expect(process.poll() is None and time.monotonic() < end, "haproxy")
                time.sleep(0.02)
            yield port
        finally:
            process.terminate()
            process.wait(20)


def added(name, proxy):
    """The least of some pairs: what the machine does beside comes on top, what a proxy holds back is in all of them."""
    clocks = [Clock() for _ in range(3)]
    with proxy([clock.port for clock in clocks]) as port:
        for _ in range(12):
            direct, through = delays(clocks[0].port), delays(port)
            at = lambda values, share: sorted(values)[int(len(values) * share)]
            more = {share: at(through, share) - at(direct, share) for share in (0.5, 0.99)}
            print(f"{name}: {more[0.5] * 1e3:+.2f} ms at the median, {more[0.99] * 1e3:+.2f} ms at the 99th percentile"
                  f" of {at(direct, 0.99) * 1e3:.2f} ms", flush=True)
            if max(more.values()) <= MOST:
                return
    expect(False, name, "holds pieces back", more)


def served():
    """The server's own stream through nginx: the same pieces, as they come."""
    with serving(lambda _: {"server": {"public": {"http": "127.0.0.1:0", "grpc": ""}},
                            "engine": {"speculation": {"method": "off"}}}) as server:
        body = {"model": "demo", "prompt": "Once", "max_tokens": 300, "temperature": 0, "ignore_eos": True,
                "stream": True}

        def ask(port):
            with farm.post(port, "/v1/completions", body) as answer:
                rows = [(time.monotonic(), line) for line in answer if line.startswith(b"data: ")]
            return rows, "".join(json.loads(line[6:])["choices"][0]["text"] for _, line in rows[:-1])

        plain = ask(server.port)[1]
        with farm.nginx([server.port] * 3) as port:
            rows, text = ask(port)
            expect(text == plain and rows[-1][1].startswith(b"data: [DONE]"), "another text")
            spread = (rows[-1][0] - rows[0][0]) / max(1e-9, len(rows))
            print(f"{len(rows)} pieces, {spread * 1e3:.2f} ms from one to the next", flush=True)
            expect(len({row[0] for row in rows}) > 100 and rows[-1][0] - rows[0][0] > 0.01, "all at once", spread)


def main():
    if farm.HAPROXY is None or farm.NGINX is None:
        print("nginx or haproxy is not installed")
        sys.exit(77)
    added("nginx", farm.nginx)
    added("haproxy", haproxy)
    served()


main()
