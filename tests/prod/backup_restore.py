"""State: a backup made under load, restored into an empty folder; a full disk, a read-only one, a damaged file."""

import json
import os
import pathlib
import shutil
import sqlite3
import tempfile
import threading
import time

from rig import BINARY, Server, expect, run


def config(folder):
    (folder / "pepper").write_text("p" * 40)
    return {
        "server": {"state_dir": str(folder / "state"), "admin": {"unix": str(folder / "admin.sock")},
                   "public": {"http": "127.0.0.1:0", "grpc": ""}},
        "auth": {"api_keys": {"pepper_file": "pepper"}},
        "registry": {"aliases": "local"},
        "tenants": {"t": {"budget": {"tokens": "1M", "per": "1000h"}}},
    }


def complete(server, key, model="demo"):
    body = {"model": model, "prompt": "a", "max_tokens": 2, "ignore_eos": True}
    return server.call("POST", "/v1/completions", body, key, {"Content-Type": "application/json"})[0]


def aliases(folder, path="", **change):
    """The answer of the admin routes; of a change where there is one."""
    method, body = ("POST", change) if change else ("GET", None)
    connection = admin(folder)
    connection.request(method, "/admin/v1/aliases" + path, json.dumps(body) if body else None)
    answer = connection.getresponse()
    text = answer.read()
    expect(answer.status == 200, answer.status, text)
    return json.loads(text)


def usage(server, tenant="t"):
    done = run(BINARY, "admin", "usage", "--tenant", tenant, "--json", "--config", server.config_path)
    expect(done.returncode == 0, done.stderr)
    return json.loads(done.stdout)["usage"][0]


def ending(server):
    if server.process.poll() is None:
        server.process.kill()
        server.process.wait()


def replace_state(folder, content):
    """Without the log of writes, which stays where connections close at once and would mend the file."""
    for extra in ("-wal", "-shm"):
        (folder / f"state/state.db{extra}").unlink(missing_ok=True)
    (folder / "state/state.db").write_bytes(content)


def drill():
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as other:
        folder, fresh = pathlib.Path(name), pathlib.Path(other)
        server = Server(folder, config(folder))
        try:
            key = server.keys("create", "--tenant", "t")["key"]
            server.wait(lambda: complete(server, key) == 200, "key")
            stop, answers = threading.Event(), []

            def load():
                while not stop.is_set():
                    answers.append(complete(server, key))

            thread = threading.Thread(target=load)
            thread.start()
            for i in range(5):
                copy = folder / f"copy{i}.db"
                aliases(folder, f"/a{i % 2}", to="demo", reason=f"before {i}")
                least = usage(server)
                began = time.monotonic()
                done = run(BINARY, "admin", "backup", "--to", copy, "--config", server.config_path)
                expect(done.returncode == 0, done.stderr)
                expect(copy.stat().st_mode & 0o777 == 0o600, "mode")
                again = run(BINARY, "admin", "backup", "--to", copy, "--config", server.config_path)
                expect(again.returncode == 1 and "already" in again.stderr, again.stderr)
                with sqlite3.connect(copy) as db:
                    expect(db.execute("PRAGMA integrity_check").fetchone() == ("ok",), "integrity")
                    expect(db.execute("SELECT count(*) FROM aliases").fetchone() == (min(i + 1, 2),), "aliases")
            seconds = time.monotonic() - began
            stop.set()
            thread.join()
            expect(answers and set(answers) == {200}, "served while a backup is made", answers)
            server.kill()
        finally:
            ending(server)
        # Elsewhere, with nothing but the copy.
        began = time.monotonic()
        (fresh / "state").mkdir()
        shutil.copyfile(copy, fresh / "state/state.db")
        server = Server(fresh, config(fresh))
        try:
            server.wait(lambda: complete(server, key) == 200, "the key is valid there")
            restored = usage(server)
            rows = [(row["alias"], row["to"], row["active"]) for row in aliases(fresh)["aliases"]]
            expect(rows == [("a0", "demo", True), ("a1", "demo", True)], rows)
            expect([line["reason"] for line in aliases(fresh, "/a1/history")["history"]] == ["before 1"], "history")
            expect(complete(server, key, "a1") == 200, "an alias serves there")
            print(f"a backup in {seconds:.2f} s under load; restored and serving in {time.monotonic() - began:.1f} s:"
                  f" {restored['requests']} requests, at least {least['requests']} when it was made", flush=True)
            expect(restored["requests"] >= least["requests"] + 1, least, restored)
            expect(restored["budget_used"] >= least["budget_used"] and restored["budget_end"] == least["budget_end"],
                   least, restored)
            server.stop()
        finally:
            ending(server)
        damaged = bytearray(copy.read_bytes())
        damaged[4096:8192] = b"\xff" * 4096
        replace_state(fresh, damaged)
        done = run(BINARY, "admin", "backup", "--to", fresh / "no.db", "--config", server.config_path)
        expect(done.returncode != 0 and not (fresh / "no.db").exists(), "a damaged file is no backup", done.stdout)


