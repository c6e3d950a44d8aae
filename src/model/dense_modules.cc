#include "model/dense_modules.h"

#include <cmath>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/host_tensor.h"
#include "model/tensor_source.h"

namespace penstock {

absl::StatusOr<std::vector<DenseModule>> LoadDenseModules(const std::string& dir,
                                                          const ModelConfig& config) {
  std::vector<DenseModule> modules;
  for (const DenseConfig& dense : config.dense) {
    ASSIGN_OR_RETURN(const std::unique_ptr<TensorSource> source,
                     MakeFileSource(absl::StrCat(dir, "/", dense.folder)));
    DenseModule module{dense, {}, {}};
    ASSIGN_OR_RETURN(const HostTensor weight,
                     source->Get("linear.weight", {dense.out_size, dense.in_size}));
    module.weight = Widen(weight);
    if (dense.bias) {
      ASSIGN_OR_RETURN(const HostTensor bias, source->Get("linear.bias", {dense.out_size}));
      module.bias = Widen(bias);
    }
    RETURN_IF_ERROR(source->Intact());
    modules.push_back(std::move(module));
  }
  return modules;
}

std::vector<float> ApplyDenseModules(const std::vector<DenseModule>& modules,
                                     std::vector<float> pooled) {
  for (const DenseModule& module : modules) {
    std::vector<float> out(module.config.out_size);
    for (size_t row = 0; row < out.size(); ++row) {
      const float* weight = module.weight.data() + row * pooled.size();
      double sum = module.bias.empty() ? 0.0 : module.bias[row];
      for (size_t i = 0; i < pooled.size(); ++i) sum += double{weight[i]} * double{pooled[i]};
      out[row] = static_cast<float>(module.config.tanh ? std::tanh(sum) : sum);
    }
    pooled = std::move(out);
  }
  return pooled;
}

}  // namespace penstock
