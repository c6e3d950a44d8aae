#include "server/doctor_checks.h"

#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "access/client_certificates.h"
#include "access/key_store.h"
#include "access/tls_files.h"
#include "access/token_issuers.h"
#include "backend/make_backend.h"
#include "base/clock.h"
#include "base/cpu_features.h"
#include "base/machine.h"
#include "base/strings.h"
#include "server/http_call.h"
#include "server/model_instance.h"
#include "server/state_file.h"

namespace penstock {
namespace {

using Findings = std::vector<Diagnosis>;

constexpr absl::Duration kSoon = absl::Hours(24 * 14);  // a certificate's end
constexpr absl::Duration kListSoon = absl::Hours(2);    // a revocation list's
constexpr int64_t kLeastSpace = int64_t{1} << 30;       // bytes
constexpr int kOwnFiles = 64;                           // descriptors beside those of connections
constexpr int64_t kMiB = 1 << 20;

std::string FirstLineOf(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

void ExamineCertificates(const ServerConfig& config, Findings& out) {
  if (config.tls.cert_file.empty()) return;
  const ClientAuth auth =
      config.server.admin.http.empty() ? ClientAuthOf(config.tls) : ClientAuth::kRequire;
  const auto files = TlsFiles::Load(config.tls, auth, nullptr);
  if (!files.ok()) {
    out.push_back({"certificates", Finding::kFault, std::string(Message(files.status()))});
    return;
  }
  const auto say = [&](const std::string& file, absl::Time end, absl::Duration soon) {
    out.push_back({"certificates", end - absl::Now() < soon ? Finding::kWarning : Finding::kOk,
                   absl::StrCat(file, " is valid until ",
                                absl::FormatTime("%Y-%m-%d %H:%M UTC", end, absl::UTCTimeZone()))});
  };
  const TlsMaterialPtr material = (*files)->current();
  say(config.tls.cert_file, material->not_after, kSoon);
  if (material->clients != nullptr)
    say(config.tls.client_crl_file, material->clients->lists_end(), kListSoon);
}

void ExamineIssuers(const ServerConfig& config, Findings& out) {
  for (const TokenIssuerSection& issuer : config.auth.jwt) {
    absl::Status status;
    size_t size = 0;
    if (issuer.jwks_url.empty()) {
      status = LoadIssuers({issuer}).status();
    } else {
      HttpCall call;
      call.url = issuer.jwks_url;
      call.max_answer = 1 << 20;
      const absl::StatusOr<HttpReply> reply = CallHttp(call);
      status = reply.status();
      if (status.ok() && reply->status != 200)
        status = absl::UnavailableError(absl::StrCat("HTTP ", reply->status));
      if (status.ok()) {
        const absl::StatusOr<TokenKeys> keys = TokenKeys::Parse(reply->body);
        status = keys.status();
        size = keys.ok() ? keys->size() : 0;
      }
    }
    const std::string where = absl::StrCat(issuer.issuer, ", ", issuer.jwks_file, issuer.jwks_url);
    out.push_back({"issuers", status.ok() ? Finding::kOk : Finding::kFault,
                   status.ok() ? absl::StrCat(where, ": sound",
                                              size > 0 ? absl::StrCat(", ", size, " keys") : "")
                               : absl::StrCat(where, ": ", ToAbsl(Message(status)))});
  }
}

/// A folder that the server writes to.
void ExamineFolder(const std::string& what, const std::string& path, Findings& out) {
  if (path.empty()) return;
  std::filesystem::path existing = path;
  std::error_code ignored;
  while (!std::filesystem::exists(existing, ignored) && existing.has_parent_path() &&
         existing != existing.parent_path())
    existing = existing.parent_path();
  if (existing.empty()) existing = ".";
  struct statvfs disk {};
  if (statvfs(existing.c_str(), &disk) != 0) {
    out.push_back({"disks", Finding::kFault, absl::StrCat(what, ": ", path, " cannot be read")});
    return;
  }
  // What would be written is tried: permissions alone do not say it of every file system.
  std::string probe = (existing / ".penstock-doctor-XXXXXX").string();
  const bool writable = mkdtemp(probe.data()) != nullptr && rmdir(probe.c_str()) == 0;
  const auto free = static_cast<int64_t>(disk.f_bavail * disk.f_frsize);
  if (!writable) {
    out.push_back({"disks", Finding::kFault, absl::StrCat(what, ": ", path, " cannot be written")});
  } else {
    out.push_back({"disks", free < kLeastSpace ? Finding::kWarning : Finding::kOk,
                   absl::StrCat(what, ": ", path, ", ", free / kMiB, " MiB free")});
  }
}

void ExamineState(const ServerConfig& config, Findings& out) {
  ExamineFolder("server.state_dir", config.server.state_dir, out);
  std::set<std::string> folders;
  for (const auto& [name, model] : config.models) folders.insert(model.engine.packed_cache);
  for (const std::string& folder : folders) ExamineFolder("packed_cache", folder, out);
  if (config.auth.key_file.pepper.empty()) return;
  const std::string path = StateFile(config.server);
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    out.push_back(
        {"keys", Finding::kWarning, absl::StrCat(path, " is not there: no API key has been made")});
    return;
  }
  const auto store = KeyStore::Open(path);
  const auto keys = store.ok() ? (*store)->List() : store.status();
  out.push_back({"keys", keys.ok() ? Finding::kOk : Finding::kFault,
                 keys.ok() ? absl::StrCat(path, ": sound, ", keys->size(), " keys")
                           : std::string(Message(keys.status()))});
}

void ExamineLimits(const ServerConfig& config, Findings& out) {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  const int64_t wanted = int64_t{config.limits.max_connections} + kOwnFiles;
  // The server raises its own limit as far as it may.
  const bool enough =
      files.rlim_max == RLIM_INFINITY || files.rlim_max >= static_cast<rlim_t>(wanted);
  const std::string have =
      files.rlim_max == RLIM_INFINITY ? "unlimited" : absl::StrCat(files.rlim_max);
  out.push_back(
      {"limits", enough ? Finding::kOk : Finding::kFault,
       absl::StrCat("open files (ulimit -Hn): ", have, ", limits.max_connections wants ", wanted)});
  rlimit processes{};
  getrlimit(RLIMIT_NPROC, &processes);
  const int threads = AllowedCpus() + config.server.io_threads + 32;
  if (processes.rlim_cur != RLIM_INFINITY && processes.rlim_cur < static_cast<rlim_t>(threads)) {
    out.push_back({"limits", Finding::kFault,
                   absl::StrCat("threads (ulimit -u): ", processes.rlim_cur, ", about ", threads,
                                " are made")});
  }
}

void ExamineClocks(Findings& out) {
  timex state{};
  const int synced = adjtimex(&state);
  if (synced < 0) {
    out.push_back(
        {"clocks", Finding::kUnknown, "whether the clock is synchronised is not told here"});
  } else {
    const bool ok = synced != TIME_ERROR && (state.status & STA_UNSYNC) == 0;
    out.push_back({"clocks", ok ? Finding::kOk : Finding::kWarning,
                   ok ? absl::StrFormat("synchronised, within %.1f ms", state.maxerror / 1000.0)
                      : "not synchronised: tokens and certificates are judged by this clock"});
  }
  const std::string source =
      FirstLineOf("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  const std::set<std::string> quick = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page",
                                       "arch_sys_counter"};
  if (!source.empty()) {
    out.push_back(
        {"clocks", quick.contains(source) ? Finding::kOk : Finding::kWarning,
         absl::StrCat("clock source ", source, quick.contains(source) ? "" : ": slow to read")});
  }
  // As the engine reads it: forwards only, and about as fast as the wall clock.
  const Clock& clock = SystemClock::Get();
  const absl::Time begin = clock.Now(), wall = absl::Now();
  absl::Time last = begin;
  bool forwards = true;
  while (absl::Now() - wall < absl::Milliseconds(20) && clock.Now() - begin < absl::Seconds(1)) {
    const absl::Time now = clock.Now();
    forwards = forwards && now >= last;
    last = now;
  }
  if (!forwards) out.push_back({"clocks", Finding::kFault, "the monotonic clock goes backwards"});
}

void ExamineCpu(Findings& out) {
  std::vector<std::string> sets;
  for (const CpuKernelSpeed& set : CpuKernelSpeeds()) {
    if (set.agrees) {
      sets.push_back(absl::StrCat(set.name, " ", std::llround(set.plain_gops)));
    } else {
      out.push_back({"cpu", Finding::kWarning,
                     absl::StrCat(set.name, " failed its self-test and is not used")});
    }
  }
  out.push_back(
      {"cpu", sets.empty() ? Finding::kFault : Finding::kOk,
       absl::StrCat(AllowedCpus(), " CPUs; GOP/s of one thread: ", absl::StrJoin(sets, ", "))});
  if (!CpuHasAvx512Vnni() && !CpuHasAvxVnni()) {
    out.push_back({"cpu", Finding::kWarning,
                   "no products of bytes (VNNI): quantized models are slower than they could be"});
  }
}

void ExamineMemory(const ServerConfig& config, Findings& out) {
  if (config.models.empty()) return;
  setenv("HF_HUB_OFFLINE", "1", 1);  // nothing is downloaded to be examined
  WorkerPool pool(AllowedCpus());
  const int64_t allowed = AllowedMemory();
  int64_t host = 0;
  bool complete = true;
  for (const auto& [name, entry] : config.models) {
    const absl::StatusOr<MemoryPlan> plan = PlanInstance(entry, &pool, 0);
    if (!plan.ok()) {
      complete = false;
      const bool absent = absl::IsNotFound(plan.status()) || absl::IsUnavailable(plan.status());
      out.push_back({"memory", absent ? Finding::kUnknown : Finding::kFault,
                     absl::StrCat("models.", name, ": ", ToAbsl(Message(plan.status())))});
      continue;
    }
    if (plan->device == "cpu") host += plan->total();
    if (!plan->note.empty()) {
      out.push_back({"device", Finding::kWarning, absl::StrCat("models.", name, ": ", plan->note)});
    }
    if (!plan->absent.ok()) {  // as serve says it
      complete = false;
      out.push_back({"device", Finding::kFault,
                     absl::StrCat("models.", name, ": ", ToAbsl(Message(plan->absent)))});
      continue;
    }
    out.push_back(
        {"memory", Finding::kOk,
         absl::StrCat("models.", name, ": ", plan->total() / kMiB, " MiB of ", plan->device,
                      plan->ranks > 1 ? absl::StrCat(" in ", plan->ranks, " ranks") : "", ", ",
                      plan->sequences, " sequences of ", plan->max_len)});
  }
  Finding finding = Finding::kOk;
  if (host > allowed / 10 * 9) finding = Finding::kWarning;
  if (host > allowed) finding = Finding::kFault;
  out.push_back({"memory", finding,
                 absl::StrCat("models take ", complete ? "" : "at least ", host / kMiB, " of ",
                              allowed / kMiB, " MiB that this process may have")});
}

}  // namespace

std::string_view NameOf(Finding finding) {
  switch (finding) {
    case Finding::kOk:
      return "ok";
    case Finding::kWarning:
      return "warning";
    case Finding::kFault:
      return "fault";
    case Finding::kUnknown:
      return "unknown";
  }
  return "";
}

std::vector<Diagnosis> ExamineAll(const ServerConfig& config) {
  Findings out;
  ExamineCertificates(config, out);
  ExamineIssuers(config, out);
  ExamineState(config, out);
  ExamineLimits(config, out);
  ExamineClocks(out);
  ExamineCpu(out);
  ExamineMemory(config, out);
  return out;
}

}  // namespace penstock
