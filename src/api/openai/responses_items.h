// What /v1/responses answers with: reasoning, messages and calls of functions, one after the other.
// Owns their texts. Must not know events or sockets.
// Threads: values.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/service.h"

namespace penstock {

struct ResponseItem {
  enum Kind : uint8_t { kReasoning, kMessage, kCall };
  Kind kind = kMessage;
  std::string id;
  std::string text;           // of kCall: its arguments
  std::string call_id, name;  // kCall
  int32_t call = 0;           // kCall: which one of the reply
};

/// With an id of its own.
ResponseItem NewItem(ResponseItem::Kind kind);
ResponseItem NewItem(const CallDelta& call);

/// Part of an item's content. Not of calls.
void AppendItemPart(std::string& out, ResponseItem::Kind kind, std::string_view text);
/// `begun`: nothing of it is known yet but what it is.
void AppendResponseItem(std::string& out, const ResponseItem& item, std::string_view status,
                        bool begun);

/// All items as one message of a conversation.
nlohmann::ordered_json MessageOf(const std::vector<ResponseItem>& items);

}  // namespace penstock
