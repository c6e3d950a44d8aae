"""The audit log: what is in it, and that no change to it goes unseen; it goes on over rotation, restart and kill."""

import hashlib
import json
import os
import pathlib
import shutil
import struct
import tempfile
import time

from rig import BINARY, ROOT, Server, UnixConnection, expect, openssl, run


def config(folder, **audit):
    (folder / "pepper").write_text("p" * 40)
    if not (folder / "audit.key").exists():
        openssl("genpkey", "-algorithm", "ed25519", "-out", folder / "audit.key")
        openssl("pkey", "-in", folder / "audit.key", "-pubout", "-out", folder / "audit.pub")
    return {
        "server": {"state_dir": str(folder / "state"), "admin": {"unix": str(folder / "admin.sock")},
                   "public": {"http": "127.0.0.1:0", "grpc": ""}},
        "auth": {"api_keys": {"pepper_file": "pepper"}},
        "privacy": {"audit": {"enabled": True, "sign_key_file": "audit.key", "rotate": "64KiB", **audit}},
    }


def verify(log, key):
    done = run(BINARY, "admin", "audit", "verify", "--dir", log, "--key", key, "--json")
    expect(done.returncode in (0, 2), done.stderr)
    report = json.loads(done.stdout)
    expect(report["ok"] == (done.returncode == 0), report)
    return report


