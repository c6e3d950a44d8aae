// Files that are mapped while somebody cuts them: a page that is no longer there would end the
// process with SIGBUS.
// Owns the table of mappings and the process's handler of SIGBUS. Must not know what files mean.
// Threads: thread-safe; the handler runs on whichever thread touched the page.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace penstock {

enum class LostPage : uint8_t {
  kIsZeros,  // the page reads as zeros and HasLostPages says so: for who can give up what it reads
  kEndsIt,   // one line on standard error, and exit code 70: for what is in use for good
};

/// Watches [data, data + bytes), a mapping of the file `path`, until it is unwatched. Of more than
/// 16,384 mappings at a time the rest are not watched.
void WatchMapping(const void* data, size_t bytes, const std::string& path, LostPage then);
/// From now on. Nothing where it is not watched, as below.
void SetLostPage(const void* data, LostPage then);
/// Before it is unmapped.
void UnwatchMapping(const void* data);
bool HasLostPages(const void* data);

}  // namespace penstock
