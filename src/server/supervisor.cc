#include "server/supervisor.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

std::string FirstLine(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

}  // namespace

void NotifySupervisor(const std::string& lines) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address = {};
  if (path == nullptr || std::strlen(path) < 2 || std::strlen(path) >= sizeof address.sun_path)
    return;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path, std::strlen(path));
  if (path[0] == '@') address.sun_path[0] = '\0';  // an abstract socket
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
  sendto(fd, lines.data(), lines.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&address), size);
  close(fd);
}

absl::Duration WatchdogPeriod() {
  const char* text = std::getenv("WATCHDOG_USEC");
  int64_t micros = 0;
  if (text == nullptr || !absl::SimpleAtoi(text, &micros) || micros <= 0)
    return absl::InfiniteDuration();
  return absl::Microseconds(micros) / 2;
}

std::string DescribeThreads() {
  std::string out;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", error)) {
    const std::string stat = FirstLine(task.path() / "stat");  // pid (name) state ...
    const size_t name_end = stat.rfind(')');
    const std::string state = name_end + 2 < stat.size() ? stat.substr(name_end + 2, 1) : "?";
    absl::StrAppend(&out, out.empty() ? "" : "; ", task.path().filename().string(), " ",
                    FirstLine(task.path() / "comm"), " ", state, " ",
                    FirstLine(task.path() / "wchan"));
  }
  return out;
}

}  // namespace penstock