def search(log, *arguments):
    done = run(BINARY, "admin", "audit", "search", "--dir", log, *arguments)
    expect(done.returncode == 0, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def complete(server, key, **more):
    body = {"model": "demo", "prompt": "a secret of mine", "max_tokens": 3, "ignore_eos": True, **more}
    return server.call("POST", "/v1/completions", body, key, {"Content-Type": "application/json"})


def work(server, log, count):
    """Requests, a refusal, a change of keys and a reload; (key, id)."""
    made = server.keys("create", "--tenant", "clinic")
    key = made["key"]
    server.wait(lambda: complete(server, key)[0] == 200, "the key is known")
    expect(complete(server, "nobody")[0] == 401, "turned away")
    expect(server.call("GET", "/metrics", credential=key, headers={"X-Forwarded-For": "1.2.3.4"})[0] == 403, "denied")
    for _ in range(count):
        expect(complete(server, key)[0] == 200, "served")
    other = server.keys("create", "--tenant", "other")
    # Files are looked at four times a second: what lasts shorter is one change.
    server.wait(lambda: any(line["key"] == other["id"] for line in search(log, "--what", "key")), "creation")
    server.keys("revoke", other["id"])
    server.wait(lambda: any(line["change"] == "revoked" for line in search(log, "--what", "key")), "revocation")
    text = json.loads(server.config_path.read_text())
    text["limits"] = {"max_n": text.get("limits", {}).get("max_n", 3) + 1}
    server.config_path.write_text(json.dumps(text))
    server.wait(lambda: search(log, "--what", "reload"), "reload")
    return key, made["id"]


def contents(log, key_id, count):
    lines = search(log, "--what", "request", "--tenant", "clinic")
    served = [line for line in lines if line["code"] == 200]
    expect(len(served) == count + 1, "requests", len(served), count)
    expect(all(line["completion_tokens"] == 3 and line["key"] == key_id and line["model"] == "demo"
               for line in served), served[0])
    reasons = {line["reason"] for line in search(log, "--what", "denied")}
    expect({"unknown", "permission"} <= reasons, reasons)
    denied = [line for line in search(log, "--what", "denied") if line["reason"] == "permission"]
    expect(denied[0]["key"] == key_id and denied[0]["path"] == "/metrics", denied)
    expect(denied[0]["address"] == "127.0.0.1", denied)
    changes = [line["change"] for line in search(log, "--what", "key")]
    expect(changes.count("created") >= 1 and "revoked" in changes, changes)
    expect(search(log, "--what", "reload")[0]["outcome"] == "taken", "reload")
    everything = "".join(path.read_text() for path in log.iterdir())
    expect("secret of mine" not in everything, "content in the audit log")


def tampering(folder, log, key):
    """Each change is made to a copy; each has to be seen."""
    files = sorted(log.glob("audit-*.jsonl"))
    expect(len(files) >= 3, "rotation", files)

    def lines_of(copy, i):
        path = sorted(copy.glob("audit-*.jsonl"))[i]
        return path, path.read_text().splitlines(keepends=True)

    def edit(change):
        def apply(copy):
            for i in (0, 1, -1):
                path, lines = lines_of(copy, i)
                change(lines, len(lines) // 2)
                path.write_text("".join(lines))
                yield f"file {i}"
                shutil.copyfile(log / path.name, path)
        return apply

    def replace(lines, i):
        lines[i] = lines[i].replace('"what":', '"what" :')
        expect('"what" :' in lines[i], lines[i])

    def replace_last(lines, i):
        lines[-1] = lines[-1].replace('"time":"2', '"time":"3')

    def swap(lines, i):
        lines[i], lines[i + 1] = lines[i + 1], lines[i]

    def insert(lines, i):
        lines.insert(i, lines[i])

    def rechain(copy):
        """Whoever has no key makes the whole chain anew."""
        import hashlib
        previous = "0" * 64
        for path in sorted(copy.glob("audit-*.jsonl")):
            out = []
            for text in path.read_text().splitlines():
                line = json.loads(text)
                line["prev"] = previous
                if line["what"] == "request":
                    line["tenant"] = "somebody else"
                text = json.dumps(line, separators=(",", ":"))
                previous = hashlib.sha256(text.encode()).hexdigest()
                out.append(text + "\n")
            path.write_text("".join(out))
        head = json.loads((copy / "head.json").read_text())
        head["digest"] = previous
        (copy / "head.json").write_text(json.dumps(head))
        yield "all"

    def cut(bytes_kept):
        def apply(copy):
            path = sorted(copy.glob("audit-*.jsonl"))[-1]
            data = path.read_bytes()
            path.write_bytes(data[:bytes_kept(data)])
            yield "the end"
        return apply

    def remove(i):
        def apply(copy):
            sorted(copy.glob("audit-*.jsonl"))[i].unlink()
            yield f"file {i}"
        return apply

    def no_head(copy):
        (copy / "head.json").unlink()
        yield "head"

    def old_head(copy):
        """The end cut off, and the head made to fit, without the key."""
        path, lines = lines_of(copy, -1)
        path.write_text("".join(lines[:-2]))
        head = json.loads((copy / "head.json").read_text())
        head["last"] -= 2
        head["digest"] = json.loads(lines[-2])["prev"]
        (copy / "head.json").write_text(json.dumps(head))
        yield "head"

    changes = {
        "altered": edit(replace), "the last altered": edit(replace_last),
        "deleted": edit(lambda lines, i: lines.pop(i)), "the last deleted": edit(lambda lines, i: lines.pop()),
        "the first deleted": edit(lambda lines, i: lines.pop(0)), "reordered": edit(swap), "doubled": edit(insert),
        "a byte less": cut(lambda data: len(data) - 1), "half a file": cut(lambda data: len(data) // 2),
        "an empty file": cut(lambda data: 0), "the first file gone": remove(0), "a file gone": remove(1),
        "the last file gone": remove(-1), "the head gone": no_head, "the head altered": old_head,
        "a new chain": rechain,
    }
    seen = 0
    for name, change in changes.items():
        with tempfile.TemporaryDirectory() as other:
            copy = pathlib.Path(other) / "audit"
            shutil.copytree(log, copy)
            for where in change(copy):
                report = verify(copy, key)
                expect(not report["ok"], "not seen:", name, where)
                seen += 1
    print(f"{seen} ways to tamper, all seen", flush=True)
    expect(not verify(log, folder / "other.key")["ok"], "signed by another key")


def restarts(folder, log):
    """The chain goes on: after a clean end, after kill -9, after half a line."""
    last = verify(log, folder / "audit.pub")
    expect(last["ok"], last)
    for how in ("clean", "kill", "half"):
        server = Server(folder, config(folder))
        try:
            key = server.keys("create", "--tenant", "t")["key"]
            server.wait(lambda: complete(server, key)[0] == 200, "the key is known")
            server.wait(lambda: server.metric("penstock_audit_lines_total") >= 2, "written")
            expect(server.metric("penstock_audit_chain_ok") == 1, how, server.log)
            if how == "clean":
                server.stop()
            else:
                server.kill()
        finally:
            if server.process.poll() is None:
                server.process.kill()
        if how == "half":
            path = sorted(log.glob("audit-*.jsonl"))[-1]
            path.write_bytes(path.read_bytes() + b'{"n":')
        report = verify(log, folder / "audit.pub")
        expect(report["ok"] == (how != "half") and report["last"] > last["last"], how, report)
        last = report
    server = Server(folder, config(folder))
    expect(server.metric("penstock_audit_chain_ok") == 1, "half a line is no tampering")
    server.stop()
    expect(verify(log, folder / "audit.pub")["ok"], "after half a line")
    expect(len(search(log, "--what", "recovered")) == 1, "recovered")
    # Tampering while the server is down is seen at its start.
    path = sorted(log.glob("audit-*.jsonl"))[0]
    text = path.read_text()
    path.write_text(text.replace("clinic", "nobody", 1))
    server = Server(folder, config(folder))
    expect(server.metric("penstock_audit_chain_ok") == 0 and "tampered" in server.log, server.log)
    server.stop()
    path.write_text(text)
    print("the chain goes on over restarts", flush=True)


def export(folder, log):
    out = folder / "lines.csv"
    done = run(BINARY, "admin", "audit", "export", "--dir", log, "--what", "request", "--format", "csv", "--out", out)
    expect(done.returncode == 0, done.stderr)
    lines = out.read_text().splitlines()
    expect(lines[0].startswith("n,time,what") and len(lines) == 1 + len(search(log, "--what", "request")), lines[:2])


def adapter(folder):
    """A PEFT directory that changes nothing: rank 2 of zeros."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(
        {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}))
    header, at = {}, 0
    for layer in range(4):
        for part, shape in (("A", [2, 256]), ("B", [256, 2])):
            header[f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{part}.weight"] = {
                "dtype": "F32", "shape": shape, "data_offsets": [at, at + 2048]}
            at += 2048
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))


def digest(folder):
    """What the server says that the files of a model are."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        if path.suffix in (".json", ".safetensors", ".gguf", ".model", ".txt", ".jinja", ".tiktoken"):
            total.update(f"{path.name}\n{path.stat().st_size}\n".encode() + path.read_bytes())
    return total.hexdigest()


def acts(folder):
    """What operators do is on record with who they are, and what is served with what it is."""
    adapter(folder / "lora" / "kind")
    text = config(folder)
    text["models"] = {"demo": {"path": str(ROOT / "models/demo"), "lora": {"dir": str(folder / "lora")}}}
    log = folder / "state" / "audit"
    server = Server(folder, text)
    try:
        def admin(method, path, body=None):
            return server.call(method, path, body, headers={"Content-Type": "application/json"},
                               connection=UnixConnection(folder / "admin.sock"))

        expect(admin("POST", "/admin/v1/keys", {"tenant": "clinic"})[0] == 200, "created")
        status, keys = admin("GET", "/admin/v1/keys")
        key = json.loads(keys)["keys"][0]["id"]
        expect(admin("DELETE", "/admin/v1/keys/" + key)[0] == 200, "revoked")
        expect(admin("DELETE", "/admin/v1/keys/nokey")[0] == 404, "no such key")
        load = {"lora_name": "kind", "lora_path": "kind"}
        status, answer = admin("POST", "/v1/load_lora_adapter", load)
        expect(status == 200, "loaded", answer)
        expect(admin("POST", "/v1/unload_lora_adapter", {"lora_name": "kind"})[0] == 200, "unloaded")
        text = json.loads(server.config_path.read_text())
        text["models"]["demo"]["aliases"] = ["show", "test"]
        server.config_path.write_text(json.dumps(text))
        expect(admin("POST", "/admin/v1/config/reload")[0] == 200, "reloaded")
        expect(admin("POST", "/admin/v1/drain")[0] == 202, "drained")
        server.ended = True
        expect(server.process.wait(60) == 0, server.log)
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
    done = search(log, "--what", "act")
    expect(all(line["uid"] == os.getuid() and line["proof"] == "socket" for line in done), done)
    seen = [(line["action"], line["object"], line["outcome"] == "done") for line in done]
    expect(seen == [("key.create", key, True), ("key.revoke", key, True), ("key.revoke", "nokey", False),
                    ("adapter.load", "kind", True), ("adapter.unload", "kind", True),
                    ("config.reload", "", True), ("drain", "", True)], seen)
    models = [(line["change"], line.get("adapter"), line.get("sha256")) for line in search(log, "--what", "model")]
    expect(models == [("loaded", None, digest(ROOT / "models/demo")), ("loaded", "kind", digest(folder / "lora/kind")),
                      ("unloaded", "kind", None)], models)
    expect([line["aliases"] for line in search(log, "--what", "alias")] == ["show test"], "aliases")
    expect(len(search(log, "--what", "drain")) == 1, "drain")
    expect(verify(log, folder / "audit.pub")["ok"], "the chain")
    print("what operators did is on record, and who they were", flush=True)


def blocked(folder, policy):
    """The log cannot be written: block refuses requests until it can be, alert serves them and says so."""
    server = Server(folder, config(folder, on_failure=policy))
    try:
        key = server.keys("create", "--tenant", "t")["key"]
        server.wait(lambda: complete(server, key)[0] == 200, "the key is known")
        expect(server.metric("penstock_audit_chain_ok") == 1, "ok")
        # No file of this process grows any more: as on a full disk.
        limit = run("prlimit", "--pid", server.process.pid, "--fsize=1000:unlimited")
        expect(limit.returncode == 0, limit.stderr)
        complete(server, key)
        server.wait(lambda: server.metric("penstock_audit_chain_ok") == 0, "not ok")
        status, text = complete(server, key)
        expect(status == (503 if policy == "block" else 200), policy, status, text)
        expect(policy == "alert" or "audit" in text, text)
        expect(server.call("GET", "/ready")[0] == (503 if policy == "block" else 200), "ready")
        expect(server.metric("penstock_audit_write_errors_total") > 0, "errors")
        run("prlimit", "--pid", server.process.pid, "--fsize=unlimited")
        server.wait(lambda: server.metric("penstock_audit_chain_ok") == 1, "ok again")
        expect(complete(server, key)[0] == 200, "served again")
        server.stop()
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
    print(f"a full disk under on_failure: {policy}", flush=True)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        log = folder / "state/audit"
        server = Server(folder, config(folder))
        try:
            count = 450
            key, key_id = work(server, log, count)
            while True:
                server.wait(lambda: len(search(log, "--what", "request", "--tenant", "clinic")) > count, "all lines")
                last = sorted(log.glob("audit-*.jsonl"))[-1].read_bytes()
                if last.count(b"\n") >= 4 and len(last) < 60 << 10:  # and has room for the lines of the end
                    break
                expect(complete(server, key)[0] == 200, "served")
                count += 1
            contents(log, key_id, count)
            server.stop()
        finally:
            if server.process.poll() is None:
                server.process.kill()
        report = verify(log, folder / "audit.pub")
        expect(report["ok"] and report["checkpoints"] >= 1, report)
        print(f"{report['last']} lines, {report['checkpoints']} checkpoints", flush=True)
        openssl("genpkey", "-algorithm", "ed25519", "-out", folder / "other.key")
        tampering(folder, log, folder / "audit.key")
        export(folder, log)
        restarts(folder, log)
        expect(verify(log, folder / "audit.pub")["ok"], "at the end")
        for policy in ("alert", "block"):
            blocked(folder, policy)
        expect(verify(log, folder / "audit.pub")["ok"], "after a full disk")
    with tempfile.TemporaryDirectory() as name:
        acts(pathlib.Path(name))


main()
