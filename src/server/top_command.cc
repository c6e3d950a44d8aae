// penstock top: a running server, live.
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "server/commands.h"
#include "server/http_call.h"
#include "server/top_frame.h"

namespace penstock {
namespace {

constexpr size_t kMaxPage = 32 << 20;  // bytes
std::atomic<bool> top_ends{false};

struct TopOptions {
  std::string target = "http://127.0.0.1:8000", api_key;
  double interval = 1;
  bool once = false;
};

absl::StatusOr<MetricsText> FetchMetrics(const TopOptions& options) {
  HttpCall call;
  call.url = options.target + "/metrics";
  call.credential = options.api_key;
  call.max_answer = kMaxPage;
  call.is_over = [] { return top_ends.load(); };
  absl::StatusOr<HttpReply> reply = CallHttp(call);
  if (!reply.ok())
    return absl::UnavailableError(absl::StrCat(options.target, ": ", reply.status().message()));
  if (reply->status == 401)
    return absl::UnauthenticatedError("the server asks for a key: --api-key or PENSTOCK_API_KEY");
  if (reply->status == 403)
    return absl::PermissionDeniedError("this key may not read metrics (metrics.read)");
  if (reply->status != 200 || reply->is_cut)
    return absl::UnavailableError(
        absl::StrCat(options.target, "/metrics answers ", reply->status, ", not with metrics"));
  return MetricsText(reply->body, absl::Now());
}

winsize ScreenSize() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
    size.ws_col = 100;
    size.ws_row = 50;
  }
  return size;
}

void PauseUntil(absl::Time end) {
  while (!top_ends && absl::Now() < end)
    absl::SleepFor(std::min(absl::Milliseconds(50), end - absl::Now()));
}

/// Over the last frame without a flicker: each line is drawn over and its rest cleared.
void DrawFrame(const std::vector<std::string>& lines, const winsize& size) {
  std::string out = "\x1b[H";
  for (size_t i = 0; i < lines.size() && i + 1 < size.ws_row; ++i)
    absl::StrAppend(&out, lines[i], "\x1b[K\n");
  absl::StrAppend(&out, "\x1b[J");
  std::fwrite(out.data(), 1, out.size(), stdout);
  std::fflush(stdout);
}

absl::Status PrintOnce(const TopOptions& options, absl::Duration interval) {
  ASSIGN_OR_RETURN(const MetricsText before, FetchMetrics(options));
  PauseUntil(before.when() + interval);
  ASSIGN_OR_RETURN(const MetricsText after, FetchMetrics(options));
  for (const std::string& line :
       TopFrame(options.target, before, after, absl::Now(), ScreenSize().ws_col))
    std::printf("%s\n", line.c_str());
  return absl::OkStatus();
}

/// On a screen of its own, which gives the old one back at the end.
absl::Status ShowLive(const TopOptions& options, absl::Duration interval) {
  absl::StatusOr<MetricsText> before = FetchMetrics(options);
  RETURN_IF_ERROR(before.status());
  std::signal(SIGINT, [](int) { top_ends = true; });
  std::signal(SIGTERM, [](int) { top_ends = true; });
  std::fputs("\x1b[?1049h\x1b[?25l\x1b[2J", stdout);
  while (!top_ends) {
    PauseUntil(before->when() + interval);
    absl::StatusOr<MetricsText> after = FetchMetrics(options);
    if (top_ends) break;
    const winsize size = ScreenSize();
    if (!after.ok()) {
      DrawFrame({std::string(after.status().message()), "", "Trying again. Ctrl-C ends."}, size);
      PauseUntil(absl::Now() + interval);
      continue;
    }
    std::vector<std::string> lines =
        TopFrame(options.target, *before, *after, absl::Now(), size.ws_col);
    lines.insert(lines.end(), {"", "Ctrl-C ends."});
    DrawFrame(lines, size);
    before = std::move(after);
  }
  std::fputs("\x1b[?25h\x1b[?1049l", stdout);
  std::fflush(stdout);
  return absl::OkStatus();
}

}  // namespace

void AddTopCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<TopOptions>();
  CLI::App* command = app.add_subcommand("top", "Show what a running server does, live");
  command->add_option("--target", options->target, "The server (http://127.0.0.1:8000)");
  command->add_option("--api-key", options->api_key,
                      "A key that may read metrics (or PENSTOCK_API_KEY)");
  command->add_option("--interval", options->interval, "Seconds between two looks (1)")
      ->check(CLI::Range(0.1, 3600.0));
  command->add_flag("--once", options->once, "Print one frame, of one interval, and end");
  command->callback([options, &exit_code] {
    if (options->target.find("://") == std::string::npos) options->target.insert(0, "http://");
    while (options->target.ends_with('/')) options->target.pop_back();
    const char* key = std::getenv("PENSTOCK_API_KEY");
    if (options->api_key.empty() && key != nullptr) options->api_key = key;
    const absl::Duration interval = absl::Seconds(options->interval);
    const absl::Status status = options->once || isatty(STDOUT_FILENO) == 0
                                    ? PrintOnce(*options, interval)
                                    : ShowLive(*options, interval);
    if (status.ok()) return;
    std::fprintf(stderr, "penstock: %s\n", std::string(status.message()).c_str());
    exit_code = 1;
  });
}

}  // namespace penstock
