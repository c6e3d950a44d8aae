// Linear layers as the CUDA backend packs them, times few rows: every form of weights against double
// precision, and with equal bits however many rows they come with.
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>

#include "backend/cuda/code_layout.h"
#include "backend/cuda/weight_pack.h"
#include "fakes/codes_in_memory.h"
#include "parity/gemm_kernels.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

enum class Numbers { kAnything, kHalves, kPowers };  // which scales and offsets are made of

class CodesGemmTest : public KernelGemm {
 protected:
  std::vector<float> Scales(size_t n, Numbers of) {
    std::vector<float> out = Random(n);
    for (float& v : out) {
      v *= 0.02f;
      if (of == Numbers::kHalves) v = RoundedTo(Element::kFloat16, v);
      if (of == Numbers::kPowers) v = std::exp2(static_cast<float>(Below(5) - 8));
    }
    return out;
  }

  std::unique_ptr<CodesInMemory> RandomCodes(int32_t n, int32_t k, QuantizedForm form, Numbers of) {
    const int64_t groups = (k + form.group - 1) / form.group;
    std::vector<uint8_t> codes(size_t(n) * k);
    for (uint8_t& code : codes) {
      code = static_cast<uint8_t>(random_() % (1 << form.bits));
      if (form.book.size() == 256 && (code & 127) == 127) code ^= 1;  // no number
    }
    std::vector<float> scales = Scales(n * groups, of);
    std::vector<float> offsets;
    if (form.has_offset) offsets = Scales(n * groups, of);
    return std::make_unique<CodesInMemory>(n, k, std::move(form), std::move(codes),
                                           std::move(scales), std::move(offsets));
  }

