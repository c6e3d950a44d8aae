"""Revocation lists of clients' certificates: over HTTP, gRPC and the admin listener, swapped while the server runs."""

import http.client
import json
import os
import pathlib
import shutil
import ssl
import tempfile
import time

from rig import BINARY, ROOT, Authority, expect, free_port, run, serving

SERVER = "DNS:localhost,IP:127.0.0.1"
RUNNER = "URI:spiffe://corp/ns/batch/sa/runner"


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        ours, theirs = Authority(folder / "ours", "ours"), Authority(folder / "theirs", "theirs")
        pair = ours.issue("server", SERVER)
        clients = {who: ours.issue(who, RUNNER) for who in ("good", "bad")}
        bad_starts(folder, ours, theirs, pair)
        what_doctor_says(folder, ours, pair)
        without_names(ours, pair, clients)
        admin_port = free_port()

        def config(home):
            shutil.copy(ours.cert, home / "clients.pem")
            (home / "pepper").write_text("0123456789abcdef" * 4)
            (home / "revoked.pem").write_text(ours.revocations(clients["bad"][0]))
            return {
                "server": {"state_dir": str(home / "state"),
                           "public": {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0"},
                           "admin": {"http": f"127.0.0.1:{admin_port}"}},
                "tls": {"cert_file": str(pair[0]), "key_file": str(pair[1]), "client_ca_file": "clients.pem",
                        "client_crl_file": "revoked.pem"},
                "auth": {"api_keys": {"pepper_file": "pepper"},
                         "mtls": {"spiffe://corp/ns/batch/*": {"tenant": "batch", "roles": ["admin"]}}},
            }

        with serving(config) as server:
            Swaps(server, ours, clients, admin_port, pair).run()


def bad_starts(folder, ours, theirs, pair):
    """Each is one line that names the key."""
    texts = {"cannot be read": None, "holds no revocation list": "no list",
             "is not signed by an authority of client_ca_file": theirs.revocations(),
             "is damaged": ours.revocations() + ours.revocations()[:200]}
    ended = ours.revocations(seconds=1)
    time.sleep(1.1)
    texts["has ended on"] = ended
    for what, text in texts.items():
        file = folder / "list.pem"
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text)
        done = run(BINARY, "serve", ROOT / "models/demo", "--port", "0", "--grpc-port", "0",
                   *settings(ours, pair, file), timeout=60)
        lines = [line for line in done.stderr.splitlines() if line.startswith("penstock: ")]
        expect(done.returncode == 1 and len(lines) == 1 and what in lines[0], what, done.returncode, done.stderr)
        expect("tls.client_crl_file: " in lines[0], lines)


def settings(ours, pair, file):
    values = {"cert_file": pair[0], "key_file": pair[1], "client_ca_file": ours.cert, "client_crl_file": file}
    return [word for name, value in values.items() for word in ("--set", f"tls.{name}={value}")]


def what_doctor_says(folder, ours, pair):
    file = folder / "doctor.pem"
    for seconds, finding in ((3600, "warning"), (86400, "ok")):
        file.write_text(ours.revocations(seconds=seconds))
        rows = json.loads(run(BINARY, "doctor", "--json", *settings(ours, pair, file)).stdout)
        told = {r["finding"] for r in rows if r["check"] == "certificates" and str(file) in r["text"]}
        expect(told == {finding}, seconds, rows)
    file.write_text("no list")
    done = run(BINARY, "doctor", *settings(ours, pair, file))
    expect(done.returncode == 2 and "tls.client_crl_file" in done.stdout, done.stdout)


def without_names(ours, pair, clients):
    """Where nothing but a certificate is asked for, a revoked one does not do over gRPC either."""
    def config(home):
        (home / "revoked.pem").write_text(ours.revocations(clients["bad"][0]))
        return {"tls": {"cert_file": str(pair[0]), "key_file": str(pair[1]), "client_ca_file": str(ours.cert),
                        "client_crl_file": "revoked.pem", "client_auth": "require"}}
    with serving(config) as server:
        expect(grpc_code(server, ours, clients["good"]) in ("OK", None), "good")
        expect(grpc_code(server, ours, clients["bad"]) in ("UNAUTHENTICATED", None), "bad")


def grpc_channel(server, ours, pair):
    try:
        import grpc
    except ImportError:
        return None
    credentials = grpc.ssl_channel_credentials(ours.cert.read_bytes(), *(p.read_bytes() for p in reversed(pair)))
    # Its own connection, not one that another channel has.
    return grpc.secure_channel(f"localhost:{server.grpc_port}", credentials,
                               [("grpc.use_local_subchannel_pool", 1)])


def grpc_ask(channel, key=None):
    """The status's name; None: this machine has no grpcio."""
    if channel is None:
        return None
    import grpc
    call = channel.unary_unary("/penstock.v1.Inference/ListModels", request_serializer=lambda b: b,
                               response_deserializer=lambda b: b)
    try:
        call(b"", timeout=30, metadata=() if key is None else (("authorization", "Bearer " + key),))
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def grpc_code(server, ours, pair, key=None):
    channel = grpc_channel(server, ours, pair)
    code = grpc_ask(channel, key)
    if channel is not None:
        channel.close()
    return code


