// A JSON document that a client sent, read where it lies: no tree is built of it, and values are
// views. As strict as ParseWireJson, with its words.
// Owns the parser's buffers of one document. Must not know fields.
// Threads: a document and its values are of one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace penstock {

struct WireParser;  // simdjson's, kept out of this header

/// A value of a WireDocument, which outlives it.
class WireValue {
 public:
  /// null, boolean, number, string, array or object.
  std::string_view type_name() const;
  bool is_null() const;
  bool is_boolean() const;
  bool is_number() const;
  bool is_string() const;
  bool is_array() const;
  bool is_object() const;
  /// Written without a fraction and an exponent, and not beyond 64 bits.
  bool is_integer() const;

  // Of what it is not: false, 0, "".
  bool boolean() const;
  double number() const;
  std::string_view text() const;
  /// Also of 3.0 and 1e3; nothing where it is no such number or beyond 64 bits.
  std::optional<int64_t> integer() const;

  /// The elements of an array.
  std::vector<WireValue> Items() const;
  /// The members of an object in their order; of members of one name the last counts.
  using Member = std::pair<std::string_view, WireValue>;
  std::vector<Member> Members() const;
  /// Of an object.
  std::optional<WireValue> Find(std::string_view name) const;

  /// The value as a tree, for what is kept as JSON: messages, schemas, tools.
  nlohmann::ordered_json Tree() const;

 private:
  friend struct WireElement;
  alignas(8) std::array<std::byte, 16> element_{};
};

class WireDocument {
 public:
  /// INVALID_ARGUMENT as of ParseWireJson.
  static absl::StatusOr<WireDocument> Parse(std::string_view text,
                                            std::string_view what = "the body");
  ~WireDocument();
  WireDocument(WireDocument&&) noexcept;
  WireDocument& operator=(WireDocument&&) noexcept;

  const WireValue& root() const { return root_; }

 private:
  explicit WireDocument(std::unique_ptr<WireParser> parser);

  std::unique_ptr<WireParser> parser_;
  WireValue root_;
};

/// As WrongJsonType and WrongJsonItem of service/json_body.h.
absl::Status WrongWireType(std::string_view name, std::string_view expected,
                           const WireValue& value);
absl::Status WrongWireItem(std::string_view name, size_t index, std::string_view expected,
                           const WireValue& value);

}  // namespace penstock
