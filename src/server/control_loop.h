// What wakes the main thread while the server runs: signals, and changes of watched files.
// Owns its descriptors. Must not know what is done about them.
// Threads: confined to the main thread; made before any other is started.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace penstock {

enum class ControlEvent : uint8_t { kStop, kInterrupt, kReload, kFiles, kTimeout };

class ControlLoop {
 public:
  /// Blocks SIGTERM, SIGINT and SIGHUP in this and all later threads and ignores SIGPIPE and SIGXFSZ.
  ControlLoop();
  ~ControlLoop();
  ControlLoop(const ControlLoop&) = delete;
  ControlLoop& operator=(const ControlLoop&) = delete;

  /// Watches the directories of `files` instead of those before: so a file that is replaced by
  /// renaming, or through a link further up (as in a mounted ConfigMap), is seen as well. The names
  /// of those that cannot be watched. Of a file that is watched already the state that was known stays.
  std::vector<std::string> Watch(const std::set<std::string>& files);

  /// Waits `most` at most. kStop: SIGTERM. kInterrupt: SIGINT. kReload: SIGHUP. kFiles: one of the files
  /// is another, or has changed, since the last time, and none has for 20 ms. What happens to others
  /// beside them does not count.
  ControlEvent Wait(absl::Duration most = absl::InfiniteDuration());
  /// From now on a stop signal ends the process at once, and others do nothing.
  void StopWaiting();

 private:
  using FileState = std::array<int64_t, 5>;  // zeros: there is none
  using FileStates = std::map<std::string, FileState>;
  static FileState StateOf(const std::string& file);
  FileStates ReadEvents();
  FileStates StatesNow() const;

  int signals_ = -1;
  int inotify_ = -1;
  std::vector<int> watches_;
  FileStates seen_;  // as the last kFiles left them
};

}  // namespace penstock
