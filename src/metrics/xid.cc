#include "metrics/xid.h"

#include <algorithm>
#include <iterator>

namespace penstock {
namespace {

constexpr std::string_view kReport = "a program's fault: report it with this server's log";
constexpr std::string_view kReset =
    "drain this server and reset the GPU (nvidia-smi --gpu-reset); replace it where this comes "
    "again";
constexpr std::string_view kRestart =
    "drain and start this server again: it may have lost its memory's content";
constexpr std::string_view kReplace = "replace the GPU";
constexpr std::string_view kMachine =
    "start the machine again; look at seat, power and cooling, replace the GPU where this comes "
    "again";
constexpr std::string_view kDriver =
    "reset the GPU (nvidia-smi --gpu-reset), update the driver where this comes again";

struct KnownXid {
  int64_t number;
  XidMeaning meaning;
};
constexpr KnownXid kKnownXids[] = {
    {13, {"a kernel did what it may not", kReport}},
    {31, {"a kernel read or wrote where no memory is", kReport}},
    {43, {"the GPU has stopped a program", kReport}},
    {45, {"the driver has ended a program's work on the GPU", kReport}},
    {48, {"an error of two bits in the GPU's memory", kReset}},
    {61, {"the GPU's own controller has failed", kReset}},
    {62, {"the GPU's own controller has failed", kReset}},
    {63, {"a row of the GPU's memory is to be replaced by a spare one", kReset}},
    {64, {"a row of the GPU's memory could not be replaced", kReplace}},
    {74, {"an error of NVLink", kReset}},
    {79, {"the GPU has fallen off its bus", kMachine}},
    {92, {"many errors of one bit in the GPU's memory", kReset}},
    {94, {"an error of the GPU's memory, which one program has met", kRestart}},
    {95, {"an error of the GPU's memory, which any program may have met", kReset}},
    {119, {"the GPU's system processor does not answer", kDriver}},
    {120, {"the GPU's system processor has failed", kDriver}},
};

}  // namespace

XidMeaning MeaningOfXid(int64_t xid) {
  const auto* const found =
      std::find_if(std::begin(kKnownXids), std::end(kKnownXids),
                   [xid](const KnownXid& known) { return known.number == xid; });
  if (found != std::end(kKnownXids)) return found->meaning;
  return {"a fault of the driver", "look it up in NVIDIA's list of Xid errors"};
}

}  // namespace penstock
