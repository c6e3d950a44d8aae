// A port that says one line to whoever connects and closes: what load balancers' agent checks read.
// Owns its acceptor. Must not know what the line says.
// Threads: its callbacks run on the loop's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <string>

namespace penstock {

class LineListener : public std::enable_shared_from_this<LineListener> {
 public:
  /// `acceptor` listens already; `line` is called for each connection.
  LineListener(boost::asio::ip::tcp::acceptor acceptor, std::function<std::string()> line);
  void Start();
  /// On the loop's thread.
  void Close();

 private:
  void Accept();

  boost::asio::ip::tcp::acceptor acceptor_;
  const std::function<std::string()> line_;
};

}  // namespace penstock
