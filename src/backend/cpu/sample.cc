#include "backend/cpu/sample.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "backend/cpu/philox.h"
#include "backend/cpu/shared_math.h"

namespace penstock {
namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

struct Candidate {
  TokenId id;
  float logit;
  friend bool operator<(const Candidate& a,
                        const Candidate& b) {  // the most likely first, ties by id
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  }
};

float Finite(float x) {
  if (std::isnan(x)) return kImpossible;
  return std::min(x, std::numeric_limits<float>::max());
}

std::array<uint32_t, 4> RandomWords(uint64_t seed, int32_t position, TokenId block) {
  return Philox4x32({static_cast<uint32_t>(block), static_cast<uint32_t>(position), 0, 0},
                    {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

bool MaskAllows(absl::Span<const uint32_t> mask, TokenId id) {
  return mask.empty() || ((mask[id / 32] >> (id % 32)) & 1) != 0;
}

/// The logits after bias and penalties.
std::vector<float> Adjusted(absl::Span<const float> logits, const SampleRow& row) {
  std::vector<float> x(logits.size());
  std::transform(logits.begin(), logits.end(), x.begin(), Finite);
  const SamplingParams& p = *row.params;
  for (const auto& [id, bias] : p.logit_bias) {
    if (id >= 0 && id < static_cast<TokenId>(x.size())) x[id] += bias;
  }
  if (!row.prompt_output_counts.empty()) {
    const int32_t* prompt = row.prompt_output_counts.data();
    const int32_t* output = prompt + x.size();
    for (size_t i = 0; i < x.size(); ++i) {
      if (prompt[i] == 0 && output[i] == 0) continue;
      x[i] = x[i] > 0 ? x[i] / p.repetition_penalty : x[i] * p.repetition_penalty;
      x[i] -= p.frequency_penalty * static_cast<float>(output[i]);
      if (output[i] > 0) x[i] -= p.presence_penalty;
    }
  }
  return x;
}

/// What may be drawn, in order of ids.
std::vector<Candidate> Candidates(const std::vector<float>& x, const SampleRow& row, bool allowed,
                                  bool banned) {
  std::vector<Candidate> out;
  out.reserve(allowed ? row.params->allowed_token_ids.size() : x.size());
  const auto take = [&](TokenId id) {
    if (id < 0 || id >= static_cast<TokenId>(x.size())) return;
    if (x[id] == kImpossible || !MaskAllows(row.mask, id)) return;
    if (banned && std::find(row.banned.begin(), row.banned.end(), id) != row.banned.end()) return;
    out.push_back({id, x[id]});
  };
  if (allowed) {
    std::vector<TokenId> ids = row.params->allowed_token_ids;
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    for (const TokenId id : ids) take(id);
  } else {
    for (TokenId id = 0; id < static_cast<TokenId>(x.size()); ++id) take(id);
  }
  return out;
}

/// Keeps the candidates of the smallest set whose probability reaches top_p of the whole, the most
/// likely first. Splits around pivots instead of sorting everything.
void KeepTopP(std::vector<Candidate>& c, float top_p) {
  const float best = std::min_element(c.begin(), c.end())->logit;
  const auto mass = [&](size_t begin, size_t end) {
    uint64_t sum = 0;
    for (size_t i = begin; i < end; ++i) sum += SampleMass(c[i].logit, best);
    return sum;
  };
  const uint64_t wanted = WantedMass(top_p, mass(0, c.size()));
  uint64_t kept = 0;
  size_t begin = 0;
  size_t end = c.size();  // the boundary lies in [begin, end); all before `begin` are kept
  while (end - begin > 1) {
    const size_t middle = begin + (end - begin) / 2;
    std::nth_element(c.begin() + begin, c.begin() + middle, c.begin() + end);
    const uint64_t upper = mass(begin, middle);
    if (kept + upper >= wanted) {
      end = middle;
    } else {
      kept += upper;
      begin = middle;
    }
  }
  c.resize(end);
}

/// Whether the raw logits are the ones to draw from, all of them or those that a mask allows.
bool IsPlain(const SampleRow& row) {
  return row.params->logit_bias.empty() && row.params->allowed_token_ids.empty() &&
         row.prompt_output_counts.empty() && row.banned.empty();
}

/// The highest logit, the lowest id on ties; -1 where there is no number. 32 lanes at a time: greedy
/// decoding does this for every token.
TokenId Argmax(absl::Span<const float> logits) {
  constexpr size_t kLanes = 32;
  std::array<float, kLanes> lanes;
  lanes.fill(kImpossible);
  const size_t whole = logits.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    const float* x = &logits[i];
    for (size_t k = 0; k < kLanes; ++k)
      lanes[k] = x[k] > lanes[k] ? x[k] : lanes[k];  // not for NaN
  }
  float highest = *std::max_element(lanes.begin(), lanes.end());
  for (size_t i = whole; i < logits.size(); ++i) {
    if (logits[i] > highest) highest = logits[i];
  }
  if (highest == kImpossible) return -1;
  for (size_t i = 0; i < whole; i += kLanes) {
    const float* x = &logits[i];
    uint32_t found = 0;
    for (size_t k = 0; k < kLanes; ++k) found |= static_cast<uint32_t>(x[k] == highest) << k;
    if (found != 0) return static_cast<TokenId>(i + std::countr_zero(found));
  }
  const auto it = std::find(logits.begin() + whole, logits.end(), highest);
  return static_cast<TokenId>(it - logits.begin());
}

/// Of those that `mask` allows; -1 where none of them is a number. Words of 32 tokens, eight lanes at
/// a time: this is done for every row of a structured answer.
TokenId MaskedArgmax(absl::Span<const float> logits, absl::Span<const uint32_t> mask) {
  constexpr int kLanes = 8;
  constexpr float kMost = std::numeric_limits<float>::max();
  const auto value = [](float x, bool allowed) {  // not a number stays one, and is never higher
    x = x > kMost ? kMost : x;
    return allowed ? x : kImpossible;
  };
  const size_t whole = std::min(mask.size(), logits.size() / 32);
  std::array<float, kLanes> lanes;
  lanes.fill(kImpossible);
  for (size_t word = 0; word < whole; ++word) {
    if (mask[word] == 0) continue;
    for (int begin = 0; begin < 32; begin += kLanes) {
      const float* x = &logits[32 * word + begin];
      const uint32_t bits = mask[word] >> begin;
      for (int k = 0; k < kLanes; ++k) {
        const float v = value(x[k], (bits >> k & 1) != 0);
        lanes[k] = v > lanes[k] ? v : lanes[k];
      }
    }
  }
  float highest = *std::max_element(lanes.begin(), lanes.end());
  TokenId best = -1;
  for (size_t i = 32 * whole; i < logits.size(); ++i) {
    const float v = value(logits[i], MaskAllows(mask, static_cast<TokenId>(i)));
    if (!(v > highest)) continue;
    highest = v;
    best = static_cast<TokenId>(i);
  }
  if (best >= 0 || highest == kImpossible) return best;
  for (size_t word = 0; word < whole; ++word) {
    uint32_t found = 0;
    for (int k = 0; k < 32; ++k) {
      const float v = value(logits[32 * word + k], (mask[word] >> k & 1) != 0);
      found |= static_cast<uint32_t>(v == highest) << k;
    }
    if (found != 0) return static_cast<TokenId>(32 * word + std::countr_zero(found));
  }
  return -1;
}

void Filter(std::vector<Candidate>& c, const SamplingParams& p) {
  if (p.min_p > 0.0f) {
    const float limit = std::min_element(c.begin(), c.end())->logit + std::log(p.min_p);
    std::erase_if(c, [&](const Candidate& x) { return x.logit < limit; });
  }
  if (p.top_k > 0 && static_cast<size_t>(p.top_k) < c.size()) {
    std::nth_element(c.begin(), c.begin() + p.top_k - 1, c.end());
    c.resize(p.top_k);
  }
  if (p.top_p < 1.0f) KeepTopP(c, p.top_p);
}

/// Whether noise made of `word` cannot lift a logit that is `deficit` below the best score:
/// -log(-log1p(-u)) > deficit takes u < e^-deficit, held here against the power of two above that.
bool IsHopeless(uint32_t word, float deficit) {
  const float bits = deficit * 1.44269504f;
  if (!(bits >= 2.0f)) return false;  // nor where infinite logits leave no number
  const int shift = static_cast<int>(std::min(bits, 64.0f)) - 1;
  return shift >= 32 || (word >> (32 - shift)) != 0;
}

/// Of candidates in any order; those in the order of their ids share blocks of random words.
TokenId GumbelArgmax(const std::vector<Candidate>& c, uint64_t seed, int32_t position) {
  // From the most likely on, whose score most others cannot reach.
  Candidate best = *std::min_element(c.begin(), c.end());
  float best_score = best.logit + GumbelNoise(seed, position, best.id);
  TokenId block = -1;
  std::array<uint32_t, 4> words{};
  for (const Candidate& x : c) {
    if (x.id / 4 != block) {
      block = x.id / 4;
      words = RandomWords(seed, position, block);
    }
    if (IsHopeless(words[x.id % 4], best_score - x.logit)) continue;
    const float score = x.logit + SampleNoise(words[x.id % 4]);
    if (score > best_score || (score == best_score && x.id < best.id)) {
      best = x;
      best_score = score;
    }
  }
  return best.id;
}

TokenId Draw(absl::Span<const float> logits, const SampleRow& row) {
  const SamplingParams& p = *row.params;
  const std::vector<float> x = Adjusted(logits, row);
  std::vector<Candidate> c = Candidates(x, row, !p.allowed_token_ids.empty(), !row.banned.empty());
  if (c.empty()) c = Candidates(x, row, !p.allowed_token_ids.empty(), false);
  if (c.empty()) c = Candidates(x, row, false, false);
  if (c.empty()) return -1;
  if (p.greedy()) return std::min_element(c.begin(), c.end())->id;
  for (Candidate& candidate : c) candidate.logit /= p.temperature;
  Filter(c, p);
  return GumbelArgmax(c, p.seed, row.position);
}

}  // namespace

float GumbelNoise(uint64_t seed, int32_t position, TokenId token) {
  return SampleNoise(RandomWords(seed, position, token / 4)[token % 4]);
}

SampledToken SampleToken(absl::Span<const float> logits, const SampleRow& row) {
  SampledToken token;
  const SamplingParams& p = *row.params;
  if (p.greedy() && IsPlain(row))
    token.id = row.mask.empty() ? Argmax(logits) : MaskedArgmax(logits, row.mask);
  else
    token.id = Draw(logits, row);
  if (token.id >= 0 && p.num_logprobs >= 0)
    ScoreToken(logits, p.num_logprobs, p.logprob_token_ids, token);
  return token;
}

void ScoreToken(absl::Span<const float> logits, int32_t num_top, absl::Span<const TokenId> also,
                SampledToken& token) {
  const auto size = static_cast<TokenId>(logits.size());
  float best = kImpossible;
  for (const float x : logits) best = std::max(best, Finite(x));
  double sum = 0;
  if (best != kImpossible) {
    for (const float x : logits) sum += std::exp(Finite(x) - best);
  }
  const auto log_sum = static_cast<float>(std::log(sum));
  const auto logprob = [&](TokenId id) {
    const float x = Finite(logits[id]);
    return x == kImpossible ? kImpossible : x - best - log_sum;
  };
  const auto rank = [&](TokenId id) {
    const Candidate self{id, Finite(logits[id])};
    int32_t before = 0;
    for (TokenId i = 0; i < size; ++i) before += Finite(logits[i]) > self.logit;
    return before + 1;
  };
  if (token.id >= 0 && token.id < size) {
    token.logprob = logprob(token.id);
    token.rank = rank(token.id);
  }
  token.top.clear();
  if (num_top > 0) {
    std::vector<Candidate> c(size);
    for (TokenId i = 0; i < size; ++i) c[i] = {i, Finite(logits[i])};
    const size_t n = std::min<size_t>(num_top, c.size());
    std::partial_sort(c.begin(), c.begin() + n, c.end());
    for (size_t i = 0; i < n; ++i) {
      token.top.push_back({c[i].id, logprob(c[i].id), static_cast<int32_t>(i + 1)});
    }
  }
  for (const TokenId id : also) {
    if (id >= 0 && id < size) token.top.push_back({id, logprob(id), rank(id)});
  }
}

}  // namespace penstock
