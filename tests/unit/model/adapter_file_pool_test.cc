#include "model/adapter_file_pool.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "fakes/temp_dir.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

std::string TextOf(const AdapterFilePool::Bytes& bytes) {
  return bytes == nullptr
             ? "none"
             : std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
}

/// Other bytes in the same file, which no clock tells from the old ones.
void Alter(const TempDir& dir, const std::string& name, const std::string& text) {
  const fs::path path = fs::path(dir.path()) / name;
  const auto time = fs::last_write_time(path);
  dir.Write(name, text);
  fs::last_write_time(path, time);
}

TEST(AdapterFilePool, ReadsAFileOnceWhileItStaysAsItIs) {
  const TempDir dir;
  AdapterFilePool pool(100);
  const std::string path = dir.Write("a", "first");
  EXPECT_EQ(TextOf(pool.Read(path)), "first");
  Alter(dir, "a", "secnd");
  EXPECT_EQ(TextOf(pool.Read(path)), "first");
  fs::last_write_time(path, fs::last_write_time(path) + std::chrono::nanoseconds(1));
  EXPECT_EQ(TextOf(pool.Read(path)), "secnd");
  Alter(dir, "a", "longer");
  EXPECT_EQ(TextOf(pool.Read(path)), "longer");
  EXPECT_EQ(pool.num_bytes(), 6);
  // What somebody has is his, whatever becomes of the file.
  const AdapterFilePool::Bytes held = pool.Read(path);
  fs::remove(path);
  EXPECT_EQ(pool.Read(path), nullptr);
  EXPECT_EQ(pool.num_bytes(), 0);
  EXPECT_EQ(TextOf(held), "longer");
  EXPECT_EQ(pool.Read(dir.path()), nullptr);
}

TEST(AdapterFilePool, LetsGoWhatWasNotUsedForTheLongest) {
  const TempDir dir;
  AdapterFilePool pool(10);
  const std::string a = dir.Write("a", "aaaa"), b = dir.Write("b", "bbbb"),
                    c = dir.Write("c", "cccc");
  EXPECT_EQ(TextOf(pool.Read(a)), "aaaa");
  EXPECT_EQ(TextOf(pool.Read(b)), "bbbb");
  EXPECT_EQ(TextOf(pool.Read(a)), "aaaa");
  EXPECT_EQ(TextOf(pool.Read(c)), "cccc");
  EXPECT_EQ(pool.num_bytes(), 8);
  Alter(dir, "a", "AAAA");
  Alter(dir, "b", "BBBB");
  EXPECT_EQ(TextOf(pool.Read(a)), "aaaa");
  EXPECT_EQ(TextOf(pool.Read(b)), "BBBB");
  EXPECT_EQ(pool.Read(dir.Write("large", std::string(11, 'x'))), nullptr);
  EXPECT_EQ(pool.num_bytes(), 8);
  EXPECT_EQ(TextOf(pool.Read(dir.Write("whole", std::string(10, 'y')))), std::string(10, 'y'));
  EXPECT_EQ(pool.num_bytes(), 10);
}

}  // namespace
}  // namespace penstock
