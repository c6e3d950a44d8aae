// Against tests/fakes/nvml_stand_in.c, which answers from a file.
#include "metrics/nvml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>

#include "absl/strings/str_cat.h"
#include "base/strings.h"
#include "fakes/temp_dir.h"
#include "metrics/catalogue.h"
#include "metrics/xid.h"

namespace penstock {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kFirst[] = "0000:3b:00.0", kSecond[] = "0000:d8:00.0";

/// index and uuid, without which a GPU is none.
std::string Named(const std::string& address, int index) {
  return absl::StrCat(address, " index ", index, "\n", address, " uuid GPU-", index, "\n");
}

class Nvml : public ::testing::Test {
 protected:
  Nvml() { setenv("NVML_SCRIPT", script_.c_str(), 1); }

  void Say(const std::string& script) { std::ofstream(script_) << script; }

  std::unique_ptr<NvmlReader> Open(const std::vector<std::string>& gpus = {kFirst}) {
    auto reader = NvmlReader::Open(gpus, NVML_STAND_IN);
    EXPECT_TRUE(reader.ok()) << reader.status();
    return reader.ok() ? *std::move(reader) : nullptr;
  }

  /// "metric kind" -> value.
  static std::map<std::string, double> Told(const GpuFigures& gpu) {
    std::map<std::string, double> out;
    for (const GpuSample& sample : gpu.samples) {
      const std::string key =
          absl::StrCat(ToAbsl(sample.metric), sample.kind.empty() ? "" : " ", ToAbsl(sample.kind));
      EXPECT_TRUE(out.emplace(key, sample.value).second) << key << " is told twice";
    }
    return out;
  }

