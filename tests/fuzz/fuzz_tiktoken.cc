// Any bytes as a tiktoken file, in every family: refused with a status, or a tokenizer that encodes
// and decodes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "text/tiktoken.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  penstock::GuessTiktokenFamily(input.substr(0, 16), input);
  const auto family = static_cast<penstock::TiktokenFamily>(size % 6);
  const auto tokenizer = penstock::ParseTiktoken(input, family);
  if (!tokenizer.ok()) return 0;
  for (const std::string_view text :
       {input.substr(0, 256), std::string_view(" ab 'S HTTPs\xCC\x81 123456<|endoftext|>\n\xFF")}) {
    const std::vector<penstock::TokenId> ids = (*tokenizer)->Encode(text, true);
    for (const penstock::TokenId id : ids) {
      if (id < 0 || id >= (*tokenizer)->vocab_size()) std::abort();
    }
    if (!penstock::IsValidUtf8((*tokenizer)->Decode(ids, false))) std::abort();
  }
  return 0;
}
