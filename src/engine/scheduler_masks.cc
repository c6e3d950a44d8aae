// Grammars of running sequences: which drafts may be tried, which tokens each row may draw.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/scheduler.h"

namespace penstock {
namespace {

/// Takes what a request forbids besides out of a mask. `drafts` come behind what is known.
void TakeForbidden(const Sequence& seq, absl::Span<const TokenId> drafts,
                   std::vector<uint32_t>& words) {
  const SamplingParams& sampling = seq.request.sampling;
  if (!sampling.allowed_token_ids.empty()) {
    std::vector<uint32_t> allowed(words.size());
    for (const TokenId id : sampling.allowed_token_ids) allowed[id / 32] |= 1u << (id % 32);
    for (size_t i = 0; i < words.size(); ++i) words[i] &= allowed[i];
  }
  if (sampling.bad_words.empty()) return;
  std::vector<TokenId> output(seq.tokens.begin() + seq.num_prompt(), seq.tokens.end());
  output.insert(output.end(), drafts.begin(), drafts.end());
  for (const std::vector<TokenId>& word : sampling.bad_words) {
    if (word.empty() || word.size() - 1 > output.size()) continue;
    if (static_cast<size_t>(word.back()) / 32 >= words.size()) continue;  // no token of the model
    const auto before = static_cast<ptrdiff_t>(word.size()) - 1;
    if (std::equal(word.begin(), word.end() - 1, output.end() - before))
      words[word.back() / 32] &= ~(1u << (word.back() % 32));
  }
}

}  // namespace

void Scheduler::KeepAllowed(TokenMatcher& matcher, std::vector<TokenId>& drafts) {
  size_t kept = 0;
  while (kept < drafts.size() && matcher.Accept(drafts[kept])) ++kept;
  drafts.resize(kept);
  matcher.Rollback(static_cast<int32_t>(kept));
}

std::vector<TokenId> Scheduler::ForcedDrafts(Sequence& seq, int32_t room) {
  constexpr int32_t kMostForced = 32;
  absl::Span<const TokenId> forced = seq.matcher->Forced();
  // Outputs on their way are the first of them.
  forced.remove_prefix(std::min(forced.size(), static_cast<size_t>(seq.num_in_flight)));
  const int32_t most = std::max(0, std::min(room, kMostForced));
  forced = forced.subspan(0, static_cast<size_t>(most));
  return {forced.begin(), forced.end()};
}

bool Scheduler::NeedsMasks(const StepPlan& plan) const {
  return std::any_of(plan.slices.begin(), plan.slices.end(), [&](const SequenceSlice& slice) {
    if (slice.num_outputs == 0) return false;
    const auto it = live_.find(slice.sequence);
    return it != live_.end() && it->second->matcher != nullptr;
  });
}

std::vector<RowMask> Scheduler::Masks(const StepPlan& plan) {
  std::vector<RowMask> masks;
  mask_words_.clear();
  for (size_t i = 0; i < plan.slices.size(); ++i) {
    const SequenceSlice& slice = plan.slices[i];
    const auto it = live_.find(slice.sequence);
    if (slice.num_outputs == 0 || it == live_.end() || !it->second->matcher) continue;
    // A chunk of a prompt that is scored draws nothing.
    const size_t next = static_cast<size_t>(slice.token_offset) + slice.num_tokens;
    if (slice.kind == OutputKind::kHidden ||
        (slice.kind == OutputKind::kPromptLogprobs && plan.tokens[next] >= 0))
      continue;
    AddMasks(plan, i, *it->second, masks);
  }
  return masks;
}

void Scheduler::AddMasks(const StepPlan& plan, size_t index, Sequence& seq,
                         std::vector<RowMask>& masks) {
  const SequenceSlice& slice = plan.slices[index];
  TokenMatcher& matcher = *seq.matcher;
  int32_t num_accepted = 0;
  for (int32_t row = 0; row <= slice.num_drafts; ++row) {
    std::vector<uint32_t>& words =
        mask_words_.emplace_back((static_cast<size_t>(limits_.vocab_size) + 31) / 32);
    const auto nothing = [&words] {
      return std::none_of(words.begin(), words.end(), [](uint32_t w) { return w != 0; });
    };
    const auto drafts = absl::MakeConstSpan(plan.tokens)
                            .subspan(slice.token_offset + slice.num_tokens - slice.num_drafts, row);
    // Where one text alone may follow, it is written as the tokenizer writes it, unless the request
    // forbids that.
    if (const absl::Span<const TokenId> forced = matcher.Forced(); !forced.empty()) {
      words[forced[0] / 32] |= 1u << (forced[0] % 32);
      TakeForbidden(seq, drafts, words);
    }
    bool none = false;
    if (nothing()) {
      matcher.FillMask(absl::MakeSpan(words));
      if (matcher.finished()) {
        for (const TokenId id : seq.request.stop_token_ids) {
          if (id >= 0 && id < limits_.vocab_size) words[id / 32] |= 1u << (id % 32);
        }
      }
      none = nothing();
      if (!none) TakeForbidden(seq, drafts, words);
    }
    if (none || nothing()) {
      // Nothing can be drawn under such a mask. What the step yields for it is dropped.
      if (matcher.finished()) return Finish(seq, FinishReason::kStop, absl::OkStatus());
      return Finish(
          seq, FinishReason::kError,
          absl::InvalidArgumentError(
              none ? "the grammar asks for text that no token of this model has"
                   : "allowed_token_ids and bad_words leave nothing of what the answer must be"));
    }
    masks.push_back(
        {static_cast<int32_t>(index), slice.num_outputs - 1 - slice.num_drafts + row, words});
    if (row == slice.num_drafts) break;
    // Rows behind a draft that is not allowed are not drawn from.
    const int32_t at = slice.token_offset + slice.num_tokens - slice.num_drafts + row;
    if (!matcher.Accept(plan.tokens[at])) break;
    ++num_accepted;
  }
  matcher.Rollback(num_accepted);
}

}  // namespace penstock
