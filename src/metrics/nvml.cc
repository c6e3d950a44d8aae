#include "metrics/nvml.h"

#include <dlfcn.h>

#include <array>
#include <cstdint>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/strings.h"

namespace penstock {
namespace {

// What of the library's binary interface is used; functions of it that a driver may lack are null.
using NvmlCode = int;
using NvmlDevice = struct NvmlDeviceHandle*;
using NvmlEvents = struct NvmlEventsHandle*;

constexpr NvmlCode kNvmlSuccess = 0, kNvmlGpuIsLost = 15, kNvmlResetRequired = 16;
constexpr int kNvmlTemperatureOfGpu = 0, kNvmlSmClock = 1, kNvmlMemoryClock = 2;
constexpr int kNvmlCorrected = 0, kNvmlUncorrected = 1, kNvmlSinceDriver = 0;
constexpr unsigned long long kNvmlXidEvent = 8;
constexpr unsigned kNvmlTextBytes = 96;

struct NvmlUtilization {
  unsigned gpu = 0, memory = 0;  // percent of the last period that the driver has measured
};
struct NvmlMemory {
  unsigned long long total = 0, free = 0, used = 0;
};
struct NvmlEvent {
  NvmlDevice device = nullptr;
  unsigned long long type = 0, data = 0;
  unsigned gpu_instance = 0, compute_instance = 0;
};

struct NvmlFunctions {
  NvmlCode (*Init)() = nullptr;
  NvmlCode (*Shutdown)() = nullptr;
  const char* (*ErrorString)(NvmlCode) = nullptr;
  NvmlCode (*DriverVersion)(char*, unsigned) = nullptr;
  NvmlCode (*HandleByPciBusId)(const char*, NvmlDevice*) = nullptr;
  NvmlCode (*Index)(NvmlDevice, unsigned*) = nullptr;
  NvmlCode (*Uuid)(NvmlDevice, char*, unsigned) = nullptr;
  NvmlCode (*Name)(NvmlDevice, char*, unsigned) = nullptr;
  NvmlCode (*Utilization)(NvmlDevice, NvmlUtilization*) = nullptr;
  NvmlCode (*Memory)(NvmlDevice, NvmlMemory*) = nullptr;
  NvmlCode (*Temperature)(NvmlDevice, int, unsigned*) = nullptr;
  NvmlCode (*Power)(NvmlDevice, unsigned*) = nullptr;       // milliwatts
  NvmlCode (*PowerLimit)(NvmlDevice, unsigned*) = nullptr;  // milliwatts
  NvmlCode (*Energy)(NvmlDevice, unsigned long long*) = nullptr;
  NvmlCode (*Clock)(NvmlDevice, int, unsigned*) = nullptr;  // MHz
  NvmlCode (*Throttle)(NvmlDevice, unsigned long long*) = nullptr;
  NvmlCode (*EccErrors)(NvmlDevice, int, int, unsigned long long*) = nullptr;
  NvmlCode (*RemappedRows)(NvmlDevice, unsigned*, unsigned*, unsigned*, unsigned*) = nullptr;
  NvmlCode (*MakeEvents)(NvmlEvents*) = nullptr;
  NvmlCode (*FreeEvents)(NvmlEvents) = nullptr;
  NvmlCode (*RegisterEvents)(NvmlDevice, unsigned long long, NvmlEvents) = nullptr;
  NvmlCode (*WaitForEvent)(NvmlEvents, NvmlEvent*, unsigned) = nullptr;

