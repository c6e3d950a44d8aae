// Talk behind a real HTTP server on a free loopback port.
// Owns both. Must not know what is tested.
// Threads: for one test.
#pragma once

#include <memory>

#include "api/http/http_server.h"
#include "api/openai/routes.h"
#include "fakes/http_client.h"
#include "fakes/talk_fixture.h"

namespace penstock {

struct HttpTalk : Talk {
  using AddRoutes = void (*)(Router&, GenerationService&, const Answers&);
  explicit HttpTalk(FakeEngine::Script script = FakeEngine::Repeat, LimitsSection limits = {},
                    std::vector<std::string> keys = {}, bool start_engine = true,
                    std::vector<std::string> cors_origins = {}, AddRoutes add = AddOpenAiRoutes,
                    const RecentErrors* errors = nullptr)
      : Talk(std::move(script), limits, std::move(keys), &SystemClock::Get(), errors),
        router(access.get(), &catalogue) {
    ServerConfig with_origins = *config.Get();
    with_origins.server.cors_origins = std::move(cors_origins);
    config.Set(std::move(with_origins));
    add(router, *service, std::make_shared<IdempotencyStore>(&config, &service->clock()));
    HttpServerOptions options;
    options.address = "127.0.0.1:0";
    options.config = &config;
    options.cross_origin = true;
    options.clock = &SystemClock::Get();
    options.on_answer = [this](int code) { catalogue.CountRequest(code); };
    auto listening = HttpServer::Bind(std::move(options));
    EXPECT_TRUE(listening.ok()) << listening.status();
    server = *std::move(listening);
    EXPECT_TRUE(server->Serve(&router).ok());
    if (start_engine) engine.Start();
  }
  ~HttpTalk() {
    server->Drain(absl::ZeroDuration());
    engine.Pause(false);
  }
  int port() const { return server->port(); }

  Router router;
  std::unique_ptr<HttpServer> server;
};

}  // namespace penstock
