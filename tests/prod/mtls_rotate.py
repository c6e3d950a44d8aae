"""TLS: versions, clients' certificates, and certificates that are replaced under load.

PENSTOCK_ROTATIONS says how often (200)."""

import http.client
import json
import os
import pathlib
import shutil
import socket
import ssl
import tempfile
import threading
import time
import warnings

from rig import BINARY, ROOT, Authority, bound, expect, free_port, run, serving

ROTATIONS = int(os.environ.get("PENSTOCK_ROTATIONS", "200"))
SERVER = "DNS:localhost,IP:127.0.0.1"
COMPLETION = {"model": "demo", "prompt": "a", "max_tokens": 24, "stream": True, "ignore_eos": True}


def install(pair, folder):
    """As certbot and ConfigMaps do it: each file by a rename. The seconds that these lie apart."""
    renamed = []
    for source, name in zip(pair, ("server.crt", "server.key")):
        shutil.copy(source, folder / (name + ".new"))
        renamed.append(time.monotonic())
        os.replace(folder / (name + ".new"), folder / name)
    return time.monotonic() - renamed[0]


def handshake(port, context):
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as secure:
            secure.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = secure.recv(4096)
            expect(answer.startswith(b"HTTP/1.1 200"), answer)
            return secure.version(), secure.getpeercert()["serialNumber"]


