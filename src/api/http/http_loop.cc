#include "api/http/http_loop.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <vector>

#include "api/http/connection.h"
#include "base/thread_name.h"

namespace penstock {

namespace asio = boost::asio;

HttpLoop::HttpLoop(HttpShared* shared) : shared_(shared) {}

HttpLoop::~HttpLoop() { Stop(); }

void HttpLoop::Start() {
  SweepSoon();
  thread_ = std::thread([this] {
    NameThread("http");
    const CpuParts::Thread counted(shared_->options.cpu, FrontPart::kHttp);
    context_.run();
  });
}

void HttpLoop::Adopt(StreamSocket socket) {
  asio::post(context_, [this, socket = std::move(socket)]() mutable {
    auto connection = std::make_shared<Connection>(std::move(socket), this);
    connections_.insert(connection);
    connection->Start();
  });
}

void HttpLoop::Forget(const std::shared_ptr<Connection>& connection) {
  if (connections_.erase(connection) == 0) return;
  std::lock_guard lock(shared_->mutex);
  --shared_->num_connections;
  shared_->emptied.notify_all();
}

void HttpLoop::SweepSoon() {
  const std::shared_ptr<const ServerConfig> config = shared_->options.config->Get();
  const LimitsSection& limits = config->limits;
  const absl::Duration shortest =
      std::min({limits.header_timeout, limits.idle_timeout, limits.write_stall});
  const auto period = std::clamp(absl::ToChronoMilliseconds(shortest / 4),
                                 std::chrono::milliseconds(10), std::chrono::milliseconds(250));
  sweep_timer_.expires_after(period);
  sweep_timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    const auto now = std::chrono::steady_clock::now();
    const std::vector<std::shared_ptr<Connection>> all(connections_.begin(), connections_.end());
    const std::shared_ptr<const ServerConfig> present = shared_->options.config->Get();
    for (const auto& connection : all) connection->Sweep(present->limits, now);
    SweepSoon();
  });
}

void HttpLoop::DrainAll() {
  asio::post(context_, [this] {
    const std::vector<std::shared_ptr<Connection>> all(connections_.begin(), connections_.end());
    for (const auto& connection : all) connection->Drain();
  });
}

void HttpLoop::Stop() {
  if (!thread_.joinable()) return;
  asio::post(context_, [this] {
    sweep_timer_.cancel();
    const std::vector<std::shared_ptr<Connection>> all(connections_.begin(), connections_.end());
    for (const auto& connection : all) connection->Close(CancelReason::kShutdown);
    context_.stop();
  });
  thread_.join();
}

}  // namespace penstock
