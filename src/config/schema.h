// The configuration tree described once: names, types, ranges and documentation of every field,
// bound to a ServerConfig.
// Owns nothing; a description points into the struct it was made from. Must not know YAML or flags.
// Threads: value.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "penstock/config.h"

namespace penstock {

using FieldRef =
    std::variant<bool*, int32_t*, double*, Share*, Count*, std::string*, Bytes*, absl::Duration*,
                 std::vector<std::string>*, std::map<std::string, std::string>*,
                 std::map<std::string, std::vector<std::string>>*>;

struct ConfigField {
  std::string_view name;
  FieldRef ref;
  std::string_view doc;                        // unit, default's meaning, consequence
  std::vector<std::string_view> choices = {};  // strings: the allowed values; empty: any
  int64_t min = 0;                             // int32_t fields
  int64_t max = INT32_MAX;
};

struct ConfigSection;

/// A list of sections of one kind, or a mapping of names to such. Only a file can give them.
struct ConfigEntries {
  std::string_view name;
  std::string_view doc;
  bool has_names = false;
  /// Appends an entry (or takes the name's) and describes it; what it described before may move.
  std::function<ConfigSection(const std::string& name)> add;
  /// All entries by name, or by their place in the list.
  std::function<std::vector<std::pair<std::string, ConfigSection>>()> all;
};

struct ConfigSection {
  std::string_view name;
  std::string_view doc;
  std::vector<ConfigField> fields;
  std::vector<ConfigSection> sections = {};
  std::vector<ConfigEntries> entries = {};
};

/// Everything but `models`.
ConfigSection DescribeServer(ServerConfig& config);
/// Its section `observe`.
ConfigSection DescribeObserve(ObserveSection& observe);
/// limits.shared, and privacy.
ConfigSection DescribeSharedLimits(SharedLimitsSection& section);
ConfigSection DescribePrivacy(AuditSection& audit);
/// One entry of `models`.
ConfigSection DescribeModel(ModelEntry& entry);
/// Of all models, where a model does not say otherwise.
ConfigSection DescribeEngine(EngineConfig& engine);

/// Parses `text` into the field. INVALID_ARGUMENT says what was expected; the path is the caller's
/// to add.
absl::Status SetField(const ConfigField& field, std::string_view text);
/// As the file would write it.
std::string FormatField(const ConfigField& field);

/// The candidate closest to `word` by edit distance, or "" where none is near.
std::string_view NearestName(std::string_view word,
                             const std::vector<std::string_view>& candidates);

}  // namespace penstock
