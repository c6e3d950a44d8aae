#include "backend/cuda/cuda_sampler.h"

#include <cmath>

#include "backend/cpu/sample.h"
#include "kernels/launch.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

bool IsFiltered(const SamplingParams& p) {
  return !p.greedy() && (p.top_k > 0 || p.top_p < 1.0f || p.min_p > 0.0f);
}

template <class T>
const T* At(const std::byte* base, size_t begin, size_t count) {
  return count == 0 ? nullptr : reinterpret_cast<const T*>(base + begin);
}

size_t BytesOfScores(int32_t num_top, int32_t num_also) {
  return sizeof(TokenScore) * (size_t{1} + num_top + num_also);
}

}  // namespace

CudaSampler::RowArrays CudaSampler::AddArrays(const SampleRow& row, int32_t vocab) {
  const SamplingParams& p = *row.params;
  std::vector<int32_t> bias_ids;
  std::vector<float> bias;
  for (const auto& [id, value] : p.logit_bias) {
    bias_ids.push_back(id);
    bias.push_back(value);
  }
  std::vector<int32_t> also;
  for (const TokenId id : p.logprob_token_ids) {
    if (p.num_logprobs >= 0 && id >= 0 && id < vocab) also.push_back(id);
  }
  RowArrays at;
  at.counts = upload_.Add(row.prompt_output_counts);
  at.mask = upload_.Add(row.mask);
  at.bias_ids = upload_.Add<int32_t>(bias_ids);
  at.bias = upload_.Add<float>(bias);
  at.banned = upload_.Add(row.banned);
  at.allowed = upload_.Add<TokenId>(p.allowed_token_ids);
  at.also = upload_.Add<int32_t>(also);
  at.num_also = static_cast<int32_t>(also.size());
  return at;
}

ScanRow CudaSampler::RowOf(const SampleRow& row, const RowArrays& at, const std::byte* base) const {
  const SamplingParams& p = *row.params;
  ScanRow s;
  s.row = row.row;
  s.seed = p.seed;
  s.position = row.position;
  s.temperature = p.temperature;
  s.repetition_penalty = p.repetition_penalty;
  s.frequency_penalty = p.frequency_penalty;
  s.presence_penalty = p.presence_penalty;
  if (p.min_p > 0.0f) s.log_min_p = std::log(p.min_p);
  s.top_k = p.top_k;
  s.top_p = p.top_p;
  s.num_bias = static_cast<int32_t>(p.logit_bias.size());
  s.num_banned = static_cast<int32_t>(row.banned.size());
  s.num_allowed = static_cast<int32_t>(p.allowed_token_ids.size());
  s.counts = At<int32_t>(base, at.counts, row.prompt_output_counts.size());
  s.mask = At<uint32_t>(base, at.mask, row.mask.size());
  s.bias_ids = At<int32_t>(base, at.bias_ids, p.logit_bias.size());
  s.bias = At<float>(base, at.bias, p.logit_bias.size());
  s.banned = At<int32_t>(base, at.banned, row.banned.size());
  s.allowed = At<int32_t>(base, at.allowed, p.allowed_token_ids.size());
  return s;
}

void CudaSampler::Draw(const Tensor& logits, const std::vector<ScanRow>& scan,
                       const std::vector<ScanRow>& filter, const std::byte* scan_rows,
                       const std::byte* filter_rows, int32_t* tokens) {
  CudaStream& stream = staging_.stream();
  const auto vocab = static_cast<int32_t>(logits.cols);
  const int64_t parts = (vocab + kScanPart - 1) / kScanPart;
  const int64_t most_rows = static_cast<int64_t>(std::max(scan.size(), filter.size()));
  ScanArgs a;
  a.logits = static_cast<const float*>(logits.data);
  a.stride = logits.stride;
  a.vocab = vocab;
  a.rows = reinterpret_cast<const ScanRow*>(scan_rows);
  a.num_rows = static_cast<int32_t>(scan.size());
  a.partial = best_.Of<ScanBest>(stream, most_rows * parts * kScanRules);
  a.tokens = tokens;
  if (!scan.empty()) stream.Enqueue("scan", [&](cudaStream_t s) { return LaunchScan(a, s); });
  if (filter.empty()) return;
  FilterArgs f{a, scaled_.Of<float>(stream, most_rows * vocab)};
  f.scan.rows = reinterpret_cast<const ScanRow*>(filter_rows);
  f.scan.num_rows = static_cast<int32_t>(filter.size());
  f.scan.tokens = tokens + scan.size();
  stream.Enqueue("filter", [&](cudaStream_t s) { return LaunchFilter(f, s); });
}

