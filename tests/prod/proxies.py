"""What a proxy of this machine may not open: deploy/haproxy and deploy/nginx before a server that knows keys. Callers
from elsewhere are not this machine, which reads metrics without a key."""

import json
import sys
import tempfile
import time
import urllib.error
import urllib.request

import farm
from rig import expect, serving

PATIENCE = 60
LOCAL = ["/metrics", "/metrics/lb", "/version", "/openapi.json"]
OPEN = ["/health", "/ready"]


def config(folder):
    (folder / "pepper").write_text("0123456789abcdef" * 4)
    return {"server": {"state_dir": str(folder / "state"), "agent_check": "127.0.0.1:0",
                       "admin": {"unix": str(folder / "admin.sock")}},
            "auth": {"api_keys": {"pepper_file": "pepper"}}, "observe": {"log": "json", "level": "warn"}}


def status(port, path, headers=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers or {}),
                                    timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def answered(port, path, headers=None):
    """A proxy whose checks a busy machine was too slow for says 503, and is asked again."""
    end = time.monotonic() + PATIENCE
    while (seen := status(port, path, headers)) == 503 and time.monotonic() < end:
        time.sleep(0.1)
    return seen


def check(name, port, key):
    # What a client says of itself changes nothing.
    for headers, wanted in (({}, 401), ({"X-Forwarded-For": "127.0.0.1"}, 401),
                            ({"Authorization": f"Bearer {key}"}, 200)):
        for path in LOCAL:
            seen = answered(port, path, headers)
            expect(seen == wanted, name, path, headers, seen)
    for path in OPEN:
        expect(answered(port, path) == 200, name, path)
    expect(answered(port, "/metrics/haproxy") == 404, name)
    print(f"{name}: {len(LOCAL)} routes are closed", flush=True)


def main():
    farm.needs_haproxy()
    if farm.NGINX is None:
        print("nginx is not installed")
        sys.exit(77)
    with serving(config) as server, tempfile.TemporaryDirectory() as folder:
        key = server.keys("create", "--tenant", "a", "--role", "scraper", "--role", "user")["key"]
        known = {"Authorization": f"Bearer {key}", "X-Forwarded-For": "203.0.113.7"}
        server.wait(lambda: status(server.port, "/metrics", known) == 200, "the new key is known")
        for path in LOCAL[:3]:
            expect(status(server.port, path) == 200, "this machine", path)
        haproxy = farm.Farm([server] * 3, folder)
        try:
            check("haproxy", haproxy.port, key)
        finally:
            haproxy.stop()
        with farm.nginx([server.port] * 3) as port:
            check("nginx", port, key)


main()
