#include "service/call_fields.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/call_error.h"

namespace penstock {
namespace {

using Call = GenerationCall;
constexpr double kInt32Max = std::numeric_limits<int32_t>::max();
constexpr double kDayMs = 86'400'000;

// JSON Schema of forms that several fields share, or that are long.
constexpr std::string_view kStringSchema = R"({"type":"string"})";
constexpr std::string_view kFlagSchema = R"({"type":"boolean"})";
constexpr std::string_view kObjectSchema = R"({"type":"object"})";
constexpr std::string_view kStringsSchema = R"({"type":"array","items":{"type":"string"}})";
constexpr std::string_view kFlagsSchema =
    R"({"type":"object","properties":{"include_usage":{"type":["boolean","null"]},)"
    R"("continuous_usage_stats":{"type":["boolean","null"]}}})";
constexpr std::string_view kToolChoiceSchema =
    R"({"anyOf":[{"enum":["none","auto","required"]},{"type":"object","properties":{)"
    R"("type":{"const":"function"},"name":{"type":"string"},"function":{"type":"object",)"
    R"("properties":{"name":{"type":"string"}},"required":["name"]}},"required":["type"]},)"
    R"({"type":"object","properties":{"type":{"const":"allowed_tools"},"mode":{"enum":["auto",)"
    R"("required"]},"tools":{"type":"array","minItems":1},"allowed_tools":{"type":"object"}},)"
    R"("required":["type"]}]})";
constexpr std::string_view kFormatSchema =
    R"({"type":"object","properties":{"type":{"enum":["text","json_object","json_schema",)"
    R"("structural_tag"]},"format":{"type":"object"},"structures":{"type":"array"},)"
    R"("triggers":{"type":"array"},"json_schema":{"type":"object","properties":{"name":{"type":"string","minLength":1,)"
    R"("maxLength":64},"schema":{"type":"object"},"strict":{"type":["boolean","null"]}},)"
    R"("required":["name","schema"]}},"required":["type"]})";
constexpr std::string_view kFlatFormatSchema =
    R"({"type":"object","properties":{"format":{"anyOf":[{"type":"null"},{"type":"object",)"
    R"("properties":{"type":{"enum":["text","json_object","json_schema","structural_tag"]},)"
    R"("schema":{"type":"object"}},"required":["type"]}]}}})";
constexpr std::string_view kStructuredSchema =
    R"({"type":"object","properties":{"json":{"type":["object","boolean","string","null"]},)"
    R"("regex":{"type":["string","null"]},"choice":{"type":["array","null"],"minItems":1,)"
    R"("items":{"type":"string","minLength":1}},"grammar":{"type":["string","null"]},)"
    R"("json_object":{"type":["boolean","null"]},)"
    R"("structural_tag":{"type":["object","string","null"]}},"additionalProperties":{"type":"null"}})";
constexpr std::string_view kPromptSchema =
    R"({"anyOf":[{"type":"string"},{"type":"array","minItems":1,"items":{"anyOf":[)"
    R"({"type":"string"},{"type":"integer","minimum":0},)"
    R"({"type":"array","items":{"type":"integer","minimum":0}}]}}]})";
constexpr std::string_view kTextsSchema =
    R"({"type":"array","minItems":1,"items":{"anyOf":[{"type":"string"},{"type":"object",)"
    R"("properties":{"text":{"type":"string"}},"required":["text"]}]}})";
constexpr std::string_view kContentSchema =
    R"({"anyOf":[{"type":"string"},{"type":"array","items":)"
    R"({"anyOf":[{"type":"string"},{"type":"object"}]}}]})";
constexpr std::string_view kMessagesSchema =
    R"({"type":"array","minItems":1,"items":{"type":"object","properties":)"
    R"({"role":{"type":"string","minLength":1}},"required":["role"]}})";
constexpr std::string_view kTurnsSchema =
    R"({"type":"array","minItems":1,"items":{"type":"object","properties":)"
    R"({"role":{"enum":["user","assistant","system"]}},"required":["role","content"]}})";
constexpr std::string_view kItemsSchema =
    R"({"anyOf":[{"type":"string"},{"type":"array","items":{"type":"object","properties":)"
    R"({"type":{"const":"message"},"role":{"enum":["user","assistant","system","developer"]}},)"
    R"("required":["role","content"]}}]})";
constexpr std::string_view kToolsSchema =
    R"({"type":"array","items":{"type":"object","properties":{"function":)"
    R"({"type":"object","required":["name"]}},"required":["function"]}})";

const CallField kFields[] = {
    {"model", kEverywhere | kDialogues | kPooling | kTokens, &Call::model, 0, 0, false,
     "Name or alias of the model; may be absent where one is served."},
    {"prompt", kAnyText,
     OwnForm{"a string, an array of strings, an array of token ids or an array of such arrays",
             kPromptSchema},
     0, 0, false, "What to continue; several: an answer to each. gRPC: one text."},
    {"prompt", kTokenize, OwnForm{"a string or an array of token ids", kPromptSchema}, 0, 0, false,
     "What the token ids are wanted of; or messages."},
    {"tokens", kDetokenize, &Call::stop_token_ids, 0, 0, false, "What the text is wanted of."},
    {"text", kGrpcTokenize, OwnForm{"a string", ""}, 0, 0, false,
     "What the token ids are wanted of; or chat."},
    {"chat", kGrpcTokenize, OwnForm{"a chat", ""}, 0, 0, false,
     "A conversation, as Chat has it; what the template makes of it becomes token ids."},
    {"ids", kGrpcDetokenize, &Call::stop_token_ids, 0, 0, false, "What the text is wanted of."},
    {"return_token_strs", kTokenize | kGrpcTokenize, OwnForm{"true or false", kFlagSchema}, 0, 0,
     false, "The text of each token beside its id."},
    {"prompt_ids", kGrpcGenerate, OwnForm{"token ids", ""}, 0, 0, false,
     "The prompt as token ids."},
    {"messages", kAnyChat, OwnForm{"an array of at least one message", kMessagesSchema}, 0, 0,
     false, "The conversation: objects with role and content, a string or text parts."},
    {"messages", kTokenize, OwnForm{"an array of at least one message", kMessagesSchema}, 0, 0,
     false, "As a chat has them; what the template makes of them becomes token ids."},
    {"messages", kMessages, OwnForm{"an array of at least one message", kTurnsSchema}, 0, 0, false,
     "Turns of user, assistant and system, a string or text blocks each; a last one of the "
     "assistant is continued."},
    {"system", kMessages, OwnForm{"a string or an array of text blocks", kContentSchema}, 0, 0,
     false, "What goes before the conversation."},
    {"input", kResponses, OwnForm{"a string or an array of items", kItemsSchema}, 0, 0, false,
     "What to answer: a text, or messages of user, assistant, system and developer."},
    {"instructions", kResponses, OwnForm{"a string", kStringSchema}, 0, 0, false,
     "What goes before the conversation; not kept for the next response."},
    {"previous_response_id", kResponses, OwnForm{"a string", kStringSchema}, 0, 0, false,
     "A kept response whose conversation goes on."},
    {"store", kResponses, OwnForm{"true or false", kFlagSchema}, 0, 0, false,
     "Keep the response for limits.response_ttl; true if left out."},
    {"input", kEmbed, OwnForm{"a text, token ids or an array of such", kPromptSchema}, 0, 0, false,
     "What to embed, 2048 inputs at most."},
    {"query", kRerank, OwnForm{"a string", kStringSchema}, 0, 0, false,
     "What documents are compared with."},
    {"documents", kRerank, OwnForm{"an array of strings or of objects with a text", kTextsSchema},
     0, 0, false, "2048 at most."},
    {"max_tokens", kEverywhere | kMessages, &Call::max_tokens, 0, kInt32Max, false,
     "Output tokens at most; completions: 16, chat: the rest of the context, messages: needed."},
    {"max_completion_tokens", kAnyChat, &Call::max_completion_tokens, 1, kInt32Max, false,
     "As max_tokens, goes before it."},
    {"max_output_tokens", kResponses, &Call::max_completion_tokens, 1, kInt32Max, false,
     "Output tokens at most; the rest of the context if left out."},
    {"min_tokens", kEverywhere | kDialogues, &Call::min_tokens, 0, kInt32Max, false,
     "No stop token before so many output tokens."},
    {"n", kEverywhere, &Call::n, 1, 1024, false, "Choices per prompt."},
    {"best_of", kAnyText, &Call::best_of, 1, 1024, false,
     "Candidates per prompt, of which the n with the highest mean log-probability per token are "
     "given; more than n not in a stream. Usage counts all."},
    {"seed", kEverywhere | kDialogues, &Call::seed, 0, 0, false,
     "Same request, same seed, same tokens."},
    {"temperature", kEverywhere | kDialogues, &Call::temperature, 0, 2, false, "0 is greedy."},
    {"top_p", kEverywhere | kDialogues, &Call::top_p, 0, 1, true, "Nucleus sampling; 1 is off."},
    {"top_k", kEverywhere | kDialogues, &Call::top_k, -1, kInt32Max, false,
     "The k most likely tokens; 0 and -1 are off."},
    {"min_p", kEverywhere | kDialogues, &Call::min_p, 0, 1, false,
     "Relative to the most likely token; 0 is off."},
    {"repetition_penalty", kEverywhere | kDialogues, &Call::repetition_penalty, 0, 100, true,
     "Over prompt and output; 1 is off."},
    {"presence_penalty", kEverywhere | kDialogues, &Call::presence_penalty, -2, 2, false,
     "Over the output; 0 is off."},
    {"frequency_penalty", kEverywhere | kDialogues, &Call::frequency_penalty, -2, 2, false,
     "Over the output; 0 is off."},
    {"logit_bias", kEverywhere | kDialogues, &Call::logit_bias, -100, 100, false,
     "Token id to a number added to its logit. HTTP: or a text, for each of its tokens."},
    {"bad_words", kEverywhere | kDialogues, &Call::bad_words, 0, 0, false,
     "Texts that are not written, as the tokenizer writes them with or without a space before; "
     "128 at most."},
    {"allowed_token_ids", kEverywhere | kDialogues, &Call::allowed_token_ids, 0, 0, false,
     "Only these can be drawn."},
    {"stop", kEverywhere, &Call::stop, 0, 0, false, "Strings that end the output."},
    {"stop_sequences", kMessages, &Call::stop, 0, 0, false, "Strings that end the output."},
    {"stop_token_ids", kEverywhere | kDialogues, &Call::stop_token_ids, 0, 0, false,
     "Tokens that end the output."},
    {"include_stop_str_in_output", kEverywhere | kDialogues, &Call::include_stop_str_in_output, 0,
     0, false, "Keep what stopped the output in it."},
    {"ignore_eos", kEverywhere | kDialogues, &Call::ignore_eos, 0, 0, false,
     "Go on after the model's end token."},
    {"skip_special_tokens", kEverywhere | kDialogues, &Call::skip_special_tokens, 0, 0, false,
     "Leave special tokens out of the text."},
    {"logprobs", kAnyText, &Call::num_logprobs, 0, 20, false,
     "Log-probabilities of each token and of so many most likely ones."},
    {"logprobs", kAnyChat, &Call::want_logprobs, 0, 0, false, "Log-probabilities of each token."},
    {"top_logprobs", kAnyChat, &Call::top_logprobs, 0, 20, false,
     "And of so many most likely ones."},
    {"logprob_token_ids", kEverywhere, &Call::logprob_token_ids, 0, 0, false, "And of these."},
    {"prompt_logprobs", kEverywhere, &Call::num_prompt_logprobs, 0, 20, false,
     "Of each token of the prompt and of so many most likely ones; not in a stream."},
    {"echo", kAnyText, &Call::echo, 0, 0, false, "The prompt goes before the output."},
    {"truncate_prompt_tokens", kEverywhere | kDialogues | kPooling, &Call::truncate_prompt_tokens,
     -1, kInt32Max, false,
     "Keep so many last tokens of the prompt (embeddings: the first ones); -1: what fits."},
    {"add_special_tokens", kEverywhere | kDialogues | kEmbed | kTokenize | kGrpcTokenize,
     &Call::add_special_tokens, 0, 0, false,
     "Let the tokenizer add what a prompt starts with; completions: true, chat: false."},
    {"add_generation_prompt", kAnyChat, &Call::add_generation_prompt, 0, 0, false,
     "The template opens the assistant's turn."},
    {"continue_final_message", kAnyChat, &Call::continue_final_message, 0, 0, false,
     "The output continues the last message."},
    {"chat_template", kAnyChat | kDialogues, &Call::chat_template, 0, 0, false,
     "A Jinja template in place of the model's."},
    {"chat_template_kwargs", kAnyChat | kDialogues, OwnForm{"an object", kObjectSchema}, 0, 0,
     false, "Further variables of the template. gRPC: as JSON."},
    {"tools", kAnyChat, OwnForm{"an array of functions with names", kToolsSchema}, 0, 0, false,
     "Handed to the template. gRPC: each as JSON."},
    {"tools", kResponses,
     OwnForm{"an array of functions", R"({"type":"array","items":{"type":"object","properties":{)"
                                      R"("type":{"const":"function"},"name":{"type":"string"}},)"
                                      R"("required":["type","name"]}})"},
     0, 0, false, "Handed to the template."},
    {"tools", kMessages,
     OwnForm{"an array of tools with a name and an input_schema",
             R"({"type":"array","items":{"type":"object","properties":{"name":{"type":"string"},)"
             R"("input_schema":{"type":"object"}},"required":["name","input_schema"]}})"},
     0, 0, false, "Handed to the template."},
    {"tool_choice", kMessages,
     OwnForm{"an object with a type: auto, any, tool or none",
             R"({"type":"object","properties":{"type":{"enum":["auto","any","tool","none"]},)"
             R"("name":{"type":"string"},"disable_parallel_tool_use":{"type":["boolean","null"]}},)"
             R"("required":["type"]})"},
     0, 0, false,
     "any, or a tool: the reply is calls, whose input fulfils its schema. Messages has no "
     "allowed_tools: leave the others out of tools."},
    {"tool_choice", kAnyChat | kResponses,
     OwnForm{"\"none\", \"auto\", \"required\", a function or allowed_tools", kToolChoiceSchema}, 0,
     0, false,
     "none: calls stay in the text; required, or a function: the reply is calls, whose arguments "
     "fulfil their schemas. auto: text or calls, which fulfil their schemas if a function is "
     "strict; beside a response_format: calls or an instance. gRPC: a word, or a function as "
     "JSON."},
    {"parallel_tool_calls", kAnyChat | kResponses, &Call::parallel_tool_calls, 0, 0, false,
     "false: the reply ends behind its first call."},
    {"documents", kAnyChat | kDialogues, OwnForm{"an array", R"({"type":"array"})"}, 0, 0, false,
     "Handed to the template. gRPC: each as JSON."},
    {"reasoning_effort", kAnyChat | kDialogues, &Call::reasoning_effort, 0, 0, false,
     "Handed to the template; `none` also sets its `enable_thinking` and `thinking` to false."},
    {"thinking_token_budget", kAnyChat | kDialogues, &Call::reasoning_budget, 0, kInt32Max, false,
     "Reasoning that has taken so many tokens is ended."},
    {"stream", kHttpText, &Call::stream, 0, 0, false, "Answer in pieces, as server-sent events."},
    {"stream_options", kHttp, OwnForm{"an object of booleans", kFlagsSchema}, 0, 0, false,
     "include_usage: a last event with the usage; continuous_usage_stats: in each event."},
    {"stream_options", kResponses, OwnForm{"an object", kObjectSchema}, 0, 0, false,
     "Accepted and not used."},
    {"stream_interval", kEverywhere | kDialogues, &Call::stream_interval, 1, kInt32Max, false,
     "Tokens per piece of a stream."},
    {"return_token_ids", kEverywhere, &Call::return_token_ids, 0, 0, false,
     "Token ids beside the text."},
    {"priority", kEverywhere | kDialogues | kPooling, &Call::priority, -kInt32Max, kInt32Max, false,
     "Lower runs earlier."},
    {"cache_salt", kEverywhere | kDialogues | kPooling, &Call::cache_salt, 0, 0, false,
     "Prefix blocks are shared under an equal salt only."},
    {"request_id", kHttpText | kHttpPooling, &Call::client_request_id, 0, 0, false,
     "Names the request in answers and logs."},
    {"user", kHttp | kResponses | kHttpPooling, &Call::user, 0, 0, false, "Accepted and not used."},
    {"response_format", kEverywhere,
     OwnForm{"an object with a type: text, json_object, json_schema or structural_tag",
             kFormatSchema},
     0, 0, false,
     "The answer is JSON, or an instance of json_schema.schema, members in its order; "
     "strict: false leaves out what cannot be kept; or text with tags, by format or by structures "
     "and triggers; in a format a schema's instances may be written one argument by another "
     "(qwen_xml_parameter, or style qwen_xml). gRPC: as JSON."},
    {"structured_outputs", kEverywhere | kDialogues,
     OwnForm{"an object with one of json, regex, choice, grammar (GBNF or Lark), json_object, "
             "structural_tag",
             kStructuredSchema},
     0, 0, false, "What the answer must match. gRPC: as JSON."},
    {"guided_json", kHttpText,
     OwnForm{"a JSON Schema", R"({"type":["object","boolean","string"]})"}, 0, 0, false,
     "As structured_outputs.json."},
    {"guided_regex", kHttpText, OwnForm{"a string", kStringSchema}, 0, 0, false,
     "As structured_outputs.regex."},
    {"guided_choice", kHttpText, OwnForm{"an array of strings", kStringsSchema}, 0, 0, false,
     "As structured_outputs.choice."},
    {"guided_grammar", kHttpText, OwnForm{"a string", kStringSchema}, 0, 0, false,
     "As structured_outputs.grammar."},
    {"guided_json_object", kHttpText, OwnForm{"true or false", kFlagSchema}, 0, 0, false,
     "As structured_outputs.json_object."},
    {"text", kResponses,
     OwnForm{"an object with a format: text, json_object, json_schema or structural_tag",
             kFlatFormatSchema},
     0, 0, false, "As response_format, with name, schema and strict beside the type."},
    {"output_format", kMessages,
     OwnForm{
         "an object with a type: json_schema or structural_tag",
         R"({"type":"object","properties":{"type":{"enum":["text","json_object",)"
         R"("json_schema","structural_tag"]},"schema":{"type":"object"}},"required":["type"]})"},
     0, 0, false,
     "The answer is an instance of schema, or text with tags (structural_tag, which Anthropic's "
     "own has not). Also as output_config.format."},
    {"reasoning", kResponses,
     OwnForm{"an object with an effort",
             R"({"type":"object","properties":{"effort":{"type":["string","null"]}}})"},
     0, 0, false, "Its effort is handed to the template."},
    {"thinking", kMessages,
     OwnForm{"an object with a type: enabled, adaptive or disabled",
             R"({"type":"object","properties":{"type":{"enum":["enabled","adaptive","disabled"]},)"
             R"("budget_tokens":{"type":["integer","null"],"minimum":0}},"required":["type"]})"},
     0, 0, false,
     "Handed to the template as enable_thinking and thinking; thinking that has taken "
     "budget_tokens is ended."},
    {"output_config", kMessages,
     OwnForm{"an object with an effort and a format",
             R"({"type":"object","properties":{"effort":{"type":["string","null"]},)"
             R"("format":{"type":["object","null"]}}})"},
     0, 0, false, "Its effort is handed to the template, its format is as output_format."},
    {"metadata", kDialogues, OwnForm{"an object of strings", kObjectSchema}, 0, 0, false,
     "Repeated in a response, else not used."},
    {"truncation", kResponses, OwnForm{"\"disabled\"", R"({"const":"disabled"})"}, 0, 0, false,
     "A prompt that is too long is refused."},
    {"include", kResponses, OwnForm{"an array of strings", kStringsSchema}, 0, 0, false,
     "Accepted; of what it asks for, texts have nothing."},
    {"modalities", kChat, OwnForm{"[\"text\"]", R"({"const":["text"]})"}, 0, 0, false, "Text."},
    {"spaces_between_special_tokens", kHttp, OwnForm{"true", R"({"const":true})"}, 0, 0, false,
     "As the tokenizer decodes."},
    {"encoding_format", kEmbeddings,
     OwnForm{"\"float\" or \"base64\"", R"({"enum":["float","base64"]})"}, 0, 0, false,
     "base64: little-endian float32."},
    {"top_n", kRerank, OwnForm{"an integer of at least 0", R"({"type":"integer","minimum":0})"}, 0,
     0, false, "So many of the best; 0: all."},
    {"return_documents", kRerank, OwnForm{"true or false", kFlagSchema}, 0, 0, false,
     "Repeat the texts in the answer; true if left out."},
    {"dimensions", kEmbed, &Call::dimensions, 1, kInt32Max, false,
     "Numbers that an embedding keeps; the model's own size if left out."},
    {"timeout_ms", kEverywhere | kDialogues | kPooling, &Call::timeout_ms, 1, kDayMs, false,
     "The answer must be complete by then."},
    {"ttft_timeout_ms", kEverywhere | kDialogues, &Call::ttft_timeout_ms, 1, kDayMs, false,
     "The first token must be out by then."},
    {"lora_name", kAdapters, OwnForm{"a string", kStringSchema}, 0, 0, false,
     "The adapter's name, which requests give as their model."},
    {"lora_path", kLoadAdapter, OwnForm{"a string", kStringSchema}, 0, 0, false,
     "Its directory, within lora.dir."},
    {"base_model_name", kLoadAdapter, OwnForm{"a string", kStringSchema}, 0, 0, false,
     "The model that it adapts; may be absent where one takes adapters."},
    {"load_inplace", kLoadAdapter, OwnForm{"true or false", kFlagSchema}, 0, 0, false,
     "Where one of that name is loaded it is replaced; else that is refused."},
};

constexpr UnsupportedField kUnsupportedFields[] = {
    {"suffix", kCompletions, "filling in before a suffix is not supported"},
    {"use_beam_search", kHttpText, "beam search is not supported"},
    {"logits_processors", kHttpText, "custom processors are not supported"},
    {"prompt_embeds", kHttpText, "a prompt is text or token ids"},
    {"functions", kChat, "use tools"},
    {"function_call", kChat, "use tools"},
    {"audio", kChat, "only text is supported"},
    {"web_search_options", kChat, "web search is not supported"},
    {"echo", kChat | kDialogues, "echo is for /v1/completions"},
    {"n", kDialogues, "one answer is given"},
    {"stop", kDialogues, "use stop_sequences of /v1/messages, or /v1/chat/completions"},
    {"max_tokens", kResponses, "use max_output_tokens"},
    {"messages", kResponses, "use input"},
    {"logprobs", kDialogues, "use /v1/chat/completions"},
    {"prompt_logprobs", kDialogues, "use /v1/chat/completions"},
    {"response_format", kDialogues, "use text.format or output_format"},
    {"mcp_servers", kMessages, "tool use is not supported here"},
    {"container", kMessages, "containers are not supported"},
    {"context_management", kMessages, "what is too long is refused"},
    {"top_logprobs", kResponses, "use /v1/chat/completions"},
    {"max_tool_calls", kResponses, "tool use is not supported here"},
    {"background", kResponses, "a response is made while its request is open"},
    {"conversation", kResponses, "use previous_response_id"},
    {"prompt", kResponses, "prompts are not kept: use instructions and input"},
};

using FieldIndex = absl::flat_hash_map<std::string_view, const CallField*>;

FieldIndex MakeIndex(Surface surface) {
  FieldIndex index;
  for (const CallField& field : kFields) {
    if ((field.surfaces & surface) != 0) index.emplace(field.name, &field);
  }
  return index;
}

bool bounded(const CallField& field) { return field.min != field.max; }

bool InRange(const CallField& field, double value) {
  if (!std::isfinite(value)) return false;
  if (!bounded(field)) return true;
  return (field.above_min ? value > field.min : value >= field.min) && value <= field.max;
}

absl::Status OutOfRange(const CallField& field, double value) {
  return InvalidField(field.name, absl::StrCat(ToAbsl(field.name), " must be ",
                                               ExpectedValue(field), ", got ", value));
}

}  // namespace

absl::Span<const CallField> CallFields() { return kFields; }
absl::Span<const UnsupportedField> UnsupportedFields() { return kUnsupportedFields; }

const CallField* FindCallField(std::string_view name, Surface surface) {
  constexpr Surface kSurfaces[] = {kCompletions,   kChat,         kGrpcGenerate,  kGrpcChat,
                                   kEmbeddings,    kGrpcEmbed,    kRerank,        kMessages,
                                   kResponses,     kTokenize,     kDetokenize,    kLoadAdapter,
                                   kUnloadAdapter, kGrpcTokenize, kGrpcDetokenize};
  static const auto indexes = [&] {
    std::map<Surface, FieldIndex> made;
    for (const Surface each : kSurfaces) made.emplace(each, MakeIndex(each));
    return made;
  }();
  const auto index = indexes.find(surface);
  if (index == indexes.end()) return nullptr;
  const auto it = index->second.find(name);
  return it == index->second.end() ? nullptr : it->second;
}

std::string ExpectedValue(const CallField& field) {
  struct Describe {
    const CallField& f;
    static std::string Bound(double value) {
      const auto whole = static_cast<int64_t>(value);
      return static_cast<double>(whole) == value ? absl::StrCat(whole) : absl::StrCat(value);
    }
    std::string Range() const {
      if (!bounded(f)) return "";
      if (f.max >= kInt32Max) return absl::StrCat(" of at least ", Bound(f.min));
      return absl::StrCat(" in ", f.above_min ? "(" : "[", Bound(f.min), ", ", Bound(f.max), "]");
    }
    std::string operator()(std::optional<double> Call::*) const {
      return absl::StrCat("a number", Range());
    }
    std::string operator()(std::optional<int64_t> Call::*) const {
      return absl::StrCat("an integer", Range());
    }
    std::string operator()(std::optional<bool> Call::*) const { return "true or false"; }
    std::string operator()(std::optional<std::string> Call::*) const { return "a string"; }
    std::string operator()(std::vector<std::string> Call::*) const {
      return "a string or an array of strings";
    }
    std::string operator()(std::vector<TokenId> Call::*) const { return "an array of token ids"; }
    std::string operator()(std::vector<std::pair<TokenId, double>> Call::*) const {
      return absl::StrCat("an object of token ids to numbers", Range());
    }
    std::string operator()(OwnForm own) const { return std::string(own.expected); }
  };
  return std::visit(Describe{field}, field.member);
}

absl::Status CheckFieldRanges(const GenerationCall& call) {
  struct Check {
    const CallField& field;
    const GenerationCall& call;
    absl::Status operator()(std::optional<double> Call::*m) const {
      return !(call.*m) || InRange(field, *(call.*m)) ? absl::OkStatus()
                                                      : OutOfRange(field, *(call.*m));
    }
    absl::Status operator()(std::optional<int64_t> Call::*m) const {
      const auto& value = call.*m;
      if (!value || InRange(field, static_cast<double>(*value))) return absl::OkStatus();
      return InvalidField(field.name, absl::StrCat(ToAbsl(field.name), " must be ",
                                                   ExpectedValue(field), ", got ", *value));
    }
    absl::Status operator()(std::vector<std::pair<TokenId, double>> Call::*m) const {
      for (const auto& [id, bias] : call.*m) {
        if (!InRange(field, bias)) return OutOfRange(field, bias);
      }
      for (const auto& [text, bias] : call.text_bias) {
        if (!InRange(field, bias)) return OutOfRange(field, bias);
      }
      return absl::OkStatus();
    }
    absl::Status operator()(std::optional<bool> Call::*) const { return absl::OkStatus(); }
    absl::Status operator()(std::optional<std::string> Call::*) const { return absl::OkStatus(); }
    absl::Status operator()(std::vector<std::string> Call::*) const { return absl::OkStatus(); }
    absl::Status operator()(std::vector<TokenId> Call::*) const { return absl::OkStatus(); }
    absl::Status operator()(OwnForm) const { return absl::OkStatus(); }
  };
  for (const CallField& field : kFields)
    RETURN_IF_ERROR(std::visit(Check{field, call}, field.member));
  return absl::OkStatus();
}

}  // namespace penstock
