#include "bench/text_eval.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "bench/distribution.h"

namespace penstock {
namespace {

using EvalJson = nlohmann::json;

struct PredictedToken {
  std::string token;
  double logprob = 0;
  std::map<std::string, double> top;
};

/// A server that answers one request after the other.
class EvalServer {
 public:
  static absl::StatusOr<EvalServer> Open(const Target& target, const std::string& model) {
    EvalServer server(target);
    ASSIGN_OR_RETURN(server.address_, ResolveTarget(target));
    server.model_ = model;
    if (model.empty()) {
      ASSIGN_OR_RETURN(server.model_, FirstModelOf(target, server.address_));
    }
    return server;
  }

  absl::StatusOr<EvalJson> Post(const char* path, EvalJson body) const {
    body["model"] = model_;
    body["temperature"] = 0;
    ASSIGN_OR_RETURN(const TargetReply reply,
                     AskTarget(target_, address_, "POST", path, body.dump()));
    EvalJson answer = EvalJson::parse(reply.body, nullptr, /*allow_exceptions=*/false);
    if (reply.status != 200 || !answer.is_object()) {
      return absl::UnavailableError(absl::StrCat(target_.name(), ": ", path, ": HTTP ",
                                                 reply.status, ": ", reply.body.substr(0, 300)));
    }
    return answer;
  }

  /// What the server makes of each token of `text` but the first.
  absl::StatusOr<std::vector<PredictedToken>> Predict(const std::string& text, int32_t top) const {
    ASSIGN_OR_RETURN(
        const EvalJson answer,
        Post("/v1/completions",
             {{"prompt", text}, {"echo", true}, {"logprobs", top}, {"max_tokens", 1}}));
    const EvalJson::json_pointer at("/choices/0/logprobs");
    const auto refuse = [&] {
      return absl::UnavailableError(target_.name() +
                                    ": /v1/completions with echo gives no log-probs of the prompt");
    };
    if (!answer.contains(at) || !answer[at].is_object()) return refuse();
    const EvalJson& given = answer[at];
    for (const char* key : {"tokens", "token_logprobs", "top_logprobs"}) {
      if (!given.contains(key) || !given[key].is_array()) return refuse();
    }
    const size_t size = given["tokens"].size();
    if (given["token_logprobs"].size() != size || given["top_logprobs"].size() != size || size < 2)
      return refuse();
    std::vector<PredictedToken> out;
    for (size_t i = 1; i + 1 < size; ++i) {  // the last was generated
      const EvalJson& logprob = given["token_logprobs"][i];
      if (!logprob.is_number() || !given["tokens"][i].is_string()) return refuse();
      PredictedToken token{given["tokens"][i].get<std::string>(), logprob.get<double>(), {}};
      if (given["top_logprobs"][i].is_object()) {
        for (const auto& [text_of, value] : given["top_logprobs"][i].items()) {
          if (value.is_number()) token.top[text_of] = value.get<double>();
        }
      }
      out.push_back(std::move(token));
    }
    return out;
  }

  const Target& target() const { return target_; }

 private:
  explicit EvalServer(const Target& target) : target_(target) {}
  Target target_;
  SocketAddress address_;
  std::string model_;
};

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
                                             const ServerEvalOptions& options) {
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
  for (const std::string& window : windows) {
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

absl::StatusOr<std::vector<Probe>> ReadProbes(const std::string& path) {
  std::ifstream in(path);
  if (!in) return absl::NotFoundError(path + ": cannot be read");
  std::vector<Probe> probes;
  int64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.empty()) continue;
    const auto refuse = [&](const char* what) {
      return absl::InvalidArgumentError(absl::StrCat(path, ":", number, ": ", what));
    };
    const EvalJson json = EvalJson::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) return refuse("expected a JSON object");
    Probe probe;
    if (!json.contains("prompt") || !json["prompt"].is_string())
      return refuse("prompt: expected a string");
    probe.prompt = json["prompt"].get<std::string>();
    if (json.contains("answer")) {
      if (!json["answer"].is_string()) return refuse("answer: expected a string");
      probe.answer = json["answer"].get<std::string>();
    }
    if (json.contains("max_tokens")) {
      if (!json["max_tokens"].is_number_integer() || json["max_tokens"].get<int64_t>() < 1 ||
          json["max_tokens"].get<int64_t>() > 1 << 20)
        return refuse("max_tokens: expected a whole number from 1");
      probe.max_tokens = json["max_tokens"].get<int32_t>();
    }
    probes.push_back(std::move(probe));
  }
  if (probes.empty()) return absl::InvalidArgumentError(path + ": no probe in it");
  return probes;
}

absl::Status WriteProbes(const std::string& path, const std::vector<Probe>& probes) {
  std::ofstream out(path);
  for (const Probe& probe : probes) {
    out << nlohmann::ordered_json{{"prompt", probe.prompt},
                                  {"max_tokens", probe.max_tokens},
                                  {"answer", probe.answer}}
               .dump()
        << "\n";
  }
  return out.flush() ? absl::OkStatus() : absl::UnavailableError(path + ": cannot be written");
}

absl::StatusOr<ProbeResult> RunProbes(const Target& server, const std::string& model, bool keep,
                                      std::vector<Probe>& probes) {
  ASSIGN_OR_RETURN(const EvalServer asked, EvalServer::Open(server, model));
  ProbeResult out;
  double prefixes = 0;
  for (Probe& probe : probes) {
    ASSIGN_OR_RETURN(const EvalJson answer,
                     asked.Post("/v1/chat/completions",
                                {{"messages", {{{"role", "user"}, {"content", probe.prompt}}}},
                                 {"max_tokens", probe.max_tokens}}));
    const EvalJson::json_pointer at("/choices/0/message/content");
    if (!answer.contains(at) || !answer[at].is_string())
      return absl::UnavailableError(server.name() + ": /v1/chat/completions gives no content");
    const auto& content = answer[at].get_ref<const std::string&>();
    ++out.num_probes;
    if (keep) probe.answer = content;
    const size_t most = std::max(content.size(), probe.answer.size());
    const auto differs =
        std::mismatch(content.begin(), content.end(), probe.answer.begin(), probe.answer.end());
    const auto alike = static_cast<size_t>(differs.first - content.begin());
    prefixes += most == 0 ? 1 : static_cast<double>(alike) / static_cast<double>(most);
    if (content == probe.answer) {
      ++out.num_same;
    } else if (out.first_change.empty()) {
      out.first_change = absl::StrCat("\"", probe.prompt.substr(0, 60), "\": byte ", alike,
                                      ": kept \"", probe.answer.substr(alike, 40), "\", now \"",
                                      content.substr(alike, 40), "\"");
    }
  }
  out.same_prefix = prefixes / static_cast<double>(std::max<int64_t>(1, out.num_probes));
  return out;
}

}  // namespace penstock
