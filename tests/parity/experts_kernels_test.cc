// Mixtures of experts on a GPU or under the emulator: the choice of experts and its weights are the
// CPU backend's, bit for bit.
#include "backend/make_backend.h"
#include "parity/kernel_rows.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

class ExpertsTest : public KernelRows {
 protected:
  void SetUp() override {
    KernelRows::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    auto opened = OpenBackend({"cpu", &pool_});
    ASSERT_TRUE(opened.ok());
    cpu_ = std::move(opened->device);
  }

  void Route(RouterArgs a, bool ties) {
    SCOPED_TRACE(testing::PrintToString(
        std::vector<int32_t>{a.rows, a.num_experts, a.top_k, int(a.score), a.normalize,
                             a.num_groups, a.top_groups, int(a.shared), ties}));
    const int32_t columns = a.num_experts + (a.shared == SharedExpert::kGated ? 1 : 0);
    const int32_t slots = a.top_k + (a.shared == SharedExpert::kNone ? 0 : 1);
    std::vector<float> logits = Random(size_t(a.rows) * columns);
    for (float& v : logits) v = ties ? std::round(v) : 3 * v;
    const std::vector<float> bias = Random(a.num_experts);
    const bool has_bias = Below(2) == 0;
    std::vector<int32_t> ids(size_t(a.rows) * slots);
    std::vector<float> weights(ids.size());
    penstock::RouteArgs cpu;
    cpu.logits = {logits.data(), DType::kFloat32, a.rows, columns, columns};
    cpu.rule = {RouterScore(a.score), a.normalize, a.num_groups, a.top_groups, a.scale};
    cpu.num_experts = a.num_experts;
    cpu.top_k = a.top_k;
    cpu.score_bias = has_bias ? bias.data() : nullptr;
    cpu.shared = penstock::RouteArgs::Shared(a.shared);
    cpu.ids = ids.data();
    cpu.weights = weights.data();
    cpu_->ops().Route(cpu);

    DeviceArray<float> dl(logits), db(bias), out(weights.size());
    DeviceArray<int32_t> out_ids(ids.size());
    a.logits = dl.data();
    a.stride = columns;
    a.score_bias = has_bias ? db.data() : nullptr;
    a.ids = out_ids.data();
    a.weights = out.data();
    ASSERT_EQ(LaunchRoute(a, nullptr), cudaSuccess);
    EXPECT_EQ(out_ids.Read(), ids);
    EXPECT_EQ(out.Read(), weights);
  }

  WorkerPool pool_{2};
  std::unique_ptr<Device> cpu_;
};

TEST_F(ExpertsTest, RoutesAsTheCpuDoes) {
  for (const int32_t experts : {4, 8, 60, 128, 256}) {
    for (int round = 0; round < 12; ++round) {
      RouterArgs a;
      a.rows = 1 + Below(9);
      a.num_experts = experts;
      a.score = RouteScore(Below(3));
      a.normalize = Below(2) == 0;
      a.num_groups = Below(2) == 0 ? 1 : experts / 4;
      if (a.num_groups > 32) a.num_groups = 32;
      if (experts % a.num_groups != 0) a.num_groups = 1;
      a.top_groups = 1 + Below(a.num_groups);
      a.top_k = 1 + Below(std::min(8, experts / a.num_groups * a.top_groups));
      a.scale = 1.0f + Below(2);
      a.shared = SharedExpert(Below(3));
      Route(a, round % 3 == 0);
    }
  }
}

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS
