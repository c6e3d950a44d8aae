#include "ledger/usage_book.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/content_hash.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

constexpr size_t kSlotSize = 256, kNumSlots = 16383, kMaxName = 128;
constexpr size_t kBookSize = kSlotSize * (kNumSlots + 1);
constexpr char kMagic[8] = {'p', 's', 't', 'u', 's', 'e', '0', '1'};
constexpr int kMaxFiles = 64;  // servers with one state_dir
constexpr int64_t kMaxCount = int64_t{1} << 60;
constexpr char kOthers[] = "(others), together";  // a comma is in no name of a tenant

struct BookHeader {
  char magic[8];
  char server[40];
  uint64_t hash;  // of the server
};

uint64_t HashOf(std::string_view text) {
  return ContentHash(
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size()));
}

std::string_view NameIn(const char* field, size_t size) { return {field, strnlen(field, size)}; }

void Add(int64_t& counter, int64_t amount) {
  std::atomic_ref<int64_t>(counter).fetch_add(amount, std::memory_order_relaxed);
}
int64_t Get(const int64_t& counter) {
  return std::atomic_ref<int64_t>(const_cast<int64_t&>(counter)).load(std::memory_order_relaxed);
}
void Raise(int64_t& counter, int64_t least) {
  if (Get(counter) < least) std::atomic_ref<int64_t>(counter).store(least);
}

std::string RandomName() {
  uint64_t bits = 0;
  if (getrandom(&bits, sizeof bits, 0) != sizeof bits)
    bits = static_cast<uint64_t>(absl::GetCurrentTimeNanos()) ^ static_cast<uint64_t>(getpid());
  return absl::StrCat(absl::Hex(bits, absl::kZeroPad16));
}

}  // namespace

struct UsageBook::Slot {
  char name[kMaxName];
  uint64_t hash;  // of the name; a slot whose hash does not fit is free
  int64_t requests, prompt_tokens, cached_tokens, completion_tokens, window_end, window_base;

  int64_t tokens() const { return Get(prompt_tokens) + Get(completion_tokens); }
  bool taken() const { return name[0] != 0 && hash == HashOf(NameIn(name, kMaxName)); }
  UsageRow Row() const {
    return {std::string(NameIn(name, kMaxName)),
            {Get(requests), Get(prompt_tokens), Get(cached_tokens), Get(completion_tokens)},
            Get(window_end),
            Get(window_base)};
  }
  bool sound() const {
    for (const int64_t n :
         {requests, prompt_tokens, cached_tokens, completion_tokens, window_end, window_base}) {
      if (n < 0 || n > kMaxCount) return false;
    }
    return true;
  }
};
static_assert(sizeof(BookHeader) <= kSlotSize);

absl::Status UsageBook::Check(const char* bytes) {
  BookHeader header;
  std::memcpy(&header, bytes, sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) == 0 &&
      header.hash == HashOf(NameIn(header.server, sizeof header.server)))
    return absl::OkStatus();
  return absl::DataLossError("no book of usage");
}

absl::StatusOr<std::shared_ptr<UsageBook>> UsageBook::Open(const std::string& dir) {
  std::error_code ignored;
  std::filesystem::create_directories(dir, ignored);
  for (int n = 0; n < kMaxFiles; ++n) {
    const std::string path = absl::StrCat(dir, "/usage.", n, ".live");
    const auto error = [&](std::string_view what) {
      return absl::UnavailableError(absl::StrCat(
          path, ": ", absl::string_view(what.data(), what.size()), ": ", std::strerror(errno)));
    };
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return error("cannot be opened");
    std::shared_ptr<UsageBook> book(new UsageBook);
    book->fd_ = fd;
    book->number_ = n;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) continue;  // another server's
    struct stat file {};
    if (fstat(fd, &file) != 0) return error("cannot be read");
    const bool fresh = file.st_size != static_cast<off_t>(kBookSize);
    // All of it now: a full disk later is no matter then.
    if (const int code = posix_fallocate(fd, 0, kBookSize); code != 0) {
      if (file.st_size == 0) unlink(path.c_str());
      errno = code;
      return error("no room");
    }
    RETURN_IF_ERROR(book->Map(fd, fresh));
    return book;
  }
  return absl::UnavailableError(absl::StrCat(dir, ": more than ", kMaxFiles, " servers use it"));
}

