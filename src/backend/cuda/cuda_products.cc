#include "backend/cuda/cuda_products.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "backend/cuda/cuda_types.h"
#include "kernels/launch.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr size_t kLibraryWorkspace = size_t{64} << 20;
constexpr int kMostCandidates = 8;
constexpr int kTimedRuns = 5;
#if defined(PENSTOCK_EMULATE)
constexpr bool kCanMeasure = false;                    // the emulator's time says nothing
constexpr int64_t kExpandedBytes = int64_t{64} << 10;  // of numbers at a time
#else
constexpr bool kCanMeasure = true;
constexpr int64_t kExpandedBytes = int64_t{128} << 20;
#endif

/// A word for the form of a product's weights, inputs and results.
std::string FormOfProduct(const GemmArgs& a) {
  std::string form = a.element == Element::kBFloat16 ? "bf16" : "fp16";
  if (a.has_codes) {
    const CodeLayout& l = a.layout;
    absl::StrAppend(&form, l.floats ? "-floats" : "-codes", l.bits, "-", l.group,
                    l.offset_kind == ScaleKind::kNone ? "" : "-offsets");
  }
  if (a.y_element == Element::kFloat32) form += "-out32";
  if (a.bias != nullptr || a.scale != 1.0f || a.soft_cap != 0.0f) form += "-finished";
  return form;
}

bool NeedsLibrary(LinearPath path) {
  return path == LinearPath::kLibrary || path == LinearPath::kExpandLibrary;
}
bool Expands(LinearPath path) {
  return path == LinearPath::kExpand || path == LinearPath::kExpandLibrary;
}

/// The product of expanded rows [begin, begin + rows) of the weight, which lie at `numbers`.
GemmArgs OfExpanded(const GemmArgs& a, const void* numbers, int32_t begin, int32_t rows) {
  GemmArgs part = a;
  part.w = numbers;
  part.has_codes = false;
  part.w_scales = nullptr;  // the numbers have them
  part.n = rows;
  part.y = static_cast<std::byte*>(a.y) + begin * BytesOf(a.y_element);
  if (a.bias != nullptr) part.bias = a.bias + begin;
  return part;
}

std::string MachineOf(const CudaStream& stream, const std::string& library) {
  const cudaDeviceProp& gpu = stream.properties();
  return absl::StrCat(gpu.name, " ", gpu.multiProcessorCount, " SMs, ",
                      library.empty() ? "no library" : library);
}

}  // namespace

CudaProducts::CudaProducts(CudaStream* stream, const CudaOptions& options)
    : stream_(*stream),
      determinism_(options.determinism),
      at_once_(stream->properties().multiProcessorCount),
      table_("", "") {
  if (determinism_ != Determinism::kStrict) {
    absl::StatusOr<std::unique_ptr<CublasLt>> found = CublasLt::Load(CublasLt::Places());
    if (found.ok()) {
      library_ = *std::move(found);
      library_version_ = library_->version();
    } else if (kCanMeasure) {
      note_ = WithoutCublasLt(found.status());
    }
  }
  if (determinism_ == Determinism::kOff)
    table_ = LinearTable(options.tuning_folder, MachineOf(stream_, library_version_));
  stream_.Enqueue("timer", [&](cudaStream_t) {
    const cudaError_t error = cudaEventCreateWithFlags(&begin_, cudaEventDefault);
    return error != cudaSuccess ? error : cudaEventCreateWithFlags(&end_, cudaEventDefault);
  });
}

CudaProducts::~CudaProducts() {
  if (begin_ != nullptr) cudaEventDestroy(begin_);
  if (end_ != nullptr) cudaEventDestroy(end_);
}

void CudaProducts::Multiply(const GemmArgs& a) { Run(a, Choose(a)); }

bool CudaProducts::CanGo(const GemmArgs& a, LinearPath path) const {
  if (Expands(path) != a.has_codes && path != LinearPath::kBlocks) return false;
  if (!NeedsLibrary(path)) return true;
  GemmArgs numbers = Expands(path) ? OfExpanded(a, a.w, 0, a.n) : a;
  return library_ != nullptr && CublasLt::CanDo(numbers);
}

std::vector<LinearChoice> CudaProducts::Candidates(const GemmArgs& a) {
  std::vector<LinearChoice> all;
  const LinearPath by_library = a.has_codes ? LinearPath::kExpandLibrary : LinearPath::kLibrary;
  if (CanGo(a, by_library)) {
    const GemmArgs numbers = a.has_codes ? OfExpanded(a, a.w, 0, a.n) : a;
    for (const LibraryAlgorithm& algorithm :
         library_->Candidates(numbers, kLibraryWorkspace, kMostCandidates)) {
      all.push_back({by_library, algorithm});
    }
  }
  all.push_back({LinearPath::kBlocks});
  if (a.has_codes) all.push_back({LinearPath::kExpand});
  return all;
}

