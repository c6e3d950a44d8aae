#include "text/post_processor.h"

#include <algorithm>
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

// A template's ids around its texts: before the first, between them, after the last.
struct TemplateParts {
  std::vector<TokenId> around[3];
  std::vector<int64_t> types[3];  // of those ids
  std::vector<int64_t> text_types;
};

absl::Status AddTemplateText(const nlohmann::json& text, std::string_view key, int64_t type,
                             size_t num_texts, TemplateParts& parts) {
  ASSIGN_OR_RETURN(const std::string id, json_fields::StringOr(text, "id", "A"));
  const size_t seen = parts.text_types.size();
  if (seen == num_texts || id != (seen == 0 ? "A" : "B")) {
    return absl::UnimplementedError(absl::StrCat(
        "\"", std::string(key), "\": texts in another order, or one twice, are not supported"));
  }
  parts.text_types.push_back(type);
  return absl::OkStatus();
}

absl::StatusOr<TemplateParts> ReadTemplate(const nlohmann::json& config, const char* key,
                                           size_t num_texts) {
  ASSIGN_OR_RETURN(const nlohmann::json* list, json_fields::Array(config, key));
  const nlohmann::json* declared = json_fields::Find(config, "special_tokens");
  const nlohmann::json none = nlohmann::json::object();
  const nlohmann::json& special_tokens = declared == nullptr ? none : *declared;
  TemplateParts parts;
  for (const nlohmann::json& part : *list) {
    const nlohmann::json* text = json_fields::Find(part, "Sequence");
    const nlohmann::json* special = json_fields::Find(part, "SpecialToken");
    const nlohmann::json* piece = text != nullptr ? text : special;
    if (piece == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", key, "\": expected Sequence or SpecialToken"));
    }
    int64_t type = 0;
    if (json_fields::Find(*piece, "type_id") != nullptr) {
      ASSIGN_OR_RETURN(type, json_fields::Count(*piece, "type_id", kMaxId));
    }
    if (text != nullptr) {
      RETURN_IF_ERROR(AddTemplateText(*text, key, type, num_texts, parts));
      continue;
    }
    ASSIGN_OR_RETURN(const std::string name, json_fields::String(*special, "id"));
    ASSIGN_OR_RETURN(const std::vector<TokenId> ids, IdsOf(special_tokens, name));
    const size_t at = parts.text_types.size();
    parts.around[at].insert(parts.around[at].end(), ids.begin(), ids.end());
    parts.types[at].insert(parts.types[at].end(), ids.size(), type);
  }
  if (parts.text_types.size() == num_texts) return parts;
  return absl::InvalidArgumentError(absl::StrCat("\"", key, "\": a text's Sequence is missing"));
}

// Types must be 0 up to some place between the texts and 1 from there on, or 0 everywhere.
absl::StatusOr<PairTemplate> MakePair(TemplateParts parts) {
  std::vector<int64_t> types = parts.types[1];
  types.push_back(parts.text_types[1]);
  types.insert(types.end(), parts.types[2].begin(), parts.types[2].end());
  const auto border = std::find_if(types.begin(), types.end(), [](int64_t t) { return t != 0; });
  const bool first_is_zero =
      parts.text_types[0] == 0 &&
      std::all_of(parts.types[0].begin(), parts.types[0].end(), [](int64_t t) { return t == 0; });
  const bool rest_is_one = std::all_of(border, types.end(), [](int64_t t) { return t == 1; });
  const auto num_zero = border - types.begin();
  const auto between = static_cast<ptrdiff_t>(parts.around[1].size());
  if (!first_is_zero || !rest_is_one || (border != types.end() && num_zero > between)) {
    return absl::UnimplementedError(
        "\"pair\": types other than 0 for the first text and 1 for the second are not supported");
  }
  PairTemplate pair{std::move(parts.around[0]), std::move(parts.around[1]),
                    std::move(parts.around[2])};
  pair.num_first_between = border == types.end() ? -1 : static_cast<int32_t>(num_zero);
  return pair;
}

absl::StatusOr<PairTemplate> ReadPair(const nlohmann::json& config) {
  if (json_fields::Find(config, "pair") == nullptr) return PairTemplate();
  ASSIGN_OR_RETURN(TemplateParts parts, ReadTemplate(config, "pair", 2));
  return MakePair(std::move(parts));
}

