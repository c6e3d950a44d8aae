// Replies of models in every format, in pieces as they come and whole: the same pieces of answer, arguments of calls that are
// JSON objects, and no text longer than what came.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "text/reply/reply_parser.h"

namespace penstock {
namespace {

struct Told {
  std::string content, reasoning;
  std::vector<std::pair<std::string, std::string>> calls;
  friend bool operator==(const Told&, const Told&) = default;
};

Told Parse(const ReplyFormat& format, bool in_reasoning, std::string_view text, size_t step) {
  ReplyParser parser(format, in_reasoning);
  std::vector<ReplyPiece> pieces;
  for (size_t at = 0; at < text.size(); at += step) parser.Append(text.substr(at, step), pieces);
  parser.Finish(pieces);
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
  if (told.content.size() + told.reasoning.size() > text.size()) std::abort();
  return told;
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
  const Told whole = Parse(format, in_reasoning, text, text.size() + 1);
  if (!(Parse(format, in_reasoning, text, 1) == whole)) std::abort();
  if (!(Parse(format, in_reasoning, text, 1 + data[2] / 16) == whole)) std::abort();
  return 0;
}
