#include "text/detokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock {
namespace {

/// Token i is the i-th piece.
class Pieces final : public Tokenizer {
 public:
  explicit Pieces(std::vector<std::string> pieces, bool strips = false)
      : pieces_(std::move(pieces)), strips_(strips) {}
  std::vector<TokenId> Encode(std::string_view, bool) const override { return {}; }
  std::string Decode(absl::Span<const TokenId>, bool) const override { return ""; }
  std::string Piece(TokenId id) const override { return pieces_[id]; }
  bool strips_first_space() const override { return strips_; }
  bool is_special(TokenId id) const override { return pieces_[id].starts_with("<|"); }
  std::optional<TokenId> TokenToId(std::string_view) const override { return std::nullopt; }
  int32_t vocab_size() const override { return static_cast<int32_t>(pieces_.size()); }

 private:
  std::vector<std::string> pieces_;
  bool strips_;
};

TEST(Detokenizer, NeverEmitsHalfACodePointWhereverItIsCut) {
  const std::string text = "a\u00e9\u20ac\U0001F600z";
  for (size_t i = 0; i <= text.size(); ++i) {
    for (size_t j = i; j <= text.size(); ++j) {
      const Pieces pieces({text.substr(0, i), text.substr(i, j - i), text.substr(j)});
      Detokenizer detokenizer(&pieces, true);
      std::string all;
      for (TokenId id = 0; id < 3; ++id) {
        const std::string piece = detokenizer.Append(id);
        EXPECT_EQ(piece.find("\uFFFD"), std::string::npos) << i << " " << j;
        if (!piece.empty()) {
          EXPECT_NE(static_cast<unsigned char>(piece[0]) & 0xC0, 0x80) << i << " " << j;
        }
        all += piece;
      }
      EXPECT_EQ(all + detokenizer.Finish(), text) << i << " " << j;
    }
  }
}

TEST(Detokenizer, RepairsWhatCanNeverBecomeText) {
  const Pieces pieces({"\xff", "ok", "\xe2\x82", "x", "\xf0\x9f"});
  Detokenizer detokenizer(&pieces, true);
  EXPECT_EQ(detokenizer.Append(0), "\uFFFD");
  EXPECT_EQ(detokenizer.Append(1), "ok");
  EXPECT_EQ(detokenizer.Append(2), "");
  EXPECT_EQ(detokenizer.Append(3), "\uFFFDx");
  EXPECT_EQ(detokenizer.Append(4), "");
  EXPECT_EQ(detokenizer.Finish(), "\uFFFD");
}

TEST(Detokenizer, LeavesSpecialTokensOutOnlyWhenTold) {
  const Pieces pieces({"a", "<|end|>", "b"});
  Detokenizer skipping(&pieces, true), keeping(&pieces, false);
  std::string skipped, kept;
  for (TokenId id = 0; id < 3; ++id) {
    skipped += skipping.Append(id);
    kept += keeping.Append(id);
  }
  EXPECT_EQ(skipped, "ab");
  EXPECT_EQ(kept, "a<|end|>b");
}

TEST(Detokenizer, StripsOneSpaceAtTheBeginningOnly) {
  const Pieces pieces({" The", " house"}, /*strips=*/true);
  Detokenizer detokenizer(&pieces, true);
  EXPECT_EQ(detokenizer.Append(0), "The");
  EXPECT_EQ(detokenizer.Append(1), " house");
}

}  // namespace
}  // namespace penstock