  /// The name of a function that the library must have and has not; empty: it has all.
  std::string Find(void* library) {
    std::string missing;
    const auto find = [&](auto& function, const char* name, bool needed) {
      function =
          reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(library, name));
      if (needed && function == nullptr && missing.empty()) missing = name;
    };
    find(Init, "nvmlInit_v2", true);
    find(Shutdown, "nvmlShutdown", true);
    find(ErrorString, "nvmlErrorString", true);
    find(DriverVersion, "nvmlSystemGetDriverVersion", true);
    find(HandleByPciBusId, "nvmlDeviceGetHandleByPciBusId_v2", true);
    find(Index, "nvmlDeviceGetIndex", true);
    find(Uuid, "nvmlDeviceGetUUID", true);
    find(Name, "nvmlDeviceGetName", true);
    find(Utilization, "nvmlDeviceGetUtilizationRates", false);
    find(Memory, "nvmlDeviceGetMemoryInfo", false);
    find(Temperature, "nvmlDeviceGetTemperature", false);
    find(Power, "nvmlDeviceGetPowerUsage", false);
    find(PowerLimit, "nvmlDeviceGetEnforcedPowerLimit", false);
    find(Energy, "nvmlDeviceGetTotalEnergyConsumption", false);
    find(Clock, "nvmlDeviceGetClockInfo", false);
    find(Throttle, "nvmlDeviceGetCurrentClocksThrottleReasons", false);
    if (Throttle == nullptr) find(Throttle, "nvmlDeviceGetCurrentClocksEventReasons", false);
    find(EccErrors, "nvmlDeviceGetTotalEccErrors", false);
    find(RemappedRows, "nvmlDeviceGetRemappedRows", false);
    find(MakeEvents, "nvmlEventSetCreate", false);
    find(FreeEvents, "nvmlEventSetFree", false);
    find(RegisterEvents, "nvmlDeviceRegisterEvents", false);
    find(WaitForEvent, "nvmlEventSetWait_v2", false);
    return missing;
  }
};

// Why clocks are lower than they could be, of what is no wish of the operator's.
constexpr std::pair<unsigned long long, std::string_view> kThrottleReasons[] = {
    {0x04, "power_cap"},  {0x08, "hw_slowdown"}, {0x10, "sync_boost"},
    {0x20, "sw_thermal"}, {0x40, "hw_thermal"},  {0x80, "hw_power_brake"},
};

struct WatchedGpu {
  NvmlDevice device = nullptr;
  GpuFigures identity;
  bool tells_xids = false;
  double xids = 0, last_xid = 0;
};

class LoadedNvml final : public NvmlReader {
 public:
  LoadedNvml(const NvmlFunctions& functions, OnXid on_xid)
      : f_(functions), on_xid_(std::move(on_xid)) {}
  ~LoadedNvml() override {
    if (events_ != nullptr) f_.FreeEvents(events_);
    f_.Shutdown();
  }

  const std::string& note() const override { return note_; }

  absl::Status Watch(const std::vector<std::string>& pci_addresses) {
    char driver[kNvmlTextBytes] = "";
    f_.DriverVersion(driver, sizeof driver);
    if (f_.MakeEvents != nullptr && f_.FreeEvents != nullptr && f_.RegisterEvents != nullptr &&
        f_.WaitForEvent != nullptr && f_.MakeEvents(&events_) != kNvmlSuccess) {
      events_ = nullptr;
    }
    for (const std::string& address : pci_addresses) {
      WatchedGpu gpu;
      gpu.identity.driver = driver;
      gpu.identity.pci_address = address;
      const NvmlCode code = Identify(gpu);
      if (code == kNvmlSuccess) {
        gpu.tells_xids = events_ != nullptr &&
                         f_.RegisterEvents(gpu.device, kNvmlXidEvent, events_) == kNvmlSuccess;
        gpus_.push_back(std::move(gpu));
      } else {
        absl::StrAppend(&note_, note_.empty() ? "" : "; ", address, ": ", f_.ErrorString(code));
      }
    }
    return gpus_.empty() ? absl::UnavailableError(note_) : absl::OkStatus();
  }

  std::vector<GpuFigures> Read() override {
    ReadXids();
    for (const auto& [fault, times] : fresh_xids_) {
      if (on_xid_) on_xid_(gpus_[fault.first].identity, fault.second, times);
    }
    fresh_xids_.clear();
    std::vector<GpuFigures> out;
    for (WatchedGpu& gpu : gpus_) out.push_back(ReadOne(gpu));
    return out;
  }

 private:
  NvmlCode Identify(WatchedGpu& gpu) const {
    const NvmlCode found = f_.HandleByPciBusId(gpu.identity.pci_address.c_str(), &gpu.device);
    if (found != kNvmlSuccess) return found;
    unsigned index = 0;
    if (const NvmlCode code = f_.Index(gpu.device, &index); code != kNvmlSuccess) return code;
    gpu.identity.index = absl::StrCat(index);
    std::array<char, kNvmlTextBytes> text{};
    if (const NvmlCode code = f_.Uuid(gpu.device, text.data(), text.size()); code != kNvmlSuccess)
      return code;
    gpu.identity.uuid = text.data();
    if (f_.Name(gpu.device, text.data(), text.size()) == kNvmlSuccess)
      gpu.identity.name = text.data();
    return kNvmlSuccess;
  }

  void ReadXids() {
    constexpr int kMostAtOnce = 1000;  // of a driver that never ends to tell
    NvmlEvent event;
    for (int i = 0; events_ != nullptr && i < kMostAtOnce; ++i) {
      if (f_.WaitForEvent(events_, &event, 0) != kNvmlSuccess) return;
      for (size_t g = 0; g < gpus_.size(); ++g) {
        WatchedGpu& gpu = gpus_[g];
        if (gpu.device != event.device || event.type != kNvmlXidEvent) continue;
        ++fresh_xids_[{g, static_cast<int64_t>(event.data)}];
        gpu.xids += 1;
        gpu.last_xid = static_cast<double>(event.data);
      }
    }
  }