const std::byte* CudaSampler::ReadResults(size_t bytes) {
  CudaStream& stream = staging_.stream();
  std::byte* to = read_.Get(stream, bytes);
  const void* from = results_.Get(stream, bytes);
  stream.Enqueue("read", [&](cudaStream_t s) {
    return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, s);
  });
  return stream.Synchronize().ok() ? to : nullptr;
}

void CudaSampler::Fill(const Wanted& wanted, const std::byte* results, SampledToken& token) {
  const auto* score = reinterpret_cast<const TokenScore*>(results + wanted.scores_at);
  if (score->id >= 0) {
    token.logprob = score->logprob;
    token.rank = score->rank;
  }
  token.top.clear();
  for (int32_t i = 0; i < wanted.num_top + wanted.num_also; ++i) {
    const TokenScore& one = *++score;
    if (one.id >= 0) token.top.push_back({one.id, one.logprob, one.rank});
  }
}

void CudaSampler::Sample(const Tensor& logits, absl::Span<const SampleRow> rows,
                         absl::Span<SampledToken> tokens) {
  for (SampledToken& token : tokens) {
    token = {};
    token.id = -1;
  }
  CudaStream& stream = staging_.stream();
  if (rows.empty() || !stream.ok()) return;
  const auto vocab = static_cast<int32_t>(logits.cols);
  upload_.Clear();
  std::vector<RowArrays> arrays;
  for (const SampleRow& row : rows) arrays.push_back(AddArrays(row, vocab));
  const size_t most = upload_.bytes().size() + rows.size() * (sizeof(ScanRow) + sizeof(ScoreRow)) +
                      64;  // gaps between them
  const auto* base = static_cast<const std::byte*>(sent_.Get(stream, most));

  // The rows as the kernels take them, and where the token of each will lie.
  std::vector<ScanRow> scan, filter;
  std::vector<size_t> order(rows.size());
  size_t num_scan = 0;
  for (const SampleRow& row : rows) num_scan += IsFiltered(*row.params) ? 0 : 1;
  for (size_t i = 0; i < rows.size(); ++i) {
    const bool filtered = IsFiltered(*rows[i].params);
    order[i] = filtered ? num_scan + filter.size() : scan.size();
    (filtered ? filter : scan).push_back(RowOf(rows[i], arrays[i], base));
  }
  std::vector<Wanted> wanted;
  size_t result_bytes = (rows.size() * sizeof(int32_t) + 15) / 16 * 16;
  for (size_t i = 0; i < rows.size(); ++i) {
    const int32_t top = rows[i].params->num_logprobs;
    if (top < 0 || top > kMostTop) continue;
    wanted.push_back({i, top, arrays[i].num_also, result_bytes});
    result_bytes += BytesOfScores(top, arrays[i].num_also);
  }
  auto* results = static_cast<std::byte*>(results_.Get(stream, result_bytes));
  if (results == nullptr || base == nullptr) return;
  auto* drawn = reinterpret_cast<int32_t*>(results);
  std::vector<ScoreRow> scores;
  for (const Wanted& w : wanted) {
    const RowArrays& at = arrays[w.token];
    scores.push_back({rows[w.token].row, drawn + order[w.token], w.num_top, w.num_also,
                      At<int32_t>(base, at.also, at.num_also),
                      reinterpret_cast<TokenScore*>(results + w.scores_at)});
  }
  const size_t scan_at = upload_.Add<ScanRow>(scan);
  const size_t filter_at = upload_.Add<ScanRow>(filter);
  const size_t scores_at = upload_.Add<ScoreRow>(scores);
  staging_.Send(const_cast<std::byte*>(base), upload_.bytes().data(), upload_.bytes().size());
  Draw(logits, scan, filter, base + scan_at, base + filter_at, drawn);
  const ScoreArgs score{static_cast<const float*>(logits.data), logits.stride, vocab,
                        reinterpret_cast<const ScoreRow*>(base + scores_at),
                        static_cast<int32_t>(scores.size())};
  stream.Enqueue("score", [&](cudaStream_t s) { return LaunchScore(score, s); });

  const std::byte* read = ReadResults(result_bytes);
  if (read == nullptr) return;
  for (size_t i = 0; i < rows.size(); ++i) {
    tokens[i].id = reinterpret_cast<const int32_t*>(read)[order[i]];
    const SamplingParams& p = *rows[i].params;
    if (tokens[i].id >= 0 && p.num_logprobs > kMostTop)
      ScoreOnHost(logits, rows[i].row, p.num_logprobs, p.logprob_token_ids, tokens[i]);
  }
  for (const Wanted& w : wanted) {
    if (tokens[w.token].id >= 0) Fill(w, read, tokens[w.token]);
  }
}