def refused(port, context):
    try:
        handshake(port, context)
    except (ssl.SSLError, ConnectionError):
        return True
    return False


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        ours, theirs = Authority(folder / "ours", "ours"), Authority(folder / "theirs", "theirs")
        pairs = [ours.issue(f"server{i}", SERVER) for i in range(7)]
        clients = {
            "batch": ours.issue("batch", "URI:spiffe://corp/ns/batch/sa/runner"),
            "scraper": ours.issue("scraper", "DNS:prometheus.corp"),
            "stranger": ours.issue("stranger", "URI:spiffe://corp/ns/other/sa/x"),
            "expired": ours.issue("expired", "URI:spiffe://corp/ns/batch/sa/runner", days=-1),
            "server only": ours.issue("server-only", "URI:spiffe://corp/ns/batch/sa/x",
                                      usage="serverAuth"),
            "operator": ours.issue("operator", "URI:spiffe://corp/ops/kim"),
            "theirs": theirs.issue("batch", "URI:spiffe://corp/ns/batch/sa/runner"),
        }
        bad_starts(folder, ours, pairs)
        without_client_certificates(ours, pairs[0])
        admin_port = free_port()

        def config(home):
            install(pairs[0], home)
            shutil.copy(ours.cert, home / "clients.pem")
            (home / "pepper").write_text("0123456789abcdef" * 4)
            return {
                "server": {"state_dir": str(home / "state"),
                           "public": {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0"},
                           "admin": {"http": f"127.0.0.1:{admin_port}"}},
                "tls": {"cert_file": "server.crt", "key_file": "server.key",
                        "client_ca_file": "clients.pem"},
                "auth": {"api_keys": {"pepper_file": "pepper"}, "mtls": {
                    "spiffe://corp/ops/*": {"tenant": "ops", "roles": ["admin"]},
                    "spiffe://corp/ns/batch/*": {"tenant": "batch", "roles": ["user"]},
                    "*.corp": {"tenant": "monitoring", "roles": ["scraper"]}}},
            }

        with serving(config) as server:
            versions(server, ours)
            identities(server, ours, clients)
            grpc_identities(server, ours, clients)
            operators(server, ours, clients, admin_port)
            rotate(server, ours, clients, pairs)
            broken_reload(server, ours, pairs)


def bad_starts(folder, ours, pairs):
    (folder / "text.pem").write_text("no certificate")
    expired = ours.issue("old", SERVER, days=-1)
    cases = {
        "cannot be read": (folder / "missing.pem", pairs[0][1]),
        "holds no certificate": (folder / "text.pem", pairs[0][1]),
        "is not the key of the certificate": (pairs[0][0], pairs[1][1]),
        "holds no private key": (pairs[0][0], folder / "text.pem"),
        "has expired": expired,
    }
    for what, (cert, key) in cases.items():
        done = run(BINARY, "serve", ROOT / "models/demo", "--port", "0", "--grpc-port", "0", "--set",
                   f"tls.cert_file={cert}", "--set", f"tls.key_file={key}", timeout=60)
        expect(done.returncode == 1 and what in done.stderr, what, done.returncode, done.stderr)
        lines = [line for line in done.stderr.splitlines() if line.startswith("penstock: ")]
        expect(len(lines) == 1 and "tls." in lines[0], "one clear line", done.stderr)


def without_client_certificates(ours, pair):
    """TLS alone, on both ports: there is no authority that clients' certificates could be of."""
    with serving(lambda _: {"tls": {"cert_file": str(pair[0]), "key_file": str(pair[1])}}) as server:
        handshake(server.port, ours.context())
        try:
            import grpc
        except ImportError:
            return
        credentials = grpc.ssl_channel_credentials(ours.cert.read_bytes())
        with grpc.secure_channel(f"localhost:{server.grpc_port}", credentials) as channel:
            answer = channel.unary_unary("/penstock.v1.Inference/ListModels")(b"", timeout=60)
            expect(b"demo" in answer, answer)


def versions(server, ours):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        got, _ = handshake(server.port, ours.context(version=version))
        print("spoken:", got)
    warnings.simplefilter("ignore", DeprecationWarning)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    expect(refused(server.port, old), "TLS 1.1")
    with socket.create_connection(("127.0.0.1", server.port), 10) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            answer = plain.recv(4096)
        except ConnectionResetError:
            answer = b""
        expect(b"200" not in answer, "HTTP in clear on the port of TLS")
    for junk in (b"", b"\x16\x03\x01", b"\x16\x03\x01\x40\x00" + b"\0" * 16384, b"\0" * 100):
        with socket.create_connection(("127.0.0.1", server.port), 10) as plain:
            plain.sendall(junk)
    expect(handshake(server.port, ours.context())[0], "after junk")


def identities(server, ours, clients):
    def ask(path, who, credential=None):
        context = ours.context(clients.get(who))
        return server.call("GET", path, credential=credential, connection=server.connect(context),
                           headers={"X-Forwarded-For": "203.0.113.7"})
    expect(ask("/v1/models", None)[0] == 401, "no certificate")
    expect(ask("/v1/models", "batch")[0] == 200, "batch")
    expect(ask("/v1/models", "batch", "sk-wrong")[0] == 401, "a wrong key beside a certificate")
    for origin, want in (("https://evil.test", 401), ("null", 401),
                         (f"https://localhost:{server.port}", 200)):
        connection = server.connect(ours.context(clients["batch"]))
        got, _ = server.call("GET", "/v1/models", headers={"Origin": origin}, connection=connection)
        expect(got == want, "a page of", origin, got)
    expect(ask("/metrics", "batch")[0] == 403, "batch reads metrics")
    expect(ask("/metrics", "scraper")[0] == 200, "the scraper")
    expect(ask("/v1/models", "scraper")[0] == 403, "the scraper infers")
    expect(ask("/v1/models", "stranger")[0] == 401, "a name that no pattern has")
    for who in ("expired", "server only", "theirs"):
        expect(refused(server.port, ours.context(clients[who])), who)
    status, text = server.call("POST", "/v1/responses", {"model": "demo", "input": "a",
                                                         "max_output_tokens": 1},
                               connection=server.connect(ours.context(clients["batch"])))
    expect(status == 200, status, text)
    expect(ask("/v1/responses/" + json.loads(text)["id"], "batch")[0] == 200, "its own response")


def grpc_identities(server, ours, clients):
    try:
        import grpc
    except ImportError:
        return print("no grpcio: gRPC is left out")
    def code(who):
        pair = clients.get(who)
        credentials = grpc.ssl_channel_credentials(
            ours.cert.read_bytes(), *(p.read_bytes() for p in reversed(pair or ())))
        with grpc.secure_channel(f"localhost:{server.grpc_port}", credentials) as channel:
            call = channel.unary_unary("/penstock.v1.Inference/ListModels",
                                       request_serializer=lambda b: b,
                                       response_deserializer=lambda b: b)
            try:
                call(b"", timeout=10)
            except grpc.RpcError as error:
                return error.code().name
            return "OK"
    for who, want in ((None, "UNAUTHENTICATED"), ("batch", "OK"), ("scraper", "PERMISSION_DENIED"),
                      ("stranger", "UNAUTHENTICATED"), ("expired", "UNAVAILABLE"),
                      ("theirs", "UNAVAILABLE")):
        expect(code(who) == want, "gRPC", who, code(who))
    server.grpc_code = code


def operators(server, ours, clients, port):
    """The admin listener over TCP: no connection without a certificate, no route without the role."""
    def ask(who, credential=None):
        connection = http.client.HTTPSConnection(
            "localhost", port, context=ours.context(clients.get(who)), timeout=60)
        return server.call("GET", "/admin/v1/keys", credential=credential, connection=connection)
    for who in (None, "expired", "theirs"):
        expect(refused(port, ours.context(clients.get(who))), "admin", who)
    expect(ask("operator")[0] == 200, "admin, operator")
    expect(ask("batch")[0] == 403, "admin, batch")
    expect(ask("stranger")[0] == 401, "admin, stranger")
    key = server.keys("create", "--tenant", "a", "--role", "user")["key"]
    server.wait(lambda: ask("stranger", key)[0] == 403, "a key without the role", bound(2))


def rotate(server, ours, clients, pairs):
    """Streams and new connections go on while the files change."""
    stop = threading.Event()
    broken, done, serials = [], [0, 0, 0], set()

    def stream():  # one connection for as long as it may be, one stream after the other
        connection = server.connect(ours.context(clients["batch"]))
        while not stop.is_set():
            try:
                status, text = server.call("POST", "/v1/completions", COMPLETION,
                                           connection=connection)
                expect(status == 200 and text.endswith("data: [DONE]\n\n"), status, text)
                done[0] += 1
            except Exception as error:
                broken.append(("stream", repr(error)))

    def connect():
        while not stop.is_set():
            try:
                serials.add(handshake(server.port, ours.context(clients["batch"]))[1])
                done[1] += 1
            except Exception as error:
                broken.append(("connect", repr(error)))

    def call_grpc():
        while not stop.is_set():
            got = server.grpc_code("batch")
            if got != "OK":
                broken.append(("grpc", got))
            done[2] += 1

    tasks = [stream, connect] + ([call_grpc] if hasattr(server, "grpc_code") else [])
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    longest = 0
    for i in range(ROTATIONS):
        longest = max(longest, install(pairs[(i + 1) % len(pairs)], server.folder))
        time.sleep(0.12)
    stop.set()
    for thread in threads:
        thread.join()
    last = int(run("openssl", "x509", "-in", server.folder / "server.crt", "-noout",
                   "-serial").stdout.split("=")[1], 16)
    server.wait(lambda: int(handshake(server.port, ours.context())[1], 16) == last,
                "the last certificate is used", bound(2))
    print(f"{ROTATIONS} rotations, {len(serials)} certificates seen, {done[0]} streams, "
          f"{done[1]} handshakes, {done[2]} gRPC calls: {len(broken)} broken")
    expect(not broken, broken[:5])
    expect(len(serials) >= min(5, ROTATIONS // 4), "certificates change", serials)
    # Between two looks of a quarter of a second the files may be those of two pairs; a busy machine stands longer.
    expect(longest > 0.2 or "the old ones stay" not in server.log, server.log[-2000:])


def broken_reload(server, ours, pairs):
    before = handshake(server.port, ours.context())[1]
    told = server.log.count("the old ones stay")
    (server.folder / "server.crt").write_text("half a certif")
    server.wait(lambda: server.log.count("the old ones stay") > told, "a line about the broken file", bound(3))
    expect(handshake(server.port, ours.context())[1] == before, "the old certificate stays")
    lines = server.log.count("the old ones stay")
    time.sleep(0.8)
    expect(server.log.count("the old ones stay") == lines <= told + 2, "said once", server.log[-2000:])
    install(pairs[1], server.folder)
    server.wait(lambda: handshake(server.port, ours.context())[1] != before or
                pairs[1] == pairs[0], "a sound certificate is used again", bound(3))


main()
