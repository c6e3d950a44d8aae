// A device, timers on it, and the rows of figures that a run prints.
// Owns the device. Must not know what is measured.
// Threads: confined to the main thread.
#pragma once

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/cuda/cuda_device.h"
#include "base/worker_pool.h"

namespace penstock::PENSTOCK_KERNELS {

struct BenchOptions {
  std::string device = "cuda";
  std::string output;         // a file for JSON lines; empty: none
  std::string only;           // what a row's name has to contain
  std::string format_suffix;  // of every row's format
  Determinism determinism = Determinism::kOff;
  bool tiny = false;  // shapes for the emulator
  int warm_ups = 20;
  int samples = 50;
  double seconds = 1.0;  // of one row, at most
};

/// What one call moves and computes; pct_of... are of the larger share.
struct Work {
  double bytes = 0;
  double operations = 0;  // 2 for a multiply-add
  bool integers = false;  // of 8 bits, on tensor cores
};

class GpuBench {
 public:
  GpuBench(std::unique_ptr<CudaStream> stream, WorkerPool* pool, const BenchOptions& options);
  ~GpuBench();

  const BenchOptions& options() const { return options_; }
  CudaStream& stream() { return *stream_; }
  CudaDevice& device() { return *device_; }
  bool Wants(const std::string& name) const;
  /// Whether it wants some row of that name and format.
  bool WantsAny(const std::string& name, const std::string& format) const;

  /// Microseconds of one call, sorted: device time between two events around several of them.
  std::vector<double> Time(const std::function<void(int)>& call);
  /// A row: `call(i)` is the i-th of many; i is for buffers that are taken in turn.
  void Measure(const std::string& name, const std::string& shape, const std::string& format,
               const Work& work, const std::function<void(int)>& call);
  void MeasureCeilings();
  /// A row whose operations per second raise the ceiling of products that later rows are held to.
  void MeasureCeiling(const std::string& name, const std::string& shape, const std::string& format,
                      const Work& work, const std::function<void(int)>& call);
  /// Microseconds from one empty kernel to the next; on GPUs alone.
  void MeasureGaps();
  /// Products of integers for so long, a row for each second: what the clocks do under load.
  void Soak(double seconds);
  /// Zeroed memory that lives as long as the bench; the program ends where there is none.
  void* Room(size_t bytes);
  template <class T>
  T* RoomOf(int64_t count) {
    return static_cast<T*>(Room(static_cast<size_t>(count) * sizeof(T)));
  }
  void ForgetRoom() { room_.clear(); }
  bool ok();

 private:
  void Print(const std::string& line);
  std::vector<double> TimeProducts(bool integers, Work& work);
  void Report(const std::string& name, const std::string& shape, const std::string& format,
              const Work& work, const std::vector<double>& us);

  BenchOptions options_;
  CudaStream* stream_ = nullptr;
  std::unique_ptr<CudaDevice> device_;
  std::vector<DeviceBuffer> room_;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
  std::FILE* file_ = nullptr;
  double read_gbs_ = 0;       // measured
  double products_tops_ = 0;  // measured, bfloat16
  double integers_tops_ = 0;  // measured, int8
};

/// The operations of a step of a model of Llama 3.1 8B's shape; with `tiny`, of almost nothing.
void MeasureSquare(GpuBench& bench);  // the product of two large squares
void MeasureLinears(GpuBench& bench);
void MeasureLibraryLinears(GpuBench& bench);
void MeasureRows(GpuBench& bench);
void MeasureAttention(GpuBench& bench);
void MeasureSampling(GpuBench& bench);

}  // namespace penstock::PENSTOCK_KERNELS
