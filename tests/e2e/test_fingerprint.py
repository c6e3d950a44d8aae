"""system_fingerprint: what a client compares before it expects a seed to give the same answer again."""

import json
import shutil

from conftest import DEMO
from openai import OpenAI

# Which kernels a process finds faster is of its fingerprint, and two may find differently.
ALIKE = ("--set", "engine.cpu_kernels=avx2")


def fingerprints(server):
    client = OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none")
    model = client.models.list().data[0].id
    ask = {"model": model, "max_tokens": 3, "temperature": 0}
    text, talk = {"prompt": "Once", **ask}, {"messages": [{"role": "user", "content": "Hello"}], **ask}
    seen = {client.completions.create(**text).system_fingerprint,
            client.chat.completions.create(**talk).system_fingerprint}
    for stream in (client.completions.create(**text, stream=True), client.chat.completions.create(**talk, stream=True)):
        seen |= {piece.system_fingerprint for piece in stream}
    assert len(seen) == 1, seen
    name, files, settings = seen.pop().split("_")
    assert name == "fp" and all(len(part) == 8 and int(part, 16) >= 0 for part in (files, settings))
    return files, settings


def test_equal_servers_have_equal_fingerprints_and_others_have_not(serve, tmp_path):
    files, settings = fingerprints(serve(*ALIKE))
    copy = tmp_path / "copy"
    shutil.copytree(DEMO, copy)
    # Wherever it lies, however it is called.
    assert fingerprints(serve(*ALIKE, "--served-model-name", "x,y", model=copy)) == (files, settings)
    other_files, same = fingerprints(serve(*ALIKE, "--dtype", "bfloat16", model=copy))
    assert other_files == files and same != settings
    config = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps({**config, "temperature": 0.5}))
    other_files, same = fingerprints(serve(*ALIKE, model=copy))
    assert other_files != files and same == settings


def test_other_weights_of_the_same_shapes_are_told_apart(serve, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(DEMO, copy)
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    begin = 8 + int.from_bytes(data[:8], "little")
    for at in range(begin, len(data), 2):  # the lowest bit of every BF16 number, or of the half of every F32
        data[at] ^= 1
    weights.write_bytes(data)
    files, settings = fingerprints(serve(*ALIKE))
    other_files, same = fingerprints(serve(*ALIKE, model=copy))
    assert other_files != files and same == settings
