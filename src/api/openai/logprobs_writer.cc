// Log-probabilities in the two forms of the API.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "api/http/json_text.h"
#include "api/openai/answer_writer.h"

namespace penstock {
namespace {

constexpr float kLowest = -9999.0f;  // what the API knows as "impossible"; JSON has no infinity

float Finite(float logprob) { return std::max(logprob, kLowest); }

int64_t CodePoints(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

}  // namespace

std::string AnswerWriter::TokenText(TokenId id) const {
  const Tokenizer* tokenizer = start_.model->tokenizer;
  return tokenizer == nullptr ? absl::StrCat("token_id:", id) : tokenizer->Piece(id);
}

void AnswerWriter::AppendChatToken(std::string& out, TokenId id, float logprob) const {
  const std::string text = TokenText(id);
  out += "{\"token\":";
  AppendJsonString(out, text);
  out += ",\"logprob\":";
  AppendJsonNumber(out, Finite(logprob));
  out += ",\"bytes\":[";
  for (size_t i = 0; i < text.size(); ++i) {
    if (i > 0) out += ',';
    AppendJsonInt(out, static_cast<unsigned char>(text[i]));
  }
  out += ']';
}

void AnswerWriter::AppendChatLogprobs(std::string& out, const Delta& delta) const {
  out += "{\"content\":[";
  for (size_t i = 0; i < delta.tokens.size(); ++i) {
    const SampledToken& token = delta.tokens[i];
    if (i > 0) out += ',';
    AppendChatToken(out, token.id, token.logprob);
    out += ",\"top_logprobs\":[";
    for (size_t k = 0; k < token.top.size(); ++k) {
      if (k > 0) out += ',';
      AppendChatToken(out, token.top[k].id, token.top[k].logprob);
      out += '}';
    }
    out += "]}";
  }
  out += "],\"refusal\":null}";
}

void AnswerWriter::AppendLogprobs(std::string& out, const Delta& delta) {
  std::string tokens, values, tops, offsets;
  int64_t& offset = text_offset_[delta.index];
  const auto append = [&](const SampledToken& token, bool known, size_t num_top) {
    const char* comma = tokens.empty() ? "" : ",";
    const std::string text = TokenText(token.id);
    absl::StrAppend(&tokens, comma);
    AppendJsonString(tokens, text);
    absl::StrAppend(&values, comma);
    absl::StrAppend(&tops, comma);
    absl::StrAppend(&offsets, comma, offset);
    const Tokenizer* tokenizer = start_.model->tokenizer;
    const bool skipped =
        shape_.skip_special && tokenizer != nullptr && tokenizer->is_special(token.id);
    if (!skipped) offset += CodePoints(text);
    if (!known) {
      values += "null";
      tops += "null";
      return;
    }
    AppendJsonNumber(values, Finite(token.logprob));
    tops += '{';
    AppendJsonString(tops, text);
    tops += ':';
    AppendJsonNumber(tops, Finite(token.logprob));
    for (const TokenLogprob& other : absl::MakeConstSpan(token.top).first(num_top)) {
      if (other.id == token.id) continue;
      tops += ',';
      AppendJsonString(tops, TokenText(other.id));
      tops += ':';
      AppendJsonNumber(tops, Finite(other.logprob));
    }
    tops += '}';
  };
  // The first token of a prompt has nothing before it, so no probability.
  // It may have been scored with more most likely ones than an echo shows.
  const auto num_top = static_cast<size_t>(shape_.num_logprobs);
  if (shape_.echo) {
    for (size_t i = 0; i < delta.prompt_logprobs.size(); ++i) {
      const SampledToken& token = delta.prompt_logprobs[i];
      append(token, i > 0, std::min(token.top.size(), num_top));
    }
  }
  for (const SampledToken& token : delta.tokens) append(token, true, token.top.size());
  absl::StrAppend(&out, "{\"tokens\":[", tokens, "],\"token_logprobs\":[", values,
                  "],\"top_logprobs\":[", tops, "],\"text_offset\":[", offsets, "]}");
}

// An object of token ids for each token of the prompt, null for the first.
void AnswerWriter::AppendPromptLogprobs(std::string& out, const Delta& delta) const {
  if (shape_.prompt_logprobs < 0) return;
  out += ",\"prompt_logprobs\":[";
  const auto append = [&](TokenId id, float logprob, int32_t rank) {
    absl::StrAppend(&out, "\"", id, "\":{\"logprob\":");
    AppendJsonNumber(out, Finite(logprob));
    absl::StrAppend(&out, ",\"rank\":", rank, ",\"decoded_token\":");
    AppendJsonString(out, TokenText(id));
    out += '}';
  };
  const auto num_top = static_cast<size_t>(shape_.prompt_logprobs);
  for (size_t i = 0; i < delta.prompt_logprobs.size(); ++i) {
    const SampledToken& token = delta.prompt_logprobs[i];
    if (i == 0) {
      out += "null";
      continue;
    }
    out += ",{";
    append(token.id, token.logprob, token.rank);
    for (size_t k = 0; k < std::min(token.top.size(), num_top); ++k) {
      if (token.top[k].id == token.id) continue;
      out += ',';
      append(token.top[k].id, token.top[k].logprob, token.top[k].rank);
    }
    out += '}';
  }
  out += ']';
}

}  // namespace penstock
