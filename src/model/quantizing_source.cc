#include "model/quantizing_source.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

constexpr int64_t kLeastSide = 64;  // below, nothing is gained

bool IsTableOrHead(const std::string& name) {
  return absl::StrContains(name, "embed") || absl::StrContains(name, "lm_head") ||
         absl::EndsWith(name, "wte") || name == "output" || name == "token_embd";
}

/// What chooses experts, or how much of a state is kept: little memory, and much hangs on each number.
bool IsGate(std::string_view name) {
  for (const char* end : {".gate", ".router", ".router.layer", ".shared_expert_gate", ".in_proj_a",
                          ".in_proj_b", ".in_proj_ba"}) {
    if (name.ends_with(end)) return true;
  }
  return false;
}

class QuantizingSource final : public TensorSource {
 public:
  QuantizingSource(std::unique_ptr<TensorSource> source, RoundingRule rule, bool integer_inputs)
      : source_(std::move(source)), rule_(rule), integer_inputs_(integer_inputs) {}

  bool Has(const std::string& name) const override { return source_->Has(name); }
  std::vector<StoredTensor> Stored() const override { return source_->Stored(); }
  std::vector<std::string> Files() const override { return source_->Files(); }
  absl::Status Intact() const override { return source_->Intact(); }

  absl::StatusOr<HostTensor> Get(const std::string& name,
                                 absl::Span<const int64_t> shape) override {
    return source_->Get(name, shape);
  }

  absl::StatusOr<HostLinear> FindLinear(const std::string& name, absl::Span<const int64_t> shape,
                                        int64_t expert) override {
    ASSIGN_OR_RETURN(HostLinear linear, source_->FindLinear(name, shape, expert));
    if (linear.codes == nullptr && rule_.bits != 0 && !IsGate(name) &&
        std::min(linear.plain.shape[0], linear.plain.shape[1]) >= kLeastSide) {
      RoundingRule rule = rule_;
      if (IsTableOrHead(name)) rule.bits = 8;
      linear.codes = std::make_shared<RoundedRows>(std::move(linear.plain), rule);
      linear.plain = {};
      linear.integer_input = true;
    }
    linear.integer_input |= integer_inputs_;
    return linear;
  }
  bool keeps_in_out_order() const override { return source_->keeps_in_out_order(); }

 private:
  std::unique_ptr<TensorSource> source_;
  RoundingRule rule_;
  bool integer_inputs_;
};

}  // namespace

std::unique_ptr<TensorSource> MakeQuantizingSource(std::unique_ptr<TensorSource> source,
                                                   RoundingRule rule, bool integer_inputs) {
  return std::make_unique<QuantizingSource>(std::move(source), rule, integer_inputs);
}

}  // namespace penstock
