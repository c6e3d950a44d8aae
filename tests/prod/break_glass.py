"""`penstock admin breakglass`: a key for an hour, made over the admin socket; its record, metric and bounds."""

import datetime
import json
import os

from rig import BINARY, UnixConnection, expect, openssl, run, serving

WHY = "the issuer is down, ticket 4711"


def config(folder):
    (folder / "pepper").write_text("0123456789abcdef" * 4)
    openssl("genpkey", "-algorithm", "ed25519", "-out", folder / "audit.key")
    return {"server": {"state_dir": str(folder / "state"), "admin": {"unix": str(folder / "admin.sock")}},
            "auth": {"api_keys": {"pepper_file": "pepper"}},
            "privacy": {"audit": {"enabled": True, "sign_key_file": "audit.key"}},
            # Its models are not bounded by what other tenants may use.
            "tenants": {"clinic": {"models": ["demo"], "rpm": 1}}}


def command(server, *words):
    return run(BINARY, "admin", *words, "--socket", server.folder / "admin.sock")


def glass(server, reason=WHY):
    return command(server, "breakglass", "--reason", reason, "--json")


def admin(server, method, path, body=None):
    return server.call(method, path, body, connection=UnixConnection(server.folder / "admin.sock"))


def main():
    with serving(config) as server:
        expect(server.metric("penstock_breakglass_keys") == 0, "none yet")
        done = glass(server)
        expect(done.returncode == 0, done.stderr)
        made = json.loads(done.stdout)
        hour = [datetime.datetime.fromisoformat(made[name].replace("Z", "+00:00")) for name in ("created", "expires")]
        expect(hour[1] - hour[0] == datetime.timedelta(hours=1), made)
        expect(made["roles"] == ["admin"] and made["note"] == WHY and made["tenant"] == "break-glass", made)
        server.wait(lambda: server.call("GET", "/v1/models", credential=made["key"])[0] == 200, "the key", 10)
        for path in ("/metrics", "/errors", "/v1/models/demo"):
            far = {"X-Forwarded-For": "203.0.113.7"}  # not as this machine, which may read metrics
            expect(server.call("GET", path, credential=made["key"], headers=far)[0] == 200, path)
        expect(server.metric("penstock_breakglass_keys") == 1, "the metric")
        expect("break-glass keys that are valid: 1" in server.log, server.log)
        bounds(server, made)
        shown = command(server, "keys", "list").stdout
        expect(sum("break-glass" in line and WHY in line for line in shown.splitlines()) == 4, shown)
        # Without --json the key alone is on standard output.
        expect(command(server, "keys", "revoke", made["id"]).returncode == 0, "revoked")
        plain = command(server, "breakglass", "--reason", WHY)
        expect(plain.stdout.startswith("pst_") and "shown this once" in plain.stderr, plain.stdout, plain.stderr)
        for key in json.loads(admin(server, "GET", "/admin/v1/keys")[1])["keys"]:
            expect(admin(server, "DELETE", "/admin/v1/keys/" + key["id"])[0] == 200, "revoked", key)
        server.wait(lambda: server.metric("penstock_breakglass_keys") == 0, "none is valid", 10)
        server.wait(lambda: server.call("GET", "/v1/models", credential=made["key"])[0] == 401, "revoked", 10)
        expect(made["key"] not in server.log and plain.stdout.strip() not in server.log, "a key in the log")
        server.stop()
        on_record(server, made)
    without_keys()


def bounds(server, made):
    for reason in ("", "  ", "a\nb", "a" * 257):
        done = glass(server, reason)
        expect(done.returncode == 1 and "reason" in done.stderr, reason, done.returncode, done.stderr)
    expect(run(BINARY, "admin", "breakglass", "--socket", server.folder / "admin.sock").returncode == 1, "no reason")
    for body in ({"tenant": "break-glass"}, {"tenant": "break-glass", "roles": ["admin"]}):
        status, text = admin(server, "POST", "/admin/v1/keys", body)
        expect(status == 400 and "breakglass" in text, status, text)
    status, text = admin(server, "POST", "/admin/v1/keys/rotate", {"id": made["id"]})
    expect(status == 400 and "hour" in text, status, text)
    for _ in range(3):
        expect(glass(server).returncode == 0, "up to four")
    done = glass(server)
    expect(done.returncode == 1 and "4 break-glass keys are valid" in done.stderr, done.stderr)
    status, _ = admin(server, "POST", "/admin/v1/keys/breakglass", {"reason": WHY})
    expect(status == 400, status)
    expect(server.call("POST", "/admin/v1/keys/breakglass", {"reason": WHY}, made["key"])[0] == 404, "for the public")


def on_record(server, made):
    done = run(BINARY, "admin", "audit", "search", "--what", "act", "--config", server.config_path)
    acts = [json.loads(line) for line in done.stdout.splitlines()]
    first = next(act for act in acts if act["action"] == "key.breakglass" and act["object"] == made["id"])
    expect(first["uid"] == os.getuid() and first["proof"] == "socket" and first["reason"] == WHY
           and first["outcome"] == "done", first)
    expect(any(act["action"] == "key.breakglass" and "4 break-glass" in act["outcome"] for act in acts), acts)


def without_keys():
    with serving(lambda folder: {"server": {"admin": {"unix": str(folder / "admin.sock")}}}) as server:
        done = glass(server)
        expect(done.returncode != 0 and "auth.api_keys.pepper_file" in done.stderr, done.returncode, done.stderr)
        expect(server.metric("penstock_breakglass_keys") == 0, "none")
    print("a key for an hour, four at most, on record and counted")


main()
