// Products of more than 64 rows on a GPU: what is promised of their bits, and the ways that the table
// of shapes may name.
#include <filesystem>

#include "backend/cuda/linear_table.h"
#include "backend/quantized_rows.h"
#include "base/half.h"
#include "fakes/codes_in_memory.h"
#include "fakes/temp_dir.h"
#include "parity/ops_parity.h"

namespace penstock {
namespace {

/// Of 4 bits in groups of 32, of small numbers.
std::unique_ptr<CodesInMemory> GroupsOfFourBits(int64_t rows, int64_t k, std::mt19937& random) {
  QuantizedForm form;
  form.bits = 4;
  form.group = 32;
  form.center = 8;
  std::vector<uint8_t> codes(rows * k);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random() % 16);
  std::vector<float> scales(rows * ((k + 31) / 32));
  for (float& scale : scales) scale = Bf16ToFloat(FloatToBf16(0.01f * (1 + random() % 7)));
  return std::make_unique<CodesInMemory>(rows, k, form, std::move(codes), std::move(scales),
                                         std::vector<float>());
}

/// A layer of codes on devices that choose in different ways how to multiply.
class ManyRows : public OpsParity {
 protected:
  static constexpr int64_t kN = 150, kK = 136, kM = 70;

  void SetUp() override {
    OpsParity::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    codes_ = GroupsOfFourBits(kN, kK, random_);
    bias_ = Random(1, kN, DType::kFloat32);
    x_ = Random(kM, kK, DType::kBFloat16);
  }
  /// The first `rows` rows of x_ times the layer, and ones where y is accumulated.
  Matrix Multiply(const BackendOptions& options, int64_t rows, bool accumulate) {
    auto opened = OpenBackend(options);
    EXPECT_TRUE(opened.ok()) << opened.status();
    std::swap(device_, opened->device);
    Matrix y = Filled(rows, kN, DType::kBFloat16, [] { return 1.0f; });
    {
      const LinearPart part = {.bias = bias_.data(), .rows = kN, .codes = codes_.get()};
      auto packed = device_->Pack(kK, {part});
      EXPECT_TRUE(packed.ok()) << packed.status();
      Tensor in = OnDevice(x_);
      in.rows = rows;
      const Tensor out = OnDevice(y);
      ops().Linear({.x = in, .w = &*packed, .y = out, .accumulate = accumulate});
      Read(out, y);
      buffers_.clear();
    }
    std::swap(device_, opened->device);
    return y;
  }

  std::unique_ptr<CodesInMemory> codes_;
  Matrix bias_, x_;
};

TEST_P(ManyRows, BitsOfARowDependOnNoOtherWhereThatIsPromised) {
  BackendOptions strict{GetParam(), &pool_};
  strict.deterministic = "strict";
  for (const bool accumulate : {false, true}) {
    const Matrix all = Multiply(strict, kM, accumulate);
    const Matrix few = Multiply(strict, 3, accumulate);
    for (int64_t r = 0; r < 3; ++r) {
      for (int64_t c = 0; c < kN; ++c) EXPECT_EQ(few.at(r, c), all.at(r, c));
    }
    // Steps of up to 64 rows keep the promise whatever is chosen for more.
    EXPECT_EQ(Multiply({GetParam(), &pool_}, 3, accumulate).values, few.values);
  }
}

/// On the emulator alone: a GPU measures its own choice.
class KeptChoice : public ManyRows {};

TEST_P(KeptChoice, IsTakenAndExpandedCodesAreMultiplied) {
  BackendOptions options{GetParam(), &pool_};
  const TempDir dir;
  options.tuning_folder = dir.path();
  LinearTable table(options.tuning_folder, "emulator 2 SMs, no library");
  ASSERT_TRUE(table.Set({"bf16-codes4-32-finished", kN, kK, 128}, {LinearPath::kExpand}).ok());
  std::vector<float> weights(kN * kK);
  Dequantize(*codes_, 0, kN, weights.data());
  for (const bool accumulate : {false, true}) {
    const Matrix y = Multiply(options, kM, accumulate);
    std::vector<double> expected;
    for (int64_t r = 0; r < kM; ++r) {
      for (int64_t c = 0; c < kN; ++c) {
        double sum = bias_.at(0, c) + (accumulate ? 1.0 : 0.0);
        for (int64_t i = 0; i < kK; ++i) {
          sum += static_cast<double>(x_.at(r, i)) * Bf16ToFloat(FloatToBf16(weights[c * kK + i]));
        }
        expected.push_back(sum);
      }
    }
    ExpectClose(y, expected);
    // Numbers of 16 bits are not the codes: the choice was taken.
    EXPECT_NE(y.values, Multiply({GetParam(), &pool_}, kM, accumulate).values);
  }
}

/// As where NVIDIA's library is missing that was there when the choice was made.
TEST_P(KeptChoice, OfALibraryThatIsNotThereIsNotTaken) {
  BackendOptions options{GetParam(), &pool_};
  const TempDir dir;
  options.tuning_folder = dir.path();
  LinearTable table(options.tuning_folder, "emulator 2 SMs, no library");
  const LinearKey key{"bf16-codes4-32-finished", kN, kK, 128};
  ASSERT_TRUE(table.Set(key, {LinearPath::kExpandLibrary}).ok());
  EXPECT_EQ(Multiply(options, kM, false).values, Multiply({GetParam(), &pool_}, kM, false).values);
}

INSTANTIATE_TEST_SUITE_P(Devices, KeptChoice, ::testing::Values("cuda-emulated"), NameOfDevice);
INSTANTIATE_TEST_SUITE_P(Devices, ManyRows, ::testing::Values("cuda-emulated", "cuda"),
                         NameOfDevice);

}  // namespace
}  // namespace penstock
