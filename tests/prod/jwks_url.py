"""Token issuers whose keys lie behind a URL: rotation, an issuer that is down, slow or lies, tokens of unknown keys."""

import http.server
import json
import pathlib
import tempfile
import threading
import time

from rig import BINARY, expect, free_port, run, serving
from tokens import Key, token


class Issuer:
    """Answers with a body and a status after so many seconds, and counts."""

    def __init__(self, port):
        self.answer, self.calls = (b"{}", 200, 0), 0
        issuer = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body, status, delay = issuer.answer  # all of it at one moment
                issuer.calls += 1
                time.sleep(delay)
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:1/")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def publish(self, *keys, body=None, status=200, delay=0):
        self.answer = body or json.dumps({"keys": [key.jwk() for key in keys]}).encode(), status, delay

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def config(port):
    return lambda _: {"auth": {"jwt": [{"issuer": "https://idp.test", "audience": "penstock", "tenant_claim": "org",
                                        "jwks_url": f"http://127.0.0.1:{port}/jwks", "roles": ["user"]}]}}


def main(folder):
    old, new, thief = (Key(folder, kind, kid) for kind, kid in (("ec", "k-old"), ("ed", "k-new"), ("ed", "k-thief")))
    claims = {"iss": "https://idp.test", "aud": "penstock", "sub": "ann", "org": "clinic",
              "exp": int(time.time()) + 3600}
    issuer = Issuer(free_port())
    issuer.publish(old)
    with serving(config(issuer.port)) as server:
        def ask(key, **header):
            return server.call("GET", "/v1/models", credential=token(key, claims, header=header or None))[0]

        expect(ask(old) == 200, "the key that was fetched at the start", server.log)
        expect(issuer.calls == 1, issuer.calls)
        expect(ask(new) == 401, "a key that is not published")
        # The issuer has a new key: the first token by it is refused, and makes the server look again.
        issuer.publish(new)
        server.wait(lambda: ask(new) == 200, "the new key")
        expect(ask(old) == 401, "the old key, which is not published any more")
        # Whoever names keys that do not exist does not make the server call the issuer each time.
        before, began = issuer.calls, time.monotonic()
        asked = 0
        while time.monotonic() - began < 2 or asked < 50:
            expect(ask(thief) == 401, "a stranger's key")
            expect(ask(thief, kid="k-new") == 401, "a stranger's key under a known name")
            asked += 1
        most = 2 + (time.monotonic() - began) / 5
        expect(issuer.calls - before <= most, issuer.calls - before, "calls in", time.monotonic() - began)

        # Down, slow, lying: what was fetched last counts, nobody waits, and the log says it once.
        for name, change in {
            "broken": {"body": b'{"keys": ['}, "empty": {"body": b'{"keys": []}'}, "error": {"status": 500},
            "elsewhere": {"status": 302}, "huge": {"body": b" " * (2 << 20)}, "slow": {"delay": 30},
        }.items():
            before = issuer.calls
            issuer.publish(thief, **change)
            server.wait(lambda: ask(thief) == 401 and issuer.calls > before, f"a call to an issuer that is {name}")
            if name == "slow":
                began = time.monotonic()
                expect(ask(new) == 200 and time.monotonic() - began < 20, "nobody waits for the issuer")
            expect(ask(new) == 200, name)
        issuer.stop()
        server.wait(lambda: ask(thief) == 401 and "the keys that were fetched last stay" in server.log, "a line of it")
        expect(ask(new) == 200, "the last keys")
        print(f"{issuer.calls} calls of the issuer")

    # Not there when the server starts: it starts, admits nobody by tokens, and finds it later.
    with serving(config(issuer.port)) as server:
        expect(server.call("GET", "/v1/models", credential=token(new, claims))[0] == 401, "no keys, no tokens")
        expect(server.call("GET", "/health")[0] == 200, "health")
        again = Issuer(issuer.port)
        again.publish(new)
        fresh = token(new, claims)
        server.wait(lambda: server.call("GET", "/v1/models", credential=fresh)[0] == 200, "the issuer's keys")
        again.stop()

    # Plain HTTP beyond this machine could be anybody's keys.
    for url in ("http://idp.test/jwks", "http://127.0.0.1@evil.test/", "http://127.0.0.1.evil.test/",
                "file:///etc/passwd", "https://", "jwks.json"):
        path = folder / "bad.yaml"
        path.write_text(json.dumps(config(1)(None)).replace("http://127.0.0.1:1/jwks", url))
        done = run(BINARY, "check-config", path)
        expect(done.returncode == 1 and "jwks_url" in done.stderr, url, done.stderr)
    print("keys by URL hold")


with tempfile.TemporaryDirectory() as name:
    main(pathlib.Path(name))
