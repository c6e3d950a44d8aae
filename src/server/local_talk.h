// One model and the service on it in this process, without listeners: what `penstock run` talks to.
// Owns everything. Must not know terminals.
// Threads: confined to one thread; its answers come from threads of its own and are handed over.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "penstock/config.h"

namespace penstock {

struct TalkMessage {
  std::string role, content;
};

/// What an answer is made with; an empty optional is the model's own value.
struct TalkSampling {
  std::optional<double> temperature, top_p;
  std::optional<int64_t> max_tokens, seed, top_k;
  bool ignore_eos = false;
};

struct TalkEnd {
  int64_t prompt_tokens = 0, completion_tokens = 0;
  double seconds = 0, first_token_seconds = 0;
  bool was_stopped = false;  // by `stops`
  bool was_cut = false;      // at max_tokens or the context
};

class LocalTalk {
 public:
  /// Loads models.begin() of `config`. Errors are one line.
  static absl::StatusOr<std::unique_ptr<LocalTalk>> Load(ServerConfig config);
  ~LocalTalk();

  /// Whether the model has a chat template; without one it continues texts.
  bool chats() const;
  const std::string& name() const;

  /// Answers a conversation, or continues its last message's text. `take` gets each piece as it
  /// comes, `is_reasoning` says whether it is thought; `stops` is asked often, and true ends the
  /// answer.
  using TakeFn = std::function<void(std::string_view text, bool is_reasoning)>;
  absl::StatusOr<TalkEnd> Answer(const std::vector<TalkMessage>& messages,
                                 const TalkSampling& sampling, const TakeFn& take,
                                 const std::function<bool()>& stops);

 private:
  struct Parts;
  explicit LocalTalk(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace penstock
