#include "server/checkpoint_log.h"

#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/logging.h"

namespace penstock {
namespace {

/// Names a few groups of them; `penstock inspect` lists all.
void LogUnread(const std::string& model, const std::string& what,
               const std::map<std::string, TensorShare>& groups, const std::string& why = "") {
  if (groups.empty()) return;
  constexpr size_t kNamed = 6;
  std::vector<std::string> names;
  for (auto it = groups.begin(); it != groups.end() && names.size() < kNamed; ++it)
    names.push_back(it->first);
  if (groups.size() > kNamed) names.push_back(absl::StrCat(groups.size() - kNamed, " more"));
  std::vector<LogField> fields = {{"model", model}, {"names", absl::StrJoin(names, ", ")}};
  if (!why.empty()) fields.push_back({"why", why});
  Log(LogLevel::kInfo, what + " of the checkpoint are not used", fields);
}

}  // namespace

void LogUnused(const std::string& name, const std::string& method, const LoadedModel& model) {
  if (model.head != nullptr)
    Log(LogLevel::kInfo, "the checkpoint's prediction head is loaded, to guess", {{"model", name}});
  std::string why = model.no_head;
  if (model.head != nullptr) why = "the first alone guesses";
  if (why.empty()) why = "engine.speculation.method is " + method + ", mtp and auto use them";
  LogUnread(name, "prediction layers", model.unread.prediction_layers, why);
  LogUnread(name, "tensors", model.unread.others);
}

}  // namespace penstock