std::shared_ptr<UsageBook> UsageBook::InMemory() {
  std::shared_ptr<UsageBook> book(new UsageBook);
  // Pages that nobody counts in take no memory.
  void* bytes =
      mmap(nullptr, kBookSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (bytes == MAP_FAILED) return nullptr;
  book->bytes_ = static_cast<char*>(bytes);
  book->set_server_id(RandomName());
  return book;
}

absl::Status UsageBook::Map(int fd, bool fresh) {
  void* bytes = mmap(nullptr, kBookSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (bytes == MAP_FAILED)
    return absl::UnavailableError(absl::StrCat("usage: mmap: ", std::strerror(errno)));
  bytes_ = static_cast<char*>(bytes);
  made_ = fresh || !Check(bytes_).ok();
  if (made_) {
    std::memset(bytes_, 0, kBookSize);
    set_server_id(RandomName());
  } else {
    BookHeader header;
    std::memcpy(&header, bytes_, sizeof header);
    server_id_ = std::string(NameIn(header.server, sizeof header.server));
  }
  Index();
  return absl::OkStatus();
}

void UsageBook::Index() {
  for (size_t i = 1; i <= kNumSlots; ++i) {
    auto* slot = reinterpret_cast<Slot*>(bytes_ + i * kSlotSize);
    if (!slot->taken()) break;
    if (!slot->sound()) {  // a disk that lost power; SQLite has what it had
      const std::string name(NameIn(slot->name, kMaxName));
      const uint64_t hash = slot->hash;
      std::memset(static_cast<void*>(slot), 0, sizeof *slot);
      std::memcpy(slot->name, name.data(), name.size());
      slot->hash = hash;
    }
    slots_.emplace(std::string(NameIn(slot->name, kMaxName)), slot);
  }
}

UsageBook::~UsageBook() {
  if (bytes_ != nullptr) munmap(bytes_, kBookSize);
  if (fd_ >= 0) close(fd_);
}

void UsageBook::set_server_id(const std::string& id) {
  server_id_ = id;
  BookHeader header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  std::memcpy(header.server, id.data(), std::min(id.size(), sizeof header.server - 1));
  header.hash = HashOf(NameIn(header.server, sizeof header.server));
  std::memcpy(bytes_, &header, sizeof header);
}

UsageBook::Slot* UsageBook::Of(const std::string& tenant) {
  const std::lock_guard lock(mutex_);
  if (const auto it = slots_.find(tenant); it != slots_.end()) return it->second;
  const bool last = slots_.size() + 1 >= kNumSlots;
  const std::string name = last || tenant.size() >= kMaxName || tenant.empty() ? kOthers : tenant;
  if (const auto it = slots_.find(name); it != slots_.end()) return it->second;
  auto* slot = reinterpret_cast<Slot*>(bytes_ + (slots_.size() + 1) * kSlotSize);
  // The hash last: it is what makes a slot one.
  std::memset(static_cast<void*>(slot), 0, sizeof *slot);
  std::memcpy(slot->name, name.data(), name.size());
  std::atomic_ref<uint64_t>(slot->hash).store(HashOf(name), std::memory_order_release);
  slots_.emplace(name, slot);
  return slot;
}

UsageBook::Window UsageBook::WindowOf(const std::string& tenant) {
  const Slot* slot = Of(tenant);
  const int64_t end = Get(slot->window_end);
  if (end == 0 || NameIn(slot->name, kMaxName) != tenant) return {};
  // A discount on what was counted before the window began may go below nothing.
  return {absl::FromUnixMillis(end), std::max<int64_t>(0, slot->tokens() - Get(slot->window_base))};
}

void UsageBook::BeginWindow(const std::string& tenant, absl::Time end) {
  Slot* slot = Of(tenant);
  if (NameIn(slot->name, kMaxName) != tenant) return;  // a line that many share has none
  if (Get(slot->window_end) == absl::ToUnixMillis(end)) return;
  // In this order: a crash between the two leaves a window that has ended.
  std::atomic_ref<int64_t>(slot->window_base).store(slot->tokens());
  std::atomic_ref<int64_t>(slot->window_end).store(absl::ToUnixMillis(end));
}

void UsageBook::Merge(const UsageRow& row) {
  Slot* slot = Of(row.tenant);
  if (NameIn(slot->name, kMaxName) != row.tenant) return;
  if (Get(slot->window_end) == 0) {
    std::atomic_ref<int64_t>(slot->window_base).store(row.window_base);
    std::atomic_ref<int64_t>(slot->window_end).store(row.window_end);
  }
  Raise(slot->requests, row.totals.requests);
  Raise(slot->prompt_tokens, row.totals.prompt_tokens);
  Raise(slot->cached_tokens, row.totals.cached_tokens);
  Raise(slot->completion_tokens, row.totals.completion_tokens);
}

std::vector<UsageRow> UsageBook::Rows() const {
  const std::lock_guard lock(mutex_);
  std::vector<UsageRow> out;
  for (const auto& [name, slot] : slots_) out.push_back(slot->Row());
  std::sort(out.begin(), out.end(),
            [](const UsageRow& a, const UsageRow& b) { return a.tenant < b.tenant; });
  return out;
}

std::vector<UsageBook::File> UsageBook::ReadAll(const std::string& dir) {
  std::vector<File> out;
  for (int n = 0; n < kMaxFiles; ++n) {
    std::ifstream in(absl::StrCat(dir, "/usage.", n, ".live"), std::ios::binary);
    std::vector<char> bytes(kBookSize);
    if (!in.read(bytes.data(), kBookSize) || !Check(bytes.data()).ok()) continue;
    BookHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    File& file = out.emplace_back();
    file.number = n;
    file.server = std::string(NameIn(header.server, sizeof header.server));
    for (size_t i = 1; i <= kNumSlots; ++i) {
      Slot slot;
      std::memcpy(static_cast<void*>(&slot), bytes.data() + i * kSlotSize, sizeof slot);
      if (!slot.taken()) break;
      if (slot.sound()) file.rows.push_back(slot.Row());
    }
  }
  return out;
}

UsageMeter::UsageMeter(std::shared_ptr<UsageBook> book, const std::string& tenant)
    : book_(std::move(book)), slot_(book_ == nullptr ? nullptr : book_->Of(tenant)) {}

void UsageMeter::CountRequest(int64_t prompt_tokens) {
  if (slot_ == nullptr || counted_) return;
  counted_ = true;
  Add(slot_->requests, 1);
  Add(slot_->prompt_tokens, prompt_tokens);
}

void UsageMeter::CountOutput(int64_t tokens) const {
  if (slot_ != nullptr) Add(slot_->completion_tokens, tokens);
}

void UsageMeter::Discount(int64_t tokens) const {
  // As if the window had begun so much later; a row without a window has no budget.
  if (slot_ != nullptr && tokens > 0 && Get(slot_->window_end) != 0)
    Add(slot_->window_base, tokens);
}

void UsageMeter::CountCached(int64_t tokens) const {
  if (slot_ != nullptr) Add(slot_->cached_tokens, tokens);
}

}  // namespace penstock
