"""Embeddings and scores pass the chain as prompts do: bans, scripts, bounds, Lua and call-outs see their texts."""

import http.server
import json
import threading

import rig

ENCODERS = rig.ROOT / "tests/goldens/encoders"
EMBED, RERANK = "/v1/embeddings", "/v1/rerank"
LUA = """
function request(body, facts)
  if facts.tenant ~= "anonymous" then return deny(403, "who?") end
  if body.model == "away" then route("bert") end
  tag("texts", type(body.prompt) == "table" and #body.prompt or 1)
  return body
end
function prompt(text, facts)
  return (string.gsub(text, "river", "sea"))
end
"""


class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mode, seen = "pass", []

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Service.seen.append(asked)
        body, answer = asked["body"], {"action": "pass"}
        if Service.mode == "deny":
            answer = {"action": "deny", "status": 404, "message": "not here"}
        elif Service.mode == "edit":
            body["prompt"] = "the sea"
            answer = {"action": "edit", "body": body}
        elif Service.mode == "more":
            body["prompt"] = ["the sea", "another"]
            answer = {"action": "edit", "body": body}
        payload = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *arguments):
        pass


def models():
    return {name: {"path": str(ENCODERS / name), "aliases": aliases}
            for name, aliases in (("bert", []), ("bert_reranker", ["ranker"]))}


def post(server, path, **body):
    status, text = server.call("POST", path, body)
    return status, json.loads(text)


def vector(server, text, **more):
    status, answer = post(server, EMBED, model="bert", input=text, **more)
    rig.expect(status == 200, answer)
    return [row["embedding"] for row in answer["data"]]


def scores(server, query, documents):
    status, answer = post(server, RERANK, model="ranker", query=query, documents=documents)
    rig.expect(status == 200, answer)
    return {row["index"]: row["relevance_score"] for row in answer["results"]}


def refused(server, path, status, param, **body):
    got, answer = post(server, path, **body)
    rig.expect(got == status and (answer["error"]["param"] or "") == param, path, body, got, answer)


def built_in():
    guards = {
        "words": {"use": "ban", "words": ["secret plan", "house"], "action": "deny"},
        "mask": {"use": "ban", "words": ["codename"], "action": "mask", "mask": "name"},
        "latin": {"use": "lang", "scripts": ["Latn"], "where": "prompt"},
        "bounds": {"use": "schema", "max_tokens": 10, "max_prompt": 200},
        "system": {"use": "template", "system": "Be brief."},
    }
    chain = ["bounds", "words", "mask", "latin", "system", "cache:exact"]
    with rig.serving(lambda folder: {"models": models(), **rig.ALIKE}) as plain, rig.serving(
        lambda folder: {"models": models(), "guards": guards, "chain": chain, **rig.ALIKE}
    ) as server:
        for text in ("the sea", ["the sea", "an old ship"]):
            rig.expect(vector(server, text) == vector(plain, text), "what no guard minds is as without one")
        rig.expect(vector(server, "the codename here") == vector(plain, "the name here"), "masked")
        masked = scores(plain, "the name", ["a ship", "name"])
        rig.expect(scores(server, "the codename", ["a ship", "codename"]) == masked, "query and documents are masked")
        refused(server, EMBED, 403, "input", model="bert", input=["the sea", "our Secret Plan"])
        refused(server, RERANK, 403, "documents", model="ranker", query="x", documents=["ok", "the secret plan"])
        refused(server, RERANK, 403, "documents", model="ranker", query="the secret plan", documents=["ok"])
        refused(server, EMBED, 403, "input", model="bert", input="\u043c\u043e\u0440\u0435")
        refused(server, EMBED, 400, "input", model="bert", input="the sea " * 100)
        # Ids are looked at as the text that the tokenizer makes of them.
        ids = json.loads(server.call("POST", "/tokenize", {"model": "bert", "prompt": "an old house"})[1])["tokens"]
        refused(server, EMBED, 403, "input", model="bert", input=ids)
        # The chain is not for these: nothing reaches a model.
        status = server.call("POST", "/tokenize", {"model": "bert", "prompt": "our secret plan"})[0]
        rig.expect(status == 200, "tokenize")
        rig.expect(server.metric('penstock_chain_seconds_count{link="words"}') >= 8, "it was timed")
        rig.expect(server.metric("penstock_chain_errors_total") == 0, "nothing failed")
        listed = post(server, EMBED, model="bert", input="a", dimensions=3)
        rig.expect(listed[0] == 200, listed)


def fields():
    only = {"use": "schema", "fields": ["model", "input"]}
    with rig.serving(lambda folder: {"models": models(), "guards": {"only": only}, "chain": ["only"]}) as server:
        rig.expect(post(server, EMBED, model="bert", input="x")[0] == 200, "listed fields")
        refused(server, EMBED, 400, "dimensions", model="bert", input="x", dimensions=3)
        refused(server, RERANK, 400, "documents", model="ranker", query="x", documents=["x"])


def script():
    def config(folder):
        (folder / "house.lua").write_text(LUA)
        return {"models": models(), "guards": {"house": {"use": "lua", "file": "house.lua"}}, "chain": ["house"],
                **rig.ALIKE}

    with rig.serving(lambda folder: {"models": models(), **rig.ALIKE}) as plain, rig.serving(config) as server:
        rig.expect(vector(server, "the river") == vector(plain, "the sea"), "Lua changes texts")
        changed = scores(plain, "sea", ["the sea", "x"])
        rig.expect(scores(server, "river", ["the river", "x"]) == changed, "of a rerank too")
        status, answer = post(server, EMBED, model="away", input="the sea")
        rig.expect(status == 200 and answer["data"][0]["embedding"] == vector(plain, "the sea")[0], "it routes", answer)
        post(server, EMBED, model="bert", input=["a", "b", "c"])
        server.wait(lambda: '"tag.texts":"3"' in server.log.replace(" ", ""), "the tag in the log")


def callout():
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    guard = {"use": "http", "url": f"http://127.0.0.1:{service.server_port}/", "timeout": "10s",
             "phases": ["request", "response"]}
    with rig.serving(lambda folder: {"models": models(), "guards": {"out": guard}, "chain": ["out"]}) as server:
        sea = vector(server, "the sea")
        rig.expect([s["phase"] for s in Service.seen] == ["request"], Service.seen)
        rig.expect(Service.seen[0]["body"]["prompt"] == "the sea", Service.seen)
        Service.mode = "edit"
        rig.expect(vector(server, "bread") == sea, "it edits")
        Service.mode = "deny"
        refused(server, EMBED, 404, "", model="bert", input="x")
        Service.mode = "more"
        refused(server, EMBED, 503, "", model="bert", input="x")
    service.shutdown()


if __name__ == "__main__":
    built_in()
    fields()
    script()
    callout()
    print("embeddings and scores pass the chain")
