// A GGUF file's tensors under the names, in the shapes and in the order of rows of the family's
// checkpoint on the hub: undoes what conversion did.
// Owns the mapping. Must not know what a tensor is for.
// Threads: confined to the loading thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "format/gguf.h"
#include "model/gguf_architecture.h"
#include "model/gguf_names.h"
#include "model/tensor_source.h"

namespace penstock {

class GgufSource final : public TensorSource {
 public:
  /// UNIMPLEMENTED where the architecture is not known.
  static absl::StatusOr<std::unique_ptr<GgufSource>> Make(std::shared_ptr<const Gguf> file);
  ~GgufSource() override;

  /// False for the weights of stacked experts, which are layers to FindLinear only.
  bool Has(const std::string& name) const override;
  std::vector<std::string> Files() const override { return file_->paths(); }
  /// Quantised tensors as float32.
  absl::StatusOr<HostTensor> Get(const std::string& name, absl::Span<const int64_t> shape) override;
  /// Quantised layers as codes, in no more memory than the file's.
  absl::StatusOr<HostLinear> FindLinear(const std::string& name, absl::Span<const int64_t> shape,
                                        int64_t expert) override;

 private:
  struct Matrix;

  GgufSource(std::shared_ptr<const Gguf> file, const GgufArchitecture& arch, int64_t num_heads,
             int64_t num_kv_heads)
      : file_(std::move(file)), arch_(arch), num_heads_(num_heads), num_kv_heads_(num_kv_heads) {}

  absl::Status Problem(const GgufTensor* tensor, const std::string& name,
                       const std::string& problem) const;
  absl::StatusOr<const GgufTensor*> Tensor(const std::string& name,
                                           absl::Span<const int64_t> shape) const;
  absl::StatusOr<Matrix> Locate(const std::string& name, absl::Span<const int64_t> shape) const;
  absl::StatusOr<HostTensor> StackedBias(const GgufStack& stack,
                                         absl::Span<const int64_t> shape) const;
  HostTensor Plain(const Matrix& matrix, absl::Span<const int64_t> shape) const;

  std::shared_ptr<const Gguf> file_;
  GgufArchitecture arch_;
  int64_t num_heads_;
  int64_t num_kv_heads_;
};

}  // namespace penstock
