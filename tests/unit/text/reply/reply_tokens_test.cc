// Replies as tokens: each marker as a special token or spelled out, and the pieces are the same.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/sanitizers.h"
#include "reply_cases.h"
#include "test_seed.h"
#include "text/detokenizer.h"
#include "text/tokenizer_loader.h"

namespace penstock {
namespace {

using reply_cases::Case;
using reply_cases::kCases;

using Markers = std::vector<std::string_view>;

/// The demo model's, with markers as special tokens. Made once for each of their sets.
const Tokenizer* TokenizerWith(const Markers& given) {
  static auto& made = *new std::map<Markers, std::unique_ptr<const Tokenizer>>();
  const auto found = made.find(given);
  if (found != made.end()) return found->second.get();
  std::ifstream file(PENSTOCK_SOURCE_DIR "/models/demo/tokenizer.json");
  auto json = nlohmann::ordered_json::parse(file);
  std::set<std::string> markers(given.begin(), given.end());
  markers.erase("");
  auto& added = json["added_tokens"];
  for (const auto& token : added) markers.erase(token["content"].get<std::string>());
  int id = 100'000;
  for (const std::string& marker : markers) {
    added.push_back({{"id", id++}, {"content", marker}, {"special", true}});
    for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"})
      added.back()[flag] = false;
  }
  auto loaded = ParseTokenizer(json.dump());
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  if (!loaded.ok()) return nullptr;
  return made.emplace(given, *std::move(loaded)).first->second.get();
}

class ReplyTokens : public ::testing::TestWithParam<size_t> {
 protected:
  /// Ids of the text: of a hundred markers `percent` are special tokens; the rest in random pieces.
  std::vector<TokenId> IdsOf(const Case& c, const Markers& markers, uint32_t percent) {
    std::vector<TokenId> ids;
    std::string piece;
    const auto flush = [&] {
      for (const TokenId id : tokenizer_->Encode(piece, false)) ids.push_back(id);
      piece.clear();
    };
    const std::string_view text = c.text;
    for (size_t at = 0; at < text.size();) {
      const auto marker = std::find_if(markers.begin(), markers.end(), [&](std::string_view m) {
        return !m.empty() && text.substr(at).starts_with(m);
      });
      if (marker != markers.end() && random_() % 100 < percent) {
        flush();
        ids.push_back(*tokenizer_->TokenToId(*marker));
        at += marker->size();
        continue;
      }
      piece += text[at++];
      // Never a whole marker in one piece, which would be its token.
      const bool whole = at == text.size() || (text[at] & 0xC0) != 0x80;
      if (whole && (random_() % 3 == 0 || marker != markers.end())) flush();
    }
    flush();
    return ids;
  }

  std::string Parsed(const Case& c, const std::vector<TokenId>& ids,
                     const std::vector<TokenId>& kept, int* failed) {
    Detokenizer detokenizer(tokenizer_, /*skip_special=*/true, kept);
    ReplyParser parser({reply_cases::Calls(c.calls), reply_cases::Reasoning(c.reasoning)},
                       c.in_reasoning, reply_cases::KindsOfCases());
    std::vector<ReplyPiece> pieces;
    std::string waiting;
    for (const TokenId id : ids) {
      waiting += detokenizer.Append(id);
      if (random_() % 2 == 0) continue;  // several tokens of a step are one delta
      parser.Append(std::exchange(waiting, ""), pieces);
    }
    parser.Append(waiting + detokenizer.Finish(), pieces);
    parser.Finish(false, pieces);
    *failed = parser.num_failed();
    return reply_cases::Describe(pieces);
  }

  const Tokenizer* tokenizer_ = nullptr;
  std::mt19937 random_{static_cast<uint32_t>(TestSeed())};
};

TEST_P(ReplyTokens, GiveTheSamePiecesWhateverTheirMarkersAre) {
  const Case& c = kCases[GetParam()];
  const Markers markers =
      MarkersOf({reply_cases::Calls(c.calls), reply_cases::Reasoning(c.reasoning)});
  tokenizer_ = TokenizerWith(markers);
  ASSERT_NE(tokenizer_, nullptr);
  std::vector<TokenId> kept;
  for (const std::string_view marker : markers) {
    if (const auto id = tokenizer_->TokenToId(marker)) kept.push_back(*id);
  }
  for (const uint32_t percent : {100u, 50u, 0u}) {
    for (int round = 0; round < (kSanitized ? 5 : 20); ++round) {
      int failed = 0;
      const std::vector<TokenId> ids = IdsOf(c, markers, percent);
      EXPECT_EQ(Parsed(c, ids, kept, &failed), c.expected) << percent << " %";
      EXPECT_EQ(failed, c.failed);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, ReplyTokens, ::testing::Range<size_t>(0, std::size(kCases)));

}  // namespace
}  // namespace penstock