void CudaSampler::Score(const Tensor& logits, absl::Span<const TokenId> ids, int32_t num_top,
                        absl::Span<SampledToken> tokens) {
  CudaStream& stream = staging_.stream();
  if (ids.empty() || !stream.ok()) return;
  for (size_t i = 0; i < ids.size(); ++i) tokens[i].id = ids[i];
  if (num_top > kMostTop) {
    for (size_t i = 0; i < ids.size(); ++i)
      ScoreOnHost(logits, static_cast<int64_t>(i), num_top, {}, tokens[i]);
    return;
  }
  std::vector<int32_t> known(ids.begin(), ids.end());
  for (int32_t& id : known) {
    if (id >= logits.cols) id = -1;
  }
  const size_t of_one = BytesOfScores(std::max(num_top, 0), 0);
  upload_.Clear();
  const size_t ids_at = upload_.Add<int32_t>(known);
  const auto* base = static_cast<const std::byte*>(
      sent_.Get(stream, upload_.bytes().size() + ids.size() * sizeof(ScoreRow) + 16));
  auto* results = static_cast<std::byte*>(results_.Get(stream, ids.size() * of_one));
  if (base == nullptr || results == nullptr) return;
  std::vector<ScoreRow> rows;
  for (size_t i = 0; i < ids.size(); ++i) {
    rows.push_back({static_cast<int64_t>(i), reinterpret_cast<const int32_t*>(base + ids_at) + i,
                    std::max(num_top, 0), 0, nullptr,
                    reinterpret_cast<TokenScore*>(results + i * of_one)});
  }
  const size_t rows_at = upload_.Add<ScoreRow>(rows);
  staging_.Send(const_cast<std::byte*>(base), upload_.bytes().data(), upload_.bytes().size());
  const ScoreArgs score{
      static_cast<const float*>(logits.data), logits.stride, static_cast<int32_t>(logits.cols),
      reinterpret_cast<const ScoreRow*>(base + rows_at), static_cast<int32_t>(rows.size())};
  stream.Enqueue("score", [&](cudaStream_t s) { return LaunchScore(score, s); });
  const std::byte* read = ReadResults(ids.size() * of_one);
  if (read == nullptr) return;
  for (size_t i = 0; i < ids.size(); ++i)
    Fill({i, std::max(num_top, 0), 0, i * of_one}, read, tokens[i]);
}

void CudaSampler::ScoreOnHost(const Tensor& logits, int64_t row, int32_t num_top,
                              absl::Span<const TokenId> also, SampledToken& token) {
  std::vector<float> values(logits.cols);
  staging_.stream().Enqueue("read", [&](cudaStream_t s) {
    return cudaMemcpyAsync(values.data(), logits.row(row), values.size() * sizeof(float),
                           cudaMemcpyDeviceToHost, s);
  });
  if (staging_.stream().Synchronize().ok()) ScoreToken(values, num_top, also, token);
}

}  // namespace penstock::PENSTOCK_KERNELS
