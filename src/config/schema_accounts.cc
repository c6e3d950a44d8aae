// The configuration of what is counted beyond one server and kept beyond one process.
#include "config/schema.h"

namespace penstock {

ConfigSection DescribeSharedLimits(SharedLimitsSection& c) {
  return {"shared",
          "Limits of tenants counted together by all servers that name the same Redis. redis and "
          "password_file are changed only by a restart.",
          {
              {"redis", &c.redis,
               "host:port of a Redis (6 or newer, no cluster). Empty: each server gives the limits "
               "by itself."},
              {"password_file", &c.password_file,
               "A file with its password, relative to this file. Empty: none."},
              {"on_outage",
               &c.on_outage,
               "While Redis does not answer. local: each server gives its part, 1/replicas. block: "
               "requests of tenants with limits are a 503.",
               {"local", "block"}},
              {"replicas", &c.replicas, "Servers that share.", {}, 1, 10000},
          }};
}

ConfigSection DescribePrivacy(AuditSection& c) {
  return {"privacy",
          "What is recorded of who did what.",
          {},
          {{"audit",
            "A log of decisions without content, in server.state_dir/audit, each line chained to "
            "the one before; `penstock admin audit verify` finds what was altered. Changed only by "
            "a restart, but for on_failure and ttl.",
            {
                {"enabled", &c.enabled, "Whether it is written; needs server.state_dir."},
                {"sign_key_file", &c.sign_key_file,
                 "An Ed25519 key (PEM, openssl genpkey -algorithm ed25519), relative to this file: "
                 "signs a checkpoint each 1000 lines or 60 s. Empty: checkpoints are not signed."},
                {"on_failure",
                 &c.on_failure,
                 "While lines cannot be written. alert: metrics and log say so. block: further "
                 "requests are a 503.",
                 {"alert", "block"}},
                {"rotate", &c.rotate, "Bytes after which another file is begun."},
                {"ttl", &c.ttl, "Files that ended longer ago are deleted. 0s: none."},
            }}}};
}

}  // namespace penstock
