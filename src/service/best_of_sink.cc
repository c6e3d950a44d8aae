#include "service/best_of_sink.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

double MeanLogprob(const Delta& choice) {
  double sum = 0;
  for (const SampledToken& token : choice.tokens) sum += token.logprob;
  return choice.tokens.empty() ? 0 : sum / static_cast<double>(choice.tokens.size());
}

/// What is said of a candidate is said of the choice that it became.
void Rename(size_t candidate, size_t choice, std::string& warning) {
  const std::string was = absl::StrCat("choices[", candidate, "]");
  if (warning.starts_with(was))
    warning = absl::StrCat("choices[", choice, "]", warning.substr(was.size()));
}

}  // namespace

BestOfSink::BestOfSink(BestOf best, std::shared_ptr<ResponseSink> next)
    : best_(best), next_(std::move(next)) {}

void BestOfSink::OnStart(ResponseStart start) { next_->OnStart(std::move(start)); }

void BestOfSink::OnDeltas(absl::Span<Delta> deltas) {
  for (const Delta& delta : deltas) {
    gathered_.Add(delta);
    num_ended_ += delta.finish ? 1 : 0;
  }
  if (num_ended_ == best_.prompts * best_.candidates) HandOn();
}

void BestOfSink::HandOn() {
  std::vector<Delta>& all = gathered_.choices();
  std::vector<Delta> kept;
  for (size_t first = 0; first < all.size(); first += best_.candidates) {
    std::vector<std::pair<double, size_t>> ranked;  // the likeliest first
    for (size_t i = first; i < std::min(all.size(), first + best_.candidates); ++i)
      ranked.emplace_back(-MeanLogprob(all[i]), i);
    std::sort(ranked.begin(), ranked.end());
    ranked.resize(std::min(ranked.size(), static_cast<size_t>(best_.kept)));
    for (const auto& [rank, i] : ranked) {
      Delta& choice = all[i];
      choice.index = static_cast<int32_t>(kept.size());
      for (std::string& warning : choice.warnings) Rename(i, kept.size(), warning);
      if (!best_.with_tokens) choice.tokens.clear();
      kept.push_back(std::move(choice));
    }
  }
  next_->OnDeltas(absl::MakeSpan(kept));
}

void BestOfSink::OnEnd(const ResponseEnd& end) { next_->OnEnd(end); }

}  // namespace penstock
