#!/usr/bin/env python3
"""Trains small tokenizers on public-domain text and writes what their makers' own libraries do with
test strings: tests/unit/text/model_cases.json (tokenizer.json), sentencepiece_cases.json
(tokenizer.model) and tiktoken_cases.json.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 tiktoken==0.14.0
    make_tokenizer_models.py TEXT_FILE OUT_DIR [VOCAB_SIZE]
"""

import base64, io, json, os, sys, tempfile
import sentencepiece as spm
import tiktoken
from tokenizers import Tokenizer, models, trainers, normalizers, pre_tokenizers, decoders, processors

corpus = open(sys.argv[1], encoding="utf-8").read()[:200000]
lines = [line for line in corpus.split("\n") if line.strip()]
out_dir = sys.argv[2]
size = int(sys.argv[3]) if len(sys.argv) > 3 else 460
large = size > 1000

TEXTS = [
    "",
    " ",
    "  ",
    "hello world",
    "The quick brown fox, he said: 'well-known'.  12 34",
    "  leading and trailing  ",
    "naïve Ångström Ｆｕｌｌ ﬁne ① ½",
    "日本語 中文 text 한국어",
    "a\n\nb\tc\r\nd",
    "e\u0301 a\u0308\u0323 x\u0301\u0302\u0303\u0304\u0305",
    "emoji 😀👩‍👩‍👧 ok",
    "<s> [MASK] </s>",
    "[CLS] unaffable [SEP] [UNK]",
    "x" * 120,
    "supercalifragilistic" * 3,
    "don't can't I'm we've they're",
    "\u00a0nbsp\u3000ideographic\u200bzero",
    "UPPER lower MiXeD",
    "tab\x00nul\x07bell\ufffd",
    "<tool>call</tool> <tool> x",
    "a▁b ▁c",
    "ǅ Ⅷ ﷺ İ ß",
    "1234567 3.14 1,000",
    "the the  the   the",
    "q" * 40 + " " + "z" * 40,
]


def row(t, text):
    a, b = t.encode(text, add_special_tokens=False).ids, t.encode(text).ids
    return [text, a, b, t.decode(a, skip_special_tokens=False), t.decode(b, skip_special_tokens=True)]


def charsmap(rule):
    return sp_model("unigram", normalization_rule_tsv=rule)[1].precompiled_charsmap


def rules_file():
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", delete=False) as f:
        for source, target in [
            ("ﬁ", "fi"),
            ("Ａ", "A"),
            ("Ｆ", "F"),
            ("ｕ", "u"),
            ("ｌ", "l"),
            ("\u00a0", " "),
            ("\u3000", " "),
            ("①", "1"),
            ("½", "1/2"),
            ("e\u0301", "é"),
            ("\u200b", ""),
            ("ab", "x"),
            ("\t", " "),
            ("\n", " "),
            ("\r", " "),
        ]:
            f.write(
                " ".join("%X" % ord(c) for c in source)
                + "\t"
                + " ".join("%X" % ord(c) for c in target)
                + "\n"
            )
    return f.name


def sp_model(kind, **options):
    model = io.BytesIO()
    if "normalization_rule_name" not in options and "normalization_rule_tsv" not in options:
        options["normalization_rule_name"] = "identity"
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type=kind,
        vocab_size=size,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
        **options
    )
    from sentencepiece import sentencepiece_model_pb2 as pb

    proto = pb.ModelProto()
    proto.ParseFromString(model.getvalue())
    return model.getvalue(), proto.normalizer_spec


def bert(**options):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", **options.pop("model", {})))
    t.normalizer = normalizers.BertNormalizer(**options)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.train_from_iterator(
        lines,
        trainers.WordPieceTrainer(
            vocab_size=size,
            special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
            show_progress=False,
        ),
    )
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", t.token_to_id("[CLS]")), ("[SEP]", t.token_to_id("[SEP]"))],
    )
    t.decoder = decoders.WordPiece()
    return t


def unigram(normalizer, pre, byte_fallback=False):
    t = Tokenizer(models.Unigram())
    if normalizer:
        t.normalizer = normalizer
    t.pre_tokenizer = pre
    t.train_from_iterator(
        lines,
        trainers.UnigramTrainer(
            vocab_size=size,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
            unk_token="<unk>",
            show_progress=False,
        ),
    )
    if byte_fallback:
        j = json.loads(t.to_str())
        j["model"]["vocab"] += [["<0x%02X>" % i, -20.0] for i in range(256)]
        j["model"]["byte_fallback"] = True
        t = Tokenizer.from_str(json.dumps(j))
    t.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    t.decoder = (
        decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
        if byte_fallback
        else decoders.Metaspace()
    )
    return t


