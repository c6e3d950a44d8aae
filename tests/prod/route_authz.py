"""Every route with every kind of credential: nobody is let in who should not be."""

import json
import os
import re
import time

from rig import ROOT, UnixConnection, bound, expect, serving
from tokens import Key, token

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
TEXT = {"model": "demo", "prompt": "a", "max_tokens": 1}
# method, path, body, the role that may, a role that may not
PUBLIC = [
    ("GET", "/metrics", None, "scraper", "user"),
    ("GET", "/metrics/lb", None, "scraper", "user"),
    ("GET", "/version", None, "scraper", "user"),
    ("GET", "/errors", None, "scraper", "user"),
    ("GET", "/openapi.json", None, "user", "scraper"),
    ("GET", "/v1/models", None, "user", "scraper"),
    ("GET", "/v1/models/demo", None, "user", "scraper"),
    ("POST", "/v1/completions", TEXT, "user", "scraper"),
    ("POST", "/v1/chat/completions", CHAT, "user", "scraper"),
    ("POST", "/v1/messages", CHAT, "user", "scraper"),
    ("POST", "/v1/messages/count_tokens", CHAT, "user", "scraper"),
    ("POST", "/v1/responses", {"model": "demo", "input": "a", "max_output_tokens": 1}, "user",
     "scraper"),
    ("GET", "/v1/responses/resp_none", None, "user", "scraper"),
    ("DELETE", "/v1/responses/resp_none", None, "user", "scraper"),
    ("GET", "/v1/responses/resp_none/input_items", None, "user", "scraper"),
    ("POST", "/v1/embeddings", {"model": "demo", "input": "a"}, "user", "scraper"),
    ("POST", "/v1/rerank", {"model": "demo", "query": "a", "documents": ["b"]}, "user", "scraper"),
    ("POST", "/v2/rerank", {"model": "demo", "query": "a", "documents": ["b"]}, "user", "scraper"),
    ("POST", "/rerank", {"model": "demo", "query": "a", "documents": ["b"]}, "user", "scraper"),
    ("POST", "/tokenize", TEXT, "user", "scraper"),
    ("POST", "/detokenize", {"model": "demo", "tokens": [1]}, "user", "scraper"),
    ("POST", "/v1/load_lora_adapter", {"lora_name": "a", "lora_path": "a"}, "operator", "user"),
    ("POST", "/v1/unload_lora_adapter", {"lora_name": "a"}, "operator", "user"),
]
OPEN = ["/health", "/ready", "/", "/page/app.js"]  # the page holds nothing of its own
ADMIN = [
    ("GET", "/admin/v1/keys", None),
    ("POST", "/admin/v1/keys", {"tenant": "x"}),
    ("POST", "/admin/v1/keys/breakglass", {"reason": "x"}),
    ("POST", "/admin/v1/keys/rotate", {"id": "x"}),
    ("DELETE", "/admin/v1/keys/x", None),
    ("GET", "/admin/v1/usage", None),
    ("GET", "/admin/v1/usage/a", None),
    ("GET", "/admin/v1/config", None),
    ("POST", "/admin/v1/config/reload", None),
    ("POST", "/admin/v1/drain", None),
    ("GET", "/admin/v1/aliases", None),
    ("GET", "/admin/v1/aliases/a/history", None),
    ("POST", "/admin/v1/aliases/a", {"to": "demo"}),
    ("POST", "/admin/v1/aliases/a/rollback", None),
    ("DELETE", "/admin/v1/aliases/a", None),
]
FAR = {"X-Forwarded-For": "203.0.113.7"}  # as behind a proxy of this machine: not local


ISSUER = {"issuer": "https://idp.test", "audience": "penstock", "jwks_file": "jwks.json", "tenant_claim": "org",
          "roles_claim": "roles"}
signer = []


def jwt(role, ends_in=3600):
    now = int(time.time())
    return token(signer[-1], {"iss": ISSUER["issuer"], "aud": "penstock", "sub": "ann", "exp": now + ends_in,
                              "iat": now - 7200, "org": "a", "roles": [role]})


def config(folder):
    signer.append(Key(folder, "ed", "k-ed"))
    (folder / "jwks.json").write_text(json.dumps({"keys": [signer[-1].jwk()]}))
    (folder / "pepper").write_text("0123456789abcdef" * 4)
    return {
        "server": {"state_dir": str(folder / "state"), "open_routes": ["/version/open"],
                   "admin": {"unix": str(folder / "admin.sock")}},
        "auth": {"api_keys": {"pepper_file": "pepper"}, "jwt": [ISSUER]},
    }


def refused(status, text):
    return status == 401 or (status == 403 and "this needs the permission" in text)


