#include "api/grpc/proto_codec.h"

#include <google/protobuf/reflection.h>

#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "penstock/v1/inference.pb.h"
#include "service/call_fields.h"

namespace penstock {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

struct Row {
  const CallField* field;
  const FieldDescriptor* proto;
};

const std::vector<Row>& Rows() {
  static const std::vector<Row> rows = [] {
    std::vector<Row> all;
    const auto* descriptor = v1::GenerateRequest::descriptor();
    for (const CallField& field : CallFields()) {
      if ((field.surfaces & kGrpc) == 0) continue;
      const FieldDescriptor* proto = descriptor->FindFieldByName(std::string(field.name));
      CHECK(proto != nullptr);  // the table and the .proto differ
      all.push_back({&field, proto});
    }
    return all;
  }();
  return rows;
}

struct Copy {
  const v1::GenerateRequest& message;
  const FieldDescriptor* proto;
  GenerationCall& call;

  const Reflection& reflection() const { return *message.GetReflection(); }
  bool set() const { return reflection().HasField(message, proto); }
  void operator()(std::optional<double> GenerationCall::*member) const {
    if (set()) call.*member = reflection().GetDouble(message, proto);
  }
  void operator()(std::optional<int64_t> GenerationCall::*member) const {
    if (set()) call.*member = reflection().GetInt64(message, proto);
  }
  void operator()(std::optional<bool> GenerationCall::*member) const {
    if (set()) call.*member = reflection().GetBool(message, proto);
  }
  void operator()(std::optional<std::string> GenerationCall::*member) const {
    if (set()) call.*member = reflection().GetString(message, proto);
  }
  void operator()(std::vector<std::string> GenerationCall::*member) const {
    const auto& values = reflection().GetRepeatedFieldRef<std::string>(message, proto);
    (call.*member).assign(values.begin(), values.end());
  }
  void operator()(std::vector<TokenId> GenerationCall::*member) const {
    const auto& values = reflection().GetRepeatedFieldRef<int32_t>(message, proto);
    (call.*member).assign(values.begin(), values.end());
  }
  // The only map; reflection over maps is slow and awkward.
  void operator()(std::vector<std::pair<TokenId, double>> GenerationCall::*member) const {
    (call.*member).assign(message.logit_bias().begin(), message.logit_bias().end());
  }
};

void AddLogprobs(const SampledToken& token, v1::Choice& choice) {
  v1::TokenLogprobs* row = choice.add_logprobs();
  row->mutable_token()->set_id(token.id);
  row->mutable_token()->set_logprob(token.logprob);
  row->mutable_token()->set_rank(token.rank);
  for (const TokenLogprob& other : token.top) {
    v1::TokenLogprob* entry = row->add_top();
    entry->set_id(other.id);
    entry->set_logprob(other.logprob);
    entry->set_rank(other.rank);
  }
}

}  // namespace

void ReadCall(const v1::GenerateRequest& request, GenerationCall& call) {
  for (const Row& row : Rows()) std::visit(Copy{request, row.proto, call}, row.field->member);
  switch (request.prompt_form_case()) {
    case v1::GenerateRequest::kPrompt:
      call.prompts.push_back({request.prompt(), {}, false});
      break;
    case v1::GenerateRequest::kPromptIds: {
      const auto& ids = request.prompt_ids().ids();
      call.prompts.push_back({"", {ids.begin(), ids.end()}, true});
      break;
    }
    case v1::GenerateRequest::PROMPT_FORM_NOT_SET:
      break;
  }
}

void WriteStart(const ResponseStart& start, v1::GenerateResponse& response) {
  response.set_id(start.request_id);
  response.set_model(start.model_name);
  response.set_created(start.created);
}

void AddDelta(const Delta& delta, bool with_ids, bool with_logprobs, v1::Choice& choice) {
  choice.set_index(delta.index);
  choice.mutable_text()->append(delta.text);
  if (with_logprobs) {
    for (const SampledToken& token : delta.prompt_logprobs) AddLogprobs(token, choice);
  }
  for (const SampledToken& token : delta.tokens) {
    if (with_ids) choice.add_token_ids(token.id);
    if (with_logprobs) AddLogprobs(token, choice);
  }
  if (!delta.finish) return;
  choice.set_finish_reason(*delta.finish == FinishReason::kLength ? v1::FINISH_REASON_LENGTH
                                                                  : v1::FINISH_REASON_STOP);
  if (!delta.stop_string.empty()) {
    choice.set_stop_string(delta.stop_string);
  } else if (delta.stop_token >= 0) {
    choice.set_stop_token_id(delta.stop_token);
  }
}

void WriteUsage(const UsageTotals& totals, v1::Usage& usage) {
  usage.set_prompt_tokens(totals.prompt_tokens);
  usage.set_completion_tokens(totals.completion_tokens);
  usage.set_cached_tokens(totals.cached_tokens);
}

}  // namespace penstock
