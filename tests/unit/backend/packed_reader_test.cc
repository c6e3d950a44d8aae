#include "backend/cpu/packed_reader.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "fakes/safetensors_writer.h"

namespace penstock {
namespace {

TEST(PackedReader, MappedAndCopiedLayersAreAlike) {
  const TempDir dir;
  WorkerPool pool(2);
  const auto backend = OpenBackend({"cpu", &pool});
  ASSERT_TRUE(backend.ok()) << backend.status();
  const PackedFile file{dir.path() + "/packed", {1, 2}};
  std::vector<float> numbers(100 * 3000), bias(100);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i);
  for (size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i);
  LinearPart part;
  part.weight = numbers.data();
  part.bias = bias.data();
  part.rows = 100;
  LinearPart plain = part;
  plain.bias = nullptr;
  auto writing = WritePacked(*backend, file, pool);
  ASSERT_TRUE(writing.ok()) << writing.status();
  const auto first = (*writing)->Pack(3000, {part});
  const auto second = (*writing)->Pack(3000, {plain});
  ASSERT_TRUE(first.ok() && second.ok() && (*writing)->Finish().ok());
  for (const double least_huge : {0.0, 2.0}) {
    const auto stored =
        ReadStoredLayers(file, static_cast<CpuDevice&>(*backend->device), pool, least_huge);
    ASSERT_TRUE(stored.ok()) << stored.status();
    EXPECT_EQ(stored->mapped, least_huge == 0.0);
    ASSERT_EQ(stored->layers.size(), 2u);
    for (const auto& [layer, packed] :
         {std::pair(&stored->layers[0], &*first), std::pair(&stored->layers[1], &*second)}) {
      ASSERT_GE(layer->layer.weight.bytes, 1200000);
      EXPECT_EQ(std::memcmp(layer->weight.data(), packed->weight.data(), layer->layer.weight.bytes),
                0);
    }
    EXPECT_EQ(std::memcmp(stored->layers[0].bias.data(), bias.data(), 400), 0);
    EXPECT_EQ(stored->layers[1].bias.data(), nullptr);
  }
}

TEST(PackedReader, AMappedFileThatIsCutEndsTheProcess) {
  const TempDir dir;
  WorkerPool pool(1);
  const auto backend = OpenBackend({"cpu", &pool});
  const PackedFile file{dir.path() + "/packed", {1, 2}};
  const std::vector<float> numbers(64 * 3000, 1.0f);
  LinearPart part;
  part.weight = numbers.data();
  part.rows = 64;
  auto writing = WritePacked(*backend, file, pool);
  ASSERT_TRUE((*writing)->Pack(3000, {part}).ok() && (*writing)->Finish().ok());
  auto stored = ReadStoredLayers(file, static_cast<CpuDevice&>(*backend->device), pool, 0.0);
  ASSERT_TRUE(stored.ok() && stored->mapped) << stored.status();
  std::filesystem::resize_file(file.path, 0);
  const pid_t child = fork();
  if (child == 0) {  // its line on standard error stays in the test's output
    const auto* bytes = static_cast<const volatile char*>(stored->layers[0].weight.data());
    _exit(bytes[9]);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 70);
}

TEST(PackedReader, RefusesLayersThatAreNotTheModels) {
  const TempDir dir;
  WorkerPool pool(1);
  const auto backend = OpenBackend({"cpu", &pool});
  const PackedFile file{dir.path() + "/packed", {1, 2}};
  std::vector<float> numbers(64 * 64);
  LinearPart part;
  part.weight = numbers.data();
  part.rows = 64;
  auto writing = WritePacked(*backend, file, pool);
  ASSERT_TRUE((*writing)->Pack(64, {part}).ok() && (*writing)->Finish().ok());
  const auto read = [&] { return *ReadPacked(*backend, file, pool); };
  EXPECT_EQ(read()->Finish().code(), absl::StatusCode::kDataLoss);  // a layer is left
  EXPECT_EQ(read()->Pack(32, {part}).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(read()->Pack(64, {part, part}).status().code(), absl::StatusCode::kDataLoss);
  LinearPart half = part;
  half.format = WeightFormat::kBFloat16;
  EXPECT_EQ(read()->Pack(64, {half}).status().code(), absl::StatusCode::kDataLoss);
  auto all = read();
  EXPECT_TRUE(all->Pack(64, {part}).ok());
  EXPECT_EQ(all->Pack(64, {part}).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace penstock
