#include "chain/chain_set.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "chain/answer_cache.h"
#include "chain/http_link.h"
#include "chain/lua_link.h"
#include "chain/request_links.h"
#include "chain/text_links.h"
#include "config/guard_fields.h"
#include "metrics/catalogue.h"

namespace penstock {
namespace {

absl::StatusOr<std::unique_ptr<ChainLink>> MakeLink(const std::string& name,
                                                    const GuardEntry& settings) {
  if (settings.use == "ban") return MakeBanLink(name, settings);
  if (settings.use == "cache")
    return std::unique_ptr<ChainLink>(std::make_unique<CacheLink>(name, settings));
  if (settings.use == "lua") return MakeLuaLink(name, settings);
  if (settings.use == "http") return MakeHttpLink(name, settings);
  if (settings.use == "lang") return MakeLangLink(name, settings);
  return MakeRequestLink(name, settings);
}

/// What a name of the chain stands for.
GuardEntry SettingsOf(const ServerConfig& config, const std::string& name) {
  if (const auto found = config.guards.find(name); found != config.guards.end())
    return found->second;
  GuardEntry plain;
  plain.use = name.substr(0, name.find(':'));
  if (plain.use == "schema") {  // what no honest request has
    plain.max_messages = 4096;
    plain.max_tools = 512;
  }
  return plain;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const ChainSet>> ChainSet::Make(const ServerConfig& config,
                                                               Catalogue* catalogue,
                                                               const ChainSet* before,
                                                               const ChainLink::Log& log) {
  auto set = std::make_shared<ChainSet>();
  const auto add = [&](const std::string& name, Links& links) -> absl::Status {
    std::shared_ptr<ChainLink>& link = set->links_[name];
    if (link == nullptr) {
      const GuardEntry settings = SettingsOf(config, name);
      const auto old =
          before == nullptr ? decltype(set->links_)::const_iterator() : before->links_.find(name);
      if (before != nullptr && old != before->links_.end() && old->second->settings() == settings) {
        link = old->second;
      } else {
        absl::StatusOr<std::unique_ptr<ChainLink>> made = MakeLink(name, settings);
        if (!made.ok()) return Annotate(made.status(), absl::StrCat("guards.", name));
        link = *std::move(made);
        link->log = log;
        if (catalogue != nullptr) catalogue->AddChainLink(name, link->seconds, link->errors);
      }
    }
    links.push_back(link);
    return absl::OkStatus();
  };
  for (const auto& [name, guard] : config.guards) {  // also those that nobody uses are checked
    Links unused;
    RETURN_IF_ERROR(add(name, unused));
  }
  const auto chain_of = [&](const std::vector<std::string>& guards, Links& links) -> absl::Status {
    for (const std::string& name : config.chain) {
      if (name != kTenantGuards) {
        RETURN_IF_ERROR(add(name, links));
        continue;
      }
      for (const std::string& guard : guards) {
        bool in_chain = false;  // a tenant's guard that stands there anyway runs once
        for (const std::string& other : config.chain) in_chain = in_chain || other == guard;
        if (!in_chain) RETURN_IF_ERROR(add(guard, links));
      }
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(chain_of({}, set->all_));
  for (const auto& [tenant, entry] : config.tenants)
    RETURN_IF_ERROR(chain_of(entry.guard, set->tenants_[tenant]));
  return std::shared_ptr<const ChainSet>(std::move(set));
}

const Links& ChainSet::For(const std::string& tenant) const {
  if (tenants_.empty()) return all_;
  auto found = tenants_.find(tenant);
  if (found == tenants_.end()) found = tenants_.find("*");
  return found == tenants_.end() ? all_ : found->second;
}

}  // namespace penstock
