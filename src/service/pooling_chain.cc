#include "service/pooling_chain.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/cpu_parts.h"
#include "base/status_macros.h"
#include "service/call_error.h"
#include "service/call_key.h"

namespace penstock {
namespace {

/// The field whose texts links know as prompts.
std::string TextField(const EmbeddingCall& call) { return call.rerank ? "documents" : "input"; }

std::vector<std::string> PoolingFieldsOf(const EmbeddingCall& call) {
  std::vector<std::string> fields = FieldsOf(call.base);
  std::replace(fields.begin(), fields.end(), std::string("prompt"), TextField(call));
  if (call.rerank) fields.emplace_back("query");
  if (call.base.dimensions) fields.emplace_back("dimensions");
  return fields;
}

absl::Status InPoolingNames(const EmbeddingCall& call, const absl::Status& status) {
  return FieldOf(status) == "prompt" ? WithField(status, TextField(call)) : status;
}

/// What links made of the texts can be embedded, one vector for each that the client sent.
absl::Status CheckTexts(const EmbeddingCall& call, size_t sent) {
  const std::vector<PromptInput>& texts = call.base.prompts;
  const bool ids = call.rerank && std::any_of(texts.begin(), texts.end(),
                                              [](const PromptInput& text) { return text.is_ids; });
  if (texts.size() == sent && !ids) return absl::OkStatus();
  return absl::UnavailableError("a guard made of the texts what has no vectors or scores");
}

}  // namespace

absl::Status PassPoolingLinks(const GenerationService& service, ChainCall& chain,
                              EmbeddingCall& call) {
  const CpuPart part(FrontPart::kChain);
  // The query is a text like the others, the last one.
  if (call.rerank) call.base.prompts.push_back({std::move(call.query), {}, false});
  const size_t sent = call.base.prompts.size();
  for (const std::shared_ptr<ChainLink>& link : chain.links()) {
    if (link->cache() != nullptr) continue;  // keeps texts
    const auto found = service.FindToServe(call.base);
    LinkView view = chain.OutView();
    view.call = &call.base;
    view.model = found.ok() ? found->get() : nullptr;
    view.pooling = true;
    view.fields = [&call] { return PoolingFieldsOf(call); };
    view.count_tokens = []() -> absl::StatusOr<int64_t> {
      return absl::UnimplementedError("only chats are trimmed");
    };
    RETURN_IF_ERROR(InPoolingNames(call, chain.Enter(*link, call.base, view)));
  }
  RETURN_IF_ERROR(CheckTexts(call, sent));
  if (!call.rerank) return absl::OkStatus();
  call.query = std::move(call.base.prompts.back().text);
  call.base.prompts.pop_back();
  return absl::OkStatus();
}

}  // namespace penstock
