#!/usr/bin/env python3
"""Cuts texts with the library `tokenizers` by pre-tokenizers of several steps and writes
tests/unit/text/pretokenizer_cases.json: {"texts": [...], "cases": [{"config": ..., "pieces": [[...] per text]}]}.

    pip install tokenizers==0.23.3
    make_pretokenizer_cases.py OUT_FILE
"""

import json
import sys

from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Digits, Metaspace, Punctuation, Sequence, Split, Whitespace

TEXTS = [
    "It's 12345 o'clock,  isn't it?!\n\nYes -- \"1,234.56\" apples\t x",
    " caf\u00e9 na\u00efve \u4f60\u597d\uff0c\u4e16\u754c 2024\u5e741\u6708 \u00bd \u0663\u0664\u0665 e\u0301",
    "don't 'S 's  ...   def f(x):\r\n    return x**2  # 007 \U0001f600\U0001f600 \u00a0\u3000z  ",
    "7",
    "'",
]
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def plain(use_regex=False, prefix=False):
    return ByteLevel(add_prefix_space=prefix, use_regex=use_regex)


def isolated(regex):
    return Split(Regex(regex), "isolated")


CASES = [
    [Punctuation("contiguous"), plain(True), Digits(False), isolated("[0-9][0-9][0-9]")],
    [isolated(LLAMA3), plain()],
    [isolated(r"\p{N}"), isolated(GPT2), plain()],
    [isolated(GPT2), plain(True)],
    [Digits(True), plain(True)],
    [isolated(r"\p{N}{1,3}"), isolated("[\u4e00-\u9fa5]+"), plain()],
    [Split(Regex(LLAMA3), "removed", invert=True), plain()],
    [Split(" ", "merged_with_next"), plain(), Digits(True)],
    [plain(True, prefix=True)],
    [Digits(True), plain(True, prefix=True), Punctuation("isolated")],
    [plain(True), plain()],
    [plain(), isolated(GPT2)],
    [Sequence([Whitespace(), Digits(True)]), plain()],
    [Metaspace(), Digits(False)],
    [Digits(False), Metaspace(prepend_scheme="first")],
]

cases = []
for steps in CASES:
    pre = Sequence(steps)
    cases.append(
        {
            "config": json.loads(pre.__getstate__()),
            "pieces": [[piece for piece, _ in pre.pre_tokenize_str(text)] for text in TEXTS],
        }
    )
with open(sys.argv[1], "w") as out:
    out.write('{"texts": ' + json.dumps(TEXTS) + ',\n"cases": [\n')
    out.write(",\n".join(json.dumps(case) for case in cases) + "\n]}\n")
