// Writes GGUF files for tests, honest ones and lying ones.
// Owns nothing. Must not know models or batches.
// Threads: value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "format/ggml_blocks.h"
#include "format/gguf.h"

namespace penstock {

template <class T>
std::string GgufNumber(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

inline std::string GgufText(std::string_view text) {
  return GgufNumber<uint64_t>(text.size()) + std::string(text);
}

class GgufWriter {
 public:
  uint32_t version = 3;
  uint64_t alignment = 32;

  /// A key with a value of any type, spelt in bytes.
  void AddKey(std::string_view key, GgufType type, const std::string& bytes) {
    keys_ += GgufText(key) + GgufNumber(static_cast<uint32_t>(type)) + bytes;
    ++num_keys_;
  }
  void AddInt(std::string_view key, uint32_t value) {
    AddKey(key, GgufType::kUInt32, GgufNumber(value));
  }
  void AddFloat(std::string_view key, float value) {
    AddKey(key, GgufType::kFloat32, GgufNumber(value));
  }
  void AddString(std::string_view key, std::string_view value) {
    AddKey(key, GgufType::kString, GgufText(value));
  }
  /// An array whose elements are spelt in bytes.
  void AddArray(std::string_view key, GgufType type, uint64_t size, const std::string& bytes) {
    AddKey(key, GgufType::kArray,
           GgufNumber(static_cast<uint32_t>(type)) + GgufNumber(size) + bytes);
  }
  /// `shape` is row-major.
  void AddTensor(std::string_view name, GgmlType type, const std::vector<uint64_t>& shape,
                 const std::string& bytes) {
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    AddTensorAt(name, type, shape, data_.size());
    data_ += bytes;
  }
  /// A tensor without data of its own.
  void AddTensorAt(std::string_view name, GgmlType type, const std::vector<uint64_t>& shape,
                   uint64_t offset) {
    infos_ += GgufText(name) + GgufNumber(static_cast<uint32_t>(shape.size()));
    for (size_t i = shape.size(); i-- > 0;) infos_ += GgufNumber(shape[i]);
    infos_ += GgufNumber(static_cast<uint32_t>(type)) + GgufNumber(offset);
    ++num_tensors_;
  }
  std::string Bytes() const {
    std::string out = "GGUF" + GgufNumber(version) + GgufNumber(num_tensors_) +
                      GgufNumber(num_keys_) + keys_ + infos_;
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data_;
  }

 private:
  std::string keys_;
  std::string infos_;
  std::string data_;
  uint64_t num_keys_ = 0;
  uint64_t num_tensors_ = 0;
};

}  // namespace penstock
