#include "text/post_processor.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "text/json_fields.h"

namespace penstock {
namespace {

constexpr int64_t kMaxId = 1 << 24;

absl::StatusOr<std::vector<TokenId>> IdsOf(const nlohmann::json& special_tokens,
                                           const std::string& name) {
  const nlohmann::json* entry = json_fields::Find(special_tokens, name);
  if (entry == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"special_tokens\": \"", name, "\" is missing"));
  }
  ASSIGN_OR_RETURN(const nlohmann::json* list, json_fields::Array(*entry, "ids"));
  std::vector<TokenId> ids;
  for (const nlohmann::json& id : *list) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > static_cast<uint64_t>(kMaxId)) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"special_tokens\": \"", name, "\": expected token ids"));
    }
    ids.push_back(id.get<TokenId>());
  }
  return ids;
}

absl::StatusOr<PostProcessor> MakeTemplate(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const nlohmann::json* single, json_fields::Array(config, "single"));
  const nlohmann::json* declared = json_fields::Find(config, "special_tokens");
  const nlohmann::json special_tokens = declared == nullptr ? nlohmann::json::object() : *declared;
  std::vector<TokenId> around[2];
  bool text_seen = false;
  for (const nlohmann::json& part : *single) {
    if (json_fields::Find(part, "Sequence") != nullptr) {
      if (text_seen) return absl::UnimplementedError("\"single\": the text twice is not supported");
      text_seen = true;
      continue;
    }
    const nlohmann::json* special = json_fields::Find(part, "SpecialToken");
    if (special == nullptr) {
      return absl::InvalidArgumentError("\"single\": expected Sequence or SpecialToken");
    }
    ASSIGN_OR_RETURN(const std::string name, json_fields::String(*special, "id"));
    ASSIGN_OR_RETURN(const std::vector<TokenId> ids, IdsOf(special_tokens, name));
    std::vector<TokenId>& side = around[text_seen ? 1 : 0];
    side.insert(side.end(), ids.begin(), ids.end());
  }
  if (!text_seen) return absl::InvalidArgumentError("\"single\": the text's Sequence is missing");
  return PostProcessor(std::move(around[0]), std::move(around[1]));
}

// {"cls": ["[CLS]", 101], "sep": ["[SEP]", 102]}
absl::StatusOr<TokenId> PairId(const nlohmann::json& config, const char* key) {
  const nlohmann::json* pair = json_fields::Find(config, key);
  if (pair == nullptr || !pair->is_array() || pair->size() != 2 ||
      !(*pair)[1].is_number_unsigned() ||
      (*pair)[1].get<uint64_t>() > static_cast<uint64_t>(kMaxId)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", key, "\": expected [token, id]"));
  }
  return (*pair)[1].get<TokenId>();
}

absl::StatusOr<PostProcessor> MakeClsSep(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const TokenId cls, PairId(config, "cls"));
  ASSIGN_OR_RETURN(const TokenId sep, PairId(config, "sep"));
  return PostProcessor({cls}, {sep});
}

// A later processor surrounds what the earlier ones made.
absl::StatusOr<PostProcessor> MakeSequence(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const nlohmann::json* list, json_fields::Array(config, "processors"));
  std::vector<TokenId> before;
  std::vector<TokenId> after;
  for (const nlohmann::json& step : *list) {
    ASSIGN_OR_RETURN(const PostProcessor made, MakePostProcessor(step));
    before.insert(before.begin(), made.before().begin(), made.before().end());
    after.insert(after.end(), made.after().begin(), made.after().end());
  }
  return PostProcessor(std::move(before), std::move(after));
}

}  // namespace

void PostProcessor::Apply(std::vector<TokenId>* ids) const {
  ids->insert(ids->begin(), before_.begin(), before_.end());
  ids->insert(ids->end(), after_.begin(), after_.end());
}

absl::StatusOr<PostProcessor> MakePostProcessor(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const std::string type, json_fields::String(config, "type"));
  if (type == "Sequence") return MakeSequence(config);
  if (type == "TemplateProcessing") return MakeTemplate(config);
  if (type == "BertProcessing" || type == "RobertaProcessing") return MakeClsSep(config);
  if (type == "ByteLevel") return PostProcessor({}, {});  // it moves offsets only
  return absl::UnimplementedError(
      absl::StrCat("post-processor type \"", type, "\" is not supported"));
}

}  // namespace penstock
