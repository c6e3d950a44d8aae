// Any bytes as a tokenizer.model: refused with a status, or a tokenizer that encodes and decodes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "text/sentencepiece_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  auto model = penstock::ParseSentencePieceModel(input);
  if (!model.ok()) return 0;
  penstock::SentencePieceOptions options;
  options.prefix_every_part = size % 2 == 0;
  const auto tokenizer = penstock::MakeSentencePieceTokenizer(*std::move(model), options);
  if (!tokenizer.ok()) return 0;
  for (const std::string_view text :
       {input.substr(0, 256), std::string_view(" ab\xEF\xBC\xA1 c\xCC\x81 <s>a</s>\n\xFF")}) {
    const std::vector<penstock::TokenId> ids = (*tokenizer)->Encode(text, true);
    for (const penstock::TokenId id : ids) {
      if (id < 0 || id >= (*tokenizer)->vocab_size()) std::abort();
    }
    if (!penstock::IsValidUtf8((*tokenizer)->Decode(ids, size % 3 == 0))) std::abort();
  }
  return 0;
}
