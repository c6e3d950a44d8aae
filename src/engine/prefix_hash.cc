#include "engine/prefix_hash.h"

#include <cstring>
#include <random>
#include <string>

namespace penstock {
namespace {

template <class T>
void AppendBytes(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

}  // namespace

PrefixHasher::PrefixHasher(std::array<uint64_t, 2> key, std::string_view model_digest)
    : key_(key), model_(SipHash128(key, model_digest)) {}

std::array<uint64_t, 2> PrefixHasher::RandomKey() {
  std::random_device device;
  auto word = [&] { return (uint64_t{device()} << 32) | device(); };
  return {word(), word()};
}

Hash128 PrefixHasher::Root(std::string_view salt, AdapterId adapter) const {
  std::string bytes;
  AppendBytes(bytes, model_.lo);
  AppendBytes(bytes, model_.hi);
  AppendBytes(bytes, adapter.value);
  bytes.append(salt);
  return SipHash128(key_, bytes);
}

Hash128 PrefixHasher::Next(const Hash128& parent, absl::Span<const TokenId> tokens) const {
  constexpr size_t kInline = 64;  // tokens; larger blocks take the heap
  const size_t token_bytes = tokens.size() * sizeof(TokenId);
  if (tokens.size() <= kInline) {
    std::array<char, sizeof(Hash128) + kInline * sizeof(TokenId)> buffer;
    std::memcpy(buffer.data(), &parent, sizeof(parent));
    std::memcpy(buffer.data() + sizeof(parent), tokens.data(), token_bytes);
    return SipHash128(key_, {buffer.data(), sizeof(parent) + token_bytes});
  }
  std::string bytes(sizeof(parent) + token_bytes, '\0');
  std::memcpy(bytes.data(), &parent, sizeof(parent));
  std::memcpy(bytes.data() + sizeof(parent), tokens.data(), token_bytes);
  return SipHash128(key_, bytes);
}

}  // namespace penstock
