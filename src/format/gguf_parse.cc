#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "format/gguf.h"

namespace penstock {
namespace {

constexpr uint64_t kMaxKeys = 1 << 16;
constexpr uint64_t kMaxTensors = 1 << 17;
constexpr uint64_t kMaxStrings = 1 << 21;  // of one array
constexpr size_t kMaxNameBytes = 1 << 16;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint32_t kMaxTensorRank = 4;
/// Bytes of an element; 0: strings, whose sizes differ, and arrays.
size_t ElementBytes(GgufType type) {
  switch (type) {
    case GgufType::kUInt8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUInt16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUInt32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUInt64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    default:
      return 0;
  }
}

template <class T>
T LoadAt(absl::Span<const std::byte> data, uint64_t i) {
  T value;
  std::memcpy(&value, data.data() + i * sizeof value, sizeof value);
  return value;
}

/// Reads a file from front to back; no view leaves it.
class Cursor {
 public:
  Cursor(absl::Span<const std::byte> bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return bytes_.size() - position_; }

  absl::Status Fail(std::string_view what, std::string_view problem) const {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": ", ToAbsl(what), ": ", ToAbsl(problem)));
  }

  absl::StatusOr<absl::Span<const std::byte>> Take(uint64_t size, std::string_view what) {
    if (size > left()) {
      return Fail(what, absl::StrCat("needs ", size, " bytes at ", position_, ", the file has ",
                                     left(), " left (truncated file?)"));
    }
    const auto taken = bytes_.subspan(position_, size);
    position_ += size;
    return taken;
  }

  template <class T>
  absl::StatusOr<T> Number(std::string_view what) {
    ASSIGN_OR_RETURN(const auto taken, Take(sizeof(T), what));
    return LoadAt<T>(taken, 0);
  }

  absl::StatusOr<std::string_view> Text(std::string_view what) {
    ASSIGN_OR_RETURN(const uint64_t size, Number<uint64_t>(what));
    ASSIGN_OR_RETURN(const auto taken, Take(size, what));
    return std::string_view(reinterpret_cast<const char*>(taken.data()), taken.size());
  }

 private:
  absl::Span<const std::byte> bytes_;
  const std::string& path_;
  uint64_t position_ = 0;
};

absl::StatusOr<GgufType> ReadType(Cursor& cursor, std::string_view what) {
  ASSIGN_OR_RETURN(const uint32_t type, cursor.Number<uint32_t>(what));
  if (type > static_cast<uint32_t>(GgufType::kFloat64)) {
    return cursor.Fail(what, absl::StrCat("value type ", type, ", expected 0 to 12"));
  }
  return static_cast<GgufType>(type);
}

absl::StatusOr<GgufValue> ReadValue(Cursor& cursor, std::string_view what) {
  GgufValue value;
  ASSIGN_OR_RETURN(value.type, ReadType(cursor, what));
  if (value.type == GgufType::kArray) {
    value.is_array = true;
    ASSIGN_OR_RETURN(value.type, ReadType(cursor, what));
    ASSIGN_OR_RETURN(value.size, cursor.Number<uint64_t>(what));
    if (value.type == GgufType::kArray) return cursor.Fail(what, "an array of arrays");
  }
  if (value.type == GgufType::kString) {
    if (value.size > kMaxStrings) {
      return cursor.Fail(what,
                         absl::StrCat(value.size, " strings, expected at most ", kMaxStrings));
    }
    Cursor start = cursor;
    for (uint64_t i = 0; i < value.size; ++i) {
      RETURN_IF_ERROR(cursor.Text(what).status());
    }
    ASSIGN_OR_RETURN(value.data, start.Take(cursor.position() - start.position(), what));
    return value;
  }
  const size_t element = ElementBytes(value.type);
  if (value.size > cursor.left() / element) {
    return cursor.Fail(what,
                       absl::StrCat(value.size, " elements of ", element, " bytes, the file has ",
                                    cursor.left(), " left (truncated file?)"));
  }
  ASSIGN_OR_RETURN(value.data, cursor.Take(value.size * element, what));
  return value;
}