  GpuFigures ReadOne(const WatchedGpu& gpu) const {
    GpuFigures out = gpu.identity;
    bool lost = false;
    const auto ask = [&](auto function, auto... arguments) {
      if (lost || function == nullptr) return false;
      const NvmlCode code = function(gpu.device, arguments...);
      lost = code == kNvmlGpuIsLost || code == kNvmlResetRequired;
      return code == kNvmlSuccess;
    };
    const auto tell = [&](std::string_view metric, double value, std::string_view kind = "") {
      out.samples.push_back({metric, kind, value});
    };
    unsigned number = 0;
    unsigned long long large = 0;
    unsigned index = 0;
    ask(f_.Index, &index);  // every driver can tell; a lost GPU does not
    if (NvmlUtilization share; ask(f_.Utilization, &share)) {
      tell("penstock_gpu_utilization_ratio", share.gpu / 100.0);
      tell("penstock_gpu_memory_busy_ratio", share.memory / 100.0);
    }
    if (NvmlMemory memory; ask(f_.Memory, &memory)) {
      tell("penstock_gpu_memory_used_bytes", static_cast<double>(memory.used));
      tell("penstock_gpu_memory_total_bytes", static_cast<double>(memory.total));
    }
    if (ask(f_.Temperature, kNvmlTemperatureOfGpu, &number))
      tell("penstock_gpu_temperature_celsius", number);
    if (ask(f_.Power, &number)) tell("penstock_gpu_power_watts", number * 1e-3);
    if (ask(f_.PowerLimit, &number)) tell("penstock_gpu_power_limit_watts", number * 1e-3);
    if (ask(f_.Energy, &large))
      tell("penstock_gpu_energy_joules_total", static_cast<double>(large) * 1e-3);
    if (ask(f_.Clock, kNvmlSmClock, &number)) tell("penstock_gpu_clock_hertz", number * 1e6, "sm");
    if (ask(f_.Clock, kNvmlMemoryClock, &number))
      tell("penstock_gpu_clock_hertz", number * 1e6, "memory");
    if (ask(f_.Throttle, &large)) {
      for (const auto& [bit, reason] : kThrottleReasons)
        tell("penstock_gpu_throttled", (large & bit) != 0 ? 1 : 0, reason);
    }
    if (ask(f_.EccErrors, kNvmlCorrected, kNvmlSinceDriver, &large))
      tell("penstock_gpu_ecc_errors_total", static_cast<double>(large), "corrected");
    if (ask(f_.EccErrors, kNvmlUncorrected, kNvmlSinceDriver, &large))
      tell("penstock_gpu_ecc_errors_total", static_cast<double>(large), "uncorrected");
    unsigned corrected = 0, uncorrected = 0, pending = 0, failed = 0;
    if (ask(f_.RemappedRows, &corrected, &uncorrected, &pending, &failed)) {
      tell("penstock_gpu_row_remap", pending, "pending");
      tell("penstock_gpu_row_remap", failed, "failed");
    }
    if (lost) out.samples.clear();
    out.up = !lost;
    if (gpu.tells_xids) {  // also of one that is lost: it says why
      tell("penstock_gpu_xid_errors_total", gpu.xids);
      tell("penstock_gpu_last_xid", gpu.last_xid);
    }
    return out;
  }

  const NvmlFunctions f_;
  NvmlEvents events_ = nullptr;
  const OnXid on_xid_;
  std::vector<WatchedGpu> gpus_;
  std::map<std::pair<size_t, int64_t>, int64_t> fresh_xids_;  // (GPU, number) -> how often
  std::string note_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<NvmlReader>> NvmlReader::Open(
    const std::vector<std::string>& pci_addresses, const std::string& library, OnXid on_xid) {
  void* const handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);  // stays loaded
  if (handle == nullptr) return absl::NotFoundError(absl::StrCat("there is no ", library));
  NvmlFunctions functions;
  if (const std::string missing = functions.Find(handle); !missing.empty())
    return absl::NotFoundError(absl::StrCat(library, " has no ", missing));
  if (const NvmlCode code = functions.Init(); code != kNvmlSuccess)
    return absl::UnavailableError(absl::StrCat(library, ": ", functions.ErrorString(code)));
  auto reader = std::make_unique<LoadedNvml>(functions, std::move(on_xid));
  if (const absl::Status status = reader->Watch(pci_addresses); !status.ok())
    return absl::UnavailableError(absl::StrCat(library, ": ", status.message()));
  return reader;
}

}  // namespace penstock
