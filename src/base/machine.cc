#include "base/machine.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <thread>
#include <vector>

namespace penstock {
namespace {

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// The folders whose limits bind this process, innermost first. `controller` is empty for version
/// 2.
std::vector<std::string> Ancestors(const std::string& root, const std::string& self,
                                   const std::string& controller) {
  std::istringstream lines(self);
  std::string line, path;
  bool found = false;
  while (std::getline(lines, line)) {  // hierarchy:controllers:path
    const size_t first = line.find(':');
    const size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    if (controllers != (controller.empty() ? ",," : controllers)) continue;
    if (!controller.empty() && controllers.find("," + controller + ",") == controllers.npos)
      continue;
    path = line.substr(second + 1);
    found = true;
  }
  std::vector<std::string> out;
  if (!found) return out;
  const std::string base = controller.empty() ? root : root + "/" + controller;
  while (path.size() > 1) {
    out.push_back(base + path);
    path.resize(path.rfind('/'));
  }
  out.push_back(base);
  return out;
}

}  // namespace

int64_t CgroupMemoryLimit(const std::string& root, const std::string& self) {
  int64_t limit = std::numeric_limits<int64_t>::max();
  const auto take = [&](const std::string& path) {
    std::istringstream text(ReadAll(path));
    int64_t value = 0;
    if (text >> value && value > 0) limit = std::min(limit, value);  // "max" is no number
  };
  for (const std::string& folder : Ancestors(root, self, "")) take(folder + "/memory.max");
  for (const std::string& folder : Ancestors(root, self, "memory"))
    take(folder + "/memory.limit_in_bytes");
  return limit;
}

double CgroupCpuLimit(const std::string& root, const std::string& self) {
  double limit = std::numeric_limits<double>::infinity();
  for (const std::string& folder : Ancestors(root, self, "")) {
    std::istringstream text(ReadAll(folder + "/cpu.max"));
    double quota = 0, period = 0;
    if (text >> quota >> period && period > 0) limit = std::min(limit, quota / period);
  }
  for (const std::string& folder : Ancestors(root, self, "cpu")) {
    double quota = 0, period = 0;
    if (std::istringstream(ReadAll(folder + "/cpu.cfs_quota_us")) >> quota && quota > 0 &&
        std::istringstream(ReadAll(folder + "/cpu.cfs_period_us")) >> period && period > 0) {
      limit = std::min(limit, quota / period);
    }
  }
  return limit;
}

int AllowedCpus() {
  int cpus = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0)
    cpus = std::max(1, CPU_COUNT(&set));  // cpusets show here
  const double quota = CgroupCpuLimit("/sys/fs/cgroup", ReadAll("/proc/self/cgroup"));
  if (std::isfinite(quota)) cpus = std::min(cpus, std::max(1, static_cast<int>(std::ceil(quota))));
  return cpus;
}

int64_t AllowedMemory() {
  const int64_t machine = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE);
  return std::min(machine, CgroupMemoryLimit("/sys/fs/cgroup", ReadAll("/proc/self/cgroup")));
}

void RaiseFileLimit() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

}  // namespace penstock