absl::Status ReadMetadata(Cursor& cursor, uint64_t num_keys, GgufContents& out) {
  for (uint64_t i = 0; i < num_keys; ++i) {
    ASSIGN_OR_RETURN(const std::string_view key, cursor.Text(absl::StrCat("key ", i)));
    if (key.empty() || key.size() > kMaxNameBytes) {
      return cursor.Fail(absl::StrCat("key ", i), absl::StrCat("a name of ", key.size(), " bytes"));
    }
    ASSIGN_OR_RETURN(const GgufValue value, ReadValue(cursor, key));
    if (!out.metadata.emplace(key, value).second) return cursor.Fail(key, "appears twice");
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> AlignmentOf(const GgufContents& contents, const std::string& path) {
  const auto it = contents.metadata.find(std::string_view("general.alignment"));
  if (it == contents.metadata.end()) return kDefaultAlignment;
  const GgufValue& value = it->second;
  const int64_t alignment = !value.is_array && value.is_integer() ? value.Int(0) : 0;
  if (alignment < 1 || alignment > (1 << 20) || (alignment & (alignment - 1)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": general.alignment: expected a power of two up to 1048576"));
  }
  return static_cast<uint64_t>(alignment);
}

std::string GgufTensorLabel(std::string_view name) {
  return absl::StrCat("tensor \"", ToAbsl(name), "\"");
}

struct Placed {
  std::string_view name;
  GgufTensor tensor;
  uint64_t begin = 0;  // relative to the data
  uint64_t bytes = 0;
};

/// One tensor's description.
absl::StatusOr<Placed> ReadTensorInfo(Cursor& cursor, uint64_t index) {
  Placed out;
  ASSIGN_OR_RETURN(out.name, cursor.Text(absl::StrCat("tensor ", index)));
  const std::string label = GgufTensorLabel(out.name.substr(0, 256));
  if (out.name.empty() || out.name.size() > 256) {
    return cursor.Fail(label,
                       absl::StrCat("a name of ", out.name.size(), " bytes, expected 1 to 256"));
  }
  ASSIGN_OR_RETURN(const uint32_t rank, cursor.Number<uint32_t>(label));
  if (rank < 1 || rank > kMaxTensorRank) {
    return cursor.Fail(label, absl::StrCat(rank, " dimensions, expected 1 to 4"));
  }
  uint64_t elements = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    ASSIGN_OR_RETURN(const uint64_t dim, cursor.Number<uint64_t>(label));
    if (dim == 0 || __builtin_mul_overflow(elements, dim, &elements) || elements > INT64_MAX / 8) {
      return cursor.Fail(label, absl::StrCat("dimension ", i, " is ", dim,
                                             ", expected at least 1 and no overflow"));
    }
    out.tensor.shape.insert(out.tensor.shape.begin(), static_cast<int64_t>(dim));
  }
  ASSIGN_OR_RETURN(const uint32_t type, cursor.Number<uint32_t>(label));
  const GgmlTypeInfo* info = FindGgmlType(type);
  if (info == nullptr) return cursor.Fail(label, absl::StrCat("ggml type ", type, " is not known"));
  out.tensor.type = static_cast<GgmlType>(type);
  if (out.tensor.shape.back() % info->block_size != 0) {
    return cursor.Fail(
        label, absl::StrCat("rows of ", out.tensor.shape.back(), " elements, ", ToAbsl(info->name),
                            " comes in blocks of ", info->block_size));
  }
  ASSIGN_OR_RETURN(out.begin, cursor.Number<uint64_t>(label));
  // block_bytes is at most 8 times block_size
  out.bytes = elements / info->block_size * info->block_bytes;
  return out;
}

