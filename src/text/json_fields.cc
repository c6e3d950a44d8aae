#include "text/json_fields.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/strings.h"

namespace penstock::json_fields {
namespace {

absl::Status Wrong(std::string_view key, std::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", ToAbsl(key), "\": expected ", ToAbsl(expected)));
}

}  // namespace

const nlohmann::json* Find(const nlohmann::json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

absl::StatusOr<std::string> String(const nlohmann::json& object, std::string_view key) {
  const nlohmann::json* value = Find(object, key);
  if (value == nullptr || !value->is_string()) return Wrong(key, "a string");
  return value->get<std::string>();
}

absl::StatusOr<std::string> StringOr(const nlohmann::json& object, std::string_view key,
                                     std::string_view absent) {
  if (Find(object, key) == nullptr) return std::string(absent);
  return String(object, key);
}

absl::StatusOr<bool> BoolOr(const nlohmann::json& object, std::string_view key, bool absent) {
  const nlohmann::json* value = Find(object, key);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) return Wrong(key, "true or false");
  return value->get<bool>();
}

absl::StatusOr<int64_t> Count(const nlohmann::json& object, std::string_view key, int64_t max) {
  const nlohmann::json* value = Find(object, key);
  const std::string expected = absl::StrCat("an integer in [0, ", max, "]");
  if (value == nullptr || !value->is_number_unsigned()) return Wrong(key, expected);
  const uint64_t number = value->get<uint64_t>();
  if (number > static_cast<uint64_t>(max)) return Wrong(key, expected);
  return static_cast<int64_t>(number);
}

absl::StatusOr<const nlohmann::json*> Array(const nlohmann::json& object, std::string_view key) {
  const nlohmann::json* value = Find(object, key);
  if (value == nullptr || !value->is_array()) return Wrong(key, "an array");
  return value;
}

}  // namespace penstock::json_fields
