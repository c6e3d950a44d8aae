#include "service/redis_connection.h"

#include <hiredis/hiredis.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

constexpr size_t kMaxText = 256;  // of a reply, and of an error that is passed on

constexpr size_t kMaxUnread = 1 << 20;  // bytes of answers

std::string TextOf(const redisReply& reply) {
  return reply.str == nullptr ? std::string()
                              : std::string(reply.str, std::min<size_t>(reply.len, kMaxText));
}

}  // namespace

absl::StatusOr<std::unique_ptr<RedisConnection>> RedisConnection::Open(const std::string& host,
                                                                       int port,
                                                                       const std::string& password,
                                                                       absl::Duration patience) {
  const timeval limit = absl::ToTimeval(patience);
  redisContext* context = redisConnectWithTimeout(host.c_str(), port, limit);
  if (context == nullptr) return absl::UnavailableError("redis: no memory");
  std::unique_ptr<RedisConnection> connection(new RedisConnection(context));
  if (context->err != 0) return connection->Error();
  if (redisSetTimeout(context, limit) != REDIS_OK) return connection->Error();
  if (password.empty()) return connection;
  RETURN_IF_ERROR(connection->Append({"AUTH", password}));
  ASSIGN_OR_RETURN(const ReplyPtr reply, connection->Next(SystemClock::Get().Now() + patience));
  if (reply->type == REDIS_REPLY_STATUS) return connection;
  return absl::UnavailableError(absl::StrCat("redis: the password is refused: ", TextOf(*reply)));
}

RedisConnection::~RedisConnection() { redisFree(context_); }

void RedisConnection::FreeReply::operator()(redisReply* reply) const { freeReplyObject(reply); }

absl::Status RedisConnection::Error() const {
  return absl::UnavailableError(absl::StrCat("redis: ", context_->errstr));
}

/// A reader of its own, as hiredis's would wait for whoever sends a byte now and then.
absl::StatusOr<RedisConnection::ReplyPtr> RedisConnection::Next(absl::Time deadline) {
  for (int sent = 0; sent == 0;) {
    if (redisBufferWrite(context_, &sent) != REDIS_OK) return Error();
    if (SystemClock::Get().Now() > deadline) return absl::UnavailableError("redis: does not read");
  }
  void* raw = nullptr;
  while (true) {
    if (redisGetReplyFromReader(context_, &raw) != REDIS_OK) return Error();
    if (raw != nullptr) return ReplyPtr(static_cast<redisReply*>(raw));
    if (SystemClock::Get().Now() > deadline)
      return absl::UnavailableError("redis: no answer in time");
    if (context_->reader->len > kMaxUnread)
      return absl::UnavailableError("redis: an answer of a wrong form");
    if (redisBufferRead(context_) != REDIS_OK) return Error();
  }
}

absl::StatusOr<std::string> RedisConnection::LoadScript(const std::string& script,
                                                        absl::Time deadline) {
  RETURN_IF_ERROR(Append({"SCRIPT", "LOAD", script}));
  ASSIGN_OR_RETURN(const ReplyPtr reply, Next(deadline));
  if (reply->type == REDIS_REPLY_STRING && reply->len == 40) return TextOf(*reply);
  return absl::UnavailableError(absl::StrCat("redis: the script is refused: ", TextOf(*reply)));
}

absl::Status RedisConnection::Append(const std::vector<std::string>& command) {
  std::vector<const char*> words;
  std::vector<size_t> sizes;
  for (const std::string& word : command) {
    words.push_back(word.data());
    sizes.push_back(word.size());
  }
  if (redisAppendCommandArgv(context_, static_cast<int>(words.size()), words.data(),
                             sizes.data()) == REDIS_OK)
    return absl::OkStatus();
  return Error();
}

absl::StatusOr<RedisConnection::Reply> RedisConnection::Read(size_t count, absl::Time deadline) {
  ASSIGN_OR_RETURN(const ReplyPtr reply, Next(deadline));
  if (reply->type == REDIS_REPLY_ERROR)
    return absl::UnavailableError(absl::StrCat("redis: ", TextOf(*reply)));
  const absl::Status wrong = absl::UnavailableError("redis: an answer of a wrong form");
  if (reply->type != REDIS_REPLY_ARRAY || reply->elements != count + 1) return wrong;
  Reply out;
  for (size_t i = 0; i < count; ++i) {
    if (reply->element[i]->type != REDIS_REPLY_INTEGER) return wrong;
    out.numbers.push_back(reply->element[i]->integer);
  }
  const redisReply& last = *reply->element[count];
  if (last.type != REDIS_REPLY_STRING || last.len >= kMaxText) return wrong;
  out.text = TextOf(last);
  return out;
}

}  // namespace penstock
