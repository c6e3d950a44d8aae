#include "backend/cuda/cublaslt.h"

#if !defined(PENSTOCK_EMULATE)
#include <cublasLt.h>
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#endif

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"

namespace penstock::PENSTOCK_KERNELS {

namespace {

constexpr uint32_t kLibraryAlign = 16;  // bytes, of every matrix and row

}  // namespace

bool CublasLt::CanDo(const GemmArgs& a) {
  return !a.has_codes && (a.element == Element::kBFloat16 || a.element == Element::kFloat16) &&
         a.bias == nullptr && a.w_scales == nullptr && a.scale == 1.0f && a.soft_cap == 0.0f &&
         (a.y_element == a.element || a.y_element == Element::kFloat32) &&
         reinterpret_cast<uintptr_t>(a.y) % kLibraryAlign == 0 &&
         a.y_stride * (a.y_element == Element::kFloat32 ? 4 : 2) % kLibraryAlign == 0;
}

std::string WithoutCublasLt(const absl::Status& why) {
  return absl::StrCat("cuBLASLt: ", why.message(),
                      "; prompts are multiplied by slower kernels of our own");
}

#if defined(PENSTOCK_EMULATE)

std::vector<std::string> CublasLt::Places() { return {}; }

absl::StatusOr<std::unique_ptr<CublasLt>> CublasLt::Load(const std::vector<std::string>&) {
  return absl::NotFoundError("the emulator has no library");
}

#else

namespace {

/// The functions, as the header declares them.
struct CublasLtFunctions {
#define PENSTOCK_EACH_CUBLASLT(Each)                                                         \
  Each(Create) Each(Destroy) Each(GetVersion) Each(MatmulDescCreate) Each(MatmulDescDestroy) \
      Each(MatmulDescSetAttribute) Each(MatrixLayoutCreate) Each(MatrixLayoutDestroy)        \
          Each(MatmulPreferenceCreate) Each(MatmulPreferenceDestroy)                         \
              Each(MatmulPreferenceSetAttribute) Each(MatmulAlgoGetHeuristic) Each(Matmul)
#define PENSTOCK_DECLARE(Name) decltype(&cublasLt##Name) Name = nullptr;
  PENSTOCK_EACH_CUBLASLT(PENSTOCK_DECLARE)
#undef PENSTOCK_DECLARE

  /// What the library lacks; empty: nothing.
  std::string Find(void* library) {
    std::string missing;
#define PENSTOCK_FIND(Name)                                                               \
  Name = reinterpret_cast<decltype(&cublasLt##Name)>(::dlsym(library, "cublasLt" #Name)); \
  if (Name == nullptr && missing.empty()) missing = "cublasLt" #Name;
    PENSTOCK_EACH_CUBLASLT(PENSTOCK_FIND)
#undef PENSTOCK_FIND
    return missing;
  }
};

cudaError_t Said(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return cudaSuccess;
    case CUBLAS_STATUS_NOT_SUPPORTED:
    case CUBLAS_STATUS_INVALID_VALUE:
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return cudaErrorInvalidValue;
    default:
      return cudaErrorUnknown;
  }
}

cudaDataType_t TypeOfElement(Element element) {
  return element == Element::kBFloat16  ? CUDA_R_16BF
         : element == Element::kFloat16 ? CUDA_R_16F
                                        : CUDA_R_32F;
}

class LoadedCublasLt final : public CublasLt {
 public:
  LoadedCublasLt(CublasLtFunctions functions, cublasLtHandle_t handle)
      : f_(functions),
        handle_(handle),
        version_(absl::StrCat("cublasLt ", static_cast<int64_t>(f_.GetVersion()))) {}
  ~LoadedCublasLt() override { f_.Destroy(handle_); }

  const std::string& version() const override { return version_; }

  std::vector<LibraryAlgorithm> Candidates(const GemmArgs& a, size_t workspace_bytes,
                                           int most) override {
    std::vector<LibraryAlgorithm> found;
    Described d(f_, a);
    cublasLtMatmulPreference_t wish = nullptr;
    if (!d.ok || f_.MatmulPreferenceCreate(&wish) != CUBLAS_STATUS_SUCCESS) return found;
    f_.MatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                    &workspace_bytes, sizeof workspace_bytes);
    for (const cublasLtMatmulPreferenceAttributes_t matrix :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      f_.MatmulPreferenceSetAttribute(wish, matrix, &kLibraryAlign, sizeof kLibraryAlign);
    }
    std::vector<cublasLtMatmulHeuristicResult_t> results(most);
    int count = 0;
    if (f_.MatmulAlgoGetHeuristic(handle_, d.product, d.w, d.x, d.y, d.y, wish, most,
                                  results.data(), &count) != CUBLAS_STATUS_SUCCESS) {
      count = 0;
    }
    f_.MatmulPreferenceDestroy(wish);
    for (int i = 0; i < count; ++i) {
      if (results[i].state != CUBLAS_STATUS_SUCCESS) continue;
      LibraryAlgorithm& algorithm = found.emplace_back();
      static_assert(sizeof algorithm == sizeof results[i].algo);
      std::memcpy(algorithm.data(), &results[i].algo, sizeof algorithm);
    }
    return found;
  }

