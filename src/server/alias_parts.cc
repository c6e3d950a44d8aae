#include "server/alias_parts.h"

#include "server/audit_events.h"
#include "server/logging.h"
#include "server/state_file.h"

namespace penstock {

std::unique_ptr<AliasParts> AliasParts::Open(const ServerConfig& config, AdapterRegistry* registry,
                                             Catalogue* catalogue, AuditLoop* audit) {
  auto parts = std::make_unique<AliasParts>();
  if (config.aliases != "local") return parts;
  AliasBook::OnChange on_change;
  if (audit != nullptr) {
    on_change = [audit](const std::string& alias, const std::string& from, const std::string& to) {
      AuditAlias(*audit, alias, from, to);
    };
  }
  parts->book_ = std::make_unique<AliasBook>(
      StateFile(config.server), registry, catalogue->MakeAliasesReadable(),
      [](bool failed, std::string_view line) {
        Log(failed ? LogLevel::kError : LogLevel::kInfo, line);
      },
      std::move(on_change));
  parts->loop_.Add([book = parts->book_.get()] { book->Check(); });
  parts->loop_.Start();
  return parts;
}

}  // namespace penstock
