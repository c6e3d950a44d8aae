// How families of models write their reasoning and their calls of functions.
// Owns nothing. Must not know requests or the wire.
// Threads: immutable.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "text/reply/call_reader.h"

namespace penstock {

/// What a call's id must look like for the chat template to take it back.
enum class CallIdForm : uint8_t {
  kAny,
  kNineCharacters,    // letters and digits: Mistral's raise otherwise
  kFunctionAndNumber  // functions.f:0, counted through the chat: Kimi's shows it to the model
};

/// Calls of functions.
struct CallFormat {
  std::string_view name;   // of the configuration
  std::string_view begin;  // of a block; with `bare` it may be missing
  std::string_view end;    // of a block; empty: none
  CallBody body = CallBody::kObject;
  bool bare = false;  // a reply that begins with {, or [ of kPython, is a block
  std::array<std::string_view, 4> ignored = {};  // around blocks
  CallIdForm ids = CallIdForm::kAny;
};

/// Reasoning that goes before the answer.
struct ReasoningFormat {
  std::string_view name;
  std::string_view begin;
  std::string_view end;
  std::string_view after = {};    // behind the end, before all else
  std::string_view content = {};  // goes before content of a given form
  // Around an answer that reasoning goes before; both are left out.
  std::string_view answer_begin = {}, answer_end = {};
};

/// Null formats: none.
struct ReplyFormat {
  const CallFormat* calls = nullptr;
  const ReasoningFormat* reasoning = nullptr;
  bool apart = false;  // content or calls: where content has begun no call follows
};

absl::Span<const CallFormat> CallFormats();
absl::Span<const ReasoningFormat> ReasoningFormats();

/// By what a chat template writes.
const CallFormat* CallFormatOf(std::string_view chat_template);
const ReasoningFormat* ReasoningFormatOf(std::string_view chat_template);

/// Whether harmony_parser.h reads such replies.
bool IsHarmony(const ReplyFormat& format);

/// All that it looks for.
std::vector<std::string_view> MarkersOf(const ReplyFormat& format);

/// Whether a rendered prompt has begun the reasoning already.
bool EndsInReasoning(const ReasoningFormat& format, std::string_view prompt);
/// Whether it has ended it.
bool EndsBehindReasoning(const ReasoningFormat& format, std::string_view prompt);

}  // namespace penstock