  cudaError_t Multiply(const GemmArgs& a, const LibraryAlgorithm& algorithm, void* workspace,
                       size_t workspace_bytes, cudaStream_t stream) override {
    Described d(f_, a);
    if (!d.ok) return cudaErrorInvalidValue;
    cublasLtMatmulAlgo_t algo;
    std::memcpy(&algo, algorithm.data(), sizeof algo);
    const float one = 1.0f;
    const float beta = a.accumulate ? 1.0f : 0.0f;
    return Said(f_.Matmul(handle_, d.product, &one, a.w, d.w, a.x, d.x, &beta, a.y, d.y, a.y, d.y,
                          &algo, workspace, workspace_bytes, stream));
  }

 private:
  /// y^T [n, m] = (w^T)^T [n, k] x^T [k, m] of matrices by columns, which ours by rows are.
  struct Described {
    Described(const CublasLtFunctions& functions, const GemmArgs& a) : f(functions) {
      const cublasOperation_t transposed = CUBLAS_OP_T;
      const int64_t w_stride = PlainRowBytes(a.k, 2) / 2;
      const cudaDataType_t in = TypeOfElement(a.element);
      ok = f.MatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
           f.MatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                    sizeof transposed) == CUBLAS_STATUS_SUCCESS &&
           f.MatrixLayoutCreate(&w, in, a.k, a.n, w_stride) == CUBLAS_STATUS_SUCCESS &&
           f.MatrixLayoutCreate(&x, in, a.k, a.m, a.x_stride) == CUBLAS_STATUS_SUCCESS &&
           f.MatrixLayoutCreate(&y, TypeOfElement(a.y_element), a.n, a.m, a.y_stride) ==
               CUBLAS_STATUS_SUCCESS;
    }
    ~Described() {
      for (cublasLtMatrixLayout_t layout : {w, x, y}) {
        if (layout != nullptr) f.MatrixLayoutDestroy(layout);
      }
      if (product != nullptr) f.MatmulDescDestroy(product);
    }
    Described(const Described&) = delete;

    const CublasLtFunctions& f;
    cublasLtMatmulDesc_t product = nullptr;
    cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
    bool ok = false;
  };

  CublasLtFunctions f_;
  cublasLtHandle_t handle_;
  std::string version_;
};

}  // namespace

std::vector<std::string> CublasLt::Places() {
  const std::string name = absl::StrCat("libcublasLt.so.", CUBLAS_VER_MAJOR);
  std::vector<std::string> places;
  const char* asked = std::getenv("PENSTOCK_CUDA_LIBDIR");
  if (asked != nullptr && *asked != '\0') places.push_back(absl::StrCat(asked, "/", name));
  places.push_back(name);
  places.push_back(absl::StrCat("/usr/local/cuda/lib64/", name));
  return places;
}

absl::StatusOr<std::unique_ptr<CublasLt>> CublasLt::Load(const std::vector<std::string>& places) {
  void* library = nullptr;
  std::string name;
  for (const std::string& place : places) {
    name = place;
    library = ::dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);  // stays loaded
    if (library != nullptr) break;
  }
  if (library == nullptr) {
    return absl::NotFoundError(absl::StrCat("not found as ", absl::StrJoin(places, ", "),
                                            " (PENSTOCK_CUDA_LIBDIR names a folder to look in)"));
  }
  CublasLtFunctions functions;
  const std::string missing = functions.Find(library);
  if (!missing.empty()) return absl::NotFoundError(absl::StrCat(name, " has no ", missing));
  cublasLtHandle_t handle = nullptr;
  const cublasStatus_t made = functions.Create(&handle);
  if (made != CUBLAS_STATUS_SUCCESS) {
    return absl::NotFoundError(
        absl::StrCat(name, " cannot be used: status ", static_cast<int>(made)));
  }
  return std::make_unique<LoadedCublasLt>(functions, handle);
}

#endif

}  // namespace penstock::PENSTOCK_KERNELS
