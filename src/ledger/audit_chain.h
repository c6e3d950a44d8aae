// The form of the audit log: lines that name the digest of the line before, signed checkpoints, a
// head; and the check of all that.
// Owns nothing but keys. Must not know what lines say beyond the chain.
// Threads: values and thread-safe functions.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

struct evp_pkey_st;

namespace penstock {

/// SHA-256 in hex, of a line without its end.
std::string LineDigest(std::string_view line);
/// What the first line of all names as the one before.
std::string NoDigest();

/// An Ed25519 key, or the public half of one.
class AuditKey {
 public:
  /// PEM; INVALID_ARGUMENT in one line.
  static absl::StatusOr<std::shared_ptr<const AuditKey>> Read(const std::string& path);
  std::string Sign(std::string_view text) const;  // hex; empty: only the public half is there
  bool Verify(std::string_view text, std::string_view signature) const;
  const std::string& name() const { return name_; }  // 16 hex digits of the public key's digest

 private:
  std::shared_ptr<evp_pkey_st> key_;
  bool is_private_ = false;
  std::string name_;
};

/// The place that the log has reached, in a file beside it: what was cut off the end is missed.
struct AuditHead {
  int64_t first = 1, last = 0;  // numbers of lines that are there
  std::string digest;           // of the last one
  std::string signature;        // hex; empty: none

  std::string SignedText() const;
  std::string Json() const;
  static absl::StatusOr<AuditHead> Read(const std::string& dir);
};
/// What a checkpoint line signs: that line `before` has this digest.
std::string CheckpointText(int64_t before, std::string_view digest);

/// Files of the log in `dir`, in order.
std::vector<std::string> AuditFiles(const std::string& dir);
std::string AuditFileName(const std::string& dir, int64_t first);
std::string AuditHeadName(const std::string& dir);

struct AuditProblem {
  std::string file;
  int64_t line = 0;  // of the file, from 1; 0: the whole file
  std::string what;
};
struct AuditReport {
  std::vector<AuditProblem> problems;  // the first hundred
  int64_t first = 0, last = 0;         // numbers of lines; 0: there is none
  int64_t checkpoints = 0, signed_through = 0;
  std::string digest;  // of the last line
  bool ok() const { return problems.empty(); }
  std::string Json() const;
};
/// `key` null: signatures are not looked at.
AuditReport VerifyAudit(const std::string& dir, const AuditKey* key);

}  // namespace penstock