def json_cases():
    precompiled = normalizers.Precompiled(charsmap(rules_file()))
    spaces = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    word_level = Tokenizer(models.WordLevel(unk_token="<unk>"))
    word_level.pre_tokenizer = pre_tokenizers.Whitespace()
    word_level.train_from_iterator(
        lines, trainers.WordLevelTrainer(vocab_size=size, special_tokens=["<unk>"], show_progress=False)
    )
    distil = bert(lowercase=False)
    distil.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizers = [
        bert(),
        bert(lowercase=False),
        bert(strip_accents=False),
        distil,
        unigram(precompiled, spaces),
        unigram(None, pre_tokenizers.Metaspace()),
        unigram(precompiled, pre_tokenizers.Metaspace(prepend_scheme="first"), True),
        unigram(
            normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace("  ", " ")]),
            pre_tokenizers.Metaspace(split=False),
        ),
        word_level,
    ]
    if large:
        nfkc = sp_model("unigram", normalization_rule_name="nmt_nfkc")[1].precompiled_charsmap
        tokenizers.append(unigram(normalizers.Precompiled(nfkc), spaces))
    edited = json.loads(tokenizers[0].to_str())
    edited["model"]["max_input_chars_per_word"] = 7
    tokenizers.append(Tokenizer.from_str(json.dumps(edited)))
    return [
        {"tokenizer": json.loads(t.to_str()), "rows": [row(t, text) for text in TEXTS]} for t in tokenizers
    ]


def sp_cases():
    tsv = rules_file()
    variants = [
        ("bpe", dict(byte_fallback=True, add_dummy_prefix=True, remove_extra_whitespaces=False)),
        (
            "bpe",
            dict(
                byte_fallback=True,
                user_defined_symbols=["<tool>", "</tool>", "▁▁"],
                control_symbols=["<ctl>"],
                remove_extra_whitespaces=False,
            ),
        ),
        ("bpe", dict(normalization_rule_tsv=tsv)),
        ("bpe", dict(add_dummy_prefix=False, split_digits=True)),
        ("unigram", dict(normalization_rule_tsv=tsv)),
        (
            "unigram",
            dict(
                byte_fallback=True,
                remove_extra_whitespaces=False,
                user_defined_symbols=["<tool>", "</tool>", "the"],
            ),
        ),
        ("unigram", dict(treat_whitespace_as_suffix=True)),
        (
            "unigram",
            dict(
                add_dummy_prefix=False,
                bos_id=-1,
                pad_id=0,
                eos_id=1,
                unk_id=2,
                user_defined_symbols=["<tool>"],
            ),
        ),
    ]
    if large:
        variants += [
            ("unigram", dict(normalization_rule_name="nmt_nfkc")),
            ("unigram", dict(normalization_rule_name="nmt_nfkc_cf")),
            ("bpe", dict(normalization_rule_name="nmt_nfkc", byte_fallback=True)),
        ]
    cases = []
    for kind, options in variants:
        blob, _ = sp_model(kind, **options)
        sp = spm.SentencePieceProcessor(model_proto=blob)
        rows = []
        for text in TEXTS + ([l[:400] for l in lines[:300]] if large else []):
            if any(t in text for t in ["<s>", "</s>", "<unk>"]):
                continue
            ids = sp.encode(text)
            rows.append([text, ids, sp.decode([i for i in ids if i != sp.unk_id()])])
        cases.append({"model": base64.b64encode(blob).decode(), "rows": rows})
    return cases


def tiktoken_cases():
    from tiktoken._educational import bpe_train
    import regex
    from tiktoken_ext import openai_public as public

    contraction = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    tail = r"""| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
    before, upper, lower = r"[^\r\n\p{L}\p{N}]?", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    cl100k = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"""
    patterns = {
        "gpt2": public.r50k_pat_str,
        "cl100k": cl100k + r"""| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s""",
        "llama3": contraction + r"""|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}""" + tail,
        "qwen": contraction + r"""|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}""" + tail,
        "o200k": f"{before}{upper}*{lower}+{contraction}?|{before}{upper}+{lower}*{contraction}?"
        + r"""|\p{N}{1,3}"""
        + tail.replace(r"[\r\n]*|", r"[\r\n/]*|"),
    }
    ranks = bpe_train(data=corpus[:20000], vocab_size=256 + size, pat_str=patterns["gpt2"], visualise=None)
    file = "".join(
        "%s %d\n" % (base64.b64encode(token).decode(), rank)
        for token, rank in sorted(ranks.items(), key=lambda x: x[1])
    )
    rows = {}
    for name, pattern in patterns.items():
        encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        rows[name] = [
            [
                text,
                encoding.encode(text, disallowed_special=()),
                encoding.decode(encoding.encode(text, disallowed_special=())),
            ]
            for text in TEXTS
        ]
    return {"file": file, "rows": rows}


def write(name, value):
    with open(os.path.join(out_dir, name), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")
    print(name, os.path.getsize(f.name))


write("model_cases.json", json_cases())
write("sentencepiece_cases.json", sp_cases())
write("tiktoken_cases.json", tiktoken_cases())
