// Replies of models in every format, in pieces as they come and whole: the same content, reasoning and
// calls, and not much more text than came.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/escaping.h"
#include "text/reply/reply_parser.h"

namespace penstock {
namespace {

struct Told {
  std::string content, reasoning;
  std::vector<std::pair<std::string, std::string>> calls;
  friend bool operator==(const Told&, const Told&) = default;
};

Told Parse(const ReplyFormat& format, bool in_reasoning, bool whole, std::string_view text,
           size_t step) {
  ReplyParser parser(format, in_reasoning, nullptr, false, whole);
  std::vector<ReplyPiece> pieces;
  for (size_t at = 0; at < text.size(); at += step) parser.Append(text.substr(at, step), pieces);
  parser.Finish(false, pieces);
  Told told;
  for (const ReplyPiece& piece : pieces) {
    switch (piece.kind) {
      case ReplyPiece::kContent:
        told.content += piece.text;
        break;
      case ReplyPiece::kReasoning:
        told.reasoning += piece.text;
        break;
      case ReplyPiece::kCall:
        if (piece.call != static_cast<int32_t>(told.calls.size())) std::abort();
        told.calls.emplace_back(piece.text, "");
        break;
      case ReplyPiece::kArguments:
        if (piece.call + 1 != static_cast<int32_t>(told.calls.size())) std::abort();
        told.calls.back().second += piece.text;
        break;
    }
  }
  return told;
}

void Show(const Told& told) {
  std::fprintf(stderr, "content %s\nreasoning %s\n", absl::CHexEscape(told.content).c_str(),
               absl::CHexEscape(told.reasoning).c_str());
  for (const auto& [name, arguments] : told.calls)
    std::fprintf(stderr, "call %s %s\n", absl::CHexEscape(name).c_str(),
                 absl::CHexEscape(arguments).c_str());
}

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  if (size < 3) return 0;
  const auto calls = CallFormats();
  const auto reasonings = ReasoningFormats();
  ReplyFormat format;
  const size_t call = data[0] % (calls.size() + 1);
  const size_t reasoning = data[1] % (reasonings.size() + 1);
  if (call < calls.size()) format.calls = &calls[call];
  if (reasoning < reasonings.size()) format.reasoning = &reasonings[reasoning];
  const bool in_reasoning = format.reasoning != nullptr && (data[2] & 1) != 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 3, size - 3);
  for (const bool whole_calls : {false, true}) {
    const Told whole = Parse(format, in_reasoning, whole_calls, text, text.size() + 1);
    if (whole.content.size() + whole.reasoning.size() >
        2 * text.size()) {  // messages are joined by a line
      Show(whole);
      std::abort();
    }
    for (const size_t step : {size_t{1}, size_t{2} + data[2] / 16}) {
      const Told split = Parse(format, in_reasoning, whole_calls, text, step);
      if (split == whole) continue;
      Show(whole);
      Show(split);
      std::abort();
    }
  }
  return 0;
}