/// Gives each tensor its bytes; refuses what leaves the file, overlaps or is not aligned.
absl::Status PlaceTensors(std::vector<Placed>& tensors, absl::Span<const std::byte> data,
                          uint64_t alignment, const Cursor& cursor) {
  for (Placed& t : tensors) {
    if (t.begin % alignment != 0) {
      return cursor.Fail(GgufTensorLabel(t.name),
                         absl::StrCat("offset ", t.begin, " is not a multiple of ", alignment));
    }
    if (t.begin > data.size() || t.bytes > data.size() - t.begin) {
      return cursor.Fail(
          GgufTensorLabel(t.name),
          absl::StrCat("its ", t.bytes, " bytes at ", t.begin, " do not lie within the file's ",
                       data.size(), " bytes of data (truncated file?)"));
    }
    t.tensor.data = data.subspan(t.begin, t.bytes);
  }
  std::sort(tensors.begin(), tensors.end(), [](const Placed& a, const Placed& b) {
    return std::pair(a.begin, a.name) < std::pair(b.begin, b.name);
  });
  for (size_t i = 1; i < tensors.size(); ++i) {
    if (tensors[i].begin < tensors[i - 1].begin + tensors[i - 1].bytes) {
      return cursor.Fail(GgufTensorLabel(tensors[i].name),
                         absl::StrCat("overlaps ", GgufTensorLabel(tensors[i - 1].name)));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckVersion(Cursor& cursor) {
  ASSIGN_OR_RETURN(const uint32_t magic, cursor.Number<uint32_t>("header"));
  if (magic != 0x46554747) return cursor.Fail("header", "does not begin with GGUF");
  ASSIGN_OR_RETURN(const uint32_t version, cursor.Number<uint32_t>("header"));
  if (version != 0 && (version & 0xffff) == 0) {
    return cursor.Fail("header", "is big endian, expected little endian");
  }
  if (version != 2 && version != 3) {
    return cursor.Fail("header", absl::StrCat("version ", version, ", expected 2 or 3"));
  }
  return absl::OkStatus();
}

}  // namespace

bool GgufValue::is_integer() const {
  return ElementBytes(type) > 0 && type != GgufType::kFloat32 && type != GgufType::kFloat64;
}

int64_t GgufValue::Int(uint64_t i) const {
  CHECK(i < size);
  switch (type) {
    case GgufType::kUInt8:
      return LoadAt<uint8_t>(data, i);
    case GgufType::kInt8:
      return LoadAt<int8_t>(data, i);
    case GgufType::kBool:
      return LoadAt<uint8_t>(data, i) != 0;
    case GgufType::kUInt16:
      return LoadAt<uint16_t>(data, i);
    case GgufType::kInt16:
      return LoadAt<int16_t>(data, i);
    case GgufType::kUInt32:
      return LoadAt<uint32_t>(data, i);
    case GgufType::kInt32:
      return LoadAt<int32_t>(data, i);
    case GgufType::kUInt64:
      return static_cast<int64_t>(std::min<uint64_t>(LoadAt<uint64_t>(data, i), INT64_MAX));
    default:
      CHECK(type == GgufType::kInt64);
      return LoadAt<int64_t>(data, i);
  }
}

double GgufValue::Float(uint64_t i) const {
  CHECK(i < size);
  if (type == GgufType::kFloat32) return LoadAt<float>(data, i);
  CHECK(type == GgufType::kFloat64);
  return LoadAt<double>(data, i);
}

absl::StatusOr<GgufContents> ParseGguf(absl::Span<const std::byte> bytes, const std::string& path,
                                       int32_t file) {
  Cursor cursor(bytes, path);
  RETURN_IF_ERROR(CheckVersion(cursor));
  ASSIGN_OR_RETURN(const uint64_t num_tensors, cursor.Number<uint64_t>("header"));
  ASSIGN_OR_RETURN(const uint64_t num_keys, cursor.Number<uint64_t>("header"));
  if (num_tensors > kMaxTensors || num_keys > kMaxKeys) {
    return cursor.Fail(
        "header", absl::StrCat(num_tensors, " tensors and ", num_keys, " keys, expected at most ",
                               kMaxTensors, " and ", kMaxKeys));
  }
  GgufContents out;
  RETURN_IF_ERROR(ReadMetadata(cursor, num_keys, out));
  ASSIGN_OR_RETURN(const uint64_t alignment, AlignmentOf(out, path));
  std::vector<Placed> placed;
  for (uint64_t i = 0; i < num_tensors; ++i) {
    ASSIGN_OR_RETURN(Placed tensor, ReadTensorInfo(cursor, i));
    tensor.tensor.file = file;
    placed.push_back(std::move(tensor));
  }
  const uint64_t padding = (alignment - cursor.position() % alignment) % alignment;
  const auto data = bytes.subspan(cursor.position() + std::min(padding, cursor.left()));
  RETURN_IF_ERROR(PlaceTensors(placed, data, alignment, cursor));
  for (Placed& t : placed) {
    if (!out.tensors.emplace(t.name, std::move(t.tensor)).second) {
      return cursor.Fail(GgufTensorLabel(t.name), "appears twice");
    }
  }
  return out;
}

}  // namespace penstock
