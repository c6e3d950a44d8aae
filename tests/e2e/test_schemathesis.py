"""schemathesis on /openapi.json: no fault of ours, and no answer that its own schema refuses."""

import pathlib
import subprocess
import sys

import pytest
from conftest import DEMO, ROOT, SANITIZED
from lora_adapters import make_adapter

# A schema says less than the server checks (ids within the vocabulary, roles, sums of fields), so a
# body that it takes may still be refused.
NOT_CHECKED = "positive_data_acceptance"
ENCODERS = ROOT / "tests/goldens/encoders"


def find_no_fault(server, folder, *paths, examples=15):
    command = [pathlib.Path(sys.executable).with_name("schemathesis"), "run"]
    command += [server.url + "/openapi.json", "--phases", "examples,coverage,fuzzing"]
    command += ["--exclude-checks", NOT_CHECKED, "--seed", "1", "-n", "8" if SANITIZED else str(examples)]
    command += ["--request-timeout", "120"]
    for path in paths:
        command += ["--include-path", path]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=500, cwd=folder
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert server.process.poll() is None


def test_no_request_of_the_schema_finds_a_fault(demo, tmp_path):
    find_no_fault(demo, tmp_path, examples=40)


@pytest.mark.parametrize("model, path", [("bert", "/v1/embeddings"), ("bert_reranker", "/v1/rerank")])
def test_nor_does_one_of_an_encoder(serve, tmp_path, model, path):
    server = serve(model=str(ENCODERS / model))
    find_no_fault(server, tmp_path, path)
    codes = {line["code"] for line in server.log_lines() if line["message"] == "request"}
    assert {200, 400} <= codes


def test_nor_does_one_of_adapters(serve, tmp_path):
    make_adapter(tmp_path / "adapters/one", 1)
    server = serve("--set", f"models.demo.path={DEMO}", "--set", f"models.demo.lora.dir={tmp_path}/adapters",
                   "--set", "models.demo.lora.allow_runtime=true", model=None)
    find_no_fault(server, tmp_path, "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/models",
                  "/v1/models/{model}")