LinearChoice CudaProducts::Choose(const GemmArgs& a) {
  const int32_t bucket = BucketOfRows(a.m);
  // Few rows have one way, and sums of integers are the same on any: bits never depend on it.
  if (bucket == 0 || a.element == Element::kInt8 || determinism_ == Determinism::kStrict) return {};
  const LinearKey key{FormOfProduct(a), a.n, a.k, bucket};
  const std::optional<LinearChoice> known = table_.Find(key);
  if (known.has_value()) return CanGo(a, known->path) ? *known : LinearChoice{};
  if (!kCanMeasure) return {};
  const std::vector<LinearChoice> candidates = Candidates(a);
  LinearChoice best = candidates.front();
  if (determinism_ == Determinism::kOff) {
    double least = std::numeric_limits<double>::infinity();
    for (const LinearChoice& candidate : candidates) {
      const double us = Time(a, candidate);
      if (us >= least) continue;
      least = us;
      best = candidate;
    }
  }
  tried_ = Scratch();
  const absl::Status kept = table_.Set(key, best);
  if (!kept.ok()) note_ = std::string(kept.message());  // and measured again at the next start
  return best;
}

double CudaProducts::Time(const GemmArgs& a, const LinearChoice& choice) {
  GemmArgs tried = a;
  tried.y_stride = a.n;
  tried.y = tried_.Get(stream_, static_cast<size_t>(int64_t{a.m} * a.n * BytesOf(a.y_element)));
  if (!stream_.ok()) return 0;
  Run(tried, choice);
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kTimedRuns && stream_.ok(); ++i) {
    stream_.Enqueue("timer", [&](cudaStream_t s) { return cudaEventRecord(begin_, s); });
    Run(tried, choice);
    float ms = 0;
    stream_.Enqueue("timer", [&](cudaStream_t s) {
      cudaError_t error = cudaEventRecord(end_, s);
      if (error == cudaSuccess) error = cudaEventSynchronize(end_);
      return error != cudaSuccess ? error : cudaEventElapsedTime(&ms, begin_, end_);
    });
    best = std::min(best, 1e3 * ms);
  }
  return best;
}

void CudaProducts::Run(const GemmArgs& a, const LinearChoice& choice) {
  switch (choice.path) {
    case LinearPath::kBlocks:
      return RunBlocks(a);
    case LinearPath::kLibrary:
      if (!RunLibrary(a, choice.algorithm)) RunBlocks(a);
      return;
    case LinearPath::kExpand:
    case LinearPath::kExpandLibrary:
      return RunExpanded(a, choice);
  }
}

void CudaProducts::RunBlocks(GemmArgs a) {
  a.work.at_once = at_once_;
  a.work.partials = partials_.Get(stream_, GemmPartialBytes(at_once_));
  a.work.arrived = arrived_.Of<int32_t>(stream_, static_cast<int64_t>(GemmCounters(a.n)));
  stream_.Enqueue("gemm", [&](cudaStream_t stream) { return LaunchGemm(a, stream); });
}

bool CudaProducts::RunLibrary(const GemmArgs& a, const LibraryAlgorithm& algorithm) {
  bool refused = false;
  void* workspace = workspace_.Get(stream_, kLibraryWorkspace);
  stream_.Enqueue("cublasLt", [&](cudaStream_t stream) {
    const cudaError_t error =
        library_->Multiply(a, algorithm, workspace, kLibraryWorkspace, stream);
    refused = error == cudaErrorInvalidValue;
    return refused ? cudaSuccess : error;
  });
  return !refused;
}

void CudaProducts::RunExpanded(const GemmArgs& a, const LinearChoice& choice) {
  const int64_t row_bytes = PlainRowBytes(a.k, 2);
  const int64_t tiles = (a.n + kTileRows - 1) / kTileRows;
  const auto slab = static_cast<int32_t>(
      kTileRows * std::clamp<int64_t>(kExpandedBytes / (row_bytes * kTileRows), 1, tiles));
  void* numbers = expanded_.Get(stream_, static_cast<size_t>(slab * row_bytes));
  for (int32_t begin = 0; begin < a.n; begin += slab) {
    DequantArgs d;
    d.codes = a.w;
    d.layout = a.layout;
    d.row_scales = a.w_scales;
    d.y = numbers;
    d.y_stride = row_bytes / 2;
    d.row_begin = begin;
    d.num_rows = std::min(slab, a.n - begin);
    d.k = a.k;
    d.element = a.element;
    stream_.Enqueue("expand", [&](cudaStream_t stream) { return LaunchDequant(d, stream); });
    const GemmArgs part = OfExpanded(a, numbers, begin, d.num_rows);
    if (choice.path == LinearPath::kExpandLibrary && RunLibrary(part, choice.algorithm)) continue;
    stream_.Fence();  // our own product reads weights before it waits for the kernel before it
    RunBlocks(part);
  }
}

}  // namespace penstock::PENSTOCK_KERNELS