  /// Segment by segment, as CudaOps has it.
  static cudaError_t LaunchSegments(GemmArgs a, absl::Span<const LinearSegment> segments,
                                    const uint8_t* weights) {
    const auto* bias = a.bias;
    auto* y = static_cast<uint8_t*>(a.y);
    for (const LinearSegment& segment : segments) {
      a.w = weights + segment.byte_begin;
      a.n = static_cast<int32_t>(segment.num_rows);
      a.bias = bias + segment.row_begin;
      a.y = y + segment.row_begin * BytesOf(a.y_element);
      a.has_codes = CudaKindOf(segment) == CudaWeightKind::kTiles;
      a.w_scales = nullptr;
      if (a.has_codes) {
        a.layout = CodeLayoutOf(segment);
        if (segment.group == 0) {
          const auto* scales = weights + segment.byte_begin + PlaceOf(segment, a.k).scales_begin;
          a.w_scales = reinterpret_cast<const float*>(scales);
        }
      }
      const cudaError_t error = LaunchGemm(a, nullptr);
      if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
  }

  /// The rows of w from a tile on, expanded.
  void ExpectExpanded(const LinearSegment& segment, const uint8_t* weights,
                      const std::vector<float>& w, int32_t k, Element element) {
    const auto tiles = static_cast<int32_t>((segment.num_rows + kTileRows - 1) / kTileRows);
    DequantArgs d;
    d.codes = weights + segment.byte_begin;
    d.layout = CodeLayoutOf(segment);
    d.row_scales = reinterpret_cast<const float*>(weights + segment.byte_begin +
                                                  PlaceOf(segment, k).scales_begin);
    d.row_begin = Below(tiles) * kTileRows;
    d.num_rows = 1 + Below(static_cast<int32_t>(segment.num_rows) - d.row_begin);
    d.k = k;
    d.element = element;
    d.y_stride = (k + 7) / 8 * 8 + 8;
    DeviceRows y(element, std::vector<float>(d.num_rows * d.y_stride, kPadding));
    d.y = y.data();
    ASSERT_EQ(LaunchDequant(d, nullptr), cudaSuccess);
    const std::vector<float> out = y.Values();
    for (int32_t r = 0; r < d.num_rows; ++r) {
      for (int32_t c = 0; c < d.y_stride; ++c) {
        const float exact = c < k ? w[(segment.row_begin + d.row_begin + r) * k + c] : kPadding;
        ASSERT_EQ(out[r * d.y_stride + c], RoundedTo(element, exact)) << r << " " << c;
      }
    }
  }

  /// `kinds`: of the segments that the parts become.
  void Run(absl::Span<const LinearPart> parts, int32_t k, Element element, Element y_element,
           const std::vector<CudaWeightKind>& kinds) {
    std::vector<float> w;
    for (const LinearPart& part : parts) {
      std::vector<float> rows(part.rows * k);
      if (part.codes != nullptr) {
        Dequantize(*part.codes, 0, part.rows, rows.data());
      } else {
        std::memcpy(rows.data(), part.weight, rows.size() * sizeof(float));
      }
      w.insert(w.end(), rows.begin(), rows.end());
    }
    const auto n = static_cast<int32_t>(w.size() / k);
    const WeightFormat format =
        element == Element::kBFloat16 ? WeightFormat::kBFloat16 : WeightFormat::kFloat16;
    const std::vector<LinearSegment> segments = PlanCudaWeights(parts, k, format, pool_);
    ASSERT_EQ(segments.size(), kinds.size());
    for (size_t i = 0; i < kinds.size(); ++i) ASSERT_EQ(CudaKindOf(segments[i]), kinds[i]) << i;
    std::vector<uint8_t> packed(CudaWeightBytes(segments, k));
    FillCudaWeights(parts, k, segments, pool_, reinterpret_cast<std::byte*>(packed.data()));
    const std::vector<float> bias = Random(n);
    const Inputs x = RandomInputs(k, element);
    const std::vector<float> before(size_t(kMostRows) * n, kPadding);
    DeviceRows dx(element, x.padded);
    DeviceArray<uint8_t> dw(packed);
    DeviceArray<float> db(bias);
    for (const LinearSegment& segment : segments) {
      if (CudaKindOf(segment) == CudaWeightKind::kTiles)
        ExpectExpanded(segment, dw.data(), w, k, element);
    }
    Work work(1 + Below(9), n);
    GemmArgs a;
    a.x = dx.data();
    a.x_stride = x.stride;
    a.bias = db.data();
    a.n = n;
    a.k = k;
    a.element = element;
    a.y_element = y_element;
    a.work = work.Get();
    std::vector<double> exact = Product(x.values, w, n, k);
    for (size_t i = 0; i < exact.size(); ++i) exact[i] += bias[i % n];
    const auto launch = [&](const GemmArgs& args) {
      return LaunchSegments(args, segments, dw.data());
    };
    const std::vector<float> all = Multiply(a, kMostRows, before, launch);
    // Numbers that were rounded to 16 bits are not the codes' any more.
    const bool rounded = std::count(kinds.begin(), kinds.end(), CudaWeightKind::kRows) > 0;
    ExpectClose(all, exact, rounded ? 1e-2 : ToleranceOf(y_element));
    for (const int32_t m : {1, 8, 15, 17, 64, 65}) {
      const std::vector<float> some = Multiply(a, m, before, launch);
      EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin())) << m;
    }
    work.ExpectClean();
  }

  void RunForm(int32_t n, int32_t k, const QuantizedForm& form, Numbers of, CudaWeightKind kind) {
    const Element element = Below(2) == 0 ? Element::kBFloat16 : Element::kFloat16;
    const Element y_element = kNumberElements[Below(3)];
    SCOPED_TRACE(testing::PrintToString(std::vector<int32_t>{n, k, form.bits, int(form.group),
                                                             form.center, form.has_offset, int(of),
                                                             int(element), int(y_element)}));
    const auto codes = RandomCodes(n, k, form, of);
    const LinearPart part[] = {{.rows = n, .codes = codes.get()}};
    Run(part, k, element, y_element, {kind});
  }

  WorkerPool pool_{2};
};