  TempDir folder_;
  const std::string script_ = folder_.path() + "/script";
};

TEST_F(Nvml, EverythingInItsUnit) {
  Say(Named(kFirst, 5) +
      "driver version 580.1\n"
      "0000:3b:00.0 name NVIDIA H100\n"
      "0000:3b:00.0 utilization 87 41\n"
      "0000:3b:00.0 memory 85899345920 75161927680 10737418240\n"  // total, free, used
      "0000:3b:00.0 temperature 64\n"
      "0000:3b:00.0 power 512345\n"
      "0000:3b:00.0 power_limit 700000\n"
      "0000:3b:00.0 energy 12345678901234\n"
      "0000:3b:00.0 sm_clock 1980\n"
      "0000:3b:00.0 memory_clock 2619\n"
      "0000:3b:00.0 throttle 69\n"  // idle, a limit of power, heat by hardware
      "0000:3b:00.0 corrected 3\n"
      "0000:3b:00.0 uncorrected 1\n"
      "0000:3b:00.0 remapped 2 1 1 0\n"
      "0000:3b:00.0 xids 31 48\n");
  const std::vector<GpuFigures> gpus = Open()->Read();
  ASSERT_EQ(gpus.size(), 1u);
  EXPECT_TRUE(gpus[0].up);
  EXPECT_EQ(gpus[0].index, "5");
  EXPECT_EQ(gpus[0].uuid, "GPU-5");
  EXPECT_EQ(gpus[0].name, "NVIDIA H100");
  EXPECT_EQ(gpus[0].driver, "580.1");
  EXPECT_EQ(gpus[0].pci_address, kFirst);
  const std::map<std::string, double> expected = {
      {"penstock_gpu_utilization_ratio", 0.87},
      {"penstock_gpu_memory_busy_ratio", 0.41},
      {"penstock_gpu_memory_used_bytes", 10737418240.0},
      {"penstock_gpu_memory_total_bytes", 85899345920.0},
      {"penstock_gpu_temperature_celsius", 64},
      {"penstock_gpu_power_watts", 512.345},
      {"penstock_gpu_power_limit_watts", 700},
      {"penstock_gpu_energy_joules_total", 12345678901.234},
      {"penstock_gpu_clock_hertz sm", 1.98e9},
      {"penstock_gpu_clock_hertz memory", 2.619e9},
      {"penstock_gpu_throttled power_cap", 1},
      {"penstock_gpu_throttled hw_slowdown", 0},
      {"penstock_gpu_throttled sync_boost", 0},
      {"penstock_gpu_throttled sw_thermal", 0},
      {"penstock_gpu_throttled hw_thermal", 1},
      {"penstock_gpu_throttled hw_power_brake", 0},
      {"penstock_gpu_ecc_errors_total corrected", 3},
      {"penstock_gpu_ecc_errors_total uncorrected", 1},
      {"penstock_gpu_row_remap pending", 1},
      {"penstock_gpu_row_remap failed", 0},
      {"penstock_gpu_xid_errors_total", 2},
      {"penstock_gpu_last_xid", 48},
  };
  const std::map<std::string, double> told = Told(gpus[0]);
  ASSERT_EQ(told.size(), expected.size());
  for (const auto& [key, value] : expected) {
    ASSERT_TRUE(told.contains(key)) << key;
    EXPECT_NEAR(told.at(key), value, 1e-9 * value) << key;
  }
}

TEST_F(Nvml, WhatAGpuDoesNotTellIsLeftOut) {
  Say(Named(kFirst, 0) +
      "0000:3b:00.0 temperature 40\n"
      "0000:3b:00.0 power !4\n");  // no permission; all else is not supported
  const std::vector<GpuFigures> gpus = Open()->Read();
  EXPECT_TRUE(gpus[0].up);
  EXPECT_THAT(Told(gpus[0]), ElementsAre(std::pair("penstock_gpu_temperature_celsius", 40.0)));
}

TEST_F(Nvml, ALostGpuTellsNothingButItsFaults) {
  const std::string well = "0000:3b:00.0 temperature 40\n0000:3b:00.0 memory 10 8 2\n";
  Say(Named(kFirst, 0) + well + "0000:3b:00.0 xids 0\n");
  const auto reader = Open();
  EXPECT_EQ(Told(reader->Read()[0])["penstock_gpu_xid_errors_total"], 0);
  for (const char* code : {"!15", "!16"}) {  // lost; must be reset
    Say(Named(kFirst, 0) + "0000:3b:00.0 memory 10 8 2\n0000:3b:00.0 temperature " + code +
        "\n0000:3b:00.0 xids 79\n");
    const GpuFigures lost = reader->Read()[0];
    EXPECT_FALSE(lost.up);
    EXPECT_EQ(lost.uuid, "GPU-0");
    EXPECT_THAT(Told(lost), ElementsAre(std::pair("penstock_gpu_last_xid", 79.0),
                                        std::pair("penstock_gpu_xid_errors_total", 1.0)));
  }
  Say(Named(kFirst, 0) + well);
  EXPECT_TRUE(reader->Read()[0].up);  // it has been reset
}

TEST_F(Nvml, FaultsAreCountedForTheGpuThatHasThem) {
  Say(Named(kFirst, 0) + Named(kSecond, 1) + "0000:3b:00.0 xids 0\n0000:d8:00.0 xids 0\n");
  const auto reader = Open({kFirst, kSecond});
  reader->Read();
  Say(Named(kFirst, 0) + Named(kSecond, 1) + "0000:3b:00.0 xids 0\n0000:d8:00.0 xids 13 63\n");
  const std::vector<GpuFigures> gpus = reader->Read();
  ASSERT_EQ(gpus.size(), 2u);
  EXPECT_EQ(Told(gpus[0])["penstock_gpu_xid_errors_total"], 0);
  EXPECT_EQ(Told(gpus[1])["penstock_gpu_xid_errors_total"], 2);
  EXPECT_EQ(Told(gpus[1])["penstock_gpu_last_xid"], 63);
}

TEST_F(Nvml, EveryNewFaultIsToldOnce) {
  Say(Named(kFirst, 0) + Named(kSecond, 1) + "0000:3b:00.0 xids 0\n0000:d8:00.0 xids 0\n");
  std::vector<std::string> told;
  const auto reader = NvmlReader::Open(
      {kFirst, kSecond}, NVML_STAND_IN, [&](const GpuFigures& gpu, int64_t xid, int64_t times) {
        told.push_back(absl::StrCat(gpu.uuid, " ", xid, " x", times));
      });
  ASSERT_TRUE(reader.ok()) << reader.status();
  (*reader)->Read();
  EXPECT_THAT(told, ElementsAre());
  Say(Named(kFirst, 0) + Named(kSecond, 1) + "0000:3b:00.0 xids 79\n0000:d8:00.0 xids 13 63 13\n");
  (*reader)->Read();
  EXPECT_THAT(told, ElementsAre("GPU-0 79 x1", "GPU-1 13 x2", "GPU-1 63 x1"));
  (*reader)->Read();
  EXPECT_EQ(told.size(), 3u);
}

TEST(Xid, SaysWhatToDo) {
  EXPECT_EQ(MeaningOfXid(79).what, "the GPU has fallen off its bus");
  EXPECT_THAT(std::string(MeaningOfXid(79).what_to_do), HasSubstr("start the machine again"));
  EXPECT_THAT(std::string(MeaningOfXid(64).what_to_do), HasSubstr("replace the GPU"));
  EXPECT_THAT(std::string(MeaningOfXid(12345).what_to_do), HasSubstr("NVIDIA's list"));
}

TEST_F(Nvml, SaysWhatKeepsItFromReading) {
  const auto none = NvmlReader::Open({kFirst}, "/nowhere/libnvidia-ml.so.1");
  EXPECT_EQ(none.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(none.status().message(), HasSubstr("/nowhere/libnvidia-ml.so.1"));
  const auto other = NvmlReader::Open({kFirst}, "libm.so.6");
  EXPECT_THAT(other.status().message(), HasSubstr("libm.so.6 has no nvmlInit_v2"));
  Say("driver init !9\n");
  const auto unloaded = NvmlReader::Open({kFirst}, NVML_STAND_IN);
  EXPECT_EQ(unloaded.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(unloaded.status().message(), HasSubstr("stand-in error 9"));
  Say(Named(kSecond, 1));
  const auto unknown = NvmlReader::Open({kFirst}, NVML_STAND_IN);
  EXPECT_THAT(unknown.status().message(), AllOf(HasSubstr(kFirst), HasSubstr("stand-in error 6")));
  const auto reader = Open({kFirst, kSecond});  // one is enough
  EXPECT_THAT(reader->note(), AllOf(HasSubstr(kFirst), Not(HasSubstr(kSecond))));
  ASSERT_EQ(reader->Read().size(), 1u);
  EXPECT_EQ(reader->Read()[0].index, "1");
}

TEST(GpuFamilies, ALabelOfItsOwnForEachKindAndTheTypeOfTheRow) {
  Catalogue catalogue("1");
  GpuFigures gpu{"3", "GPU-x", "H100", kFirst, "580.1", true, {}};
  gpu.samples = {{"penstock_gpu_throttled", "hw_thermal", 1},
                 {"penstock_gpu_energy_joules_total", "", 7}};
  catalogue.SetGpus([&] { return std::vector<GpuFigures>{gpu}; });
  std::string text = catalogue.Text();
  EXPECT_THAT(text, HasSubstr("penstock_gpu_up{gpu=\"3\",uuid=\"GPU-x\"} 1\n"));
  EXPECT_THAT(text,
              HasSubstr("penstock_gpu_info{gpu=\"3\",uuid=\"GPU-x\",name=\"H100\",pci_address="
                        "\"0000:3b:00.0\",driver=\"580.1\"} 1\n"));
  EXPECT_THAT(
      text,
      HasSubstr("penstock_gpu_throttled{gpu=\"3\",uuid=\"GPU-x\",reason=\"hw_thermal\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE penstock_gpu_energy_joules_total counter\n"
                              "penstock_gpu_energy_joules_total{gpu=\"3\",uuid=\"GPU-x\"} 7\n"));
  EXPECT_THAT(text, Not(HasSubstr("penstock_gpu_temperature_celsius")));
  gpu = {"3", "GPU-x", "H100", kFirst, "580.1", false, {}};
  text = catalogue.Text();
  EXPECT_THAT(text, HasSubstr("penstock_gpu_up{gpu=\"3\",uuid=\"GPU-x\"} 0\n"));
  EXPECT_THAT(text, Not(HasSubstr("penstock_gpu_throttled")));
}

TEST(GpuFamilies, WithoutGpusThereIsNone) {
  Catalogue catalogue("1");
  EXPECT_THAT(catalogue.Text(), Not(HasSubstr("penstock_gpu_")));
  catalogue.SetGpus([] { return std::vector<GpuFigures>(); });
  EXPECT_THAT(catalogue.Text(), Not(HasSubstr("penstock_gpu_")));
}

}  // namespace
}  // namespace penstock
