#!/usr/bin/env python3
"""Small random embedding models and rerankers, and what transformers computes with them.

    pip install torch transformers==5.23.0 tokenizers safetensors
    make_encoders.py OUT_DIR [--seed N]

OUT_DIR/<name>/ gets config.json, model.safetensors (bfloat16), golden.json and, where the model has one,
tokenizer.json, modules.json and the folder of its pooling. golden.json, all in float32 from the same
weights: "prompts": ids, and what each pooling makes of the last hidden states; or, of a classifier,
"second" (where token types turn 1) and its logit; "texts" and "pairs": the same from texts, embeddings
as modules.json says and scores after the sigmoid.
"""

import argparse
import json
import pathlib

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

TEXT = """The sea was calm that night, and the old house stood far from the harbour. Nobody had lived in
it for years; the wind went through its rooms as it liked. A light in the upper window was the first sign
that somebody had come back. The fishermen saw it from their boats and said nothing, as they had been taught.
In the morning the door was open and a dog lay on the step. It lifted its head, looked at the road and slept
again. What the children found behind the house they never told, not even when they were old themselves."""
POSITIONS = 64
TEXTS = ["The old house", "A light on the sea!", "nobody", ""]
PAIRS = [
    ("Who came back?", "A light in the upper window."),
    ("Who came back?", "The dog slept."),
    ("the harbour", "far from the harbour, the sea"),
    ("the harbour", ""),
]
SIZES = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_labels=1
)


def word_piece():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator(
        [TEXT], trainers.WordPieceTrainer(vocab_size=112, special_tokens=special, show_progress=False)
    )
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return t


def randomize(model, seed):
    """Weights large enough that every part shows in the output, and exact in bfloat16."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if "norm" in name.lower() and name.endswith("weight"):
                noise = 1 + noise / 8
            elif p.dim() == 1:
                noise = noise / 8
            elif "embed" not in name:
                noise = noise * (1.5 / p.shape[-1] ** 0.5)
            p.copy_(noise.to(torch.bfloat16).float())
    return model.float().eval()


def pooled(model, ids):
    with torch.no_grad():
        h = model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).last_hidden_state[0]
    return {"mean": h.mean(0), "cls": h[0], "last": h[-1]}


def logit(model, ids, second):
    types = torch.zeros(1, len(ids), dtype=torch.long)
    if second > 0:
        types[0, second:] = 1
    with torch.no_grad():
        return model(
            input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), token_type_ids=types
        ).logits[0, 0]


def write_modules(folder, pooling, normalize):
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")] + [("2_Normalize", "Normalize")] * normalize
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": "sentence_transformers.models." + kind}
        for i, (path, kind) in enumerate(parts)
    ]
    (folder / "modules.json").write_text(json.dumps(modules, indent=1) + "\n")
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = ["cls_token", "mean_tokens", "max_tokens", "lasttoken"]
    config = {"word_embedding_dimension": SIZES["hidden_size"]}
    config.update({"pooling_mode_" + m: m == pooling for m in modes})
    (folder / "1_Pooling/config.json").write_text(json.dumps(config, indent=1) + "\n")


def embedding(model, ids, pooling, normalize):
    key = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}[pooling]
    v = pooled(model, ids)[key]
    return (v / v.norm() if normalize else v).tolist()


def golden_of(model, seed, types, pooling, normalize, tokenizer):
    generator = torch.Generator().manual_seed(seed + 1)
    vocab = model.config.vocab_size
    golden = {"prompts": []}
    for n in (1, 2, 7, 19, 48):
        ids = torch.randint(5, vocab, (n,), generator=generator).tolist()
        if pooling is None:
            second = n // 2 if types > 1 else 0
            golden["prompts"].append({"ids": ids, "second": second, "logit": logit(model, ids, second).item()})
        else:
            golden["prompts"].append({"ids": ids, **{k: v.tolist() for k, v in pooled(model, ids).items()}})
    if tokenizer is None:
        return golden
    if pooling is not None:
        golden["texts"] = [
            {"text": t, "embedding": embedding(model, tokenizer.encode(t).ids, pooling, normalize)} for t in TEXTS
        ]
        return golden
    golden["pairs"] = []
    for query, document in PAIRS:
        e = tokenizer.encode(query, document)
        score = torch.sigmoid(logit(model, e.ids, e.type_ids.index(1))).item()
        golden["pairs"].append({"query": query, "document": document, "score": score})
    return golden


def write(folder, model, architecture, golden, tokenizer):
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config.to_dict()
    config["architectures"] = [architecture]
    config["torch_dtype"] = "bfloat16"
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    tensors = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items() if v.is_floating_point()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    if tokenizer is not None:
        tokenizer.save(str(folder / "tokenizer.json"), pretty=False)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    out, seed = arguments.out, arguments.seed
    words = word_piece()
    vocab = words.get_vocab_size()
    t = transformers
    bert = t.BertConfig(
        vocab_size=vocab, max_position_embeddings=POSITIONS, type_vocab_size=2, pad_token_id=0, **SIZES
    )
    roberta = t.XLMRobertaConfig(
        vocab_size=vocab, max_position_embeddings=POSITIONS + 2, type_vocab_size=1, pad_token_id=1,
        layer_norm_eps=1e-5, **SIZES
    )  # fmt: skip
    qwen = t.Qwen3Config(
        vocab_size=vocab, max_position_embeddings=POSITIONS, num_key_value_heads=2, head_dim=12,
        tie_word_embeddings=True, rope_theta=10000.0, **SIZES
    )  # fmt: skip
    # name, class, configuration, its arguments, token types, pooling, unit length, tokenizer
    rows = [
        ("bert", t.BertModel, bert, {"add_pooling_layer": False}, 2, "mean_tokens", True, words),
        ("xlm_roberta", t.XLMRobertaModel, roberta, {"add_pooling_layer": False}, 1, "cls_token", False, None),
        ("bert_reranker", t.BertForSequenceClassification, bert, {}, 2, None, False, words),
        ("xlm_roberta_reranker", t.XLMRobertaForSequenceClassification, roberta, {}, 1, None, False, None),
        ("qwen3_embedding", t.Qwen3Model, qwen, {}, 1, "lasttoken", True, words),
    ]
    for name, kind, config, extra, types, pooling, normalize, tokenizer in rows:
        model = randomize(kind(config, **extra), seed)
        golden = golden_of(model, seed, types, pooling, normalize, tokenizer)
        architecture = "Qwen3ForCausalLM" if kind is t.Qwen3Model else kind.__name__
        write(out / name, model, architecture, golden, tokenizer)
        if pooling is not None:
            write_modules(out / name, pooling, normalize)


if __name__ == "__main__":
    main()