TEST_F(CodesGemmTest, MultipliesCodesOfFourBits) {
  for (const int32_t group : {32, 64, 128, 256, 1000}) {
    for (const bool has_offset : {false, true}) {
      QuantizedForm form;
      form.bits = 4;
      form.group = group;
      form.center = Below(2) * 8;
      form.has_offset = has_offset;
      for (const int32_t k : {24, 128, 584}) {
        RunForm(1 + Below(300), k, form, Numbers(Below(3)), CudaWeightKind::kTiles);
      }
    }
  }
}

TEST_F(CodesGemmTest, MultipliesCodesOfEightBits) {
  for (const int32_t group : {16, 32, 64, 128, 1000}) {
    for (const bool has_offset : {false, true}) {
      QuantizedForm form;
      form.bits = 8;
      form.group = group;
      form.center = Below(2) * 128;
      form.has_offset = has_offset;
      for (const int32_t k : {8, 64, 328}) {
        RunForm(1 + Below(300), k, form, Numbers(Below(3)), CudaWeightKind::kTiles);
      }
    }
  }
}

TEST_F(CodesGemmTest, MultipliesNumbersInE4m3) {
  QuantizedForm form;
  form.bits = 8;
  for (int code = 0; code < 256; ++code) {
    const int exponent = code >> 3 & 15;
    const float fraction = static_cast<float>(code & 7) / 8;
    const float number = exponent == 0
                             ? fraction / 64
                             : (1 + fraction) * std::exp2(static_cast<float>(exponent - 7));
    form.book.push_back((code & 127) == 127 ? std::numeric_limits<float>::quiet_NaN()
                        : code < 128        ? number
                                            : -number);
  }
  for (const int32_t group : {32, 128, 1000}) {
    form.group = group;
    for (const int32_t k : {8, 136, 600}) {
      RunForm(1 + Below(300), k, form, Numbers(Below(3)), CudaWeightKind::kTiles);
    }
  }
}

TEST_F(CodesGemmTest, MultipliesNumbersInE2m1) {
  QuantizedForm form;
  for (const float factor : {1.0f, 2.0f}) {
    form.book.clear();
    for (const float sign : {1.0f, -1.0f}) {
      for (const float number : {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f})
        form.book.push_back(sign * factor * number);
    }
    for (const int32_t group : {32, 64, 128, 1000}) {
      form.group = group;
      form.has_offset = Below(2) == 1;
      for (const int32_t k : {24, 160, 584}) {
        RunForm(1 + Below(300), k, form, Numbers(Below(3)), CudaWeightKind::kTiles);
      }
    }
  }
}

TEST_F(CodesGemmTest, TakesOtherFormsAsNumbers) {
  QuantizedForm book;
  book.group = 32;
  book.book = Random(16);
  RunForm(40, 96, book, Numbers::kPowers, CudaWeightKind::kRows);
  QuantizedForm ordered;
  ordered.group = 32;
  ordered.column_order.resize(96);
  std::iota(ordered.column_order.begin(), ordered.column_order.end(), 0);
  std::shuffle(ordered.column_order.begin(), ordered.column_order.end(), random_);
  RunForm(40, 96, ordered, Numbers::kAnything, CudaWeightKind::kRows);
  QuantizedForm odd;
  odd.group = 48;
  RunForm(40, 96, odd, Numbers::kAnything, CudaWeightKind::kRows);
}

TEST_F(CodesGemmTest, MultipliesPartsOfSeveralForms) {
  constexpr int32_t kK = 160;
  QuantizedForm four, eight;
  four.group = 32;
  four.center = 8;
  eight.bits = 8;
  eight.group = 1000;
  eight.center = 128;
  const auto first = RandomCodes(130, kK, four, Numbers::kHalves);
  const auto second = RandomCodes(9, kK, eight, Numbers::kAnything);
  const std::vector<float> numbers = Random(17 * kK);
  const LinearPart parts[] = {{.rows = 130, .codes = first.get()},
                              {.weight = numbers.data(), .rows = 17},
                              {.rows = 9, .codes = second.get()}};
  Run(parts, kK, Element::kBFloat16, Element::kFloat32,
      {CudaWeightKind::kTiles, CudaWeightKind::kRows, CudaWeightKind::kTiles});
}

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
