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
#include "model/gguf_rows.h"
#include "model/tensor_source.h"

namespace penstock {

class GgufSource final : public TensorSource {
 public:
  /// UNIMPLEMENTED where the architecture is not known.
  static absl::StatusOr<std::unique_ptr<GgufSource>> Make(std::shared_ptr<const Gguf> file);
  ~GgufSource() override;

  /// False for the weights of stacked experts, which are layers to FindLinear only.
  bool Has(const std::string& name) const override;
  std::vector<StoredTensor> Stored() const override;
  std::vector<std::string> Files() const override { return file_->paths(); }
  absl::Status Intact() const override { return file_->Intact(); }
  /// Quantised tensors as float32.
  absl::StatusOr<HostTensor> Get(const std::string& name, absl::Span<const int64_t> shape) override;
  /// Quantised layers as codes, in no more memory than the file's.
  absl::StatusOr<HostLinear> FindLinear(const std::string& name, absl::Span<const int64_t> shape,
                                        int64_t expert) override;
  bool keeps_in_out_order() const override { return false; }

 private:
  /// What the order of rows depends on; 0 where the architecture has no such heads.
  struct Heads {
    int64_t queries = 0;
    int64_t keys = 0;
    int64_t delta_keys = 0;
    int64_t delta_values = 0;
    int64_t delta_key_dim = 0;
    int64_t delta_value_dim = 0;
  };

  GgufSource(std::shared_ptr<const Gguf> file, const GgufArchitecture& arch, const Heads& heads)
      : file_(std::move(file)), arch_(arch), heads_(heads) {}
  static absl::StatusOr<Heads> ReadHeads(const Gguf& file, const GgufArchitecture& arch);

  absl::Status Problem(const GgufTensor* tensor, const std::string& name,
                       const std::string& problem) const;
  absl::StatusOr<const GgufTensor*> Tensor(const std::string& name,
                                           absl::Span<const int64_t> shape) const;
  absl::StatusOr<GgufRows> Locate(const std::string& name, absl::Span<const int64_t> shape) const;
  absl::Status SetOrder(const std::string& tensor, GgufOrder order, bool vector,
                        GgufRows& rows) const;
  absl::StatusOr<GgufRows> OfStack(const GgufStack& stack, absl::Span<const int64_t> shape,
                                   int64_t expert) const;
  absl::StatusOr<HostTensor> JoinedLatentUp(const GgufLatentUp& halves,
                                            absl::Span<const int64_t> shape) const;
  absl::StatusOr<HostTensor> StackedBias(const GgufStack& stack,
                                         absl::Span<const int64_t> shape) const;

  std::shared_ptr<const Gguf> file_;
  GgufArchitecture arch_;
  Heads heads_;
};

}  // namespace penstock
