#!/usr/bin/env python3
"""The test of the pages' blocks notices what it is there for: each page here has one fault, or none.

    tests/docs/marks_test.py BINARY
"""

import pathlib
import sys
import tempfile

import blocks

COMMAND = "```sh\npenstock version\n```\n"
# what a page says -> a part of the problem (None: there is none)
CASES = {
    COMMAND: None,
    "```console\n$ penstock version\nanything\n```\n": None,
    "```console\npenstock version\n```\n": "without a line that begins with '$ '",
    "<!-- not run: it ends the world -->\n```sh\nfalse\n```\n": None,
    "```sh\nfalse\n```\n": "ended with 1",
    "```sh\nfalse | true\n```\n": "ended with 1",
    "```sh\ntrue\nfalse\ntrue\n```\n": "ended with 1",
    "```sh\nx=1\n```\n\n```sh\n[ $x = 1 ]\n```\n": None,  # one shell for a page
    "```sh\necho $unset\n```\n": "unbound variable",
    "<!-- not run: -->\n" + COMMAND: "says nothing behind its colon",
    "<!-- not run -->\n" + COMMAND: "says nothing behind its colon",
    "<!-- never run: why not -->\n" + COMMAND: "unknown mark 'never run'",
    "<!-- not run: a reason -->\ntext\n\n" + COMMAND: "a mark before something that is no block",
    "<!-- not run: a reason -->\n<!-- not run: another -->\n" + COMMAND: "twice",
    "text <!-- not run: a reason -->\n" + COMMAND: "on a line of its own",
    "<!-- not run: the end -->\n": "ends within a block, or with a mark",
    "```\npenstock version\n```\n": "does not say sh",
    "```sh\n./dev serve\n": "ends within a block",
    "<!-- with: absent=present -->\n" + COMMAND: "which the block does not have",
    "<!-- with: version=completion bash -->\n<!-- prints: complete -->\n" + COMMAND: None,
    "<!-- prints: nothing of the kind -->\n" + COMMAND: "it did not print",
    "<!-- fails: for a test -->\n```sh\nfalse\ntrue\n```\n": None,
    "<!-- fails: for a test -->\n" + COMMAND: "it did not fail",
    "<!-- file: a.txt -->\n```yaml\na: 1\n```\n\n```sh\ngrep 'a: 1' a.txt\n```\n": None,
    "<!-- not run: a reason -->\n```sh\npenstock serve --no-such-flag\n```\n": "`penstock serve` has no --no-such-flag",
    "<!-- not run: a reason -->\n```sh\npenstock admin keys make\n```\n": "no such command",
    "<!-- not run: a reason -->\n```sh\nx=$(penstock admin keys create --tenent a)\n```\n": "has no --tenent",
    "<!-- not run: a reason -->\n```sh\nsudo penstock serve \\\n  --config x --prot 1 # --a\n```\n": "has no --prot",
    "<!-- not run: a reason -->\n```sh\n./dev bake\n```\n": "`./dev bake`",
    "<!-- not run: a reason -->\n```sh\n./dev test --all\n```\n": "`./dev test` has no --all",
    "<!-- not run: a reason -->\n```sh\ncat docs/no-such-page.md\n```\n": "docs/no-such-page.md does not exist",
    "<!-- not run: a reason -->\n```sh\nbuild/release/benchmarks/micro/no_bench\n```\n": "is no target",
    "Say `penstock plan --config F --gpu-memory 80GiB`, or\n`penstock check-config\n--refrence`.\n": "no --refrence",
    "```yaml\nlimits: {max_n: 4}\n```\n": None,
    "```yaml\nlimits: {max_nn: 4}\n```\n": "max_nn",
    "```sh\ncurl http://127.0.0.1:8000/v1/models\n```\n": None,
    "```sh\ncurl http://127.0.0.1:8000/v1/no-such-route\n```\n": "ended with 22",
    "```python\nimport no_such_module\n```\n": "No module named",
    "<!-- file: a.yaml -->\n```yaml\nmodels: {a: {path: models/demo}, b: {path: models/demo}}\n```\n\n"
    "<!-- served: a.yaml -->\n" + COMMAND: None,  # the first of several models answers
    "```sh\nopenssl rand -hex 32 >pepper\n```\n\n<!-- file: a.yaml -->\n```yaml\nmodels: {a: {path: models/demo}}\n"
    "server: {state_dir: state}\nauth: {api_keys: {pepper_file: pepper}}\n```\n\n"
    "<!-- served: a.yaml -->\n" + COMMAND: None,  # a server that wants a key
    "<!-- serves -->\n```sh\n./dev serve\npenstock serve no/such --port 8000\n```\n": "ended with",
}


def main():
    wrong, binary = 0, str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as work:
        for text, expected in CASES.items():
            problems = blocks.check(binary, work, {"page.md": text}, lambda text: None)
            fits = not problems if expected is None else len(problems) >= 1 and expected in problems[0]
            if not fits:
                wrong += 1
                print(f"--- expected {expected!r}, saw {problems}, of\n{text}")
    print(f"{len(CASES)} pages, {wrong} not judged as they should be")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
