// tiktoken files, and vocabularies as GGUF files hold them.
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_split.h"
#include "base/regex.h"
#include "gtest/gtest.h"
#include "text/gguf_vocabulary.h"
#include "text/sentencepiece_model.h"
#include "text/split_patterns.h"
#include "text/tiktoken.h"
#include "text/tokenizer_loader.h"
#include "unit/text/vectors.h"

namespace penstock {
namespace {

using Ids = std::vector<TokenId>;

nlohmann::json ReadJsonFile(const std::string& path) {
  std::ifstream in(path);
  return nlohmann::json::parse(in);
}

TEST(VocabularyFiles, TiktokenFilesOfEveryFamilyEncodeAsTheReference) {
  const nlohmann::json file =
      ReadJsonFile(std::string(PENSTOCK_SOURCE_DIR) + "/tests/unit/text/tiktoken_cases.json");
  const std::string text = file["file"];
  ASSERT_TRUE(LooksLikeTiktoken(text));
  const std::map<std::string, TiktokenFamily> families = {{"gpt2", TiktokenFamily::kGpt2},
                                                          {"cl100k", TiktokenFamily::kCl100k},
                                                          {"llama3", TiktokenFamily::kLlama3},
                                                          {"qwen", TiktokenFamily::kQwen},
                                                          {"o200k", TiktokenFamily::kO200k}};
  ASSERT_EQ(file["rows"].size(), families.size());
  for (const auto& [name, family] : families) {
    const auto tokenizer = ParseTiktoken(text, family);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    for (const auto& row : file["rows"][name]) {
      if (family == TiktokenFamily::kQwen && row[0].get<std::string>().find("e\u0301") == 0)
        continue;  // composed before it is split, which the reference leaves to its caller
      EXPECT_EQ((*tokenizer)->Encode(row[0].get<std::string>(), false), row[1].get<Ids>())
          << name << " " << row[0];
      EXPECT_EQ((*tokenizer)->Decode(row[1].get<Ids>(), false), row[2].get<std::string>()) << name;
    }
  }
}

TEST(VocabularyFiles, TiktokenSpecialTokensFollowTheRanks) {
  const std::string text = "YQ== 0\nYg== 1\nYWI= 2\n";
  const auto tokenizer = ParseTiktoken(text, TiktokenFamily::kLlama3);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("ab<|eot_id|>a", true), (Ids{3, 2, 12, 0}));
  EXPECT_EQ((*tokenizer)->vocab_size(), 3 + 256);
  EXPECT_EQ(GuessTiktokenFamily("qwen.tiktoken", text), TiktokenFamily::kQwen);
  EXPECT_EQ(GuessTiktokenFamily("tokenizer.model", text), std::nullopt);
  for (const char* broken : {"", "YQ==\n", "YQ== x\n", "*** 1\n", "YQ== -1\n", "YQ== 99999999\n",
                             "YQ== 0\nYg== 0\n", "YQ== 0\n\n= 1\n"}) {
    EXPECT_FALSE(ParseTiktoken(broken, TiktokenFamily::kGpt2).ok()) << broken;
  }
}

// What a converter writes into a GGUF file for a tokenizer.json.
GgufVocabulary VocabularyOf(const nlohmann::json& file, const std::string& model,
                            const std::string& pre) {
  GgufVocabulary v;
  v.model = model;
  v.pre = pre;
  std::map<TokenId, std::string> tokens;
  for (const auto& [token, id] : file["model"]["vocab"].items()) tokens[id] = token;
  std::map<TokenId, int32_t> types;
  for (const auto& token : file["added_tokens"]) {
    tokens[token["id"]] = token["content"];
    types[token["id"]] = token["special"].get<bool>() ? 3 : 4;
  }
  for (TokenId id = 0; id <= tokens.rbegin()->first; ++id) {
    const bool known = tokens.contains(id);
    const std::string text = known ? tokens[id] : "[PAD" + std::to_string(id) + "]";
    v.tokens.push_back(text);
    v.token_types.push_back(types.contains(id) ? types[id] : known ? 1 : 5);
  }
  for (const auto& merge : file["model"]["merges"]) {
    v.merges.push_back(merge.is_string()
                           ? merge.get<std::string>()
                           : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  return v;
}

// The scores of SentencePiece models are in tokenizer.model only.
GgufVocabulary VocabularyOfPieces(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const auto model = ParseSentencePieceModel(text);
  EXPECT_TRUE(model.ok()) << model.status();
  GgufVocabulary v;
  v.model = "llama";
  v.bos_id = model->bos_id;
  v.eos_id = model->eos_id;
  for (const SentencePiece& piece : model->pieces) {
    v.tokens.push_back(piece.text);
    v.scores.push_back(piece.score);
    v.token_types.push_back(static_cast<int32_t>(piece.type));
  }
  return v;
}

struct GgufCase {
  const char* folder;
  const char* model;
  const char* pre;
  const char* llamacpp;  // the name in llama.cpp's vectors, or nullptr
};

class GgufVectors : public testing::TestWithParam<GgufCase> {};

TEST_P(GgufVectors, GiveTheSameTokenizerAsTheTokenizerJson) {
  const GgufCase& c = GetParam();
  const std::string path = SharedTokenizerDir() + c.folder + "/tokenizer.json";
  if (!FileExists(path)) GTEST_SKIP() << "no shared data at " << path;
  const bool pieces = std::string(c.model) == "llama";
  GgufVocabulary v = pieces
                         ? VocabularyOfPieces(SharedTokenizerDir() + c.folder + "/tokenizer.model")
                         : VocabularyOf(ReadJsonFile(path), c.model, c.pre);
  const auto tokenizer = MakeGgufTokenizer(std::move(v));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (const TokenizerVector& vector : ReadVectors(c.folder)) {
    // The files say nothing of how special tokens treat the blanks around them.
    if (pieces && vector.text.find('<') != std::string::npos) continue;
    EXPECT_EQ((*tokenizer)->Encode(vector.text, false), vector.ids) << vector.text;
    if (!pieces) {
      EXPECT_EQ((*tokenizer)->Decode(vector.ids, false), vector.decoded);
    }
  }
  if (c.llamacpp == nullptr) return;
  const nlohmann::json theirs = ReadJsonFile(SharedTokenizerDir() + "llamacpp_inp_out.json");
  for (const auto& row : theirs[c.llamacpp]["cases"]) {
    EXPECT_EQ((*tokenizer)->Encode(row["text"].get<std::string>(), false), row["ids"].get<Ids>())
        << row["text"];
  }
}

INSTANTIATE_TEST_SUITE_P(Shared, GgufVectors,
                         testing::Values(GgufCase{"gpt2", "gpt2", "gpt-2", "gpt-2"},
                                         GgufCase{"llama3.1", "gpt2", "llama-bpe", "llama-bpe"},
                                         GgufCase{"qwen2.5", "gpt2", "qwen2", "qwen2"},
                                         GgufCase{"qwen3", "gpt2", "qwen2", "qwen2"},
                                         GgufCase{"falcon", "gpt2", "falcon", "falcon"},
                                         GgufCase{"gpt-oss", "gpt2", "gpt-4o", nullptr},
                                         GgufCase{"llama2", "llama", "default", "llama-spm"}),
                         [](const auto& info) {
                           std::string name = info.param.folder;
                           for (char& c : name) {
                             if (c == '-' || c == '.') c = '_';
                           }
                           return name;
                         });

TEST(VocabularyFiles, EveryGgufPreTokenizerCompiles) {
  const std::vector<std::string> names = absl::StrSplit(split_patterns::GgufNames(), ", ");
  EXPECT_GT(names.size(), 50u);
  for (const std::string& name : names) {
    const auto* patterns = split_patterns::FindByGgufName(name);
    ASSERT_NE(patterns, nullptr) << name;
    EXPECT_TRUE(split_patterns::MakeByteLevelSplit(*patterns).ok()) << name;
  }
}

// Among the letters are some that normal forms write otherwise: the Kelvin sign is no K.
TEST(VocabularyFiles, LettersOfDeepSeekAreThoseOfItsTokenizer) {
  const absl::StatusOr<Regex> letters =
      Regex::Compile(split_patterns::FindByGgufName("deepseek-llm")->at(1));
  ASSERT_TRUE(letters.ok()) << letters.status();
  const auto is_letter = [&](std::string_view text) {
    Regex::Match match;
    return letters->Find(text, 0, &match) && match.begin == 0 && match.end == text.size();
  };
  for (const char* letter : {"a", "K", "\u212a", "\u2126", "\u1f7d", "\u1fd3", "\u1fdb", "\u1fbe",
                             "\u1fc2", "\u212d", " \u00e9"}) {
    EXPECT_TRUE(is_letter(letter)) << letter;
  }
  for (const char* other :
       {"[", "1", "\u4f60", "\u03b1\u0300", "\u05d0", "\u1fbd", "\u1fd4", "\u2129", "\u20ac"}) {
    EXPECT_FALSE(is_letter(other)) << other;
  }
}

TEST(VocabularyFiles, GgufPreTokenizersThatShareAPatternCutAlike) {
  GgufVocabulary v;
  v.model = "gpt2";
  v.tokens = {"1", "a", "\u0120", "11", "111", "<s>"};
  v.token_types = {1, 1, 1, 1, 1, 3};
  v.merges = {"1 1", "11 1"};
  v.bos_id = 5;
  const auto ids = [&](const char* pre) {
    v.pre = pre;
    const auto tokenizer = MakeGgufTokenizer(v);
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return tokenizer.ok() ? (*tokenizer)->Encode("1111 a", true) : Ids{};
  };
  // Digits together and three by three, and one by one.
  for (const char* pre : {"exaone4", "gpt-2", "gigachat", "mellum", "modern-bert", "a.x-4.0"})
    EXPECT_EQ(ids(pre), (Ids{3, 3, 2, 1})) << pre;
  for (const char* pre : {"glm4", "glm5", "chatglm-bpe", "minicpm5", "joyai-llm", "hy_v4"})
    EXPECT_EQ(ids(pre), (Ids{4, 0, 2, 1})) << pre;
  for (const char* pre : {"llama-bpe", "midm-2.0", "jina-v5-nano"})
    EXPECT_EQ(ids(pre), (Ids{5, 4, 0, 2, 1})) << pre;
  for (const char* pre : {"f2llmv2", "kormo", "grok-2", "bailingmoe2", "llada-moe", "mellum2"})
    EXPECT_EQ(ids(pre), (Ids{0, 0, 0, 0, 2, 1})) << pre;
}

TEST(VocabularyFiles, GgufMergesOverBlanksSpellBytesThatHaveNoToken) {
  GgufVocabulary v;
  v.model = "gemma4";
  v.tokens = {"<unk>", "<bos>", "<0xC3>", "<0xA9>", "a", "b", "\u2581", "\u2581a", "ab", "\n"};
  v.token_types = {2, 3, 6, 6, 1, 1, 1, 1, 1, 1};
  v.merges = {"\u2581 a", "a b"};
  v.unk_id = 0;
  v.bos_id = 1;
  const auto tokenizer = MakeGgufTokenizer(v);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const Ids ids = (*tokenizer)->Encode("ab ab\n\u00e9<bos>", true);
  EXPECT_EQ(ids, (Ids{1, 8, 7, 5, 9, 2, 3, 1}));
  EXPECT_EQ((*tokenizer)->Decode(ids, true), "ab ab\n\u00e9");
}

TEST(VocabularyFiles, GgufVocabulariesThatDoNotFitAreRefused) {
  GgufVocabulary v;
  v.model = "gpt2";
  v.tokens = {"a", "b", "ab"};
  v.merges = {"a b"};
  const auto good = MakeGgufTokenizer(v);
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ((*good)->Encode("abb", false), (Ids{2, 1}));
  v.pre = "no-such-pre";
  const absl::Status unknown = MakeGgufTokenizer(v).status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(unknown.message().find("llama-bpe"), absl::string_view::npos) << unknown;
  v.pre = "";
  v.merges = {"a c"};
  EXPECT_FALSE(MakeGgufTokenizer(v).ok());
  v.merges = {"ab"};
  EXPECT_FALSE(MakeGgufTokenizer(v).ok());
  v.merges = {};
  v.bos_id = 3;
  EXPECT_FALSE(MakeGgufTokenizer(v).ok());
  v.bos_id.reset();
  v.scores = {1};
  EXPECT_FALSE(MakeGgufTokenizer(v).ok());
  v.scores = {};
  v.token_types = {1, 1, 9};
  EXPECT_FALSE(MakeGgufTokenizer(v).ok());
  v.token_types = {};
  v.model = "rwkv";
  EXPECT_EQ(MakeGgufTokenizer(v).status().code(), absl::StatusCode::kUnimplemented);
}

TEST(VocabularyFiles, AnEmptyGgufPieceIsNoPartOfAnyWord) {
  GgufVocabulary v;
  v.model = "llama";
  v.tokens = {"<unk>", "", "a", "b", "ab"};
  v.scores = {0, 0, -1, -2, -3};
  v.token_types = {2, 1, 1, 1, 1};
  v.unk_id = 0;
  v.add_bos = false;
  v.add_space_prefix = false;
  const auto tokenizer = MakeGgufTokenizer(v);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("abb", false), (Ids{4, 3}));
}

TEST(VocabularyFiles, GgufWordPieceTurnsItsSpellingBack) {
  GgufVocabulary v;
  v.model = "bert";
  v.tokens = {"[UNK]", "[CLS]", "[SEP]", "\u2581un", "aff", "able", "\u2581,"};
  v.token_types = {3, 3, 3, 1, 1, 1, 1};
  v.unk_id = 0;
  v.bos_id = 1;
  v.sep_id = 2;
  const auto tokenizer = MakeGgufTokenizer(v);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("Unaffable, xyz [SEP]", true), (Ids{1, 3, 4, 5, 6, 0, 2, 2}));
  EXPECT_EQ((*tokenizer)->Decode(Ids{3, 4, 5, 6}, true), "unaffable,");
}

}  // namespace
}  // namespace penstock
