#include "text/byte_level_pretokenizer.h"

#include "text/byte_level.h"

namespace penstock {

PreTokenized ByteLevelPreTokenizer::Cut(std::string_view text) const {
  PreTokenized cut{std::string(text), {{0, text.size()}}};
  for (const auto& step : steps_.before) step->Apply(&cut);
  return cut;
}

std::string ByteLevelPreTokenizer::Written(std::string_view word) {
  std::string written;
  byte_level::AppendEncoded(word, &written);
  return written;
}

PreTokenized ByteLevelPreTokenizer::WrittenAndCut(std::string_view word) const {
  PreTokenized parts{Written(word), {}};
  parts.pieces.push_back({0, parts.text.size()});
  for (const auto& step : steps_.after) step->Apply(&parts);
  return parts;
}

void ByteLevelPreTokenizer::Apply(PreTokenized* input) const {
  PreTokenized out;
  out.text.reserve(input->text.size() + input->text.size() / 4);
  for (const TextRange& piece : input->pieces) {
    ForEachWord(input->Piece(piece), [&](std::string_view word) {
      ForEachPart(word, [&](std::string_view part) {
        const size_t begin = out.text.size();
        out.text.append(part);
        if (out.text.size() > begin) out.pieces.push_back({begin, out.text.size()});
      });
    });
  }
  input->text = std::move(out.text);
  input->pieces = std::move(out.pieces);
}

}  // namespace penstock
