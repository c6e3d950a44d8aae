#include "backend/cpu/packed_file.h"

#include <bit>
#include <cstring>

#include "absl/status/status.h"
#include "base/content_hash.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

static_assert(std::endian::native == std::endian::little, "the file is as memory has it");

constexpr uint64_t kMagic = 0x314b4350544b4e50;  // "PNKTPCK1"
constexpr uint64_t kVersion = 3;
constexpr uint64_t kMostSide = uint64_t{1} << 40;  // rows or columns

absl::Status Damaged(const char* what) { return absl::DataLossError(what); }

struct HeaderWords {
  uint64_t magic, version, key_lo, key_hi, index_begin, index_bytes, index_hash;
  uint64_t hash;  // of the page, this word being 0
};

struct LayerWords {
  uint64_t n, k, weight_bytes, weight_hash, bias_bytes, bias_hash, num_segments;
};

class Words {
 public:
  explicit Words(absl::Span<const std::byte> bytes) : bytes_(bytes) {}

  template <class T>
  bool Take(T& value) {
    if (bytes_.size() < sizeof(T)) return false;
    std::memcpy(&value, bytes_.data(), sizeof(T));
    bytes_.remove_prefix(sizeof(T));
    return true;
  }
  size_t left() const { return bytes_.size(); }

 private:
  absl::Span<const std::byte> bytes_;
};

template <class T>
void Put(const T& value, std::vector<std::byte>& out) {
  const auto* begin = reinterpret_cast<const std::byte*>(&value);
  out.insert(out.end(), begin, begin + sizeof(T));
}

bool IsScaleType(uint64_t type) {
  for (const DType known :
       {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat8E8M0}) {
    if (type == static_cast<uint64_t>(known)) return true;
  }
  return false;
}

absl::StatusOr<PackedLayer> ParseLayer(Words& words) {
  LayerWords w;
  if (!words.Take(w)) return Damaged("the index ends within a layer");
  if (w.n > kMostSide || w.k > kMostSide) return Damaged("a layer has too many rows or columns");
  if (w.num_segments > words.left() / (2 * sizeof(uint64_t))) {
    return Damaged("a layer has more segments than the index has room for");
  }
  PackedLayer layer;
  layer.n = static_cast<int64_t>(w.n);
  layer.k = static_cast<int64_t>(w.k);
  layer.weight = {static_cast<int64_t>(w.weight_bytes), w.weight_hash};
  layer.bias = {static_cast<int64_t>(w.bias_bytes), w.bias_hash};
  for (uint64_t i = 0; i < w.num_segments; ++i) {
    uint64_t scale = 0;
    uint64_t offset = 0;
    CHECK(words.Take(scale) && words.Take(offset));
    if (!IsScaleType(scale) || !IsScaleType(offset)) return Damaged("a type of scales is unknown");
    layer.types.emplace_back(static_cast<DType>(scale), static_cast<DType>(offset));
  }
  return layer;
}

}  // namespace

std::vector<std::byte> FormatPackedHeader(const PackedHeader& header) {
  std::vector<std::byte> page(kPackedPage);
  HeaderWords w{kMagic,
                kVersion,
                header.key.lo,
                header.key.hi,
                static_cast<uint64_t>(header.index_begin),
                static_cast<uint64_t>(header.index_bytes),
                header.index_hash,
                0};
  std::memcpy(page.data(), &w, sizeof w);
  w.hash = ContentHash(page);
  std::memcpy(page.data(), &w, sizeof w);
  return page;
}

std::vector<std::byte> FormatPackedIndex(absl::Span<const PackedLayer> layers) {
  std::vector<std::byte> index;
  for (const PackedLayer& layer : layers) {
    Put(LayerWords{static_cast<uint64_t>(layer.n), static_cast<uint64_t>(layer.k),
                   static_cast<uint64_t>(layer.weight.bytes), layer.weight.hash,
                   static_cast<uint64_t>(layer.bias.bytes), layer.bias.hash, layer.types.size()},
        index);
    for (const auto& [scale, offset] : layer.types) {
      Put(static_cast<uint64_t>(scale), index);
      Put(static_cast<uint64_t>(offset), index);
    }
  }
  return index;
}

absl::StatusOr<PackedHeader> ParsePackedHeader(absl::Span<const std::byte> page,
                                               int64_t file_bytes) {
  HeaderWords w;
  if (page.size() != kPackedPage || file_bytes < kPackedPage) {
    return Damaged("it is shorter than its header");
  }
  std::memcpy(&w, page.data(), sizeof w);
  if (w.magic != kMagic) return Damaged("it is not a file of packed weights");
  if (w.version != kVersion) return absl::FailedPreconditionError("it is of another version");
  std::vector<std::byte> unhashed(page.begin(), page.end());
  std::memset(unhashed.data() + offsetof(HeaderWords, hash), 0, sizeof w.hash);
  if (ContentHash(unhashed) != w.hash) return Damaged("its header does not match its hash");
  const auto total = static_cast<uint64_t>(file_bytes);
  if (w.index_begin < kPackedPage || w.index_begin % kPackedPage != 0 || w.index_begin > total ||
      w.index_bytes != total - w.index_begin) {
    return Damaged("its length is not what its header says");
  }
  PackedHeader header;
  header.key = {w.key_lo, w.key_hi};
  header.index_begin = static_cast<int64_t>(w.index_begin);
  header.index_bytes = static_cast<int64_t>(w.index_bytes);
  header.index_hash = w.index_hash;
  return header;
}

absl::StatusOr<std::vector<PackedLayer>> ParsePackedIndex(absl::Span<const std::byte> index,
                                                          int64_t index_begin) {
  Words words(index);
  std::vector<PackedLayer> layers;
  int64_t at = kPackedPage;
  while (words.left() > 0) {
    ASSIGN_OR_RETURN(PackedLayer layer, ParseLayer(words));
    for (const PackedSection& section : {layer.weight, layer.bias}) {
      if (section.bytes < 0 || section.bytes > index_begin - at) {
        return Damaged("a layer reaches beyond the layers' part of the file");
      }
      at += PackedPages(section.bytes);
    }
    layers.push_back(std::move(layer));
  }
  if (at != index_begin) return Damaged("the layers do not fill their part of the file");
  return layers;
}

}  // namespace penstock
