#include "model/tensor_source.h"

#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/half.h"
#include "base/status_macros.h"
#include "model/quantized_tensors.h"

namespace penstock {
namespace {

class FileSource final : public TensorSource {
 public:
  FileSource(Safetensors files, QuantizationConfig quantization)
      : files_(std::make_shared<Safetensors>(std::move(files))),
        quantization_(std::move(quantization)) {}

  ~FileSource() override {
    files_->KeepForUse();
  }  // weights are packed by now; a table that stays is read again

  bool Has(const std::string& name) const override { return files_->Find(name) != nullptr; }

  std::vector<StoredTensor> Stored() const override {
    std::vector<StoredTensor> stored;
    for (const auto& [name, entry] : files_->entries())
      stored.push_back({name, entry.data, entry.found});
    return stored;
  }

  std::vector<std::string> Files() const override { return files_->paths(); }
  absl::Status Intact() const override { return files_->Intact(); }

  absl::StatusOr<HostTensor> Get(const std::string& name,
                                 absl::Span<const int64_t> shape) override {
    const SafetensorsEntry* entry = files_->Find(name);
    if (entry == nullptr) {
      return absl::NotFoundError(absl::StrCat(absl::StrJoin(files_->paths(), ", "), ": tensor \"",
                                              name, "\" is missing, expected with shape [",
                                              absl::StrJoin(shape, ", "), "]"));
    }
    const std::string& path = files_->paths()[entry->file];
    if (absl::MakeConstSpan(entry->shape) != shape) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": tensor \"", name, "\" has shape [", absl::StrJoin(entry->shape, ", "),
          "], config.json asks for [", absl::StrJoin(shape, ", "), "]"));
    }
    if (entry->dtype != DType::kFloat32 && entry->dtype != DType::kFloat16 &&
        entry->dtype != DType::kBFloat16) {
      const std::string_view got = DTypeName(entry->dtype);
      return absl::InvalidArgumentError(absl::StrCat(path, ": tensor \"", name, "\" is ",
                                                     absl::string_view(got.data(), got.size()),
                                                     ", expected float32, float16 or bfloat16"));
    }
    return HostTensor{entry->dtype, entry->shape, entry->data.data(), files_};
  }

  absl::StatusOr<HostLinear> FindLinear(const std::string& name, absl::Span<const int64_t> shape,
                                        int64_t expert) override {
    HostLinear linear;
    ASSIGN_OR_RETURN(linear.codes, FindQuantized(files_, quantization_, name, shape, expert));
    if (linear.codes != nullptr) return linear;
    return FindPlain(name, shape, expert);
  }

 private:
  std::shared_ptr<Safetensors> files_;
  QuantizationConfig quantization_;
};

uint64_t Fnv1a64(const std::string& s) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : s) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return h;
}

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class FormulaSource final : public TensorSource {
 public:
  bool Has(const std::string&) const override { return true; }

  absl::StatusOr<HostTensor> Get(const std::string& name,
                                 absl::Span<const int64_t> shape) override {
    int64_t size = 1;
    for (const int64_t dim : shape) {
      if (__builtin_mul_overflow(size, dim, &size) || size > (int64_t{1} << 40)) {
        return absl::InvalidArgumentError(absl::StrCat("tensor \"", name, "\" is too large"));
      }
    }
    auto values = std::make_shared<std::vector<uint16_t>>(size);
    const bool norm = absl::EndsWith(name, "norm.weight");
    const float scale = std::sqrt(3.0f / static_cast<float>(shape.back()));
    const uint64_t base = Fnv1a64(name);
    for (int64_t i = 0; i < size; ++i) {
      const uint64_t x = Mix(base + static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15u);
      const float u = static_cast<float>(x >> 40) * 0x1p-23f - 1.0f;
      (*values)[i] = FloatToBf16(norm ? 1.0f + u / 8.0f : u * scale);
    }
    return HostTensor{DType::kBFloat16, {shape.begin(), shape.end()}, values->data(), values};
  }
};

}  // namespace

absl::StatusOr<HostLinear> TensorSource::FindLinear(const std::string& name,
                                                    absl::Span<const int64_t> shape,
                                                    int64_t expert) {
  return FindPlain(name, shape, expert);
}

absl::StatusOr<HostLinear> TensorSource::FindPlain(const std::string& name,
                                                   absl::Span<const int64_t> shape,
                                                   int64_t expert) {
  const bool bare = expert >= 0 && Has(name);
  HostLinear linear;
  ASSIGN_OR_RETURN(linear.plain, Get(bare ? name : absl::StrCat(name, ".weight"), shape));
  if (expert < 0) return linear;
  HostTensor& t = linear.plain;
  t.shape = {shape[1], shape[2]};
  t.data = static_cast<const char*>(t.data) +
           expert * shape[1] * shape[2] * static_cast<int64_t>(DTypeSize(t.dtype));
  return linear;
}

absl::StatusOr<std::unique_ptr<TensorSource>> MakeFileSource(const std::string& dir,
                                                             QuantizationConfig quantization) {
  ASSIGN_OR_RETURN(Safetensors files, Safetensors::OpenModel(dir));
  return std::make_unique<FileSource>(std::move(files), std::move(quantization));
}

std::unique_ptr<TensorSource> MakeFormulaSource() { return std::make_unique<FormulaSource>(); }

}  // namespace penstock
