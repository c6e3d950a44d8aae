#include "model/config_reader.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/strings.h"

namespace penstock {

using Json = nlohmann::json;

const Json* ConfigReader::Find(std::string_view key) const {
  const auto it = json_.find(key);
  return it == json_.end() || it->is_null() ? nullptr : &*it;
}

void ConfigReader::Fail(std::string_view key, std::string_view problem) {
  if (!status_.ok()) return;
  if (const auto named = file_names_.find(key); named != file_names_.end()) key = named->second;
  status_ =
      absl::InvalidArgumentError(absl::StrCat(what_, ": ", ToAbsl(key), ": ", ToAbsl(problem)));
}

int32_t ConfigReader::Int(std::string_view key, std::optional<int32_t> fallback, int32_t low,
                          int32_t high) {
  const Json* value = Find(key);
  if (value == nullptr) {
    if (!fallback) Fail(key, "is missing");
    return fallback.value_or(low);
  }
  const bool whole =
      value->is_number_integer() ||
      (value->is_number_float() && std::floor(value->get<double>()) == value->get<double>());
  if (!whole || value->get<double>() < low || value->get<double>() > high) {
    Fail(key, absl::StrCat("expected a whole number from ", low, " to ", high));
    return fallback.value_or(low);
  }
  return static_cast<int32_t>(value->get<double>());
}

double ConfigReader::Number(std::string_view key, std::optional<double> fallback, double low,
                            double high) {
  const Json* value = Find(key);
  if (value == nullptr) {
    if (!fallback) Fail(key, "is missing");
    return fallback.value_or(low);
  }
  const double number = value->is_number() ? value->get<double>() : NAN;
  if (!(number >= low && number <= high)) {
    Fail(key, absl::StrCat("expected a number from ", low, " to ", high));
    return fallback.value_or(low);
  }
  return number;
}

bool ConfigReader::Bool(std::string_view key, bool fallback) {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    Fail(key, "expected true or false");
    return fallback;
  }
  return value->get<bool>();
}

std::string ConfigReader::String(std::string_view key, std::string_view fallback) {
  const Json* value = Find(key);
  if (value == nullptr) return std::string(fallback);
  if (!value->is_string()) {
    Fail(key, "expected a string");
    return std::string(fallback);
  }
  return value->get<std::string>();
}

}  // namespace penstock
