"""org/name from a local stand-in for the hub: cache, resume, checksums, tokens."""

import hashlib
import http.server
import json
import pathlib
import re
import shutil
import subprocess
import threading
import urllib.parse
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
OLDER = "89abcdef0123456789abcdef0123456789abcdef"


class Hub(http.server.ThreadingHTTPServer):
    """Serves `root` as org/demo; `cut` ends the first transfers of large files early; `spoil` changes a byte.

    `others`: more revisions, {name: (commit, its root)}; a commit is a revision as well."""

    def __init__(self, cut=0, spoil=False, token=None, root=DEMO, names=NAMES, others={}):
        super().__init__(("127.0.0.1", 0), Answer)
        self.names = names
        self.revisions = {"main": (COMMIT, root), **others}
        self.roots = {commit: pathlib.Path(of) for commit, of in self.revisions.values()}
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
        _, described, revision = self.path.partition("?")[0].partition("/api/models/org/demo/revision/")
        if described:
            commit, _ = hub.revisions.get(urllib.parse.unquote(revision), (revision, None))
            if "/" in revision or commit not in hub.roots:
                return self.send_error(404)
            files = [self.describe(hub.roots[commit] / n, n) for n in hub.names]
            return self.reply(json.dumps({"sha": commit, "siblings": files}).encode())
        _, _, resolved = self.path.partition("/org/demo/resolve/")
        commit, _, name = resolved.partition("/")
        if commit not in hub.roots:
            return self.send_error(404)
        data = (hub.roots[commit] / name).read_bytes()
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

    def describe(self, path, name):
        data = path.read_bytes()
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

    def progress():
        told = [re.fullmatch(r"model.safetensors: (\d+) of (\d+) MiB", line["message"]) for line in server.log_lines()]
        return [(int(m[1]), int(m[2])) for m in told if m]

    server.until(lambda: progress() and progress()[-1][0] == progress()[-1][1])
    told = progress()
    assert told == sorted(told) and len(set(told)) > 3 and told[-1][0] == told[-1][1]
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
    lines = [line for line in result.stderr.splitlines() if not line.startswith("{")]  # of the log
    assert len(lines) == 1 and lines[0].startswith("penstock: "), result.stderr
    return lines[0]


def test_a_wrong_checksum_is_not_served(tmp_path):
    message = failure("org/demo", environment(Hub(spoil=True), tmp_path))
    assert "model.safetensors" in message and "checksum" in message
    assert not list((tmp_path / "hf").rglob("config.json"))


@pytest.fixture
def older(tmp_path):
    """A revision of the model with another context and another checkpoint, which is no smaller."""
    root = tmp_path / "older"
    shutil.copytree(DEMO, root, ignore=shutil.ignore_patterns("golden*", "*.py", "*.md"))
    config = json.loads((root / "config.json").read_text())
    (root / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 1024}))
    weights = bytearray((root / "model.safetensors").read_bytes())
    weights[-2:] = b"\0\0"
    (root / "model.safetensors").write_bytes(weights)
    return root


def snapshots(tmp_path):
    return tmp_path / "hf/hub/models--org--demo/snapshots"


def context(server):
    (model,) = json.loads(server.get("/v1/models"))["data"]
    assert model["id"] == "org/demo"  # whatever its revision
    return model["max_model_len"]


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/7", OLDER])
def test_a_revision_is_downloaded_and_then_found(serve, tmp_path, older, revision):
    """By tag, by a branch with slashes, by commit; what broke off goes on as with any other."""
    hub = Hub(cut=2, others={"v1.0": (OLDER, older), "refs/pr/7": (OLDER, older)})
    env = environment(hub, tmp_path)
    server = serve(model=f"org/demo@{revision}", env=env)
    assert context(server) == 1024
    assert hub.ranges == [2 * 10**6, 4 * 10**6]
    for name in NAMES:
        assert (snapshots(tmp_path) / OLDER / name).read_bytes() == (older / name).read_bytes()
    ref = tmp_path / "hf/hub/models--org--demo/refs" / revision
    assert not ref.exists() if revision == OLDER else ref.read_text() == OLDER
    server.stop()
    before, offline = hub.requests, {**env, "HF_HUB_OFFLINE": "1"}
    for name in {revision, OLDER}:
        server = serve(model=f"org/demo@{name}", env=offline)
        assert context(server) == 1024
        server.stop()
    assert "HF_HUB_OFFLINE" in failure("org/demo", offline)  # its main branch is not there
    assert hub.requests == before
    # It comes beside the other, of which what is the same is there already.
    assert context(serve(model="org/demo", env=env)) == 2048
    assert {p.name for p in snapshots(tmp_path).iterdir()} == {COMMIT, OLDER}
    assert hub.requests == before + 1 + len(["config.json", "model.safetensors"])


def test_a_revision_is_found_where_the_hubs_own_client_left_it(serve, tmp_path, older):
    root = tmp_path / "hf/hub/models--org--demo"
    shutil.copytree(older, root / "snapshots" / OLDER)
    (root / "refs").mkdir()
    (root / "refs/v1.0").write_text(OLDER)
    hub = Hub()
    for revision in ("v1.0", OLDER):
        server = serve(model=f"org/demo@{revision}", env=environment(hub, tmp_path))
        assert context(server) == 1024
        server.stop()
    assert hub.requests == 0


@pytest.mark.parametrize("revision", ["v9", "feature/x", "f" * 40])
def test_a_revision_that_there_is_not(tmp_path, revision):
    message = failure(f"org/demo@{revision}", environment(Hub(), tmp_path))
    assert f"model 'org/demo': no such model, or no revision '{revision}' of it" in message and "404" in message
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize("revision", ["", "..", "a/../b", "a b", "/v1", "a@b"])
def test_what_is_no_revision_is_not_asked_for(tmp_path, revision):
    hub = Hub()
    message = failure(f"org/demo@{revision}", environment(hub, tmp_path))
    assert f"model 'org/demo@{revision}'" in message and "org/name[@rev]" in message
    assert hub.requests == 0


def test_a_wrong_checksum_of_a_revision_is_not_served(tmp_path, older):
    hub = Hub(spoil=True, others={"v1.0": (OLDER, older)})
    message = failure("org/demo@v1.0", environment(hub, tmp_path))
    assert "model.safetensors" in message and "checksum" in message
    assert not list((tmp_path / "hf").rglob("config.json")) and not list((tmp_path / "hf").rglob("v1.0"))


def test_a_token_is_sent_and_its_absence_explained(serve, tmp_path):
    hub = Hub(token="t0ken")
    assert "HF_TOKEN" in failure("org/demo", environment(hub, tmp_path))
    serve(model="org/demo", env=environment(hub, tmp_path, HF_TOKEN="t0ken"))


def test_unknown_and_offline(tmp_path):
    hub = Hub()
    assert "404" in failure("org/other", environment(hub, tmp_path))
    assert "HF_HUB_OFFLINE" in failure("org/demo", environment(hub, tmp_path, HF_HUB_OFFLINE="1"))