def routes_of_the_source():
    """Every path that a router is given, with a pattern for what stands for its parameters."""
    paths = set()
    for folder in ("src/api", "src/server"):
        for file in (ROOT / folder).rglob("*.cc"):
            text = file.read_text()
            if re.search(r"router\w*(?:\.|->)Add\(", text):
                paths |= set(re.findall(r'"(/[\w{}/.-]*)"', text))
    return {path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in paths}


def every_route_is_in_the_tables():
    """Of this script; a route that somebody adds is to be added here."""
    known = {row[1] for row in PUBLIC + ADMIN} | set(OPEN)
    routes = routes_of_the_source()
    expect(len(routes) > 30, routes)
    missing = [path for path, pattern in routes.items() if not any(pattern.fullmatch(one) for one in known)]
    expect(not missing, missing, "are in no table of this script")


def main():
    calls = 0
    every_route_is_in_the_tables()
    with serving(config) as server:
        socket_path = server.folder / "admin.sock"
        expect(socket_path.stat().st_mode & 0o777 == 0o600, "the socket's mode")
        make = lambda *options: server.keys("create", *options)
        good = {role: make("--tenant", "a", "--role", role)["key"]
                for role in ("user", "scraper", "operator", "auditor", "privacy", "admin")}
        tokens = {role: jwt(role) for role in good}
        other = make("--tenant", "b")["key"]
        elsewhere = make("--tenant", "a", "--role", "admin", "--cidr", "10.0.0.0/8")["key"]
        expired = make("--tenant", "a", "--role", "admin", "--expires-in", "1s")["key"]
        revoked = make("--tenant", "a", "--role", "admin")
        server.keys("revoke", revoked["id"])
        for key in (*good.values(), other):
            server.wait(lambda: server.call("GET", "/v1/models", credential=key)[0] != 401, "the keys are known")
        time.sleep(2.1)  # the expired key's second is over
        shaped = good["admin"][:-1] + ("0" if good["admin"][-1] != "0" else "1")
        bad = {"none": None, "empty": "", "expired": expired, "revoked": revoked["key"],
               "elsewhere": elsewhere, "mistyped": shaped, "unknown": "sk-1", "id": good["admin"][:12],
               "expired token": jwt("admin", -3600), "alg none": "eyJhbGciOiJub25lIn0.e30.",
               "many": "pst_" * 4000, "nul": "\x01\x7f"}
        documented = json.loads(server.call("GET", "/openapi.json")[1])["paths"]
        for path in documented:
            expect(any(path.split("{")[0].rstrip("/") in row[1] for row in PUBLIC)
                   or path in OPEN, path, "is not in the table of this script")
        for path in OPEN:
            for name, credential in bad.items():
                status, _ = server.call("GET", path, credential=credential, headers=FAR)
                expect(status == (400 if name == "nul" else 200), path, name, status)
        for method, path, body, role, low in PUBLIC:
            for name, credential in bad.items():
                status, text = server.call(method, path, body, credential, FAR)
                expect(status == (400 if name == "nul" else 401), method, path, name, status, text)
                calls += 1
            for credential in (good[low], tokens[low]):
                status, text = server.call(method, path, body, credential, FAR)
                expect(status == 403 and refused(status, text), method, path, low, status, text)
            for credential in (good[role], good["admin"], tokens[role]):
                status, text = server.call(method, path, body, credential, FAR)
                expect(not refused(status, text), method, path, role, status, text)
            calls += 5
        for path in ("/metrics", "/version"):
            expect(server.call("GET", path)[0] == 200, path, "from this machine")
        # What a tenant keeps is not another's, and stays its own when its key changes.
        status, text = server.call("POST", "/v1/responses",
                                   {"model": "demo", "input": "a", "max_output_tokens": 1},
                                   good["user"])
        kept = "/v1/responses/" + json.loads(text)["id"]
        for method in ("GET", "DELETE"):
            expect(server.call(method, kept, credential=other)[0] == 404, "another's response")
        expect(server.call("GET", kept, credential=good["admin"])[0] == 200, "its own")
        # The admin routes are not there for the public, whoever asks.
        for method, path, body in ADMIN:
            for credential in [None, *good.values(), *tokens.values()]:
                status, _ = server.call(method, path, body, credential)
                expect(status == 404, method, path, status)
                calls += 1
        # Over the socket the file's mode is the credential; a wrong one changes nothing.
        def admin(method, path, body=None, credential=None):
            return server.call(method, path, body, credential, connection=UnixConnection(socket_path))
        made = json.loads(admin("POST", "/admin/v1/keys", {"tenant": "c"})[1])
        expect(server.call("GET", "/v1/models", credential=made["key"])[0] in (200, 401), "at once")
        server.wait(lambda: server.call("GET", "/v1/models", credential=made["key"])[0] == 200,
                    "a new key", bound(1))
        expect(admin("GET", "/admin/v1/keys", credential="sk-1")[0] == 200, "list")
        expect(made["key"] not in admin("GET", "/admin/v1/keys")[1], "a key in the list")
        turned = json.loads(admin("POST", "/admin/v1/keys/rotate",
                                  {"id": made["id"], "overlap": "1h"})[1])
        server.wait(lambda: server.call("GET", "/v1/models", credential=turned["key"])[0] == 200,
                    "a rotated key", bound(1))
        expect(server.call("GET", "/v1/models", credential=made["key"])[0] == 200, "two at once")
        began = time.monotonic()
        expect(admin("DELETE", "/admin/v1/keys/" + made["id"])[0] == 200, "revoke")
        server.wait(lambda: server.call("GET", "/v1/models", credential=made["key"])[0] == 401,
                    "a revoked key is refused", bound(1))
        print(f"revoked after {(time.monotonic() - began) * 1000:.0f} ms")
        expect(admin("DELETE", "/admin/v1/keys/none")[0] == 404, "revoke nothing")
        expect(admin("POST", "/admin/v1/keys", {"tenant": "a", "roles": ["king"]})[0] == 400, "role")
        expect(admin("POST", "/v1/completions", TEXT)[0] == 404, "no models on the admin listener")
        calls += grpc_calls(server, good, tokens, bad)
        # The damaged file of a running server: what was read stays.
        for name in ("state.db-wal", "state.db-shm"):
            (server.folder / "state" / name).unlink(missing_ok=True)
        (server.folder / "state/damaged").write_bytes(b"x" * 8192)
        os.replace(server.folder / "state/damaged", server.folder / "state/state.db")
        server.wait(lambda: "cannot be read" in server.log, "a line about the state file", bound(2))
        expect(server.call("GET", "/v1/models", credential=good["user"])[0] == 200, "damaged state")
        status, text = admin("POST", "/admin/v1/keys", {"tenant": "a"})
        expect(status == 503 and "state.db" in text, "create in a damaged file", status, text)
        lines = [line for line in server.log.splitlines() if "cannot be read" in line]
        expect(len(lines) == 1, "one line, not", lines)
        for key in [*good.values(), *tokens.values(), other, expired]:
            expect(key not in server.log, "a key in the log")
    expect(not socket_path.exists(), "the socket is left behind")
    start_on_damaged_state(good["user"])
    print(f"{calls} calls, nobody was let in who should not be")


