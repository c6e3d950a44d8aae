"""Mutated configurations: nothing crashes, and nothing is let in that the schema does not know."""

import json
import os
import random
import re
import subprocess

import jsonschema
import yaml
from conftest import BINARY, DEMO, ROOT, SANITIZED

class Loader(yaml.SafeLoader):
    """Dates, on and off are text, as they are to the server."""


Loader.yaml_implicit_resolvers = {
    first: [
        (tag, re.compile("true|false") if tag.endswith("bool") else regex)
        for tag, regex in resolvers if not tag.endswith("timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

COUNT = int(os.environ.get("PENSTOCK_MUTATIONS", "40" if SANITIZED else "500"))
VALUES = ["", "x", "-1", "0", "1e9", "99999999999999999999", "true", "null", "[]", "{}", "[1, {a: b}]",
          "'\\0'", "~", "1.5", "10MiB", "3s", "*a", "&a 1", "!!python/object:os.system x", "2024-01-01", "0x10"]


def schema():
    out = subprocess.run([BINARY, "check-config", "--schema"], capture_output=True, text=True, check=True)
    parsed = json.loads(out.stdout)
    jsonschema.Draft202012Validator.check_schema(parsed)
    return jsonschema.Draft202012Validator(parsed)


def base():
    lines = (ROOT / "configs/reference.yaml").read_text().splitlines()
    return [line for line in lines if line.strip() and not line.strip().startswith("#")]


def mutate(rng, lines):
    lines = list(lines)
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(len(lines))
        key, _, _ = lines[i].partition(":")
        kind = rng.randrange(7)
        if kind == 0:
            lines[i] = f"{key}: {rng.choice(VALUES)}"
        elif kind == 1:
            lines[i] = key + rng.choice(["x", "_", " ", "é"]) + ": 1"
        elif kind == 2:
            del lines[i]
        elif kind == 3:
            lines.insert(i, lines[rng.randrange(len(lines))])
        elif kind == 4:
            lines[i] = " " * rng.randrange(8) + lines[i].strip()
        elif kind == 5:
            at = rng.randrange(len(lines[i]) + 1)
            lines[i] = lines[i][:at] + rng.choice("[]{}\"':#&*!|>%@`\t") + lines[i][at:]
        else:
            lines[i] = f"{key}: {'[' * rng.choice([1, 50, 5000])}"
    return "\n".join(lines) + "\n"


def test_mutations_are_read_as_the_schema_has_them(tmp_path):
    rng, known, config = random.Random(1), schema(), tmp_path / "c.yaml"
    taken = refused = 0
    for i in range(COUNT):
        text = mutate(rng, base())
        config.write_text(text)
        result = subprocess.run(
            [BINARY, "check-config", str(config)], capture_output=True, text=True, timeout=60
        )
        assert result.returncode in (0, 1), (i, result.returncode, text)
        if result.returncode == 1:
            refused += 1
            line = result.stderr.strip().splitlines()
            assert len(line) == 1 and line[0].startswith("penstock: "), (i, result.stderr)
            continue
        taken += 1
        try:
            document = yaml.load(text, Loader)
        except yaml.scanner.ScannerError:
            assert "\t" in text, (i, text)  # YAML allows a tab before a colon, PyYAML does not
            continue
        errors = list(known.iter_errors(document))
        assert not errors, (i, text, errors[0])
    print(f"{taken} taken, {refused} refused")
    assert refused > COUNT / 2 and taken > COUNT / 50


def test_the_reference_is_valid():
    known = schema()
    assert known.is_valid(yaml.load((ROOT / "configs/reference.yaml").read_text(), Loader))
    for wrong in (
        {"limits": {"max_m": 1}},
        {"limits": {"max_n": 0}},
        {"engine": {"policy": "fair"}},
        {"models": {"a": {"paths": DEMO}}},
        [],
    ):
        assert not known.is_valid(wrong), wrong


