// A blocking HTTP/1.1 client over a loopback socket, with access to the raw bytes.
// Owns its socket. Must not know the API.
// Threads: for one test.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "fakes/patience.h"

namespace penstock {

struct ClientResponse {
  int status = 0;                              // 0: the connection ended before a whole answer
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

class HttpClient {
 public:
  explicit HttpClient(int port, int receive_buffer = 0) {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    if (receive_buffer > 0)
      setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    const timeval limit{kPatience.count(), 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) Close();
  }
  ~HttpClient() { Close(); }
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  bool connected() const { return fd_ >= 0; }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  void Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  static std::string PostText(std::string_view path, std::string_view body,
                              std::string_view headers = "") {
    return absl::StrCat("POST ", std::string(path),
                        " HTTP/1.1\r\nHost: x\r\nContent-Length: ", body.size(), "\r\n",
                        std::string(headers), "\r\n", std::string(body));
  }
  ClientResponse Post(std::string_view path, std::string_view body, std::string_view headers = "") {
    Send(PostText(path, body, headers));
    return Read();
  }
  ClientResponse Get(std::string_view path, std::string_view headers = "") {
    Send(absl::StrCat("GET ", std::string(path), " HTTP/1.1\r\nHost: x\r\n", std::string(headers),
                      "\r\n"));
    return Read();
  }
  /// More bytes into the buffer; false at the end of the connection or after kPatience.
  bool Fill() {
    char bytes[4096];
    const ssize_t count = recv(fd_, bytes, sizeof bytes, 0);
    if (count <= 0) return false;
    buffer_.append(bytes, static_cast<size_t>(count));
    return true;
  }
  /// Reads until the buffer holds `text`; does not take it out.
  bool FillUntil(std::string_view text) {
    while (buffer_.find(text) == std::string::npos) {
      if (!Fill()) return false;
    }
    return true;
  }
  /// True where the server closes without sending more.
  bool AtEnd() { return buffer_.empty() && !Fill(); }
  const std::string& buffer() const { return buffer_; }

  /// One whole answer; `head`: it has no body.
  ClientResponse Read(bool head = false) {
    ClientResponse response;
    if (!FillUntil("\r\n\r\n")) return response;
    const size_t end = buffer_.find("\r\n\r\n");
    std::string_view text = std::string_view(buffer_).substr(0, end);
    const int status = std::atoi(std::string(text.substr(9, 3)).c_str());
    for (size_t at = text.find("\r\n"); at != std::string_view::npos;) {
      const size_t next = text.find("\r\n", at + 2);
      const std::string_view line =
          text.substr(at + 2, next == std::string_view::npos ? next : next - at - 2);
      const size_t colon = line.find(": ");
      response.headers[absl::AsciiStrToLower(std::string(line.substr(0, colon)))] =
          std::string(line.substr(colon + 2));
      at = next;
    }
    buffer_.erase(0, end + 4);
    const bool chunked = response.headers.count("transfer-encoding") > 0;
    const bool has_length = response.headers.count("content-length") > 0;
    if (head || status == 204) {
      response.status = status;
      return response;
    }
    if (chunked ? !ReadChunks(response.body) : !ReadLength(response, has_length)) return response;
    response.status = status;
    return response;
  }

 private:
  bool ReadLength(ClientResponse& response, bool has_length) {
    if (!has_length) {
      while (Fill()) {
      }
      response.body = std::exchange(buffer_, {});
      return true;
    }
    const size_t length = std::strtoull(response.headers["content-length"].c_str(), nullptr, 10);
    while (buffer_.size() < length) {
      if (!Fill()) return false;
    }
    response.body = buffer_.substr(0, length);
    buffer_.erase(0, length);
    return true;
  }
  bool ReadChunks(std::string& body) {
    while (true) {
      if (!FillUntil("\r\n")) return false;
      const size_t line = buffer_.find("\r\n");
      const size_t length = std::strtoull(buffer_.substr(0, line).c_str(), nullptr, 16);
      while (buffer_.size() < line + 2 + length + 2) {
        if (!Fill()) return false;
      }
      body += buffer_.substr(line + 2, length);
      buffer_.erase(0, line + 2 + length + 2);
      if (length == 0) return true;
    }
  }

  int fd_ = -1;
  std::string buffer_;
};

}  // namespace penstock
