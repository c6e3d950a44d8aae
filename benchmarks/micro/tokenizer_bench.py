#!/usr/bin/env python3
"""tokenizer_bench and Hugging Face's tokenizers, one after the other, on one thread each.

    pip install tokenizers==0.23.3
    tokenizer_bench.py BENCH_PROGRAM TEXT_FILE TOKENIZER_JSON...
"""
import json
import os
import subprocess
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer  # noqa: E402

program, text_file, *paths = sys.argv[1:]
text = open(text_file, encoding="utf-8").read()
texts = {"text": text, "one letter": "a" * 1000000, "blanks": " " * 1000000}
for path in paths:
    ours = [json.loads(line) for line in subprocess.check_output([program, path, text_file]).splitlines()]
    theirs = Tokenizer.from_file(path)
    for row in ours:
        if row["name"] in texts:
            seconds = []
            for _ in range(3):
                begin = time.process_time()
                theirs.encode(texts[row["name"]], add_special_tokens=False)
                seconds.append(time.process_time() - begin)
            row["hf_mb_per_s"] = round(len(texts[row["name"]].encode()) / 1e6 / min(seconds), 1)
        print(json.dumps({"tokenizer": path, **row}), flush=True)
