// The .proto, its comments and the table of request fields are one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <regex>
#include <set>

#include "penstock/v1/inference.pb.h"
#include "service/call_fields.h"

namespace penstock {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using ::testing::HasSubstr;

struct RequestMessage {
  Surface surface;
  const Descriptor* descriptor;
};

std::vector<RequestMessage> RequestMessages() {
  return {{kGrpcGenerate, v1::GenerateRequest::descriptor()},
          {kGrpcChat, v1::ChatRequest::descriptor()},
          {kGrpcEmbed, v1::EmbedRequest::descriptor()},
          {kGrpcTokenize, v1::TokenizeRequest::descriptor()},
          {kGrpcDetokenize, v1::DetokenizeRequest::descriptor()}};
}

/// As the .proto writes it: "optional double", "repeated ChatMessage".
std::string TypeOf(const FieldDescriptor& field) {
  if (field.is_map()) return "map";
  std::string type = field.type_name();
  if (field.message_type() != nullptr) type = field.message_type()->name();
  if (field.is_repeated()) return "repeated " + type;
  return (field.has_optional_keyword() ? "optional " : "") + type;
}

/// What the member of the row asks for.
std::string WantedType(const CallField& field) {
  static const std::map<std::string_view, std::string> kOwnForms = {
      {"prompt", "string"},                  // of a oneof
      {"prompt_ids", "TokenIds"},            // the same one
      {"messages", "repeated ChatMessage"},  //
      {"tools", "repeated string"},
      {"documents", "repeated string"},
      {"chat_template_kwargs", "optional string"},
      {"response_format", "optional string"},
      {"structured_outputs", "optional string"},
      {"tool_choice", "optional string"},
      {"input", "repeated EmbedInput"},
      {"text", "string"},       // of a oneof
      {"chat", "ChatRequest"},  // the same one
      {"return_token_strs", "optional bool"},
  };
  if (std::holds_alternative<OwnForm>(field.member)) {
    const auto it = kOwnForms.find(field.name);
    return it == kOwnForms.end() ? "a form that this test does not know" : it->second;
  }
  constexpr const char* kTypes[] = {"optional double",
                                    "optional int64",
                                    "optional bool",
                                    "optional string",
                                    "repeated string",
                                    "repeated int32",
                                    "map"};
  return kTypes[field.member.index()];
}

TEST(GrpcFields, AreThoseOfTheTableWithTheSameTypes) {
  for (const auto& [surface, descriptor] : RequestMessages()) {
    std::set<std::string> in_table;
    for (const CallField& field : CallFields()) {
      if ((field.surfaces & surface) == 0) continue;
      in_table.insert(std::string(field.name));
      const FieldDescriptor* proto = descriptor->FindFieldByName(std::string(field.name));
      ASSERT_NE(proto, nullptr) << descriptor->name() << " has no " << field.name;
      EXPECT_EQ(TypeOf(*proto), WantedType(field)) << descriptor->name() << "." << field.name;
    }
    for (int i = 0; i < descriptor->field_count(); ++i) {
      EXPECT_TRUE(in_table.contains(descriptor->field(i)->name()))
          << descriptor->name() << "." << descriptor->field(i)->name() << " is not in the table";
    }
  }
}

TEST(GrpcFields, HaveTheNumbersOfEachOther) {
  const Descriptor* generate = v1::GenerateRequest::descriptor();
  for (const auto& [surface, descriptor] : RequestMessages()) {
    if ((surface & kTokens) != 0) continue;  // few fields, with numbers of their own
    for (int i = 0; i < descriptor->field_count(); ++i) {
      const FieldDescriptor& field = *descriptor->field(i);
      const FieldDescriptor* same = generate->FindFieldByName(field.name());
      if (same == nullptr) continue;
      EXPECT_EQ(field.number(), same->number()) << descriptor->name() << "." << field.name();
    }
  }
}

/// "Message.field" -> its comment; the comments before messages and calls under their own names.
std::map<std::string, std::string> ProtoComments(std::vector<std::string>* silent) {
  std::ifstream file(PENSTOCK_SOURCE_DIR "/proto/penstock/v1/inference.proto");
  const std::regex opening(R"(^(?:message|service|enum) (\w+) \{.*)");
  const std::regex call(R"(^  rpc (\w+)\(.*)");
  const std::regex field(R"(^ +(?:[\w<>, ]+ )?(\w+) = \d+;(?: +// (.+))?$)");
  std::map<std::string, std::string> comments;
  std::string line, before, message;
  std::smatch match;
  while (std::getline(file, line)) {
    const auto note = [&](const std::string& name, const std::string& comment) {
      comments[name] = comment;
      if (comment.empty()) silent->push_back(name);
    };
    if (std::regex_match(line, match, opening)) {
      message = match[1];
      note(message, before);
    } else if (std::regex_match(line, match, call)) {
      note(match[1], before);
    } else if (std::regex_match(line, match, field)) {
      note(message + "." + match[1].str(), match[2]);
    }
    before = line.find("//") == std::string::npos ? "" : line;
  }
  return comments;
}

TEST(GrpcFields, CarryCommentsThatSayTheRange) {
  std::vector<std::string> silent;
  const auto comments = ProtoComments(&silent);
  EXPECT_THAT(silent, ::testing::IsEmpty());
  for (const auto& [surface, descriptor] : RequestMessages()) {
    for (const CallField& field : CallFields()) {
      if ((field.surfaces & surface) == 0) continue;
      const std::string name = descriptor->name() + "." + std::string(field.name);
      ASSERT_TRUE(comments.contains(name)) << name;
      const std::string expected = ExpectedValue(field);
      const size_t range = expected.find_first_of("[(");
      if (range == std::string::npos || std::holds_alternative<OwnForm>(field.member)) continue;
      EXPECT_THAT(comments.at(name), HasSubstr(expected.substr(range))) << name;
    }
  }
  for (const auto* message : {v1::ChatMessage::descriptor(), v1::ChatChoice::descriptor()}) {
    for (int i = 0; i < message->field_count(); ++i)
      EXPECT_TRUE(comments.contains(message->name() + "." + message->field(i)->name()));
  }
}

}  // namespace
}  // namespace penstock
