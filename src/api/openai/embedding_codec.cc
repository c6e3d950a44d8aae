#include "api/openai/embedding_codec.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "api/http/json_text.h"
#include "api/openai/call_codec.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/call_error.h"

namespace penstock {
namespace {

absl::Status WrongEmbeddingField(std::string_view name, std::string_view expected) {
  return InvalidField(name, absl::StrCat(ToAbsl(name), " must be ", ToAbsl(expected)));
}

absl::Status ReadCount(std::string_view name, const WireValue& value, int64_t min, int64_t& out) {
  const std::optional<int64_t> number = value.is_integer() ? value.integer() : std::nullopt;
  if (!number || *number < min || *number > std::numeric_limits<int32_t>::max())
    return WrongEmbeddingField(name, absl::StrCat("an integer of at least ", min));
  out = *number;
  return absl::OkStatus();
}

absl::Status ReadDocuments(const WireValue& value, EmbeddingCall& call) {
  const std::vector<WireValue> items = value.Items();
  if (items.empty()) return WrongEmbeddingField("documents", "an array of at least one text");
  for (size_t i = 0; i < items.size(); ++i) {
    const std::optional<WireValue> text = items[i].is_object() ? items[i].Find("text") : items[i];
    if (!text || !text->is_string()) {
      return WrongEmbeddingField(absl::StrCat("documents[", i, "]"),
                                 "a string or an object with a string \"text\"");
    }
    call.base.prompts.push_back({std::string(text->text()), {}, false});
  }
  return absl::OkStatus();
}

using ReadOwnField = absl::Status (*)(std::string_view, const WireValue&, EmbeddingCall&,
                                      EmbeddingShape&);

absl::Status ReadEmbeddingField(std::string_view name, const WireValue& value, EmbeddingCall& call,
                                EmbeddingShape& shape) {
  if (name == "input") return ReadPrompts(name, true, value, call.base.prompts);
  if (name == "encoding_format") {
    if (value.text() != "float" && value.text() != "base64")
      return WrongEmbeddingField(name, "\"float\" or \"base64\"");
    shape.base64 = value.text() == "base64";
  }
  return absl::OkStatus();
}

absl::Status ReadRerankField(std::string_view name, const WireValue& value, EmbeddingCall& call,
                             EmbeddingShape& shape) {
  if (name == "documents") return ReadDocuments(value, call);
  if (name == "top_n") return ReadCount(name, value, 0, shape.top_n);
  if (name == "query") {
    if (!value.is_string()) return WrongEmbeddingField(name, "a string");
    call.query = std::string(value.text());
  }
  if (name == "return_documents") {
    if (!value.is_boolean()) return WrongEmbeddingField(name, "true or false");
    shape.return_documents = value.boolean();
  }
  return absl::OkStatus();
}

absl::Status ReadBodyFields(const WireValue& body, Surface surface, ReadOwnField own,
                            EmbeddingCall& call, EmbeddingShape& shape) {
  if (!body.is_object()) return absl::InvalidArgumentError("the body must be a JSON object");
  for (const auto& [name, value] : body.Members()) {
    if (value.is_null()) continue;
    const CallField* field = FindCallField(name, surface);
    if (field == nullptr) continue;
    if (std::holds_alternative<OwnForm>(field->member)) {
      RETURN_IF_ERROR(own(name, value, call, shape));
    } else {
      RETURN_IF_ERROR(ReadField(*field, value, call.base));
    }
  }
  return absl::OkStatus();
}

void AppendVector(std::string& out, const std::vector<float>& vector, bool base64) {
  if (!base64) {
    for (size_t i = 0; i < vector.size(); ++i) {
      out += i == 0 ? '[' : ',';
      AppendJsonNumber(out, vector[i]);
    }
    out += vector.empty() ? "[]" : "]";
    return;
  }
  std::string bytes;
  bytes.reserve(vector.size() * sizeof(float));
  for (const float v : vector) {
    const auto bits = std::bit_cast<uint32_t>(v);
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(bits >> shift);
  }
  absl::StrAppend(&out, "\"", absl::Base64Escape(bytes), "\"");
}

}  // namespace

absl::Status ReadEmbeddingCall(const WireValue& body, EmbeddingCall& call, EmbeddingShape& shape) {
  RETURN_IF_ERROR(ReadBodyFields(body, kEmbeddings, ReadEmbeddingField, call, shape));
  if (call.base.prompts.empty()) return InvalidField("input", "input is missing");
  return absl::OkStatus();
}

absl::Status ReadRerankCall(const WireValue& body, EmbeddingCall& call, EmbeddingShape& shape) {
  call.rerank = true;
  RETURN_IF_ERROR(ReadBodyFields(body, kRerank, ReadRerankField, call, shape));
  const std::optional<WireValue> query = body.Find("query");
  if (!query || query->is_null()) return InvalidField("query", "query is missing");
  if (call.base.prompts.empty()) return InvalidField("documents", "documents is missing");
  if (!shape.return_documents) return absl::OkStatus();
  for (const PromptInput& document : call.base.prompts) shape.documents.push_back(document.text);
  return absl::OkStatus();
}

std::string EmbeddingBody(const EmbeddingShape& shape, const EmbeddingResult& result) {
  std::string out = "{\"id\":";
  AppendJsonString(out, absl::StrCat("embd-", result.request_id));
  absl::StrAppend(&out, ",\"object\":\"list\",\"created\":", result.created, ",\"model\":");
  AppendJsonString(out, result.model_name);
  out += ",\"data\":[";
  for (size_t i = 0; i < result.vectors.size(); ++i) {
    absl::StrAppend(&out, i == 0 ? "" : ",", "{\"object\":\"embedding\",\"index\":", i,
                    ",\"embedding\":");
    AppendVector(out, result.vectors[i], shape.base64);
    out += '}';
  }
  const int64_t tokens = result.usage.prompt_tokens;
  absl::StrAppend(&out, "],\"usage\":{\"prompt_tokens\":", tokens, ",\"total_tokens\":", tokens,
                  ",\"completion_tokens\":0,\"prompt_tokens_details\":{\"cached_tokens\":",
                  result.usage.cached_tokens, "}}}");
  return out;
}

std::string RerankBody(const EmbeddingShape& shape, const EmbeddingResult& result) {
  std::vector<size_t> order(result.vectors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return result.vectors[a][0] > result.vectors[b][0]; });
  if (shape.top_n > 0 && static_cast<size_t>(shape.top_n) < order.size()) order.resize(shape.top_n);
  std::string out = "{\"id\":";
  AppendJsonString(out, absl::StrCat("rerank-", result.request_id));
  out += ",\"model\":";
  AppendJsonString(out, result.model_name);
  absl::StrAppend(&out, ",\"usage\":{\"prompt_tokens\":", result.usage.prompt_tokens,
                  ",\"total_tokens\":", result.usage.prompt_tokens, "},\"results\":[");
  for (size_t i = 0; i < order.size(); ++i) {
    absl::StrAppend(&out, i == 0 ? "" : ",", "{\"index\":", order[i]);
    if (shape.return_documents) {
      out += ",\"document\":{\"text\":";
      AppendJsonString(out, shape.documents[order[i]]);
      out += '}';
    }
    out += ",\"relevance_score\":";
    AppendJsonNumber(out, result.vectors[order[i]][0]);
    out += '}';
  }
  return out + "]}";
}

}  // namespace penstock
