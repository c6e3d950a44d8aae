// A tokenizer.json from anywhere: refused with a status, or a tokenizer that encodes and decodes
// any bytes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "text/tokenizer_loader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = penstock::ParseTokenizer(input);
  if (!tokenizer.ok()) return 0;
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