def full_disk():
    """Nothing grows any more: requests are served and counted, and written once there is room."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server = Server(folder, config(folder))
        try:
            key = server.keys("create", "--tenant", "t")["key"]
            server.wait(lambda: complete(server, key) == 200, "key")
            expect(run("prlimit", "--pid", server.process.pid, "--fsize=1000:unlimited").returncode == 0, "prlimit")
            before = usage(server)["requests"]
            expect([complete(server, key) for _ in range(20)] == [200] * 20, "served on a full disk")
            server.wait(lambda: server.metric("penstock_usage_write_errors_total") > 0, "said")
            status, text = server.call("POST", "/admin/v1/keys", {"tenant": "x"}, connection=admin(folder))
            expect(status == 503, "a key cannot be made", status, text)
            expect(usage(server)["requests"] == before + 20, "counted")
            server.kill()
        finally:
            ending(server)
        server = Server(folder, config(folder))
        try:
            expect(usage(server)["requests"] == before + 20, "not lost, although it could not be written")
            server.wait(lambda: complete(server, key) == 200, "key")
            server.wait(lambda: rows(folder) == before + 21, "written")
            server.stop()
        finally:
            ending(server)
    print("a full disk", flush=True)


def admin(folder):
    from rig import UnixConnection
    return UnixConnection(folder / "admin.sock")


def rows(folder):
    with sqlite3.connect(folder / "state/state.db") as db:
        return db.execute("SELECT sum(requests) FROM usage WHERE tenant = 't'").fetchone()[0]


def damaged():
    """A damaged state file: keys read before stay, what is used is counted on; at a start keys admit nobody."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server = Server(folder, config(folder))
        try:
            key = server.keys("create", "--tenant", "t")["key"]
            server.wait(lambda: complete(server, key) == 200, "key")
            good = (folder / "state/state.db").read_bytes()
            replace_state(folder, b"x" * len(good))
            server.wait(lambda: "state.db" in server.log, "said")
            expect([complete(server, key) for _ in range(10)] == [200] * 10, "served")
            server.kill()
            server = Server(folder, config(folder))
            expect(complete(server, key) == 401 and "state.db" in server.log, "nobody is let in")
            expect(usage(server)["requests"] == 11, "counted", usage(server))
            server.stop()
        finally:
            ending(server)
    print("a damaged state file", flush=True)


def read_only():
    """A state folder that nothing can be written into: served from what is there, and said."""
    if os.geteuid() == 0 and not run("unshare", "-m", "true").returncode == 0:
        return print("no mount namespaces: a read-only folder is left out", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server = Server(folder, config(folder))
        key = server.keys("create", "--tenant", "t")["key"]
        server.wait(lambda: complete(server, key) == 200, "key")
        server.stop()
        state = folder / "state"
        if os.geteuid() == 0:  # modes mean nothing: a mount that says so
            expect(run("mount", "--bind", state, state).returncode == 0
                   and run("mount", "-o", "remount,bind,ro", state).returncode == 0, "mount")
        else:
            for path in [*state.iterdir(), state]:
                path.chmod(0o500 if path == state else 0o400)
        try:
            server = Server(folder, config(folder))
            server.wait(lambda: complete(server, key) == 200, "served")
            expect(server.metric("penstock_usage_write_errors_total") > 0, "errors")
            expect("kept in memory" in server.log, server.log)
            server.stop()
        finally:
            ending(server)
            if os.geteuid() == 0:
                run("umount", state)
            else:
                state.chmod(0o700)
    print("a read-only folder", flush=True)


drill()
full_disk()
damaged()
read_only()
