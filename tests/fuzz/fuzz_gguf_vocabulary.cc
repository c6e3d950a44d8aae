// The vocabulary of a GGUF file from anywhere: refused with a status, or a tokenizer that encodes
// and decodes any bytes. Links penstock_text.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "text/gguf_vocabulary.h"
#include "text/gguf_vocabulary_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = absl::MakeConstSpan(reinterpret_cast<const std::byte*>(data), size);
  const auto file = penstock::Gguf::FromBytes(bytes, "fuzz");
  if (!file.ok()) return 0;
  auto vocabulary = penstock::ReadGgufVocabulary(*file);
  if (!vocabulary.ok()) return 0;
  const auto tokenizer = penstock::MakeGgufTokenizer(*std::move(vocabulary));
  if (!tokenizer.ok()) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  for (const std::string_view text :
       {input.substr(0, 256), std::string_view(" Hello, w\xC3\xB6rld! 123\n\xFF")}) {
    const std::vector<penstock::TokenId> ids = (*tokenizer)->Encode(text, true);
    for (const penstock::TokenId id : ids) {
      if (id < 0) std::abort();
      (*tokenizer)->Piece(id);
    }
    if (!penstock::IsValidUtf8((*tokenizer)->Decode(ids, false))) std::abort();
    (*tokenizer)->Decode(ids, true);
  }
  return 0;
}
