// A JSON Schema as a set of nodes: where each lies, its draft, and what its references mean.
// Owns copies of nothing: the document outlives it. Must not know automata or grammars.
// Threads: confined to one thread.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"

namespace penstock::grammar {

enum class Draft : uint8_t { k4, k6, k7, k2019, k2020 };

/// A schema, or a value that an instance must equal.
struct SchemaNode {
  const nlohmann::ordered_json* json = nullptr;
  bool is_value = false;
  std::string path;  // JSON pointer behind "#"
  std::string base;  // URI of the resource that it lies in
};

class SchemaDocument {
 public:
  static constexpr int kMaxDepth = 100;
  static constexpr size_t kMaxValues = 300'000;
  static constexpr size_t kMaxPathBytes = 64u << 20;  // of all values, each with its own

  /// INVALID_ARGUMENT where the document is too deep or too large, or its draft is unknown.
  static absl::StatusOr<SchemaDocument> Make(const nlohmann::ordered_json& root);

  Draft draft() const { return draft_; }
  /// What a schema says by a keyword; null where it lacks it, or its draft does, to which it is an
  /// unknown word.
  const nlohmann::ordered_json* Find(const nlohmann::ordered_json& schema,
                                     const char* keyword) const;
  const SchemaNode& node(int32_t id) const { return nodes_[id]; }
  static constexpr int32_t kRoot = 0;
  /// The node of what lies at `steps` (of a path) below a node.
  int32_t Child(int32_t parent, const nlohmann::ordered_json& json, std::string_view steps);
  int32_t Value(int32_t parent, const nlohmann::ordered_json& json, std::string_view steps);
  /// What the node's `$ref` means. INVALID_ARGUMENT where it is another document's, or nothing.
  absl::StatusOr<int32_t> Resolve(int32_t from, std::string_view reference);
  /// Whether a `$dynamicRef` or `$recursiveRef`, resolved to `to`, may mean another schema's anchor
  /// of the same name, by the way on which it is reached.
  bool IsOverridable(std::string_view keyword, std::string_view reference, int32_t to) const;

 private:
  absl::Status Index(const nlohmann::ordered_json& json, const std::string& path, std::string base,
                     int depth, bool is_schema);
  int32_t Add(const nlohmann::ordered_json& json, bool is_value, std::string path,
              std::string base);

  Draft draft_ = Draft::k2020;
  std::vector<SchemaNode> nodes_;
  absl::flat_hash_map<const nlohmann::ordered_json*, int32_t> by_json_[2];
  absl::flat_hash_map<std::string, const nlohmann::ordered_json*> by_uri_;  // and anchors: uri#name
  absl::flat_hash_map<const nlohmann::ordered_json*, std::pair<std::string, std::string>>
      places_;                                             // path and base of each object or array
  absl::flat_hash_map<std::string, int> dynamic_anchors_;  // how often each name occurs
  int num_recursive_anchors_ = 0;
  size_t num_values_ = 0, path_bytes_ = 0;
};

}  // namespace penstock::grammar
