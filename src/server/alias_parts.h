// The aliases that operators set while the server runs, and who looks whether the state file has
// others by now.
// Owns both. Must not know routes.
// Threads: Open is confined to the main thread; the book is thread-safe.
#pragma once

#include <memory>

#include "access/access_loop.h"
#include "ledger/audit_loop.h"
#include "metrics/catalogue.h"
#include "penstock/config.h"
#include "service/alias_book.h"

namespace penstock {

class AliasParts {
 public:
  /// A state file that cannot be read is logged and no error. `registry` and `audit` (null: none)
  /// outlive this.
  static std::unique_ptr<AliasParts> Open(const ServerConfig& config, AdapterRegistry* registry,
                                          Catalogue* catalogue, AuditLoop* audit);

  AliasBook* book() const { return book_.get(); }  // null: aliases are the configuration's alone

 private:
  std::unique_ptr<AliasBook> book_;
  AccessLoop loop_;  // its thread ends before what it looks at
};

}  // namespace penstock
