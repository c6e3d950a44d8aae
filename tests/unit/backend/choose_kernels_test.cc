#include "backend/cpu/choose_kernels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "backend/cpu/cpu_device.h"
#include "fakes/codes_in_memory.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

CpuKernels Named(const char* name) {
  CpuKernels kernels = Avx2Kernels();
  kernels.name = name;
  return kernels;
}

const CpuKernels kNamed[] = {Named("wide"), Named("middle"), Named("narrow")};

std::vector<MeasuredKernels> Measured() {
  return {{&kNamed[0], true, 50, 0, 100, 100},
          {&kNamed[1], true, 100, 0, 104, 50},
          {&kNamed[2], true, 103, 0, 110, 300}};
}

TEST(ChooseKernels, TakesTheFastestOfEachKindAndTheFirstOfNearlyEqualOnes) {
  const auto choice = ChooseKernels(Measured(), "auto");
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_EQ(choice->plain, &kNamed[1]);
  EXPECT_EQ(choice->codes, &kNamed[2]);
  EXPECT_EQ(choice->integers, &kNamed[2]);
  EXPECT_EQ(choice->Describe(), "plain middle, codes narrow, integers narrow");
}

TEST(ChooseKernels, MultipliesBFloat16InputsWhereThatIsFaster) {
  std::vector<MeasuredKernels> measured = Measured();
  EXPECT_FALSE(ChooseKernels(measured, "auto")->bf16_products);
  measured[0].bf16_gops = 500;  // of a table that is not taken
  EXPECT_FALSE(ChooseKernels(measured, "auto")->bf16_products);
  EXPECT_TRUE(ChooseKernels(measured, "wide")->bf16_products);
  measured[1].bf16_gops = 60;  // half as fast as float
  EXPECT_FALSE(ChooseKernels(measured, "auto")->bf16_products);
  measured[1].bf16_gops = 190;
  EXPECT_TRUE(ChooseKernels(measured, "auto")->bf16_products);
  // Of a table that is a little slower otherwise.
  measured[1].bf16_gops = 0;
  measured[0].plain_gops = 85;
  EXPECT_EQ(ChooseKernels(measured, "auto")->plain, &kNamed[0]);
  EXPECT_TRUE(ChooseKernels(measured, "auto")->bf16_products);
}

TEST(ChooseKernels, PassesOverWhatFailedItsSelfTest) {
  std::vector<MeasuredKernels> measured = Measured();
  measured[2].agrees = false;
  EXPECT_EQ(ChooseKernels(measured, "auto")->integers, &kNamed[0]);
  EXPECT_THAT(std::string(ChooseKernels(measured, "narrow").status().message()),
              HasSubstr("failed its self-test on this processor; expected auto or wide, middle"));
  for (MeasuredKernels& one : measured) one.agrees = false;
  EXPECT_EQ(ChooseKernels(measured, "auto").status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(ChooseKernels, TakesWhatIsNamedForEverything) {
  EXPECT_EQ(ChooseKernels(Measured(), "wide")->Describe(), "wide");
  const absl::Status missing = ChooseKernels(Measured(), "avx1024").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("processor does not run"));
}

TEST(MeasureKernels, DisablesAWrongTableAndMeasuresTheRight) {
  CpuKernels wrong = Avx2Kernels();
  wrong.name = "wrong";
  wrong.gemm_panel = [](const GemmPanelArgs& args) {  // forgets the scale of sums
    GemmPanelArgs a = args;
    a.codes.scales = a.codes.offsets;
    if (a.codes.scales != nullptr) Avx2Kernels().gemm_panel(a);
  };
  const auto measured = MeasureKernels({&wrong, &Avx2Kernels()});
  ASSERT_EQ(measured.size(), 2u);
  EXPECT_FALSE(measured[0].agrees);
  EXPECT_EQ(measured[0].integers_gops, 0);
  EXPECT_TRUE(measured[1].agrees);
  EXPECT_GT(measured[1].plain_gops, 0);
  EXPECT_GT(measured[1].codes_gops, 0);
  EXPECT_GT(measured[1].integers_gops, 0);
  EXPECT_EQ(ChooseKernels(measured, "auto")->Describe(), "avx2");
}

TEST(ProcessKernels, AreMeasuredOnceAndListedByName) {
  const auto& measured = ProcessKernels();
  EXPECT_EQ(&measured, &ProcessKernels());
  ASSERT_FALSE(measured.empty());
  for (const MeasuredKernels& one : measured) {
    EXPECT_TRUE(one.agrees) << one.table->name;
    EXPECT_NE(std::find(KernelNames().begin(), KernelNames().end(), one.table->name),
              KernelNames().end());
  }
}

CpuKernels narrow;  // avx2, that says how often its kernels of one kind were called
int num_narrow_calls = 0;

/// A layer of numbers, one of codes and one of codes with integer inputs, in one.
TEST(CpuDevice, MultipliesEachPartByTheTableOfItsKind) {
  narrow = Avx2Kernels();
  narrow.gemm_panel = [](const GemmPanelArgs& a) {
    ++num_narrow_calls;
    EXPECT_NE(a.input.q, nullptr);
    Avx2Kernels().gemm_panel(a);
  };
  KernelChoice choice(Avx2Kernels());
  choice.integers = &narrow;
  WorkerPool pool(1);
  constexpr int64_t kDepth = 64, kRows = 40;
  QuantizedForm form;
  form.bits = 8;
  form.group = 32;
  form.center = 128;
  std::vector<uint8_t> values(kRows * kDepth);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint8_t>(i * 37);
  const std::vector<float> scales(kRows * kDepth / 32, 0.5f);
  const CodesInMemory codes(kRows, kDepth, form, values, scales, scales);
  std::vector<float> numbers(kRows * kDepth, 0.25f);
  LinearPart plain;
  plain.weight = numbers.data();
  plain.rows = kRows;
  LinearPart coded;
  coded.codes = &codes;
  coded.rows = kRows;
  LinearPart integers = coded;
  integers.integer_input = true;
  std::vector<float> x(3 * kDepth);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7) - 3;
  const auto multiply = [&](const KernelChoice& of) {
    CpuDevice device(&pool, of);
    const auto w = device.Pack(kDepth, {plain, coded, integers});
    EXPECT_TRUE(w.ok());
    std::vector<float> y(3 * 3 * kRows);
    device.ops().Linear({{x.data(), DType::kFloat32, 3, kDepth, kDepth},
                         &*w,
                         {y.data(), DType::kFloat32, 3, 3 * kRows, 3 * kRows}});
    return y;
  };
  const std::vector<float> expected = multiply(Avx2Kernels());
  EXPECT_EQ(multiply(choice), expected);
  EXPECT_EQ(num_narrow_calls, 2);                  // 40 rows in panels of 32
  for (const CpuKernels* a : RunnableKernels()) {  // whose panels may be wider
    for (const CpuKernels* b : RunnableKernels()) {
      choice = *a;
      choice.integers = b;
      EXPECT_EQ(multiply(choice), expected) << choice.Describe();
      choice.integers = a;
      choice.codes = b;
      EXPECT_EQ(multiply(choice), expected) << choice.Describe();
    }
  }
}

}  // namespace
}  // namespace penstock
