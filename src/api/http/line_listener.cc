#include "api/http/line_listener.h"

#include <boost/asio/buffer.hpp>
#include <utility>

namespace penstock {

namespace asio = boost::asio;
using asio::ip::tcp;

LineListener::LineListener(tcp::acceptor acceptor, std::function<std::string()> line)
    : acceptor_(std::move(acceptor)), line_(std::move(line)) {}

void LineListener::Start() { Accept(); }

void LineListener::Close() {
  boost::system::error_code error;
  acceptor_.close(error);
}

void LineListener::Accept() {
  acceptor_.async_accept([self = shared_from_this()](const boost::system::error_code& failed,
                                                     tcp::socket socket) {
    if (!self->acceptor_.is_open()) return;
    boost::system::error_code error;
    if (!failed) {
      socket.non_blocking(true, error);
      socket.write_some(asio::buffer(self->line_()), error);  // a fresh socket takes a line whole
      socket.shutdown(tcp::socket::shutdown_send, error);
    }
    self->Accept();
  });
}

}  // namespace penstock
