#include "service/generation_config.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

constexpr double kMostTokens = std::numeric_limits<int32_t>::max();

struct DefaultRange {
  const char* key;
  double min, max;
  const char* expected;
};

absl::Status ReadDefault(const nlohmann::json& json, const std::string& path,
                         const DefaultRange& range, std::optional<double>& out) {
  const auto it = json.find(range.key);
  if (it == json.end() || it->is_null()) return absl::OkStatus();
  const double value = it->is_number() ? it->get<double>() : std::nan("");
  if (!(value >= range.min && value <= range.max)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", range.key, ": expected ", range.expected));
  }
  out = value;
  return absl::OkStatus();
}

absl::Status ReadDefault(const nlohmann::json& json, const std::string& path,
                         const DefaultRange& range, std::optional<int64_t>& out) {
  std::optional<double> number;  // some files have 50.0
  RETURN_IF_ERROR(ReadDefault(json, path, range, number));
  if (number) out = static_cast<int64_t>(*number);
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadEosTokenIds(const nlohmann::json& object, const std::string& path,
                             std::vector<TokenId>& out) {
  const auto it = object.find("eos_token_id");
  if (it == object.end() || it->is_null()) return absl::OkStatus();
  for (const nlohmann::json& id : it->is_array() ? *it : nlohmann::json::array({*it})) {
    // Compared as JSON, what only an unsigned number holds would be less than 0.
    const uint64_t positive = id.is_number_unsigned() ? id.get<uint64_t>() : 0;
    if (!id.is_number_integer() || positive > std::numeric_limits<TokenId>::max()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": eos_token_id: expected an id of the vocabulary or a list of them"));
    }
    if (id.is_number_unsigned()) out.push_back(static_cast<TokenId>(positive));
  }
  return absl::OkStatus();
}

absl::StatusOr<GenerationDefaults> ReadGenerationDefaults(const nlohmann::json& object,
                                                          const std::string& path) {
  constexpr double kLeast = std::numeric_limits<float>::min();  // above 0, also as float
  GenerationDefaults out;
  RETURN_IF_ERROR(
      ReadDefault(object, path, {"temperature", 0, 2, "a number from 0 to 2"}, out.temperature));
  RETURN_IF_ERROR(
      ReadDefault(object, path, {"top_p", kLeast, 1, "a number above 0, at most 1"}, out.top_p));
  RETURN_IF_ERROR(ReadDefault(object, path, {"min_p", 0, 1, "a number from 0 to 1"}, out.min_p));
  RETURN_IF_ERROR(ReadDefault(object, path, {"top_k", -1, kMostTokens, "a number of tokens, or -1"},
                              out.top_k));
  RETURN_IF_ERROR(ReadDefault(object, path,
                              {"repetition_penalty", kLeast, 100, "a number above 0, at most 100"},
                              out.repetition_penalty));
  RETURN_IF_ERROR(ReadDefault(
      object, path, {"max_new_tokens", 1, kMostTokens, "a number of tokens"}, out.max_tokens));
  RETURN_IF_ERROR(ReadEosTokenIds(object, path, out.eos_token_ids));
  return out;
}

}  // namespace penstock
