"""A client's machine that is gone says no goodbye: its cable is pulled in the middle of streams, and with idle
connections open. What it asked for is given up, its descriptors come back, and others are served all the while.

The machine is a network namespace of its own at the other end of a pair of virtual wires, in namespaces that need no
root; skipped where the kernel grants none. The kernel is told to try five times in place of fifteen (tcp_retries2)
before it gives up bytes that nobody acknowledges, which is a quarter of an hour otherwise.
"""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

from rig import expect, run, serving

try:
    import grpc
except ImportError:  # the system's Python: its connections are left out
    grpc = None

SERVER, CLIENT = "10.199.0.1", "10.199.0.2"
IDLE, STREAMS, N, LENGTH = 5, 32, 8, 1900


def config(_):
    # Idle connections end by themselves much later, and streams would go on for long.
    return {"limits": {"idle_timeout": "30m"}, "engine": {"threads": 1, "speculation": {"method": "off"}},
            "server": {"allow_anonymous": True, "public": {"http": "0.0.0.0:0", "grpc": "0.0.0.0:0"}}}


def say(text):
    print(text, flush=True)


def client(port, grpc_port):
    """The machine that will be gone: opens what it is told to, reads until every stream has begun, and waits."""
    body = json.dumps({"model": "demo", "prompt": "Once", "max_tokens": LENGTH, "n": N, "ignore_eos": True,
                       "stream": True})
    head = ("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n")
    kept = []
    for number in range(IDLE + STREAMS):
        sock = socket.create_connection((SERVER, port))
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" if number < IDLE else (head + body).encode())
        kept.append(sock)
    for sock in kept:
        expect(b" 200 " in sock.recv(400), "an answer")
    channels = [] if grpc is None else [
        grpc.insecure_channel(f"{SERVER}:{grpc_port}", [("grpc.use_local_subchannel_pool", 1)])
        for _ in range(IDLE)]
    for channel in channels:
        grpc.channel_ready_future(channel).result(timeout=30)
    say("open")
    time.sleep(600)


def descriptors(server):
    folder, sockets = f"/proc/{server.process.pid}/fd", 0
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            sockets += os.readlink(f"{folder}/{name}").startswith("socket:")
    return sockets


def unacknowledged(port):
    """How many established connections of a port have bytes under way."""
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    rows += [line.split() for line in pathlib.Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" and not row[4].startswith("00000000") for row in rows)


def inside():
    """In namespaces of its own: this is the server's machine."""
    def ip(*command, of=None):
        enter = ["nsenter", "-t", str(of), "-n"] if of else []
        done = run(*enter, "ip", *command)
        expect(done.returncode == 0, "ip", *command, done.stderr)

    ip("link", "set", "lo", "up")
    pathlib.Path("/proc/sys/net/ipv4/tcp_retries2").write_text("5")
    with serving(config) as server:
        server.call("GET", "/health")
        server.metric("vllm:num_requests_running")
        time.sleep(1)  # the connection of that call ends
        before = descriptors(server)
        script = [sys.executable, "-B", __file__, "client", str(server.port), str(server.grpc_port)]
        # The namespace is there before the wire that ends in it, and the client begins when both are.
        peer = subprocess.Popen(["unshare", "-n", "sh", "-c", 'read go; exec "$@"', "sh", *script],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            own = os.readlink("/proc/self/ns/net")
            server.wait(lambda: os.readlink(f"/proc/{peer.pid}/ns/net") != own, "a namespace")
            ip("link", "add", "name", "near", "type", "veth", "peer", "name", "far", "netns", peer.pid)
            ip("addr", "add", f"{SERVER}/24", "dev", "near")
            ip("link", "set", "near", "up")
            ip("addr", "add", f"{CLIENT}/24", "dev", "far", of=peer.pid)
            ip("link", "set", "far", "up", of=peer.pid)
            peer.stdin.write("go\n")
            peer.stdin.flush()
            expect(peer.stdout.readline() == "open\n", "the client's machine")
            opened = IDLE * (1 if grpc is None else 2) + STREAMS
            server.wait(lambda: descriptors(server) >= before + opened, "connections")
            server.wait(lambda: unacknowledged(server.grpc_port) == 0, "idle connections")
            server.wait(lambda: server.metric("vllm:num_requests_running") == STREAMS * N, "streams")
            ip("link", "set", "far", "down", of=peer.pid)  # the cable
            start = time.monotonic()
            status, answer = server.call("POST", "/v1/completions",
                                         {"model": "demo", "prompt": "Once", "max_tokens": 8, "temperature": 0})
            expect(status == 200, "another client", status, answer)
            server.wait(lambda: server.metric("vllm:num_requests_running") == 0, "no request left", 120)
            given_up = time.monotonic() - start
            written = server.metric("vllm:generation_tokens_total")
            expect(written < STREAMS * N * LENGTH, "streams went on to their end", written)
            server.wait(lambda: descriptors(server) <= before, "descriptors back", 120)
            say(f"{STREAMS} streams given up after {given_up:.1f} s, {opened} connections after "
                f"{time.monotonic() - start:.1f} s, no goodbye heard")
            expect(server.metric("vllm:kv_cache_usage_perc") == 0, "cache")
        finally:
            peer.kill()


def granted():
    wire = "ip link add name near type veth peer name far && echo 5 > /proc/sys/net/ipv4/tcp_retries2"
    return run("unshare", "-rn", "sh", "-c", wire).returncode == 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["client"]:
        client(int(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1:2] == ["inside"]:
        inside()
    elif not granted():
        print("skipped: no network namespaces with wires and settings of their own are granted here")
        sys.exit(77)
    else:
        sys.exit(subprocess.run(["unshare", "-rn", sys.executable, "-B", __file__, "inside"]).returncode)
