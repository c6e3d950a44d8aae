// One connection to a Redis that may be slow, gone or wrong.
// Owns the socket. Must not know what the commands mean.
// Threads: confined to one at a time; calls block until a deadline, or one patience longer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

extern "C" struct redisContext;
extern "C" struct redisReply;

namespace penstock {

class RedisConnection {
 public:
  /// What a script of ours answers; anything else is an error of the connection.
  struct Reply {
    std::vector<int64_t> numbers;
    std::string text;  // the last element
  };

  static absl::StatusOr<std::unique_ptr<RedisConnection>> Open(const std::string& host, int port,
                                                               const std::string& password,
                                                               absl::Duration patience);
  ~RedisConnection();

  /// SCRIPT LOAD; the digest that EVALSHA names.
  absl::StatusOr<std::string> LoadScript(const std::string& script, absl::Time deadline);
  /// Queues a command; nothing is sent before Read.
  absl::Status Append(const std::vector<std::string>& command);
  /// The answer to the oldest command that has none: `count` integers and a string. After an error
  /// the connection is of no more use.
  absl::StatusOr<Reply> Read(size_t count, absl::Time deadline);

 private:
  struct FreeReply {
    void operator()(redisReply* reply) const;
  };
  using ReplyPtr = std::unique_ptr<redisReply, FreeReply>;
  explicit RedisConnection(redisContext* context) : context_(context) {}
  absl::StatusOr<ReplyPtr> Next(absl::Time deadline);
  absl::Status Error() const;

  redisContext* const context_;
};

}  // namespace penstock
