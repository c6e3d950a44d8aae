"""Keys that may use some models only, roles that a reload adds, and a limit of gRPC that a reload changes."""

import json
import sqlite3

from rig import BINARY, ROOT, expect, run, serving


def config(home):
    (home / "pepper").write_text("0123456789abcdef" * 4)
    demo = {"path": str(ROOT / "models/demo")}
    return {"models": {"demo": demo, "other": {**demo, "aliases": ["third"]}}, "engine": {"threads": 1},
            "server": {"state_dir": str(home / "state"), "public": {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0"},
                       "admin": {"unix": str(home / "admin.sock")}},
            "auth": {"api_keys": {"pepper_file": "pepper"}},
            "tenants": {"clinic": {"models": ["demo", "other"]}, "small": {"models": ["demo"]}},
            "observe": {"log": "json"}}


def may(server, key, model):
    body = {"model": model, "prompt": "a", "max_tokens": 1}
    status, text = server.call("POST", "/v1/completions", body, credential=key)
    expect(status in (200, 404), status, text)
    return status == 200


def listed(server, key):
    return sorted(row["id"] for row in json.loads(server.call("GET", "/v1/models", credential=key)[1])["data"])


def models_of_keys(server):
    def key(*arguments):
        return server.keys("create", "--socket", str(server.folder / "admin.sock"), *arguments)["key"]

    server.keys = lambda verb, *a: keys(server, verb, *a)
    everything = key("--tenant", "clinic")
    one = key("--tenant", "clinic", "--model", "other")
    beyond = key("--tenant", "small", "--model", "other", "--model", "demo")
    server.wait(lambda: server.call("GET", "/v1/models", credential=beyond)[0] == 200, "the keys")
    expect(may(server, everything, "demo") and may(server, everything, "third"), "a key without models")
    expect(may(server, one, "other") and may(server, one, "third") and not may(server, one, "demo"), "a key's model")
    expect(not may(server, beyond, "other") and may(server, beyond, "demo"), "a key may no more than its tenant")
    expect(listed(server, one) == ["other", "third"], listed(server, one))
    rows = {row["tenant"]: row for row in server.keys("list")["keys"] if row["models"]}
    expect(rows["clinic"]["models"] == ["other"] and rows["small"]["models"] == ["other", "demo"], rows)
    rotated = server.keys("rotate", rows["clinic"]["id"])["key"]
    server.wait(lambda: server.call("GET", "/v1/models", credential=rotated)[0] == 200, "the new key")
    expect(not may(server, rotated, "demo") and may(server, rotated, "other"), "its successor's")


def keys(server, verb, *arguments):
    done = run(BINARY, "admin", "keys", verb, *arguments, "--json",
               *([] if "--socket" in arguments else ["--socket", server.folder / "admin.sock"]))
    expect(done.returncode == 0, "admin keys", verb, arguments, done.stderr)
    return json.loads(done.stdout)


def roles_of_a_reload(server):
    create = [BINARY, "admin", "keys", "create", "--json", "--socket", server.folder / "admin.sock",
              "--tenant", "clinic", "--role", "reader"]
    done = run(*create)
    expect(done.returncode == 1 and "there is no role reader" in done.stderr, done.stderr)
    server.edit_config(lambda c: c.update(roles={"user": ["infer"], "reader": ["infer"]}))
    done = run(*create)
    expect(done.returncode == 0, "a role that the running server has learned", done.stderr)
    key = json.loads(done.stdout)["key"]
    server.wait(lambda: server.call("GET", "/v1/models", credential=key)[0] == 200, "its permission")
    server.edit_config(lambda c: c.update(roles={"user": ["infer"], "other": ["infer"]}))
    expect(run(*create).returncode == 1, "a role that is gone")
    expect(server.call("GET", "/v1/models", credential=key)[0] == 403, "a key of a role that is gone")


def old_files_are_taken(server):
    """A state file of before keys had models."""
    state = server.folder / "state/state.db"
    with sqlite3.connect(state) as db:
        db.execute("ALTER TABLE api_keys DROP COLUMN models")
    key = server.keys("create", "--tenant", "clinic", "--model", "demo")["key"]
    server.wait(lambda: server.call("GET", "/v1/models", credential=key)[0] == 200, "the key")
    expect(listed(server, key) == ["demo"], listed(server, key))


def grpc_follows_max_body(server):
    try:
        import grpc
        from google.protobuf import descriptor_pool, message_factory
        from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
    except ImportError:
        print("gRPC's Python is not there: gRPC is left out")
        return
    key = server.keys("create", "--tenant", "clinic")["key"]
    server.wait(lambda: server.call("GET", "/v1/models", credential=key)[0] == 200, "the key")
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options) as channel:
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        service = pool.FindServiceByName("penstock.v1.Inference")

        def send(name, size):
            method = service.FindMethodByName(name)
            request = message_factory.GetMessageClass(method.input_type)(model="demo")
            setattr(request, "text" if name == "Tokenize" else "prompt", "a" * size)
            call = channel.unary_unary(
                f"/{service.full_name}/{name}", request_serializer=lambda m: m.SerializeToString(),
                response_deserializer=message_factory.GetMessageClass(method.output_type).FromString)
            try:
                call(request, metadata=[("authorization", "Bearer " + key)], timeout=120)
            except grpc.RpcError as error:
                return error.code(), error.details()
            return grpc.StatusCode.OK, ""

        most = grpc.StatusCode.RESOURCE_EXHAUSTED
        expect(send("Tokenize", 60_000)[0] == grpc.StatusCode.OK, "below the limit")
        server.edit_config(lambda c: c.update(limits={"max_body": "50KiB"}))
        for name in ("Tokenize", "Generate"):
            code, details = send(name, 60_000)
            expect(code == most and "limits.max_body" in details, name, code, details)
        expect(send("Tokenize", 40_000)[0] == grpc.StatusCode.OK, "below the new limit")
        server.edit_config(lambda c: c.update(limits={"max_body": "32MiB"}))
        code, details = send("Generate", 20 << 20)  # more than the limit at the start, and than the model's context
        expect(code == grpc.StatusCode.INVALID_ARGUMENT, code, details)


with serving(config) as server:
    models_of_keys(server)
    roles_of_a_reload(server)
    old_files_are_taken(server)
    grpc_follows_max_body(server)
    print("keys and reloads hold")
