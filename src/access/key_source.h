// Brings the keys of the state file to the gate, again whenever they change.
// Owns its connection to the file. Must not know who asks for access.
// Threads: confined to the access loop.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "access/access_control.h"
#include "access/key_store.h"

namespace penstock {

/// Takes one line about what went wrong with a file, or right again.
using AccessLog = std::function<void(bool failed, std::string_view line)>;

class KeySource {
 public:
  KeySource(std::string path, std::string pepper, AccessControl* control, AccessLog log)
      : path_(std::move(path)),
        pepper_(std::move(pepper)),
        control_(*control),
        log_(std::move(log)) {}
  /// Told of records before and after a change. Before the first Check.
  void set_on_change(
      std::function<void(const std::vector<KeyRecord>& before, const std::vector<KeyRecord>& after)>
          f) {
    on_change_ = std::move(f);
  }
  /// Those that were read last; null: none were.
  const KeyRecords& records() const { return records_; }
  /// Where the file cannot be read the keys that were read last stay, and the log says so once.
  void Check();

 private:
  absl::Status Refresh();

  const std::string path_, pepper_;
  AccessControl& control_;
  const AccessLog log_;
  std::unique_ptr<KeyStore> store_;
  int64_t version_ = -1;
  std::string signature_;  // of the file that is open
  std::string complaint_;  // that the log knows
  KeyRecords records_;     // that were read last; null: none were
  std::function<void(const std::vector<KeyRecord>&, const std::vector<KeyRecord>&)> on_change_;
};

}  // namespace penstock
