"""Aliases that operators set while the server runs: races, rollbacks under load, restarts, a state file that fails."""

import concurrent.futures
import json
import os
import pathlib
import sqlite3
import tempfile
import threading
import time

from rig import BINARY, ROOT, Server, UnixConnection, expect, run

DEMO = {"path": str(ROOT / "models/demo")}


def config(folder, aliases="local", **more):
    return {"models": {"demo": DEMO, "other": {**DEMO, "aliases": ["third"]}}, "engine": {"threads": 1},
            "server": {"state_dir": str(folder / "state"), "admin": {"unix": str(folder / "admin.sock")}},
            "registry": {"aliases": aliases}, **more}


class Aliases:
    """The admin routes of a server; each answer is (status, JSON)."""

    def __init__(self, server):
        self.server = server
        self.connection = UnixConnection(server.folder / "admin.sock")

    def call(self, method, path="", body=None):
        status, text = self.server.call(method, "/admin/v1/aliases" + path, body, connection=self.connection)
        return status, json.loads(text)

    def set(self, alias, to, **more):
        return self.call("POST", "/" + alias, {"to": to, **more})

    def rollback(self, alias, **more):
        return self.call("POST", f"/{alias}/rollback", more)

    def delete(self, alias, **more):
        return self.call("DELETE", "/" + alias, more or None)

    def history(self, alias):
        status, answer = self.call("GET", f"/{alias}/history")
        expect(status == 200, status, answer)
        return answer["history"]

    def rows(self):
        status, answer = self.call("GET")
        expect(status == 200, status, answer)
        return {row["alias"]: row for row in answer["aliases"]}


def ask(server, model, connection=None, key=None, **more):
    body = {"model": model, "prompt": "a", "max_tokens": 1, **more}
    return server.call("POST", "/v1/completions", body, credential=key, connection=connection)[0]


def means(server, name):
    """The model that answers to a name; None: nobody does."""
    status, text = server.call("GET", "/v1/models/" + name)
    return json.loads(text)["root"] if status == 200 else None


def ending(server):
    if server.process.poll() is None:
        server.process.kill()
        server.process.wait()


def is_refused(answer, status, *words):
    expect(answer[0] == status and all(word in json.dumps(answer[1]) for word in words), answer, "not", status, words)


def by_grpc(server, alias):
    """(in the list of models, what the health service says: 1 serves, 2 does not; None: not known)"""
    try:
        import grpc
    except ImportError:
        return None
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        def call(path, request):
            raw = channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
            return raw(request, timeout=30)
        name = bytes([len(alias)]) + alias.encode()
        listed = name in call("/penstock.v1.Inference/ListModels", b"")
        try:
            return listed, call("/grpc.health.v1.Health/Check", b"\x0a" + name)[1]
        except grpc.RpcError:
            return listed, None


def names_and_errors(server, admin):
    expect(ask(server, "chat") == 404, "nobody is called chat yet")
    status, made = admin.set("chat", "demo", reason="first", if_match="")
    expect(status == 200 and (made["from"], made["to"]) == ("", "demo"), status, made)
    expect(ask(server, "chat") == 200 and means(server, "chat") == "demo", "the next request finds it")
    row = admin.rows()["chat"]
    expect(row["to"] == "demo" and row["source"] == "state" and row["active"], row)
    expect(row["who"] == f"uid:{os.getuid()}", row)
    expect(admin.rows()["third"] == {"alias": "third", "to": "other", "source": "file", "active": True}, "the file's")
    listed = {one["id"]: one["root"] for one in json.loads(server.call("GET", "/v1/models")[1])["data"]}
    expect(listed == {"demo": "demo", "chat": "demo", "other": "other", "third": "other"}, listed)
    if by_grpc(server, "chat") is not None:
        server.wait(lambda: by_grpc(server, "chat") == (True, 1), "gRPC's list and health service")
    is_refused(admin.set("chat", "other", if_match="other"), 412, "if_match", "demo")
    is_refused(admin.set("chat", "other", if_match=""), 412, "if_match")
    is_refused(admin.set("new", "demo", if_match="demo"), 412, "if_match", "nothing")
    is_refused(admin.set("chat", "nobody"), 404, "nobody", '"to"')
    is_refused(admin.set("chat", ""), 400, '"to"')
    is_refused(admin.call("POST", "/chat", {"to": "demo", "why": "x"}), 400, '"why"')
    is_refused(admin.call("POST", "/chat", {"to": 5}), 400, '"to"', "a string")
    is_refused(admin.set("chat", "demo", reason="x" * 257), 400, '"reason"')
    for bad in ("a%20b", "a%2Cb", "x" * 129, "x/history"):
        expect(admin.set(bad, "demo")[0] in (400, 405), bad)
    is_refused(admin.set("demo", "other"), 400, '"alias"', "taken")
    is_refused(admin.set("third", "demo"), 409, "managed_by_file")
    is_refused(admin.rollback("chat"), 409, "nothing else before")
    is_refused(admin.delete("none"), 404, "none")
    # By the file's own alias as well; what changes nothing is no line of the history.
    expect(admin.set("chat", "third")[0] == 200 and means(server, "chat") == "other", "an alias of the file")
    expect(admin.set("chat", "third")[1]["number"] == 0 and len(admin.history("chat")) == 2, admin.history("chat"))
    expect(admin.rollback("chat", reason="back", if_match="third")[1]["to"] == "demo", "back")
    expect(admin.delete("chat", reason="gone")[0] == 200 and ask(server, "chat") == 404, "deleted")
    expect(admin.rollback("chat", if_match="")[1]["to"] == "demo" and ask(server, "chat") == 200, "it is back")
    lines = [(line["from"], line["to"], line["reason"]) for line in admin.history("chat")]
    expect(lines == [("", "demo", "first"), ("demo", "third", ""), ("third", "demo", "back"), ("demo", "", "gone"),
                     ("", "demo", "")], lines)
    admin.delete("chat")
    if by_grpc(server, "chat") is not None:
        server.wait(lambda: by_grpc(server, "chat") == (False, 2), "gone from gRPC")