def start_on_damaged_state(key):
    """The server serves whom it knows without the file, and says so in one line."""
    def damaged(folder):
        made = config(folder)
        (folder / "state").mkdir()
        (folder / "state/state.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
        (folder / "shared").write_text("shared-key\n")
        made["auth"]["api_key_file"] = "shared"
        return made
    with serving(damaged) as server:
        expect(server.call("GET", "/v1/models", credential="shared-key")[0] == 200, "a shared key")
        expect(server.call("GET", "/v1/models", credential=key)[0] == 401, "a key of nowhere")
        expect(server.call("GET", "/ready")[0] == 200, "ready")
        # One line about the keys, one about what tenants use.
        lines = [line for line in server.log.splitlines() if '"level":"error"' in line]
        about = sorted("API keys" in line for line in lines)
        expect(about == [False, True] and all("state.db" in line for line in lines), "two lines, not", lines)


def grpc_calls(server, good, tokens, bad):
    """All methods of penstock.v1.Inference; empty bodies do, since access is judged before them."""
    try:
        import grpc
    except ImportError:
        print("no grpcio: gRPC is left out")
        return 0
    calls = 0
    methods = ["Generate", "GenerateStream", "Chat", "ChatStream", "Embed", "Tokenize",
               "Detokenize", "ListModels", "GetModel"]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        def code(method, credential):
            metadata = () if credential is None else (("authorization", "Bearer " + credential),)
            kind = channel.unary_stream if method.endswith("Stream") else channel.unary_unary
            call = kind("/penstock.v1.Inference/" + method, request_serializer=lambda b: b,
                        response_deserializer=lambda b: b)
            try:
                answer = call(b"", metadata=metadata, timeout=30)
                if method.endswith("Stream"):
                    list(answer)
                return grpc.StatusCode.OK, ""
            except grpc.RpcError as error:
                return error.code(), error.details()
        for method in methods:
            for name, credential in bad.items():
                if credential is not None and (len(credential) > 4000 or not credential.isprintable()):
                    continue  # no metadata
                got, text = code(method, credential)
                expect(got == grpc.StatusCode.UNAUTHENTICATED, method, name, got, text)
                calls += 1
            for held in (good, tokens):
                got, text = code(method, held["scraper"])
                expect(got == grpc.StatusCode.PERMISSION_DENIED, method, "scraper", got, text)
                got, text = code(method, held["user"])
                expect(got not in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED),
                       method, "user", got, text)
            calls += 4
    return calls


main()
