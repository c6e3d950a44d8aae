// Sockets that are files: who may open them, and what is done with one that is there already.
#include "api/http/listen_socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "api/http/http_server.h"
#include "fakes/temp_dir.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

struct ListenSocketTest : ::testing::Test {
  bool Answers() const {
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, path.data(), path.size());
    bool answers = connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0;
    const std::string request = "GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    answers = answers && write(fd, request.data(), request.size()) > 0;
    char buffer[1024];
    answers =
        answers && read(fd, buffer, sizeof buffer) > 12 && std::memcmp(buffer + 9, "200", 3) == 0;
    close(fd);
    return answers;
  }
  TempDir folder;
  const std::string path = folder.path() + "/admin.sock";
};

TEST_F(ListenSocketTest, IsForItsOwnerAloneAndLeavesNothingBehind) {
  ServerConfig config;
  config.auth.api_keys = {"key"};
  const AccessControl control(*MakeAccessRules(config));
  Router router(&control);
  router.Add("GET", "/who", RouteAccess::Needs(Permission::kKeys),
             [](std::shared_ptr<HttpExchange> e) {
               HttpResponse response;
               response.body = e->request().principal->proof == Proof::kSocket ? "socket" : "";
               e->Respond(std::move(response));
             });
  const Live<ServerConfig> live(config);
  HttpServerOptions options;
  options.config = &live;
  options.address = "unix:" + path;
  options.clock = &SystemClock::Get();
  {
    auto server = HttpServer::Bind(options);
    ASSERT_TRUE(server.ok()) << server.status();
    struct stat file {};
    ASSERT_EQ(stat(path.c_str(), &file), 0);
    EXPECT_EQ(file.st_mode & 0777, 0600);
    const auto second = BindSocket("unix:" + path);
    EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable) << "before it serves";
    ASSERT_TRUE((*server)->Serve(&router).ok());
    EXPECT_THAT(std::string(BindSocket("unix:" + path).status().message()),
                HasSubstr("is in use: another server listens there"));
    EXPECT_TRUE(Answers()) << "who opens the file may do everything";
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(ListenSocketTest, ReplacesWhatAServerThatIsGoneLeftBehind) {
  const auto gone = BindSocket("unix:" + path);
  ASSERT_TRUE(gone.ok());
  close(gone->descriptor);
  ASSERT_TRUE(std::filesystem::exists(path));
  const auto next = BindSocket("unix:" + path);
  ASSERT_TRUE(next.ok()) << next.status();
  close(next->descriptor);
}

TEST_F(ListenSocketTest, TouchesNoFileThatIsNoSocket) {
  std::ofstream(path) << "precious";
  EXPECT_THAT(std::string(BindSocket("unix:" + path).status().message()),
              HasSubstr("is no socket"));
  EXPECT_EQ(std::filesystem::file_size(path), 8);
  for (const std::string& bad : {std::string("unix:"), "unix:/" + std::string(200, 'x')})
    EXPECT_EQ(BindSocket(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  EXPECT_EQ(BindSocket("unix:/nowhere/at/all").status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace penstock
