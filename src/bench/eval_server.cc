#include "bench/eval_server.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace penstock {

using EvalJson = nlohmann::json;

constexpr absl::Duration kEvalPatience = absl::Minutes(10);

absl::StatusOr<EvalServer> EvalServer::Open(const Target& target, const std::string& model) {
  EvalServer server(target);
  ASSIGN_OR_RETURN(server.address_, ResolveTarget(target));
  server.model_ = model;
  if (model.empty()) {
    ASSIGN_OR_RETURN(server.model_, FirstModelOf(target, server.address_, kEvalPatience));
  }
  return server;
}

absl::StatusOr<EvalJson> EvalServer::Post(const char* path, EvalJson body) const {
  body["model"] = model_;
  body["temperature"] = 0;
  ASSIGN_OR_RETURN(const TargetReply reply,
                   AskTarget(target_, address_, "POST", path, body.dump(), kEvalPatience));
  EvalJson answer = EvalJson::parse(reply.body, nullptr, /*allow_exceptions=*/false);
  if (reply.status != 200 || !answer.is_object()) {
    return absl::UnavailableError(absl::StrCat(target_.name(), ": ", path, ": HTTP ", reply.status,
                                               ": ", reply.body.substr(0, 300)));
  }
  return answer;
}

absl::StatusOr<std::vector<PredictedToken>> EvalServer::Predict(const std::string& text,
                                                                int32_t top) const {
  ASSIGN_OR_RETURN(const EvalJson answer,
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
  const EvalJson offsets = given.value("text_offset", EvalJson());
  std::vector<PredictedToken> out;
  for (size_t i = 1; i + 1 < size; ++i) {  // the last was generated
    const EvalJson& logprob = given["token_logprobs"][i];
    if (!logprob.is_number() || !given["tokens"][i].is_string()) return refuse();
    PredictedToken token{given["tokens"][i].get<std::string>(), logprob.get<double>(), {}, -1};
    if (given["top_logprobs"][i].is_object()) {
      for (const auto& [text_of, value] : given["top_logprobs"][i].items()) {
        if (value.is_number()) token.top[text_of] = value.get<double>();
      }
    }
    if (offsets.is_array() && offsets.size() == size && offsets[i].is_number_integer())
      token.offset = offsets[i].get<int64_t>();
    out.push_back(std::move(token));
  }
  return out;
}

}  // namespace penstock
