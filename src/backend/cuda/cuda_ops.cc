#include "backend/cuda/cuda_ops.h"

#include "absl/strings/str_cat.h"
#include "backend/cuda/cuda_types.h"
#include "kernels/launch.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr int32_t kCtasOfSm = 2;  // of attention

Gate GateOf(Activation f) {
  switch (f) {
    case Activation::kSilu:
      return Gate::kSilu;
    case Activation::kGelu:
      return Gate::kGelu;
    case Activation::kGeluTanh:
      return Gate::kGeluTanh;
    case Activation::kRelu:
      return Gate::kRelu;
    case Activation::kSquaredRelu:
      return Gate::kSquaredRelu;
    case Activation::kSigmoid:
      return Gate::kSigmoid;
    case Activation::kSoftCap:
      return Gate::kSoftCap;
    case Activation::kClampedSwiglu:
      return Gate::kClampedSwiglu;
  }
  return Gate::kNone;
}

}  // namespace

CudaOps::CudaOps(CudaStream* stream, const CudaOptions& options)
    : stream_(*stream),
      staging_(stream),
      batch_(&staging_, options.determinism),
      sampler_(&staging_),
      products_(stream, options),
      numbers_(options.numbers),
      ctas_(kCtasOfSm * stream->properties().multiProcessorCount) {}

void CudaOps::NoKernel(const char* op) {
  stream_.Fail(
      absl::UnimplementedError(absl::StrCat("device ", stream_.name(), " has no kernel for ", op)));
}

void CudaOps::Embed(const penstock::EmbedArgs& a) {
  const auto rows = static_cast<size_t>(a.y.rows);
  const int32_t* ids = ids_.Send(staging_, absl::MakeConstSpan(a.ids, rows));
  if (a.packed != nullptr) return EmbedPacked(a, ids);
  EmbedRows({a.table.data, a.table.stride, ElementOf(a.table.dtype)}, ids, a);
}

/// y's rows from plain rows of a table.
void CudaOps::EmbedRows(const PlainTable& table, const int32_t* ids, const penstock::EmbedArgs& a) {
  EmbedArgs e;
  e.table = table.data;
  e.table_stride = table.stride;
  e.table_element = table.element;
  e.ids = ids;
  e.y = a.y.data;
  e.y_stride = a.y.stride;
  e.rows = static_cast<int32_t>(a.y.rows);
  e.width = static_cast<int32_t>(a.y.cols);
  e.scale = a.scale;
  e.accumulate = a.accumulate;
  e.element = ElementOf(a.y.dtype);
  stream_.Enqueue("embed", [&](cudaStream_t stream) { return LaunchEmbed(e, stream); });
}

void CudaOps::EmbedPacked(const penstock::EmbedArgs& a, const int32_t* ids) {
  if (a.packed->segments.size() != 1) return NoKernel("Embed of a table of several forms");
  const LinearSegment& segment = a.packed->segments[0];
  if (CudaKindOf(segment) != CudaWeightKind::kRows) {
    const GemmArgs table = GemmOf(*a.packed, segment, ElementOf(a.y.dtype));
    EmbedCodesArgs c;
    c.codes = table.w;
    c.plain_rows = !table.has_codes;
    c.layout = table.layout;
    c.row_scales = table.w_scales;
    c.ids = ids;
    c.y = a.y.data;
    c.y_stride = a.y.stride;
    c.rows = static_cast<int32_t>(a.y.rows);
    c.k = static_cast<int32_t>(a.packed->k);
    c.scale = a.scale;
    c.accumulate = a.accumulate;
    c.element = ElementOf(a.y.dtype);
    stream_.Enqueue("embed", [&](cudaStream_t s) { return LaunchEmbedCodes(c, s); });
    return;
  }
  const auto* rows = static_cast<const std::byte*>(a.packed->weight.data()) + segment.byte_begin;
  const Element element =
      segment.format == WeightFormat::kFloat16 ? Element::kFloat16 : Element::kBFloat16;
  EmbedRows({rows, PlainRowBytes(a.packed->k, 2) / 2, element}, ids, a);
}

void CudaOps::Norm(const penstock::NormArgs& a) {
  NormArgs n;
  n.x = {a.x.data, a.x.stride};
  n.weight = a.weight;
  n.bias = a.bias;
  n.y = {a.y.data, a.y.stride};
  n.eps = a.eps;
  n.scale = a.scale;
  n.center = a.center;
  n.accumulate = a.accumulate;
  n.rows = static_cast<int32_t>(a.x.rows);
  n.width = static_cast<int32_t>(a.x.cols);
  n.element = ElementOf(a.x.dtype);
  stream_.Enqueue("norm", [&](cudaStream_t stream) { return LaunchNorm(n, stream); });
}