class Swaps:
    def __init__(self, server, ours, clients, admin_port, pair):
        self.server, self.ours, self.clients, self.admin_port, self.pair = server, ours, clients, admin_port, pair
        self.key = server.keys("create", "--tenant", "a")["key"]

    def http(self, who, port=None, path="/v1/models", key=None):
        """A new connection: a status, or None where the handshake fails."""
        connection = http.client.HTTPSConnection("localhost", port or self.server.port, timeout=60,
                                                 context=self.ours.context(self.clients[who]))
        try:
            return self.server.call("GET", path, credential=key, connection=connection)[0]
        except (ssl.SSLError, ConnectionError):
            return None

    def admin(self, who):
        return self.http(who, self.admin_port, "/admin/v1/keys")

    def grpc(self, who, key=None):
        return grpc_code(self.server, self.ours, self.clients[who], key)

    def refused(self, who):
        expect(self.http(who) is None, "HTTP", who)
        expect(self.http(who, key=self.key) is None, "HTTP with a key", who)
        expect(self.admin(who) is None, "admin", who)
        expect(self.grpc(who) in ("UNAUTHENTICATED", None), "gRPC", who)
        expect(self.grpc(who, self.key) in ("UNAUTHENTICATED", None), "gRPC with a key", who)

    def served(self, who):
        expect(self.http(who) == 200 and self.admin(who) == 200, "HTTP", who)
        expect(self.grpc(who) in ("OK", None), "gRPC", who)

    def install(self, text):
        fresh = self.server.folder / "revoked.new"
        fresh.write_text(text)
        os.replace(fresh, self.server.folder / "revoked.pem")

    def run(self):
        server, ours, clients = self.server, self.ours, self.clients
        self.served("good")
        self.refused("bad")
        expect(abs(self.end_told() - time.time() - 86400) < 600, "the metric", self.end_told())
        # A swap: who was refused is served, and connections that are open are judged by the new list too.
        held, channel = server.connect(ours.context(clients["good"])), grpc_channel(server, ours, clients["good"])
        expect(server.call("GET", "/v1/models", connection=held)[0] == 200, "held")
        expect(grpc_ask(channel) in ("OK", None), "held, gRPC")
        self.install(ours.revocations(clients["good"][0]))
        server.wait(lambda: self.http("bad") == 200, "no more revoked")
        server.wait(lambda: self.admin("bad") == 200, "no more revoked, admin")
        self.served("bad")
        self.refused("good")
        for key in (None, self.key):
            status, text = server.call("GET", "/v1/models", credential=key, connection=held)
            expect(status == 401 and "revoked" in text, status, text)
            expect(grpc_ask(channel, key) in ("UNAUTHENTICATED", None), "an open connection, gRPC")
        # Garbage changes nothing, and is said once.
        for text in ("half a list", ours.revocations()[:100]):
            before = server.log.count("tls.client_crl_file: ")
            self.install(text)
            server.wait(lambda: server.log.count("tls.client_crl_file: ") > before, "a line about the list")
            self.served("bad")
            self.refused("good")
        self.install(ours.revocations())
        server.wait(lambda: self.http("good") == 200, "no more revoked")
        server.wait(lambda: self.admin("good") == 200, "no more revoked, admin")
        expect(server.call("GET", "/v1/models", connection=held)[0] == 200, "the open connection is good again")
        expect(grpc_ask(channel) in ("OK", None), "so is that of gRPC")
        # A list of a clock that is ahead is used once it is valid.
        before, begins = server.log.count("is not valid yet"), 3
        while server.log.count("is not valid yet") == before:  # seen too late on a busy machine: once more
            begins *= 2
            expect(begins < 100, "a list that is not valid yet")
            self.install(ours.revocations(clients["good"][0], begins=begins))
            end = time.monotonic() + begins
            while server.log.count("is not valid yet") == before and time.monotonic() < end:
                time.sleep(0.05)
        server.wait(lambda: self.http("good") is None, "a list that has become valid")
        self.refused("good")
        self.install(ours.revocations())
        server.wait(lambda: self.http("good") == 200, "no more revoked, again")
        server.wait(lambda: self.admin("good") == 200, "no more revoked, again, admin")
        # What is wrong with the server's own certificate keeps no list from being used.
        own = self.pair[0].read_bytes()
        self.pair[0].write_text("no certificate")
        self.install(ours.revocations(clients["good"][0]))
        server.wait(lambda: self.http("good") is None, "a new list beside a broken certificate")
        server.wait(lambda: self.admin("good") is None, "the same, admin")
        self.refused("good")
        self.served("bad")
        self.pair[0].write_bytes(own)
        self.install(ours.revocations())
        server.wait(lambda: self.http("good") == 200, "a sound certificate")
        server.wait(lambda: self.admin("good") == 200, "a sound certificate, admin")
        # A list that ends while the server runs: nobody's certificate is good.
        self.install(ours.revocations(seconds=15))
        server.wait(lambda: "a list has ended on" in server.log, "the end of the list")
        self.refused("good")
        expect(server.call("GET", "/v1/models", connection=held)[0] == 401, "an open connection")
        expect(server.call("GET", "/v1/models", credential=self.key,
                           connection=server.connect(ours.context()))[0] == 200, "a key without a certificate")
        expect(self.end_told() < time.time(), "the metric of a list that has ended")
        self.install(ours.revocations())
        server.wait(lambda: self.http("good") == 200, "a new list")
        server.wait(lambda: self.admin("good") == 200, "a new list, admin")
        self.served("good")
        if channel is not None:
            channel.close()
        print("revoked, good again, revoked by a list's end: over HTTP, the admin listener"
              + (" and gRPC" if channel else "; no grpcio"))

    def end_told(self):
        connection = self.server.connect(self.ours.context())
        page = self.server.call("GET", "/metrics", connection=connection)[1]
        return float(next(line.split()[1] for line in page.splitlines()
                          if line.startswith("penstock_tls_crl_next_update_seconds ")))


main()