absl::StatusOr<PostProcessor> MakeTemplate(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(TemplateParts single, ReadTemplate(config, "single", 1));
  absl::StatusOr<PairTemplate> pair = ReadPair(config);
  // What cannot be kept is no fault of a model that is never asked about pairs.
  if (!pair.ok() && !absl::IsUnimplemented(pair.status())) return pair.status();
  return PostProcessor(std::move(single.around[0]), std::move(single.around[1]), std::move(pair));
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

absl::StatusOr<PostProcessor> MakeClsSep(const nlohmann::json& config, bool roberta) {
  ASSIGN_OR_RETURN(const TokenId cls, PairId(config, "cls"));
  ASSIGN_OR_RETURN(const TokenId sep, PairId(config, "sep"));
  PairTemplate pair{{cls}, {sep}, {sep}, 1};
  if (roberta) pair = {{cls}, {sep, sep}, {sep}, -1};
  return PostProcessor({cls}, {sep}, std::move(pair));
}

// A later processor takes what the earlier one put between the texts as part of the first.
absl::StatusOr<PairTemplate> AroundPair(PairTemplate inner, const PairTemplate& outer) {
  const auto adds = [](const PairTemplate& p) {
    return !p.before.empty() || !p.between.empty() || !p.after.empty();
  };
  if (!adds(outer)) return inner;
  if (inner.num_first_between < static_cast<int32_t>(inner.between.size()) && adds(inner)) {
    return absl::UnimplementedError(
        "a processor of pairs after one that adds tokens before the second text is not supported");
  }
  const auto shift = static_cast<int32_t>(inner.between.size());
  inner.before.insert(inner.before.begin(), outer.before.begin(), outer.before.end());
  inner.between.insert(inner.between.end(), outer.between.begin(), outer.between.end());
  inner.after.insert(inner.after.end(), outer.after.begin(), outer.after.end());
  inner.num_first_between = outer.num_first_between < 0 ? -1 : shift + outer.num_first_between;
  return inner;
}

// A later processor surrounds what the earlier ones made.
absl::StatusOr<PostProcessor> MakeSequence(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const nlohmann::json* list, json_fields::Array(config, "processors"));
  std::vector<TokenId> before;
  std::vector<TokenId> after;
  absl::StatusOr<PairTemplate> pair = PairTemplate();
  for (const nlohmann::json& step : *list) {
    ASSIGN_OR_RETURN(const PostProcessor made, MakePostProcessor(step));
    before.insert(before.begin(), made.before().begin(), made.before().end());
    after.insert(after.end(), made.after().begin(), made.after().end());
    if (!pair.ok()) continue;
    pair = made.pair().ok() ? AroundPair(*std::move(pair), *made.pair()) : made.pair();
  }
  return PostProcessor(std::move(before), std::move(after), std::move(pair));
}

}  // namespace

void PostProcessor::Apply(std::vector<TokenId>* ids) const {
  ids->insert(ids->begin(), before_.begin(), before_.end());
  ids->insert(ids->end(), after_.begin(), after_.end());
}

absl::StatusOr<std::vector<TokenId>> PostProcessor::Join(absl::Span<const TokenId> first,
                                                         absl::Span<const TokenId> second,
                                                         int32_t* second_begin) const {
  RETURN_IF_ERROR(pair_.status());
  const int32_t border = pair_->num_first_between;
  *second_begin =
      border < 0 ? 0 : static_cast<int32_t>(pair_->before.size() + first.size()) + border;
  std::vector<TokenId> ids;
  for (const absl::Span<const TokenId> part :
       {absl::MakeConstSpan(pair_->before), first, absl::MakeConstSpan(pair_->between), second,
        absl::MakeConstSpan(pair_->after)}) {
    ids.insert(ids.end(), part.begin(), part.end());
  }
  return ids;
}

absl::StatusOr<PostProcessor> MakePostProcessor(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const std::string type, json_fields::String(config, "type"));
  if (type == "Sequence") return MakeSequence(config);
  if (type == "TemplateProcessing") return MakeTemplate(config);
  if (type == "BertProcessing") return MakeClsSep(config, false);
  if (type == "RobertaProcessing") return MakeClsSep(config, true);
  if (type == "ByteLevel") return PostProcessor({}, {});  // it moves offsets only
  return absl::UnimplementedError(
      absl::StrCat("post-processor type \"", type, "\" is not supported"));
}

}  // namespace penstock