void CudaOps::Activate(const ActivationArgs& a) {
  GatedArgs g;
  g.gate = {a.gate.data, a.gate.stride};
  g.up = {a.up.data, a.up.stride};
  g.y = {a.y.data, a.y.stride};
  g.f = GateOf(a.f);
  g.limit = a.limit;
  g.alpha = a.alpha;
  g.rows = static_cast<int32_t>(a.y.rows);
  g.width = static_cast<int32_t>(a.y.cols);
  g.element = ElementOf(a.y.dtype);
  stream_.Enqueue("gated", [&](cudaStream_t stream) { return LaunchGated(g, stream); });
}

void CudaOps::GatherRows(const Tensor& x, absl::Span<const int32_t> rows, const Tensor& y) {
  penstock::EmbedArgs a;
  a.y = y;
  a.y.rows = static_cast<int64_t>(rows.size());
  a.y.cols = x.cols;
  EmbedRows({x.data, x.stride, ElementOf(x.dtype)}, gathered_.Send(staging_, rows), a);
}

void CudaOps::RopeAndCache(const penstock::RopeArgs& a, const BatchRows& batch) {
  RopeArgs r;
  r.x = {a.qkv.data, a.qkv.stride};
  r.qkv = a.qkv.data;
  r.qkv_stride = a.qkv.stride;
  r.num_heads = a.heads.num_heads;
  r.num_kv_heads = a.heads.num_kv_heads;
  r.head_dim = a.heads.head_dim;
  r.q_norm = a.q_norm;
  r.k_norm = a.k_norm;
  r.v_norm = a.v_norm;
  r.norm_eps = a.norm_eps;
  r.cos_sin = a.cos_sin;
  r.rotary_dim = a.rotary_dim;
  r.rotary_begin = a.rotary_begin;
  r.q_scale = a.q_scale;
  r.element = ElementOf(a.qkv.dtype);
  batch_.Fill(batch, a.cache, r);
  stream_.Enqueue("rope", [&](cudaStream_t stream) { return LaunchRope(r, stream); });
}

void CudaOps::Attention(const penstock::AttentionArgs& a, const BatchRows& batch) {
  Attend(a, batch, false);
}

void CudaOps::Attend(const penstock::AttentionArgs& a, const BatchRows& batch, bool sees_all) {
  AttentionArgs t;
  t.q = a.q.data;
  t.q_stride = a.q.stride;
  t.y = a.y.data;
  t.y_stride = a.y.stride;
  t.num_kv_heads = a.heads.num_kv_heads;
  t.group = a.heads.num_heads / a.heads.num_kv_heads;
  t.head_dim = a.heads.head_dim;
  t.scale = a.scale;
  t.soft_cap = a.soft_cap;
  t.window = a.window;
  t.sinks = a.sinks;
  t.element = ElementOf(a.q.dtype);
  batch_.Fill(batch, a.cache, ctas_, sees_all, t);
  stream_.Enqueue("attention", [&](cudaStream_t stream) {
    const cudaError_t error = LaunchAttention(t, stream);
    return error != cudaSuccess ? error : LaunchAttentionMerge(t, stream);
  });
}

void CudaOps::Route(const RouteArgs& a) {
  RouterArgs r;
  r.logits = static_cast<const float*>(a.logits.data);
  r.stride = a.logits.stride;
  r.rows = static_cast<int32_t>(a.logits.rows);
  r.num_experts = a.num_experts;
  r.top_k = a.top_k;
  r.score = a.rule.score == RouterScore::kSoftmax   ? RouteScore::kSoftmax
            : a.rule.score == RouterScore::kSigmoid ? RouteScore::kSigmoid
                                                    : RouteScore::kSoftmaxOfChosen;
  r.normalize = a.rule.normalize;
  r.num_groups = a.rule.num_groups;
  r.top_groups = a.rule.top_groups;
  r.group_best = a.rule.group_best;
  r.shared_scale = a.rule.shared_scale;
  r.scale = a.rule.scale;
  r.score_bias = a.score_bias;
  r.shared = a.shared == RouteArgs::kNone     ? SharedExpert::kNone
             : a.shared == RouteArgs::kAlways ? SharedExpert::kAlways
                                              : SharedExpert::kGated;
  r.ids = a.ids;
  r.weights = a.weights;
  stream_.Enqueue("route", [&](cudaStream_t stream) { return LaunchRoute(r, stream); });
}

void CudaOps::Sample(const Tensor& logits, absl::Span<const SampleRow> rows,
                     absl::Span<SampledToken> tokens) {
  sampler_.Sample(logits, rows, tokens);
}

void CudaOps::Score(const Tensor& logits, absl::Span<const TokenId> ids, int32_t num_top,
                    absl::Span<SampledToken> tokens) {
  sampler_.Score(logits, ids, num_top, tokens);
}

}  // namespace penstock::PENSTOCK_KERNELS
