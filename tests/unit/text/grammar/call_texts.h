// Functions, and texts of grammars of their calls.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "marker_tokenizer.h"
#include "text/grammar/grammar_compiler.h"
#include "text/reply/reply_format.h"
#include "text/reply/reply_parser.h"

namespace penstock::call_texts {

/// A random text of the grammar; what leads to an end is preferred, so that it comes soon.
inline std::string Generate(const TokenGrammar& grammar, const Tokenizer& tokenizer,
                            std::mt19937& random) {
  const std::unique_ptr<TokenMatcher> matcher = grammar.Start();
  std::string text;
  for (int steps = 0; steps < 4000; ++steps) {
    if (matcher->finished() && (matcher->ended() || random() % 2 == 0)) return text;
    std::vector<TokenId> allowed = Allowed(*matcher, tokenizer.vocab_size());
    if (allowed.empty()) break;
    std::vector<TokenId> closing;
    for (const TokenId id : allowed) {
      if (id >= 256 ||
          std::string_view("\"}]<,0\n").find(static_cast<char>(id)) != std::string_view::npos)
        closing.push_back(id);
    }
    if (!closing.empty() && random() % 3 != 0) allowed = closing;
    TokenId id = allowed[random() % allowed.size()];
    // Free text hardly ends by chance.
    const bool glm = text.find("<arg_key>") != std::string::npos;
    const std::string_view end = glm ? "</arg_value>" : "</parameter>";
    size_t n = end.size() - 1;
    while (!text.ends_with(end.substr(0, n))) --n;
    const TokenId next = static_cast<unsigned char>(end[n]);
    if (n > 0 && random() % 20 != 0 && matcher->Accept(next)) {
      matcher->Rollback(1);
      id = next;
    }
    EXPECT_TRUE(matcher->Accept(id));
    text += tokenizer.Piece(id);
  }
  return "unfinished: " + text;
}

inline const char* const kFirst =
    R"({"type":"object","properties":{"s":{"type":"string"},"n":{"type":"integer","minimum":0,)"
    R"("maximum":99},"l":{"type":"array","items":{"$ref":"#/$defs/x"},"maxItems":2},)"
    R"("e":{"type":"string","enum":["red","dark blue"]}},"required":["s","e"],)"
    R"("additionalProperties":false,"$defs":{"x":{"enum":[true,"</parameter>",7]}}})";
inline const char* const kSecond = R"({"properties":{},"additionalProperties":false})";

inline std::vector<FunctionSpec> Functions() {
  return {{"first_one", kFirst, "tools[0]", true}, {"second", kSecond, "tools[1]", true}};
}

inline const CallFormat* CallsNamed(std::string_view name) {
  for (const CallFormat& format : CallFormats()) {
    if (format.name == name) return &format;
  }
  return nullptr;
}

inline bool TakesText(const TokenGrammar& grammar, const Tokenizer& tokenizer,
                      std::string_view text) {
  const std::unique_ptr<TokenMatcher> matcher = grammar.Start();
  for (const TokenId id : tokenizer.Encode(text, false)) {
    if (!matcher->Accept(id)) return false;
  }
  return matcher->finished();
}

struct ReadCall {
  std::string name, arguments;
};

inline std::vector<ReadCall> CallsOf(const std::vector<ReplyPiece>& pieces) {
  std::vector<ReadCall> calls;
  for (const ReplyPiece& piece : pieces) {
    if (piece.kind == ReplyPiece::kCall) calls.push_back({piece.text, ""});
    if (piece.kind == ReplyPiece::kArguments) calls.at(piece.call).arguments += piece.text;
  }
  return calls;
}

/// What the parser of replies hands out.
inline std::vector<ReadCall> CallsReadIn(const CallFormat& format, std::string_view text) {
  ReplyParser parser({&format, nullptr}, false, nullptr, false, true);
  std::vector<ReplyPiece> pieces;
  parser.Append(text, pieces);
  parser.Finish(false, pieces);
  return CallsOf(pieces);
}

}  // namespace penstock::call_texts
