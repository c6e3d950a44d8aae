// What threads spend their own time on, told apart by parts that they name.
// Owns the sums. Must not know metrics.
// Threads: thread-safe; a scope is of the thread that makes it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

namespace penstock {

/// Of a call in front of its engine.
enum class FrontPart : uint8_t {
  kHttp,       // sockets, requests and answers on the wire
  kAccess,     // who calls, and whether it may
  kJson,       // bodies of requests
  kChain,      // links on the way in
  kLimits,     // of tenants
  kTemplate,   // of chats
  kTokenizer,  // of prompts
  kRequests,   // what else a request takes on its way to an engine
  kAnswers,    // tokens to text and events
};
inline constexpr std::array<std::string_view, 9> kFrontParts = {
    "http", "access", "json", "chain", "limits", "template", "tokenizer", "requests", "answers"};

class CpuParts {
 public:
  using Seconds = std::array<double, kFrontParts.size()>;

  /// The calling thread counts while this lives, as `base` wherever no scope says otherwise.
  class Thread {
   public:
    Thread(CpuParts* parts, FrontPart base);  // null: it does not count
    ~Thread();
    Thread(const Thread&) = delete;
    Thread& operator=(const Thread&) = delete;

   private:
    CpuParts* const parts_;
  };

  /// Until now, of threads that have ended too.
  Seconds Sums() const;

 private:
  friend class CpuPart;
  struct Slot;
  static thread_local Slot* own_;  // the calling thread's; null: it does not count

  mutable std::mutex mutex_;  // guards what follows
  Seconds ended_{};
  std::vector<std::shared_ptr<Slot>> slots_;
};

/// While this lives the thread's time is of `part`; on a thread that does not count it does nothing.
/// A scope within no other reads the thread's clock twice, which takes about a microsecond. Within it
/// time is told apart by the wall clock, so that a thread that is interrupted may have some of it put
/// under the wrong part; the sum is exact.
class CpuPart {
 public:
  explicit CpuPart(FrontPart part);
  ~CpuPart();
  CpuPart(const CpuPart&) = delete;
  CpuPart& operator=(const CpuPart&) = delete;

 private:
  FrontPart before_;
};

}  // namespace penstock
