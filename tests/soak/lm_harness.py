#!/usr/bin/env python3
"""EleutherAI's lm-evaluation-harness, as it is, against a server of ours: its `local-completions` model scores texts
and choices by echoed log-probabilities, and its figures must be those of its `hf` model, which runs the same weights in
transformers. Exits 1 where not. Needs `pip install 'lm-eval[api]' torch transformers accelerate` in the Python that
runs it, a gigabyte, so it is no part of ./dev test.

    tests/soak/lm_harness.py build/release/bin/penstock models/demo TEXT_FILE
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "benchmarks/serving"))
from server import running  # noqa: E402

ROLLING = """
task: our_text
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/texts.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: byte_perplexity}, {metric: bits_per_byte}]
"""
CHOICES = """
task: our_choices
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/choices.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{context}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
target_delimiter: " "
metric_list: [{metric: acc}]
"""


def make_tasks(folder, text):
    """Texts of a paragraph each, and sentences cut in the middle with four ways to go on."""
    paragraphs = [p.strip() for p in text.split("\n") if len(p.split()) >= 24][:60]
    with open(folder / "texts.jsonl", "w") as out:
        for paragraph in paragraphs:
            out.write(json.dumps({"text": paragraph}) + "\n")
    halves = []
    for paragraph in paragraphs:
        words = paragraph.split()[:24]
        halves.append((" ".join(words[:12]), " ".join(words[12:])))
    with open(folder / "choices.jsonl", "w") as out:
        for i, (begin, end) in enumerate(halves):
            others = [halves[(i + k) % len(halves)][1] for k in (1, 2, 3)]
            answer = i % 4
            out.write(json.dumps({"context": begin, "choices": [*others[:answer], end, *others[answer:]],
                                  "answer": answer}) + "\n")
    for name, task in (("texts", ROLLING), ("choices", CHOICES)):
        (folder / f"{name}.yaml").write_text(task.replace("FOLDER", str(folder)))
    return len(paragraphs)


def harness(folder, name, model, arguments):
    done = subprocess.run(
        [sys.executable, "-m", "lm_eval", "--model", model, "--model_args", arguments,
         "--tasks", "our_text,our_choices", "--device", "cpu",
         "--include_path", folder, "--output_path", folder / name], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-3000:])
    (found,) = (folder / name).rglob("results*.json")
    results = json.loads(found.read_text())["results"]
    return {"bits_per_byte": results["our_text"]["bits_per_byte,none"], "accuracy": results["our_choices"]["acc,none"]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("text")
    options = parser.parse_args()
    model = pathlib.Path(options.model).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        num_texts = make_tasks(folder, pathlib.Path(options.text).read_text())
        with running(options.program, {"models": {"m": {"path": str(model)}}}) as port:
            url = f"http://127.0.0.1:{port}/v1/completions"
            ours = harness(folder, "ours", "local-completions",
                           f"model=m,base_url={url},num_concurrent=4,max_retries=1,tokenizer={model}")
        # As local-completions does, which puts the begin token before a text itself.
        theirs = harness(folder, "theirs", "hf", f"pretrained={model},dtype=float32,add_bos_token=False")
    print(json.dumps({"texts": num_texts, "server": ours, "transformers": theirs}))
    if abs(ours["bits_per_byte"] / theirs["bits_per_byte"] - 1) > 1e-3 or ours["accuracy"] != theirs["accuracy"]:
        raise SystemExit("the server and transformers do not agree")


if __name__ == "__main__":
    main()
