#include "bench/text_eval.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "bench/distribution.h"
#include "bench/eval_server.h"

namespace penstock {
namespace {

const std::string& MostLikely(const PredictedToken& token) {
  const auto less = [](const auto& a, const auto& b) { return a.second < b.second; };
  const auto best = std::max_element(token.top.begin(), token.top.end(), less);
  return best == token.top.end() ? token.token : best->first;
}

/// Of what both tell; the rest of each is one event.
double LeastKl(const PredictedToken& reference, const PredictedToken& tested) {
  double kl = 0, p_rest = 1, q_rest = 1;
  for (const auto& [token, logprob] : reference.top) {
    const auto other = tested.top.find(token);
    if (other == tested.top.end()) continue;
    const double p = std::exp(logprob);
    kl += p * (logprob - other->second);
    p_rest -= p;
    q_rest -= std::exp(other->second);
  }
  constexpr double kLeast = 1e-9;  // what rounding leaves
  if (p_rest > kLeast) kl += p_rest * std::log(p_rest / std::max(q_rest, kLeast));
  return std::max(0.0, kl);
}

/// Windows of whole characters.
std::vector<std::string> WindowsOf(const std::string& text, const ServerEvalOptions& options) {
  std::vector<std::string> out;
  size_t begin = 0;
  while (static_cast<int64_t>(out.size()) < options.max_windows) {
    size_t end = begin + static_cast<size_t>(options.window_bytes);
    if (end > text.size()) break;
    while (end < text.size() && (text[end] & 0xc0) == 0x80) ++end;
    out.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return out;
}

}  // namespace

absl::StatusOr<ServerQuality> EvaluateServer(const Target& server, const Target* reference,
                                             const std::string& text,
                                             const ServerEvalOptions& options,
                                             const StepProgress& progress) {
  if (!IsValidUtf8(text)) return absl::InvalidArgumentError("the text is not UTF-8");
  const std::vector<std::string> windows = WindowsOf(text, options);
  if (windows.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("the text has ", text.size(),
                                                   " bytes, expected at least one window of ",
                                                   options.window_bytes));
  }
  ASSIGN_OR_RETURN(const EvalServer tested, EvalServer::Open(server, options.model));
  std::optional<EvalServer> other;
  if (reference != nullptr) {
    ASSIGN_OR_RETURN(other, EvalServer::Open(*reference, options.reference_model));
  }
  double loss = 0, reference_loss = 0;
  int64_t same = 0;
  Distribution kl;
  ServerQuality out;
  int64_t begun = 0;
  for (const std::string& window : windows) {
    if (progress) progress(begun++, static_cast<int64_t>(windows.size()));
    ASSIGN_OR_RETURN(const std::vector<PredictedToken> ours, tested.Predict(window, options.top));
    std::vector<PredictedToken> theirs;
    if (other.has_value()) {
      ASSIGN_OR_RETURN(theirs, other->Predict(window, options.top));
    }
    for (size_t i = ours.size() / 2; i < ours.size(); ++i) {
      loss -= ours[i].logprob;
      ++out.num_predictions;
      if (!other.has_value()) continue;
      if (theirs.size() != ours.size() || theirs[i].token != ours[i].token) {
        return absl::InvalidArgumentError(
            absl::StrCat(server.name(), " and ", reference->name(),
                         " cut the text into different tokens: expected one tokenizer"));
      }
      reference_loss -= theirs[i].logprob;
      kl.Add(LeastKl(theirs[i], ours[i]));
      same += MostLikely(theirs[i]) == MostLikely(ours[i]) ? 1 : 0;
    }
  }
  const auto count = static_cast<double>(std::max<int64_t>(1, out.num_predictions));
  out.perplexity = std::exp(loss / count);
  if (other.has_value()) {
    out.reference_perplexity = std::exp(reference_loss / count);
    out.least_mean_kl = kl.mean();
    out.least_p99_kl = kl.Quantile(0.99);
    out.same_top1 = static_cast<double>(same) / count;
  }
  return out;
}

}  // namespace penstock
