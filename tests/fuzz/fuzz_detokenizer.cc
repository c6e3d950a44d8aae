// Pieces of any bytes through the detokenizer and the stop matcher: only whole code points come
// out, and what comes out does not depend on where the text is cut.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "text/detokenizer.h"
#include "text/stop_matcher.h"

namespace {

// Token i is the byte i.
class ByteTokenizer final : public penstock::Tokenizer {
 public:
  std::vector<penstock::TokenId> Encode(std::string_view text, bool) const override {
    return {reinterpret_cast<const uint8_t*>(text.data()),
            reinterpret_cast<const uint8_t*>(text.data()) + text.size()};
  }
  std::string Decode(absl::Span<const penstock::TokenId> ids, bool) const override {
    return penstock::RepairUtf8(std::string(ids.begin(), ids.end()));
  }
  std::string Piece(penstock::TokenId id) const override {
    return std::string(1, static_cast<char>(id));
  }
  bool strips_first_space() const override { return false; }
  bool is_special(penstock::TokenId) const override { return false; }
  std::optional<penstock::TokenId> TokenToId(std::string_view) const override {
    return std::nullopt;
  }
  int32_t vocab_size() const override { return 256; }
};

std::string Stopped(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  penstock::StopMatcher matcher(stops, false);
  std::string out;
  for (const std::string& piece : pieces) {
    const penstock::StopMatcher::Step step = matcher.Append(piece);
    out += step.emit;
    if (step.matched) return out;
  }
  return out + matcher.Finish();
}

}  // namespace

// The first byte is the number of stop strings' bytes, which come next, separated by 0.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t stop_bytes = std::min<size_t>(data[0] % 32, input.size());
  std::vector<std::string> stops(1);
  for (const char c : input.substr(0, stop_bytes)) {
    if (c == 0) {
      stops.emplace_back();
    } else {
      stops.back() += c;
    }
  }
  const ByteTokenizer tokenizer;
  const std::vector<penstock::TokenId> ids = tokenizer.Encode(input.substr(stop_bytes), false);
  penstock::Detokenizer detokenizer(&tokenizer, false);
  std::vector<std::string> pieces;
  std::string text;
  for (const penstock::TokenId id : ids) {
    pieces.push_back(detokenizer.Append(id));
    if (!penstock::IsValidUtf8(pieces.back())) std::abort();
    text += pieces.back();
  }
  pieces.push_back(detokenizer.Finish());
  text += pieces.back();
  if (text != tokenizer.Decode(ids, false)) std::abort();
  if (Stopped(stops, pieces) != Stopped(stops, {text})) std::abort();
  return 0;
}