def command_line(server):
    def alias(*words, code=0):
        done = run(BINARY, "admin", *words, "--socket", server.folder / "admin.sock")
        expect(done.returncode == code, words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    alias("alias", "set", "cli", "demo", "--if-match", "", "--reason", "by hand")
    alias("alias", "set", "cli", "other")
    expect("if_match" in alias("alias", "set", "cli", "demo", "--if-match", "", code=1), "a race")
    expect("cli: demo, it was other" in alias("rollback", "cli", "--reason", "slow"), "rollback")
    history = json.loads(alias("alias", "history", "cli", "--json"))["history"]
    expect([line["to"] for line in history] == ["demo", "other", "demo"] and history[2]["reason"] == "slow", history)
    listed = alias("alias", "list")
    expect("cli" in listed and "third" in listed and "active" in listed, listed)
    expect("by hand" in alias("alias", "history", "cli"), "history")
    alias("alias", "delete", "cli")


def race(server, admin):
    """Of many who have seen the same, one changes it."""
    admin.set("raced", "demo")
    present, numbers = "demo", []
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        each = [Aliases(server) for _ in range(8)]
        for _ in range(10):
            wanted = "other" if present == "demo" else "demo"
            answers = list(pool.map(lambda one: one.set("raced", wanted, if_match=present), each))
            answers = [one for one in answers if one[0] != 503]  # a disk that took seconds for another of them
            answers += [(412, {})] * (8 - len(answers))
            expect(sorted(status for status, _ in answers) == [200] + [412] * 7, answers)
            numbers += [answer["number"] for status, answer in answers if status == 200]
            present = wanted
    expect([line["number"] for line in admin.history("raced")][1:] == numbers == sorted(numbers), numbers)


def under_load(server, admin, cycles=500):
    """A switch and a rollback, again and again, while requests name the alias: none fails, each is in the history."""
    admin.set("live", "demo")
    stop, answers = threading.Event(), []

    def load():
        connection = server.connect()
        while not stop.is_set():
            answers.append(ask(server, "live", connection))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    for i in range(cycles):
        for to, change in (("other", lambda: admin.set("live", "other", if_match="demo", reason=f"cycle {i}")),
                           ("demo", lambda: admin.rollback("live", if_match="other"))):
            status, answer = change()
            expect(status == 200 and means(server, "live") == to, status, answer)
            done = len(answers)  # a request at least for each change
            while len(answers) == done and any(thread.is_alive() for thread in threads):
                time.sleep(0.001)
    seconds = time.monotonic() - began
    stop.set()
    for thread in threads:
        thread.join()
    expect(len(answers) >= 2 * cycles and set(answers) == {200}, {code: answers.count(code) for code in set(answers)})
    check_history(admin, cycles)
    print(f"{cycles} times there and back in {seconds:.1f} s beside {len(answers)} requests, none failed", flush=True)


def check_history(admin, cycles):
    lines = admin.history("live")
    expect(len(lines) == 2 * cycles + 1, len(lines))
    expect(all(a["number"] < b["number"] and a["to"] == b["from"]
               for a, b in zip(lines, lines[1:])), "in order, each from where the last one went")
    expect([line["reason"] for line in lines[1::2]] == [f"cycle {i}" for i in range(cycles)], "every reason")


def streams_stay(server, admin):
    """A stream ends on the model that it began with."""
    admin.set("stream", "demo")
    connection = server.connect()
    connection.request("POST", "/v1/completions", json.dumps(
        {"model": "stream", "prompt": "a", "max_tokens": 1900, "n": 16, "ignore_eos": True, "stream": True}),
        {"Content-Type": "application/json", "X-Request-Id": "the-stream"})
    answer = connection.getresponse()
    expect(answer.status == 200 and answer.readline().startswith(b"data:"), "a stream")
    admin.set("stream", "other")
    expect(server.call("POST", "/v1/completions", {"model": "stream", "prompt": "a", "max_tokens": 1},
                       headers={"X-Request-Id": "the-next"})[0] == 200, "the next one")
    expect(answer.read().rstrip().endswith(b"data: [DONE]"), "the stream ends well")

    def model_of(request):
        lines = [json.loads(line) for line in server.log.splitlines() if request in line]
        return next((line["model"] for line in lines if line.get("request_id") == request and "model" in line), None)

    server.wait(lambda: model_of("the-stream") and model_of("the-next"), "both in the log")
    expect((model_of("the-stream"), model_of("the-next")) == ("demo", "other"), "who answered")


def the_file_wins(server, admin):
    admin.set("shadowed", "demo")
    server.edit_config(lambda c: c["models"]["other"].update(aliases=["third", "shadowed"]))
    expect(means(server, "shadowed") == "other", "the configuration's")
    server.wait(lambda: 'alias \\"shadowed\\" of the state file serves nobody' in server.log, "said")
    row = [row for row in admin.call("GET")[1]["aliases"] if row["alias"] == "shadowed" and row["source"] == "state"]
    expect(len(row) == 1 and not row[0]["active"] and "an alias of the model other" in row[0]["why"], row)
    is_refused(admin.set("shadowed", "other"), 409, "managed_by_file")
    server.edit_config(lambda c: c["models"]["other"].update(aliases=["third"]))
    expect(means(server, "shadowed") == "demo" and admin.rows()["shadowed"]["active"], "its own again")
    # Who may use the alias, or the model that it means, is served; others are not told of either.
    server.edit_config(lambda c: c.update(tenants={"anonymous": {"models": ["shadowed"]}}))
    expect(ask(server, "shadowed") == 200 and ask(server, "demo") == 404, "by the alias's name")
    server.edit_config(lambda c: c.update(tenants={"anonymous": {"models": ["other"]}}))
    expect(ask(server, "shadowed") == 404, "it means another")
    admin.set("shadowed", "other")
    expect(ask(server, "shadowed") == 200, "by the model's name")
    server.edit_config(lambda c: c.pop("tenants"))


def audited(server):
    done = run(BINARY, "admin", "audit", "search", "--config", server.config_path)
    expect(done.returncode == 0, done.stderr)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    acts = [e["action"] for e in events if e["what"] == "act" and e["action"].startswith("alias.")]
    expect({"alias.set", "alias.delete", "alias.rollback"} == set(acts), set(acts))
    live = [(e["from"], e["to"]) for e in events if e["what"] == "alias" and e.get("alias") == "live"]
    # What kill -9 came right behind may be missing, nothing else.
    expect(live[:1001] == [("", "demo")] + 500 * [("demo", "other"), ("other", "demo")], len(live), live[:3])
    expect(live[-1] == ("other", "demo"), live[-1])


def life():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server = Server(folder, config(folder, privacy={"audit": {"enabled": True}}))
        try:
            admin = Aliases(server)
            names_and_errors(server, admin)
            command_line(server)
            race(server, admin)
            streams_stay(server, admin)
            the_file_wins(server, admin)
            under_load(server, admin)
            admin.set("live", "other", reason="the last")
            server.kill()
            server = Server(folder, config(folder, privacy={"audit": {"enabled": True}}))
            admin = Aliases(server)
            expect(means(server, "live") == "other" and admin.history("live")[-1]["reason"] == "the last", "kill -9")
            admin.rollback("live")
            server.stop()
            audited(server)
            # A model that is not served any more: the alias waits for it.
            without = config(folder)
            del without["models"]["other"]
            server = Server(folder, without)
            admin = Aliases(server)
            expect(ask(server, "live") == 200 and means(server, "live") == "demo", "a stop")
            is_refused(admin.rollback("live"), 404, "other")
            row = admin.rows()["shadowed"]
            expect(not row["active"] and "other" in row["why"] and ask(server, "shadowed") == 404, row)
            expect('"shadowed\\" of the state file serves nobody: no model' in server.log, "said at the start")
            server.stop()
            server = Server(folder, config(folder, aliases="file"))
            admin = Aliases(server)
            for answer in (admin.set("live", "demo"), admin.delete("live"), admin.rollback("live")):
                is_refused(answer, 409, "managed_by_file")
            expect(ask(server, "live") == 404 and list(admin.rows()) == ["third"], "the file alone")
            expect(ask(server, "third") == 200 and admin.history("live") == [], "the file's")
            server.stop()
        finally:
            ending(server)
    print("restarts, kill -9, a model that went, aliases: file", flush=True)


def no_change(admin, *words):
    for answer in (admin.set("chat", "other"), admin.delete("chat"), admin.rollback("chat")):
        is_refused(answer, 503, *words)


def damaged(folder):
    """While it runs: what was read stays. At a start: the configuration's aliases alone."""
    server = Server(folder, config(folder))
    try:
        admin = Aliases(server)
        admin.set("chat", "other")
        admin.set("chat", "demo")
        for extra in ("-wal", "-shm"):
            (folder / f"state/state.db{extra}").unlink(missing_ok=True)
        (folder / "state/damaged").write_bytes(b"x" * 8192)
        os.replace(folder / "state/damaged", folder / "state/state.db")
        server.wait(lambda: "aliases of the state file cannot be read" in server.log, "said")
        expect(server.metric("penstock_aliases_readable") == 0, "PenstockAliasesNotRead")
        expect(ask(server, "chat") == 200 and means(server, "chat") == "demo" and "chat" in admin.rows(), "served on")
        no_change(admin, "state.db", "not a database")
        # A new file has lost the history: it does not take away what is known.
        (folder / "state/state.db").unlink()
        server.wait(lambda: "lost changes of aliases" in server.log, "said")
        expect(means(server, "chat") == "demo", "served on")
        no_change(admin, "state.db", "lost")
        server.kill()
        (folder / "state/state.db").write_bytes(b"x" * 8192)
        server = Server(folder, config(folder))
        admin = Aliases(server)
        expect(server.call("GET", "/ready")[0] == 200 and ask(server, "third") == 200 and ask(server, "chat") == 404,
               "the file's alone")
        no_change(admin, "state.db", "not a database")
        expect(admin.call("GET", "/chat/history")[0] == 503, "no history")
        expect(server.metric("penstock_usage_write_errors_total") > 0, "PenstockUsageNotWritten")
        (folder / "state/state.db").unlink()
        server.wait(lambda: "aliases of the state file are read again" in server.log, "mended")
        expect(server.metric("penstock_aliases_readable") == 1, "mended")
        expect(admin.set("chat", "demo")[0] == 200 and ask(server, "chat") == 200, "as before")
        server.stop()
    finally:
        ending(server)
    print("a damaged state file", flush=True)


def full_disk(folder):
    server = Server(folder, config(folder))
    try:
        admin = Aliases(server)
        admin.set("chat", "other")
        admin.set("chat", "demo")
        expect(run("prlimit", "--pid", server.process.pid, "--fsize=1000:unlimited").returncode == 0, "prlimit")
        no_change(admin, "state.db")
        expect(ask(server, "chat") == 200 and means(server, "chat") == "demo", "served")
        expect(run("prlimit", "--pid", server.process.pid, "--fsize=unlimited:unlimited").returncode == 0, "prlimit")
        server.wait(lambda: admin.set("chat", "other")[0] == 200, "room again")
        expect([line["to"] for line in admin.history("chat")] == ["other", "demo", "other"], admin.history("chat"))
        server.stop()
    finally:
        ending(server)
    print("a full disk", flush=True)


def read_only(folder):
    if not run("unshare", "-m", "true").returncode == 0:
        return print("no mount namespaces: a read-only folder is left out", flush=True)
    server = Server(folder, config(folder))
    Aliases(server).set("chat", "demo")
    server.stop()
    state = folder / "state"
    expect(run("mount", "--bind", state, state).returncode == 0
           and run("mount", "-o", "remount,bind,ro", state).returncode == 0, "mount")
    try:
        server = Server(folder, config(folder))
        admin = Aliases(server)
        expect(ask(server, "chat") == 200 and len(admin.history("chat")) == 1, "read")
        for answer in (admin.set("chat", "other"), admin.delete("chat")):
            is_refused(answer, 503, "state.db", "readonly")
        server.stop()
    finally:
        ending(server)
        run("umount", state)
    print("a read-only folder", flush=True)


life()
for check in (damaged, full_disk, read_only):
    with tempfile.TemporaryDirectory() as home:
        check(pathlib.Path(home))
