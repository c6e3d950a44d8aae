"""org/name from a local stand-in for the hub: cache, resume, checksums, tokens."""

import hashlib
import http.server
import json
import pathlib
import shutil
import subprocess
import threading
import urllib.request

import pytest
from conftest import BINARY, DEMO, ROOT

NAMES = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
]
ENCODER = ROOT / "tests/goldens/encoders/qwen3_embedding"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """Serves `root` as org/demo; `cut` ends the first transfers of large files early; `spoil` changes a byte."""

    def __init__(self, cut=0, spoil=False, token=None, root=DEMO, names=NAMES):
        super().__init__(("127.0.0.1", 0), Answer)
        self.root, self.names = pathlib.Path(root), names
        self.cut, self.spoil, self.token, self.ranges, self.requests = cut, spoil, token, [], 0
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Answer(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        hub = self.server
        hub.requests += 1
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self.send_error(401)
        if self.path.startswith("/api/models/org/demo/revision/main"):
            return self.reply(
                json.dumps(
                    {"sha": COMMIT, "siblings": [self.describe(n) for n in hub.names]}
                ).encode()
            )
        prefix = f"/org/demo/resolve/{COMMIT}/"
        if not self.path.startswith(prefix):
            return self.send_error(404)
        data = (hub.root / self.path[len(prefix) :]).read_bytes()
        if hub.spoil and len(data) > 10**6:
            data = data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]
        begin, status = 0, 200
        if "Range" in self.headers:
            begin, status = int(self.headers["Range"].split("=")[1].rstrip("-")), 206
            hub.ranges.append(begin)
        cut = None
        if hub.cut > 0 and len(data) > 10**6:
            hub.cut -= 1
            cut = begin + 2 * 10**6
        self.reply(data[begin:], status, None if cut is None else data[begin:cut])

    def describe(self, name):
        data = (self.server.root / name).read_bytes()
        entry = {
            "rfilename": name,
            "size": len(data),
            "blobId": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
        }
        if len(data) > 10**6:
            entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        return entry

    def reply(self, data, status=200, sent=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data if sent is None else sent)
        if sent is not None:
            self.close_connection = True


def environment(hub, tmp_path, **more):
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_CACHE": "",
        "HF_TOKEN": "",
        **more,
    }


def test_downloads_resumes_and_then_uses_the_cache(serve, tmp_path):
    hub = Hub(cut=2, names=NAMES + ["README.md"])
    server = serve(model="org/demo", env=environment(hub, tmp_path))
    assert '"demo"' in server.get("/v1/models") or "org/demo" in server.get("/v1/models")
    assert hub.ranges == [2 * 10**6, 4 * 10**6]
    snapshot = tmp_path / "hf/hub/models--org--demo/snapshots" / COMMIT
    for name in NAMES:
        assert (snapshot / name).is_symlink() and (snapshot / name).read_bytes() == (
            pathlib.Path(DEMO) / name
        ).read_bytes()
    assert (
        not list((tmp_path / "hf").rglob("*.incomplete")) and not (snapshot / "README.md").exists()
    )
    server.stop()
    before = hub.requests
    serve(model="org/demo", env=environment(hub, tmp_path, HF_HUB_OFFLINE="1"))
    assert hub.requests == before


def test_the_pooling_of_an_embedding_model_comes_with_it(serve, tmp_path):
    root = tmp_path / "encoder"
    shutil.copytree(ENCODER, root)
    names = [str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()]
    assert "modules.json" in names and "1_Pooling/config.json" in names
    (root / "2_Other").mkdir()
    (root / "2_Other/config.json").write_text("{}")
    hub = Hub(root=root, names=names + ["2_Other/config.json"])
    server = serve(model="org/demo", env=environment(hub, tmp_path))
    body = json.dumps({"input": "the sea"}).encode()
    request = urllib.request.Request(
        server.url + "/v1/embeddings", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert len(json.load(answer)["data"][0]["embedding"]) > 0
    snapshot = tmp_path / "hf/hub/models--org--demo/snapshots" / COMMIT
    for name in ["modules.json", "1_Pooling/config.json"]:
        assert (snapshot / name).read_bytes() == (root / name).read_bytes()
    assert not (snapshot / "2_Other").exists()


def failure(model, env):
    import os

    result = subprocess.run(
        [BINARY, "serve", model, "--port", "0"],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        timeout=120,
    )
    assert result.returncode == 1
    return result.stderr.splitlines()[-1]


def test_a_wrong_checksum_is_not_served(tmp_path):
    message = failure("org/demo", environment(Hub(spoil=True), tmp_path))
    assert "model.safetensors" in message and "checksum" in message
    assert not list((tmp_path / "hf").rglob("config.json"))


def test_a_token_is_sent_and_its_absence_explained(serve, tmp_path):
    hub = Hub(token="t0ken")
    assert "HF_TOKEN" in failure("org/demo", environment(hub, tmp_path))
    serve(model="org/demo", env=environment(hub, tmp_path, HF_TOKEN="t0ken"))


def test_unknown_and_offline(tmp_path):
    hub = Hub()
    assert "404" in failure("org/other", environment(hub, tmp_path))
    assert "HF_HUB_OFFLINE" in failure("org/demo", environment(hub, tmp_path, HF_HUB_OFFLINE="1"))
