#include "model/adapter_copies.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/half.h"
#include "base/status_macros.h"
#include "model/host_tensor.h"
#include "model/weights.h"

namespace penstock {
namespace {

constexpr int64_t kRowsAtOnce = 256;

float RoundedTo(DType dtype, float value) {
  if (dtype == DType::kBFloat16) return Bf16ToFloat(FloatToBf16(value));
  return dtype == DType::kFloat16 ? Fp16ToFloat(FloatToFp16(value)) : value;
}

}  // namespace

absl::Status CheckCopy(AdapterFile& file, const std::string& name, TokenTable which,
                       const ModelConfig& config, TensorSource& base) {
  const auto refuse = [&](std::string_view why) {
    return absl::UnimplementedError(
        absl::StrCat(file.path(), ": tensor \"", name,
                     "\" is not supported: ", absl::string_view(why.data(), why.size()),
                     " (PEFT leaves copies of embedding and head out with "
                     "save_embedding_layers=False)"));
  };
  const int64_t rows = config.vocab_size, cols = config.hidden_size;
  RETURN_IF_ERROR(file.CheckMatrix(name, rows, cols));
  const ModelNames names = FindNames(config.layout, base);
  const bool embedding = which == TokenTable::kEmbedding || config.tied_embeddings;
  const std::string own = embedding ? names.Embedding() : names.Head();
  ASSIGN_OR_RETURN(const HostLinear table, base.FindLinear(own, {rows, cols}));
  if (table.codes != nullptr)
    return refuse("whether it is the model's own cannot be seen where that is quantized");
  for (int64_t begin = 0; begin < rows; begin += kRowsAtOnce) {
    const int64_t count = std::min(kRowsAtOnce, rows - begin);
    ASSIGN_OR_RETURN(const HostTensor copy, file.Rows(name, begin, count));
    const std::vector<float> expected = Widen(SliceRows(table.plain, begin, count));
    const auto as_copied = [&](float own_value, float copied) {
      return RoundedTo(copy.dtype, own_value) == copied;
    };
    if (!std::ranges::equal(expected, Widen(copy), as_copied)) {
      return refuse(
          "it differs from the model's own, and whole weights cannot be replaced, only low-rank "
          "factors added");
    }
  }
  return absl::OkStatus();
}

}  // namespace penstock
