// One I/O thread with its connections.
// Owns the thread, the io_context and the connections' set. Must not know routes' endpoints.
// Threads: Post, Adopt and the constructor's thread from anywhere; the rest confined to the loop's
// own thread.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_set>

#include "api/http/http_server.h"
#include "api/http/listen_socket.h"

namespace penstock {

class Connection;

/// What all loops of a server share.
struct HttpShared {
  HttpServerOptions options;
  std::atomic<const Router*> router{nullptr};
  std::atomic<bool> closing{false};   // each answer ends its connection
  std::atomic<bool> draining{false};  // and none is accepted
  std::mutex mutex;
  std::condition_variable emptied;
  int num_connections = 0;  // guarded by mutex
};

class HttpLoop {
 public:
  explicit HttpLoop(HttpShared* shared);
  ~HttpLoop();

  boost::asio::io_context& context() { return context_; }
  void Start();
  /// Takes a fresh connection, which is counted already.
  void Adopt(StreamSocket socket);
  void DrainAll();
  /// Cuts off what is left and ends the thread.
  void Stop();

  HttpShared& shared() { return *shared_; }
  std::array<char, 65536>& scratch() { return scratch_; }
  void Forget(const std::shared_ptr<Connection>& connection);

 private:
  void SweepSoon();

  HttpShared* const shared_;
  boost::asio::io_context context_{1};
  boost::asio::steady_timer sweep_timer_{context_};
  std::unordered_set<std::shared_ptr<Connection>> connections_;
  std::array<char, 65536> scratch_;  // what one read brings
  std::thread thread_;
};

}  // namespace penstock
