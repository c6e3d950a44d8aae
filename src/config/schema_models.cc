// The configuration of models: which, how they run, their adapters.
#include "config/schema.h"

namespace penstock {

ConfigSection DescribeEngine(EngineConfig& c) {
  return {
      "engine",
      "How a model runs; the same keys under models.<name>.engine override these.",
      {
          {"device", &c.device,
           "Where it runs: auto, cpu, cuda:N or cuda-emulated. auto takes a GPU where this build "
           "and "
           "machine have one; cuda-emulated runs a GPU's kernels on the CPU, for tests."},
          {"dtype",
           &c.dtype,
           "Activations. auto: on a GPU bfloat16; on a CPU bfloat16 for weights of bfloat16 where "
           "it "
           "multiplies those faster, else float32, which is also exact. float16 on a GPU alone: "
           "finer "
           "than bfloat16, of numbers below 65520.",
           {"auto", "float32", "bfloat16", "float16"}},
          {"kv_dtype",
           &c.kv_dtype,
           "KV cache. auto: as dtype; where that is auto too, bfloat16 for weights that are "
           "bfloat16 or "
           "rounded, if the processor multiplies bfloat16 fast. bfloat16 holds twice the tokens of "
           "float32, int8 nearly four times (a scale per position and head); float16 where dtype "
           "is.",
           {"auto", "float32", "bfloat16", "float16", "int8"}},
          {"quantize",
           &c.quantize,
           "Rounds 16- and 32-bit weights as they load. int8, int4: a scale per 32 columns; "
           "int8-channel: per row; int4-128: per 128. Embedding and head keep 8 bits.",
           {"none", "int8", "int8-channel", "int4", "int4-128"}},
          {"integer_inputs",
           &c.integer_inputs,
           "Linear layers that round their input to 8 bits per group and multiply integers. auto: "
           "those that `quantize` rounded. on: all of integer codes, also of GPTQ, AWQ and GGUF.",
           {"auto", "on"}},
          {"block_size",
           &c.block_size,
           "Positions per KV block: 16, 32 or 64. Larger blocks share prefixes more coarsely.",
           {},
           16,
           64},
          {"max_batch",
           &c.max_batch,
           "Sequences computed at once. More raises throughput and the latency of each.",
           {},
           1,
           4096},
          {"max_step_tokens",
           &c.max_step_tokens,
           "Positions one step computes at most: decodes first, the rest is prefill. Smaller steps "
           "keep streams smooth while "
           "long prompts are read; larger ones read them faster. At least max_batch.",
           {},
           16,
           65536},
          {"itl_target", &c.itl_target,
           "What a step may take while answers are streamed: prompts are read in pieces that fit, "
           "of 16 "
           "positions at least, by what steps were seen to take. Less is smoother, more reads "
           "prompts "
           "sooner. 0s: pieces of max_step_tokens."},
          {"max_len",
           &c.max_len,
           "Positions of one request (prompt and output). 0: what the model was made for.",
           {},
           0,
           1 << 24},
          {"max_queue",
           &c.max_queue,
           "Requests that wait beyond those that run. One more is a 429.",
           {},
           0,
           1 << 20},
          {"kv_memory", &c.kv_memory,
           "Bytes of the KV cache (64MiB, 2GiB), decided at start and never exceeded. auto: a "
           "quarter of the memory that the "
           "cgroup allows, on a GPU what memory_fraction leaves, but no more than max_batch "
           "sequences of max_len need."},
          {"memory_fraction", &c.memory_fraction,
           "The part of a GPU's memory that weights, KV cache and steps may take together, from "
           "0.05 "
           "to 1; kv_memory: auto gets what the others leave of it."},
          {"deterministic",
           &c.deterministic,
           "How a GPU computes steps of more than 64 rows. off: by what was measured to be "
           "fastest. run: equal batches give equal bits in every run. strict: a row's bits never "
           "depend on the rows beside it, slower for prompts. The CPU is always strict.",
           {"off", "run", "strict"}},
          {"pipeline_depth",
           &c.pipeline_depth,
           "1: a step is planned when the last one is done. 2: while it still computes.",
           {},
           1,
           2},
          {"tensor_parallel",
           &c.tensor_parallel,
           "Ranks that share each layer, each with its heads and columns, its part of the KV cache "
           "and of the threads. On device: cuda each has a GPU, cuda:N is shared by all. Heads and "
           "widths must divide by it.",
           {},
           1,
           8},
          {"prefix_cache", &c.prefix_cache,
           "Requests with an equal beginning (and an equal cache_salt) share its KV blocks."},
          {"kv_offload", &c.kv_offload,
           "Bytes (4GiB) of a second tier of the prefix cache, decided at start and never "
           "exceeded: what kv_memory has to forget is copied to the host's memory, beside a GPU "
           "pinned, and comes back where that is sooner than computing it, by what copies and "
           "steps were seen to take. 0: off. Not with tensor_parallel above 1; off, with a line "
           "in the log, for a model with a recurrent state or a draft model."},
          {"kv_offload_path", &c.kv_offload_path,
           "A folder on whose disk the second tier lies instead, all of it taken at start, in a "
           "file without a name that goes with the process. Keys and values of prompts lie there "
           "in the clear. Empty: memory."},
          {"policy",
           &c.policy,
           "Who runs first: priority (strict, then first come) or fcfs (priorities are ignored).",
           {"priority", "fcfs"}},
          {"threads",
           &c.threads,
           "Compute threads. 0: as many CPUs as the cgroup allows.",
           {},
           0,
           1024},
          {"cpu_kernels",
           &c.cpu_kernels,
           "The CPU's instructions. auto: for each kind of product what is fastest when measured "
           "at "
           "start. Others: for everything, refused where the processor lacks them.",
           {"auto", "avx512-bf16", "avx512-vnni", "avx512", "avx2-vnni", "avx2"}},
          {"packed_cache", &c.packed_cache,
           "A folder where weights are kept as the CPU wants them, so that the next start reads "
           "them instead of packing: a file for each model and form, about as large as the "
           "weights in memory, checked and rebuilt where model or program changed. Of a GPU: what "
           "was measured of its products. Empty: off."},
      },
      {{"speculation",
        "Guesses at the next tokens, verified in the step that computes them: the answers stay the "
        "same, token for token. They stop by themselves where they cost time.",
        {
            {"method",
             &c.speculation.method,
             "ngram: what followed when the same tokens stood before, in the request or in what "
             "the model has lately answered under the same cache_salt. draft: a smaller model "
             "(draft_model). mtp: the head that the checkpoint ships to predict several tokens "
             "ahead, which has a part of kv_memory; an error where there is none that can. auto: "
             "mtp where it can, else ngram. off: none. Models with a recurrent state guess with "
             "draft and mtp alone.",
             {"off", "auto", "ngram", "draft", "mtp"}},
            {"draft_model", &c.speculation.draft_model,
             "Of method draft: a directory, a .gguf file or org/name[@rev] of a model with the "
             "same "
             "tokenizer. It runs on the same device, in the same quantize form, and has a part of "
             "kv_memory."},
            {"max_tokens",
             &c.speculation.max_tokens,
             "Guesses for one sequence in one step.",
             {},
             1,
             64},
            {"min_match",
             &c.speculation.min_match,
             "Tokens that must have stood somewhere before. Fewer guess more often, and worse.",
             {},
             1,
             16},
        }}}};
}

namespace {

ConfigSection DescribeLora(LoraConfig& c) {
  return {
      "lora",
      "Low-rank adapters (LoRA, as PEFT writes them), each a model of its own to clients. What "
      "they take at most is taken from kv_memory at start. Not with tensor_parallel above 1.",
      {
          {"dir", &c.dir,
           "A folder of adapters: a request whose model is the name of one is answered with it, "
           "loaded when first named. Empty: none but `adapters`."},
          {"adapters", &c.adapters,
           "Adapters by the name that clients use, each a directory: loaded at start."},
          {"max_adapters",
           &c.max_adapters,
           "Different adapters computed in one step; requests with further ones wait.",
           {},
           1,
           1024},
          {"max_host_adapters",
           &c.max_host_adapters,
           "Adapters in the device's memory at once. Beyond that the one that was not asked for "
           "the "
           "longest goes, until it is named again; where all are in use a request is a 429.",
           {},
           1,
           65536},
          {"host_memory", &c.host_memory,
           "Bytes of adapters' files that are kept in the host's memory beside a GPU, the least "
           "recently used go first: one that made room comes back without its disk. 0: none."},
          {"max_rank",
           &c.max_rank,
           "The largest rank of an adapter: memory is kept for it. More is refused.",
           {},
           1,
           256},
          {"experts", &c.experts,
           "Adapters may change the experts that tokens are routed to: memory is kept for all of "
           "them. Router and shared experts need it not."},
          {"allow_runtime", &c.allow_runtime,
           "Clients may load and unload adapters of `dir` by /v1/load_lora_adapter and "
           "/v1/unload_lora_adapter."},
      }};
}

}  // namespace

ConfigSection DescribeModel(ModelEntry& entry) {
  return {
      "",
      "A model by the name that clients use.",
      {
          {"path", &entry.path,
           "A directory in Hugging Face form, or org/name[@rev] (from the Hugging Face cache, "
           "else downloaded)."},
          {"weights",
           &entry.weights,
           "file, or formula: computed from the tensors' names, for benchmarks (needs only "
           "config.json).",
           {"file", "formula"}},
          {"aliases", &entry.aliases, "Further names for the same model."},
          {"fallback", &entry.fallback,
           "Models that answer, in this order, where this one is not loaded, has no room or fails "
           "before the first byte; the answer then says x-model-fallback."},
          {"chat_template", &entry.chat_template,
           "A Jinja file instead of the model's own chat template; empty: the model's."},
          {"tool_parser",
           &entry.tool_parser,
           "How the model writes calls of functions. auto: as its chat template has it. none: "
           "they stay in the text.",
           {"auto",      "none",           "hermes",       "qwen3_coder",     "glm45",
            "nemotron",  "mistral",        "llama3_json",  "granite",         "phi4",
            "phi4_mini", "deepseek_v3",    "deepseek_v31", "kimi_k2",         "pythonic",
            "command_r", "command_r_plus", "functionary",  "functionary_v31", "harmony"}},
          {"reasoning_parser",
           &entry.reasoning_parser,
           "How the model writes its reasoning, likewise.",
           {"auto", "none", "granite", "granite_prose", "think", "magistral", "command_r",
            "harmony"}},
      },
      {DescribeLora(entry.lora), DescribeEngine(entry.engine)}};
}

}  // namespace penstock
