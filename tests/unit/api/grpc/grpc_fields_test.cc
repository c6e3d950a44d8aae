// The .proto and the table of request fields are one.
#include <gtest/gtest.h>

#include "penstock/v1/inference.pb.h"
#include "service/call_fields.h"

namespace penstock {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

struct Message {
  Surface surface;
  const Descriptor* descriptor;
  int num_own_forms;  // fields that are not in the table
};

TEST(GrpcFields, AreThoseOfTheTableWithTheSameTypes) {
  for (const Message& message : {Message{kGrpcGenerate, v1::GenerateRequest::descriptor(), 2},
                                 Message{kGrpcChat, v1::ChatRequest::descriptor(), 4},
                                 Message{kGrpcEmbed, v1::EmbedRequest::descriptor(), 1}}) {
    int num_fields = 0;
    for (const CallField& field : CallFields()) {
      if ((field.surfaces & message.surface) == 0) continue;
      ++num_fields;
      const FieldDescriptor* proto = message.descriptor->FindFieldByName(std::string(field.name));
      ASSERT_NE(proto, nullptr) << field.name;
      constexpr FieldDescriptor::CppType kTypes[] = {
          FieldDescriptor::CPPTYPE_DOUBLE, FieldDescriptor::CPPTYPE_INT64,
          FieldDescriptor::CPPTYPE_BOOL,   FieldDescriptor::CPPTYPE_STRING,
          FieldDescriptor::CPPTYPE_STRING, FieldDescriptor::CPPTYPE_INT32,
          FieldDescriptor::CPPTYPE_MESSAGE};
      EXPECT_EQ(proto->cpp_type(), kTypes[field.member.index()]) << field.name;
    }
    EXPECT_EQ(num_fields + message.num_own_forms, message.descriptor->field_count());
  }
}

}  // namespace
}  // namespace penstock
