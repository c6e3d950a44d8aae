#include "text/charsmap.h"

#include "absl/strings/str_cat.h"
#include "base/utf8.h"
#include "text/unicode.h"

namespace penstock {
namespace {

// A unit of the double array: a label to check, and where the children lie.
constexpr uint32_t UnitOffset(uint32_t unit) { return (unit >> 10) << ((unit & 0x200) >> 6); }
constexpr uint32_t UnitLabel(uint32_t unit) { return unit & 0x800000FF; }
constexpr bool UnitHasLeaf(uint32_t unit) { return (unit & 0x100) != 0; }
constexpr uint32_t UnitValue(uint32_t unit) { return unit & 0x7FFFFFFF; }

uint32_t LittleEndian32(std::string_view bytes, size_t pos) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(bytes[pos + i]);
  return value;
}

}  // namespace

absl::StatusOr<Charsmap> Charsmap::Parse(std::string_view blob) {
  if (blob.size() < 4) {
    return absl::InvalidArgumentError(
        absl::StrCat("charsmap: ", blob.size(), " bytes, expected at least 4"));
  }
  const uint32_t trie_bytes = LittleEndian32(blob, 0);
  if (trie_bytes % 4 != 0 || trie_bytes == 0 || trie_bytes > blob.size() - 4) {
    return absl::InvalidArgumentError(absl::StrCat("charsmap: a trie of ", trie_bytes,
                                                   " bytes in a blob of ", blob.size(), " bytes"));
  }
  Charsmap map;
  map.units_.reserve(trie_bytes / 4);
  for (size_t i = 0; i < trie_bytes; i += 4) map.units_.push_back(LittleEndian32(blob, 4 + i));
  map.replacements_ = blob.substr(4 + trie_bytes);
  if (!IsValidUtf8(map.replacements_)) {
    return absl::InvalidArgumentError("charsmap: the replacements are not UTF-8");
  }
  return map;
}

std::optional<Charsmap::Rule> Charsmap::Search(std::string_view text, bool shortest) const {
  std::optional<Rule> found;
  uint32_t node = UnitOffset(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (byte == 0 || node >= units_.size() || UnitLabel(units_[node]) != byte) break;
    const bool leaf = UnitHasLeaf(units_[node]);
    node ^= UnitOffset(units_[node]);
    if (!leaf || node >= units_.size()) continue;
    const size_t begin = UnitValue(units_[node]);
    const size_t end = replacements_.find('\0', begin);
    const bool inside = begin < replacements_.size() && (replacements_[begin] & 0xC0) != 0x80;
    if (!inside || end == std::string::npos) continue;
    found = Rule{i + 1, std::string_view(replacements_).substr(begin, end - begin)};
    if (shortest) break;
  }
  return found;
}

void Charsmap::AppendGrapheme(std::string_view grapheme, std::string* out) const {
  constexpr size_t kShortGrapheme = 5;
  if (grapheme.size() <= kShortGrapheme) {
    if (const std::optional<Rule> rule = Shortest(grapheme)) {
      out->append(rule->replacement);
      return;
    }
  }
  for (size_t pos = 0; pos < grapheme.size();) {
    const std::string_view point = grapheme.substr(pos, DecodeUtf8(grapheme, pos).length);
    const std::optional<Rule> rule = Shortest(point);
    out->append(rule ? rule->replacement : point);
    pos += point.size();
  }
}

std::string Charsmap::NormalizeGraphemes(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  unicode::ForEachGrapheme(text,
                           [&](std::string_view grapheme) { AppendGrapheme(grapheme, &out); });
  return out;
}

}  // namespace penstock
