// Replies of every format, with what is in them.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "text/reply/reply_parser.h"

namespace penstock::reply_cases {

inline const CallFormat* Calls(std::string_view name) {
  for (const CallFormat& format : CallFormats()) {
    if (format.name == name) return &format;
  }
  return nullptr;
}
inline const ReasoningFormat* Reasoning(std::string_view name) {
  for (const ReasoningFormat& format : ReasoningFormats()) {
    if (format.name == name) return &format;
  }
  return nullptr;
}

/// "R(reasoning) content f({...})", in the order in which it came.
inline std::string Describe(const std::vector<ReplyPiece>& pieces) {
  std::string out;
  const ReplyPiece* last = nullptr;
  for (const ReplyPiece& piece : pieces) {
    const bool goes_on = last != nullptr && last->kind == piece.kind && last->call == piece.call &&
                         piece.kind != ReplyPiece::kCall;
    if (!goes_on && last != nullptr &&
        (last->kind == ReplyPiece::kReasoning || last->kind == ReplyPiece::kArguments))
      out += ')';
    if (!goes_on && piece.kind == ReplyPiece::kReasoning) out += "R(";
    if (piece.kind == ReplyPiece::kCall) absl::StrAppend(&out, "#", piece.call, ":");
    out += piece.text;
    if (piece.kind == ReplyPiece::kCall) out += '(';
    last = &piece;
  }
  const bool open = last != nullptr &&
                    (last->kind == ReplyPiece::kReasoning || last->kind == ReplyPiece::kArguments);
  return out + (open ? ")" : "");
}

struct Case {
  std::string_view calls;
  std::string_view reasoning;
  bool in_reasoning;
  std::string text;
  std::string expected;
  int failed = 0;
};

inline std::shared_ptr<const ArgumentKinds> KindsOfCases() {
  static const auto kTypes =
      std::make_shared<const ArgumentKinds>(ArgumentKinds{{"f",
                                                           {{"s", ArgumentKind::kText},
                                                            {"n", ArgumentKind::kJson},
                                                            {"l", ArgumentKind::kJson},
                                                            {"t", ArgumentKind::kText},
                                                            {"o", ArgumentKind::kTextOrNull}}}});
  return kTypes;
}

inline const Case kCases[] = {
    // Nothing but content, to the last space.
    {"", "", false, " Hello, <tool_call> \n", " Hello, <tool_call> \n"},
    {"hermes", "think", false, "  Hello < there > \n", "  Hello < there > \n"},
    {"hermes", "think", false, " \n", " \n"},
    {"hermes", "think", false, "", ""},
    // Reasoning.
    {"", "think", false, "<think>\nLet me see.\n</think>\n\nYes.", "R(Let me see.)Yes."},
    {"", "think", true, "Let me see.</think>Yes. </think>", "R(Let me see.)Yes. </think>"},
    {"", "think", true, "Let me <think> see", "R(Let me <think> see)"},
    {"", "think", false, "I write <think> like this.", "I write <think> like this."},
    {"", "think", false, "<think></think>Yes", "Yes"},
    {"", "think", false, "<thi", "<thi"},
    {"", "think", true, "So </thin", "R(So </thin)"},
    {"", "magistral", false, "[THINK]Hm.[/THINK]Yes", "R(Hm.)Yes"},
    // Granite 3.3, whose answer has marks as well.
    {"granite", "granite", false,
     "<think>\nHm.\n</think>\n<response>\nYes < no.\n\nSo.\n</response>\n",
     "R(Hm.)Yes < no.\n\nSo."},
    {"granite", "granite", true, "Hm.</think><response>Yes</response>", "R(Hm.)Yes"},
    {"", "granite", false, "<think>Hm.</think>Yes </response>", "R(Hm.)Yes </response>"},
    {"", "granite", false, "<think>Hm.</think><response>Yes", "R(Hm.)Yes"},
    {"", "granite", false, "<think>Hm.</think><response>Yes\n</respon", "R(Hm.)Yes\n</respon"},
    {"", "granite", false, "<think>Hm.</think><respon", "R(Hm.)<respon"},
    {"", "granite", false, "<think>Hm.</think> <response> </response> ", "R(Hm.)"},
    {"", "granite", false, "<think>Hm.</think>So: <response>x</response>",
     "R(Hm.)So: <response>x</response>"},
    {"", "granite", false,
     "<think>Hm.</think><response><response>a</response> and\n</response> b </response>",
     "R(Hm.)<response>a</response> and\n</response> b"},
    {"", "granite", false, "<think>Hm.</think><response>a</response> b\n",
     "R(Hm.)a</response> b\n"},
    {"", "granite", false, "<think>Hm.</think><response>a\n</response>\n</response>\n",
     "R(Hm.)a\n</response>"},
    {"", "granite", false, "<response>42</response>", "<response>42</response>"},
    {"granite", "granite", false,
     "<think>Hm.</think><response>I look.</response><|tool_call|>[{\"name\": \"f\"}]",
     "R(Hm.)I look.#0:f({})"},
    {"granite", "granite", false,
     "<think>Hm.</think><response><|tool_call|>[{\"name\": \"f\"}]</response>\n", "R(Hm.)#0:f({})"},
    {"granite", "granite", false,
     "<think>Hm.</think><response>I look.</response>\n<|tool_call|>none",
     "R(Hm.)I look.</response>\n<|tool_call|>none", 1},
    // Granite 3.2.
    {"", "granite_prose", false,
     "Here is my thought process:\n\nHm.\n\nHere is my response:\n\nYes.", "R(Hm.)Yes."},
    {"", "granite_prose", false, "Here is my answer.", "Here is my answer."},
    // Hermes and Qwen.
    {"hermes", "", false,
     "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, 2.5e3], \"b\": {\"c\": "
     "null}}}\n</tool_call>",
     "#0:f({\"a\": [1, 2.5e3], \"b\": {\"c\": null}})"},
    {"hermes", "think", false,
     "<think>Two.</think>\nI ask.\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n"
     "<tool_call>{\"arguments\":{\"x\":\"}</tool_call>\\\"\"},\"name\":\"g\"}</tool_call>\n",
     "R(Two.)I ask.#0:f({})#1:g({\"x\":\"}</tool_call>\\\"\"})"},
    {"hermes", "", false, "<tool_call>{\"name\": \"f\"}</tool_call>", "#0:f({})"},
    {"hermes", "", false, "<tool_call>{\"name\": \"f\", \"arguments\": null}</tool_call>",
     "#0:f({})"},
    {"hermes", "", false,
     "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\", \"id\": 7}</tool_call>",
     "#0:f({\"a\": 1})"},
    {"hermes", "", false,
     "<tool_call>{\"id\": {\"arguments\": {}}, \"name\": \"f\", \"arguments\": {\"name\": "
     "\"g\"}}</tool_call>",
     "#0:f({\"name\": \"g\"})"},
    {"hermes", "", false, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": tru",
     "#0:f({\"a\": tru)", 1},
    {"hermes", "", false, "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_c", "#0:f({})"},
    // What is no call is content.
    {"hermes", "", false, "So: <tool_call>f(1)</tool_call> done",
     "So: <tool_call>f(1)</tool_call> done", 1},
    {"hermes", "", false, "<tool_call>{\"name\": 3, \"arguments\": {}}</tool_call>",
     "<tool_call>{\"name\": 3, \"arguments\": {}}</tool_call>", 1},
    {"hermes", "", false, "<tool_call>{\"name\": \"a b\"}", "<tool_call>{\"name\": \"a b\"}", 1},
    {"hermes", "", false, "<tool_call>{\"name\": \"f\"}</tool_call>\n```", "#0:f({})```"},
    {"hermes", "", false, "<tool_call>{\"name\": \"f\"}\n```", "#0:f({})```"},
    {"hermes", "", false, "<tool_call>{\"name\": \"f\"}\n```\n</tool_call>", "#0:f({})"},
    {"hermes", "", false, "<tool_call>", "<tool_call>", 1},
    {"hermes", "", false, "<tool_call>{\"na", "<tool_call>{\"na", 1},
    {"hermes", "", false, "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
     "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>", 1},
    {"hermes", "", false, "<tool_call> <tool_call>{\"name\": \"f\"}</tool_call>",
     "<tool_call>#0:f({})", 1},
    {"hermes", "", false, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 01}}</tool_call>!",
     "#0:f({\"a\": 0)1}}</tool_call>!", 1},
    // Qwen3-Coder and GLM-4.5: `s` is a string by its schema.
    {"qwen3_coder", "", false,
     "Look.\n<tool_call>\n<function=f>\n<parameter=n>\n42\n</parameter>\n<parameter=s>\n42\n</"
     "parameter>\n"
     "<parameter=l>[1, \"<a>\"]</parameter><parameter=t>\na "
     "\"b\"\n\n</parameter>\n</function>\n</tool_call>\n"
     "<tool_call><function=g></function></tool_call>",
     "Look.#0:f({\"n\": 42, \"s\": \"42\", \"l\": [1, \"<a>\"], \"t\": \"a "
     "\\\"b\\\"\\n\"})#1:g({})"},
    {"qwen3_coder", "", false, "<tool_call><function=f><parameter=n>True</parameter></function>",
     "#0:f({\"n\": true})"},
    {"qwen3_coder", "", false,
     "<tool_call><function=f><parameter=l>\n[\"</parameter>\"]\n</parameter><parameter=s>[\"</"
     "parameter></function></tool_call>",
     "#0:f({\"l\": [\"</parameter>\"], \"s\": \"[\\\"\"})"},
    // `o` may be null as well: the word is, all else is text.
    {"qwen3_coder", "", false,
     "<tool_call><function=f><parameter=o>\n12\n</parameter></function></tool_call>\n"
     "<tool_call><function=f><parameter=o>\nnull\n</parameter></function></tool_call>",
     "#0:f({\"o\": \"12\"})#1:f({\"o\": null})"},
    {"qwen3_coder", "", false, "<tool_call>{\"name\": \"f\"}</tool_call>",
     "<tool_call>{\"name\": \"f\"}</tool_call>", 1},
    {"qwen3_coder", "", false, "<tool_call><function=f>no", "<tool_call><function=f>no", 1},
    {"qwen3_coder", "", false,
     "<tool_call><function=f><parameter=n>1</parameter> and <parameter=s>x</parameter>",
     "#0:f({\"n\": 1) and <parameter=s>x</parameter>", 1},
    {"glm45", "think", true,
     "Hm</think>\n<tool_call>f\n<arg_key>s</arg_key>\n<arg_value>7</arg_value>\n<arg_key>n</"
     "arg_key>\n"
     "<arg_value>{\"a\": 1}</arg_value>\n</tool_call>\n<tool_call>g</tool_call>",
     "R(Hm)#0:f({\"s\": \"7\", \"n\": {\"a\": 1}})#1:g({})"},
    {"glm45", "", false, "<tool_call>no call</tool_call>", "<tool_call>no call</tool_call>", 1},
    // Nemotron.
    {"nemotron", "", false, "<TOOLCALL>[{\"name\": \"f\", \"arguments\": {}}]</TOOLCALL>",
     "#0:f({})"},
    // Mistral, old and new.
    {"mistral", "", false,
     "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"g\", \"arguments\": "
     "{}}]",
     "#0:f({\"a\": 1})#1:g({})"},
    {"mistral", "", false, "I look.[TOOL_CALLS]f[ARGS]{\"a\": \"[TOOL_CALLS]\"}[TOOL_CALLS]g{}",
     "I look.#0:f({\"a\": \"[TOOL_CALLS]\"})#1:g({})"},
    {"mistral", "", false, "[TOOL_CALLS]f[CALL_ID]x1[ARGS]{}", "#0:f({})"},
    {"mistral", "", false, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}} and more",
     "#0:f({}) and more", 1},
    {"mistral", "", false, "[TOOL_CALLS]no call at all", "[TOOL_CALLS]no call at all", 1},
    // Llama 3.
    {"llama3_json", "", false, "{\"name\": \"f\", \"parameters\": {\"a\": 1}}", "#0:f({\"a\": 1})"},
    {"llama3_json", "", false,
     "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {}}",
     "#0:f({})#1:g({})"},
    {"llama3_json", "", false, "\n{\"answer\": 4} is JSON", "{\"answer\": 4} is JSON", 1},
    {"llama3_json", "", false, "As {\"name\": \"f\"}", "As {\"name\": \"f\"}"},
    // Granite and Phi-4.
    {"granite", "", false, "<|tool_call|>[{\"name\": \"f\", \"arguments\": {}}]", "#0:f({})"},
    {"phi4", "", false, "functools[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]",
     "#0:f({\"a\": 1})"},
    {"phi4_mini", "", false,
     "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"g\"}]"
     "<|/tool_call|>",
     "#0:f({\"a\": 1})#1:g({})"},
    {"kimi_k2", "", false,
     "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>none",
     "<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>none", 1},
    {"nemotron", "", false, "<TOOLCALL>none</TOOLCALL>", "<TOOLCALL>none</TOOLCALL>", 1},
    {"phi4", "", false, "functools is a module", "functools is a module", 1},
    // DeepSeek V3 and V3.1.
    {"deepseek_v3", "think", true,
     "Hm</"
     "think>Sure.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{"
     "\"a\": "
     "1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```"
     "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
     "R(Hm)Sure.#0:f({\"a\": 1})#1:g({})"},
    {"deepseek_v3", "", false,
     "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜><"
     "｜tool▁calls▁end｜>",
     "#0:f({})"},
    // Kimi K2.
    {"kimi_k2", "", false,
     "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{"
     "\"a\": "
     "1}<|tool_call_end|><|tool_call_begin|>functions.g:1<|tool_call_argument_begin|>{}"
     "<|tool_call_end|><|tool_calls_section_end|>",
     "#0:f({\"a\": 1})#1:g({})"},
    // Llama's and ToolACE's lists as Python writes them.
    {"pythonic", "", false, "[f(a=1, b='x\\'y\\u00e9', c=[True, None, (1,)], d={\"k\": 2.5})]",
     "#0:f({\"a\": 1, \"b\": \"x'yé\", \"c\": [true,null,[1]], \"d\": {\"k\": 2.5}})"},
    {"pythonic", "", false, "\n[f(), g(s=\"a, b)\", t='')]\n",
     "#0:f({})#1:g({\"s\": \"a, b)\", \"t\": \"\"})"},
    {"pythonic", "", false, "<|python_start|>[a.b(x=-1.5)]<|python_end|>", "#0:a.b({\"x\": -1.5})"},
    {"pythonic", "", false, "[1, 2, 3] is a list", "[1, 2, 3] is a list", 1},
    {"pythonic", "", false, "[f(a=x)]", "[f(a=x)]", 1},
    {"pythonic", "", false, "[f(a=1", "[f(a=1", 1},
    {"pythonic", "", false, "[f(a=1, b=", "#0:f({\"a\": 1) b=", 1},
    {"pythonic", "", false, "Look: [f(a=1)]", "Look: [f(a=1)]"},
    // Command R7B and A.
    {"command_r", "command_r", false,
     "<|START_THINKING|>Hm.<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", "
     "\"tool_name\": \"f\", \"parameters\": {\"a\": 1}},\n    {\"tool_call_id\": \"1\", "
     "\"tool_name\": \"g\", \"parameters\": {}}\n]<|END_ACTION|>",
     "R(Hm.)#0:f({\"a\": 1})#1:g({})"},
    {"command_r", "command_r", false, "<|START_RESPONSE|>Yes.<|END_RESPONSE|>", "Yes."},
    {"command_r", "command_r", true, "Hm<|END_THINKING|><|START_TEXT|>Yes.<|END_TEXT|>",
     "R(Hm)Yes."},
    {"command_r", "", false, "<|START_ACTION|>none<|END_ACTION|>",
     "<|START_ACTION|>none<|END_ACTION|>", 1},
    // Command R+, as its template writes calls and as the model does.
    {"command_r_plus", "", false,
     "I will look.\nAction:\n```json\n[\n    {\n        \"tool_name\": \"f\",\n        "
     "\"parameters\": {\n            \"a\": \"]```\"\n        }\n    },\n    {\n        "
     "\"tool_name\": \"g\",\n        \"parameters\": {}\n    }\n]```\n",
     "I will look.#0:f({\n            \"a\": \"]```\"\n        })#1:g({})"},
    {"command_r_plus", "", false,
     "Action: ```json\n[{\"tool_name\": \"f\", \"parameters\": {}}]\n```", "#0:f({})"},
    {"command_r_plus", "", false, "Action: ```json[{\"tool_name\": \"f\"}]``", "#0:f({})"},
    {"command_r_plus", "", false, "Action: run ```json", "Action: run ```json", 1},
    {"command_r_plus", "", false, "Action: ```json\n{\"tool_name\": \"f\"}```",
     "Action: ```json\n{\"tool_name\": \"f\"}```", 1},
    {"command_r_plus", "", false, "Action: ```js", "Action: ```js", 1},
    {"command_r_plus", "", false, "Act", "Act"},
    // Functionary v3.1.
    {"functionary_v31", "", false,
     "I look. <function=f>{\"a\": \"</function>\"}</function><function=g>{}</function>",
     "I look.#0:f({\"a\": \"</function>\"})#1:g({})"},
    {"functionary_v31", "", false, "<function=f> {\"a\": [1", "#0:f({\"a\": [1)", 1},
    {"functionary_v31", "", false, "<function=f>{}</func", "#0:f({})"},
    {"functionary_v31", "", false, "<function=f{}", "<function=f{}", 1},
    {"functionary_v31", "", false, "<function=f>text", "<function=f>text", 1},
    {"functionary_v31", "", false, "<function=a b>{}</function>", "<function=a b>{}</function>", 1},
    {"functionary_v31", "", false, "a < b <fun", "a < b <fun"},
    // Functionary v3.2, whose prompt ends in >>>.
    {"functionary", "", false, "f\n{\"a\": 1}>>>g\n{}", "#0:f({\"a\": 1})#1:g({})"},
    {"functionary", "", false, "all\nI ask.\n>>>f\n{}", "I ask.#0:f({})"},
    {"functionary", "", false, "all\nHello >>> there", "Hello >>> there"},
    {"functionary", "", false, "all\nHello >>> you\nthere", "Hello >>> you\nthere", 1},
    {"functionary", "", false, "f\nno", "f\nno", 1},
    {"functionary", "", false, "No recipient, no line", "No recipient, no line"},
    // gpt-oss.
    {"harmony", "harmony", false,
     "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary "
     "to=functions.f <|constrain|>json<|message|>{\"a\": \"<|end|>\"}<|call|>",
     "R(Hm.)#0:f({\"a\": \"<|end|>\"})"},
    {"harmony", "harmony", false,
     "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b"
     "<|end|>\n<|start|>assistant<|channel|>final<|message|>Yes < no.\n<|return|>",
     "R(a\nb)Yes < no.\n"},
    {"harmony", "harmony", false, " to=functions.f<|channel|>commentary json<|message|>{}",
     "#0:f({})"},
    {"harmony", "harmony", false,
     "<|channel|>commentary<|message|>I ask.<|end|><|start|>assistant to=functions.f<|channel|>"
     "commentary json<|message|>{}<|end|><|start|>assistant to=functions.g<|channel|>commentary "
     "json<|message|> {\"b\": [1",
     "I ask.#0:f({})#1:g({\"b\": [1)", 1},
    {"harmony", "harmony", false, "<|channel|>commentary to=functions.f<|message|>no call",
     "<|channel|>commentary to=functions.f<|message|>no call", 1},
    {"harmony", "harmony", false, "<|channel|>commentary to=functions.f<|message|>{1}", "#0:f({)1}",
     1},
    {"", "harmony", false, "<|channel|>commentary to=functions.f<|message|>{}", "{}"},
    {"harmony", "harmony", false, "Plain text", "Plain text"},
    {"harmony", "harmony", false, "assistants", "assistants"},
    {"harmony", "harmony", false, "to", "to"},
    {"harmony", "harmony", false, "<|channel|>final<|message|>Yes<|en", "Yes<|en"},
    {"harmony", "harmony", true, "Hm.<|end|><|start|>assistant<|chan", "R(Hm.)"},
    {"harmony", "harmony", true, "Hm.<|end|><|start|>assistant Hello there",
     "R(Hm.)<|start|>assistant Hello there"},
    {"harmony", "harmony", false, "<|channel|>commentary to=weather<|message|>{}",
     "<|channel|>commentary to=weather<|message|>{}", 1},
};

}  // namespace penstock::reply_cases
