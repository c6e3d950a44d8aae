// A client's view of one HTTP/1.1 answer, fed with bytes as they come: head, length or chunks,
// server-sent events. A body without either ends where the server closes the connection.
// Owns the bytes not yet understood. Must not know sockets or clocks.
// Threads: confined to the load loop.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock {

class HttpStream {
 public:
  /// Takes what arrived. False: this is no HTTP answer.
  bool Feed(std::string_view bytes);
  /// The server closed the connection in order. True: that was the end of the answer.
  bool FeedEnd();
  /// The whole answer is here; then body() is complete, and the object may be reset for the next.
  bool done() const { return state_ == State::kDone; }
  bool head_done() const { return state_ != State::kHead; }
  int status() const { return status_; }
  bool keep_alive() const { return keep_alive_; }
  const std::string& body() const { return body_; }  // with the chunk framing removed
  void Reset() { *this = HttpStream(); }

 private:
  enum class State : uint8_t {
    kHead,
    kLength,
    kUntilClose,
    kChunkSize,
    kChunk,
    kChunkEnd,
    kTrailer,
    kDone
  };
  bool ParseHead(std::string_view head);
  bool Advance();

  State state_ = State::kHead;
  std::string in_;
  std::string body_;
  size_t need_ = 0;
  int status_ = 0;
  bool keep_alive_ = true;
};

}  // namespace penstock
