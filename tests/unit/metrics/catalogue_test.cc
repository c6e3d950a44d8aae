#include "metrics/catalogue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "base/cpu_parts.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::vector<GpuFigures> AGpuThatTellsAll() {
  GpuFigures gpu;
  for (const MetricInfo& row : MetricCatalogue()) {
    if (row.name.starts_with("penstock_gpu_")) gpu.samples.push_back({row.name, "", 1});
  }
  return {gpu};
}

TEST(Catalogue, CountersOfAllKnownLabelsStartAtZero) {
  Catalogue catalogue("1.2.3");
  catalogue.MakeEngineMetrics("m");
  catalogue.MakeRequestMetrics("m", 4096);
  const std::string text = catalogue.Text();
  for (const char* reason : {"stop", "length", "abort", "error"}) {
    EXPECT_THAT(
        text, HasSubstr(std::string("vllm:request_success_total{engine=\"0\",finished_reason=\"") +
                        reason + "\",model_name=\"m\"} 0\n"));
  }
  EXPECT_THAT(text, HasSubstr("vllm:generation_tokens_total{engine=\"0\",model_name=\"m\"} 0\n"));
  for (const char* state : {"awake", "weights_offloaded", "discard_all"}) {
    EXPECT_THAT(text,
                HasSubstr(std::string("vllm:engine_sleep_state{engine=\"0\",model_name=\"m\",") +
                          "sleep_state=\"" + state + "\"} " + (state[0] == 'a' ? "1\n" : "0\n")));
  }
  for (const char* reason : {"capacity", "deferred"}) {
    EXPECT_THAT(text, HasSubstr(std::string("vllm:num_requests_waiting_by_reason{engine=\"0\",") +
                                "model_name=\"m\",reason=\"" + reason + "\"} 0\n"));
  }
  EXPECT_THAT(text, HasSubstr("penstock_requests_total{code=\"429\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("penstock_build_info{version=\"1.2.3\"} 1\n"));
}

TEST(Catalogue, EveryRowAppearsInTheTextOnceAllHandlesAreMade) {
  const CpuParts cpu;
  Catalogue catalogue("1");
  catalogue.SetFrontCpu(&cpu);
  catalogue.MakeEngineMetrics("m");
  catalogue.MakeRequestMetrics("m", 4096);
  catalogue.MakeAccountMetrics();
  catalogue.MakeTenantMetrics("clinic");
  catalogue.MakeHttpRouteMetrics("/v1/models/{id}", "GET");
  catalogue.SetCacheConfig(
      "m", {.block_size = 16, .num_blocks = 10, .prefix_cache = true, .kv_dtype = "float32"});
  catalogue.SetKernelSelfTest("avx2", false);
  catalogue.SetServing(true, false);
  catalogue.MakeTraceMetrics();
  catalogue.MakeCertificateEnd();
  catalogue.MakeRevocationListsEnd();
  catalogue.MakeBreakGlassKeys();
  catalogue.MakeAliasesReadable();
  HistogramHandle seconds;
  CounterHandle errors;
  catalogue.AddChainLink("schema", seconds, errors);
  catalogue.SetConfig("0123", true, absl::FromUnixSeconds(10));
  catalogue.SetAdapters("m", 4, "a,b", "", absl::FromUnixSeconds(10));
  catalogue.SetGpus(AGpuThatTellsAll);
  catalogue.EmitLegacyNames();
  const std::string text = catalogue.Text();
  std::set<std::string_view> names;
  for (const MetricInfo& row : MetricCatalogue()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name << " is listed twice";
    EXPECT_THAT(text, HasSubstr("# HELP " + std::string(row.name) + " ")) << row.name;
  }
}

TEST(Catalogue, AModelHasOneSeriesOfItsAdapters) {
  Catalogue catalogue("1");
  catalogue.SetAdapters("m", 4, "a", "b", absl::FromUnixSeconds(10));
  catalogue.SetAdapters("other", 2, "", "", absl::FromUnixSeconds(11));
  catalogue.SetAdapters("m", 4, "a,b", "", absl::FromUnixSeconds(12));
  const std::string text = catalogue.Text();
  EXPECT_THAT(text,
              HasSubstr("vllm:lora_requests_info{engine=\"0\",max_lora=\"4\",model_name="
                        "\"m\",running_lora_adapters=\"a,b\",waiting_lora_adapters=\"\"} 12"));
  EXPECT_THAT(text, HasSubstr("model_name=\"other\""));
  EXPECT_THAT(text, Not(HasSubstr("waiting_lora_adapters=\"b\"")));
}

TEST(Catalogue, TokenBucketsEndAtTheContext) {
  Catalogue catalogue("1");
  catalogue.MakeRequestMetrics("m", 1000);
  const std::string text = catalogue.Text();
  EXPECT_THAT(
      text,
      HasSubstr(
          "vllm:request_prompt_tokens_bucket{engine=\"0\",model_name=\"m\",le=\"1000.0\"} 0"));
  EXPECT_THAT(
      text,
      HasSubstr("vllm:request_prompt_tokens_bucket{engine=\"0\",model_name=\"m\",le=\"500.0\"} 0"));
  EXPECT_THAT(
      text, Not(HasSubstr(
                "vllm:request_prompt_tokens_bucket{engine=\"0\",model_name=\"m\",le=\"2000.0\"}")));
}

TEST(Catalogue, HandlesOfOneSeriesAddUp) {
  Catalogue catalogue("1");
  catalogue.MakeEngineMetrics("m").num_preemptions.Add();
  catalogue.MakeEngineMetrics("m").num_preemptions.Add(2);
  EXPECT_THAT(catalogue.Text(),
              HasSubstr("vllm:num_preemptions_total{engine=\"0\",model_name=\"m\"} 3\n"));
}

TEST(Catalogue, UnknownCodesShareOneSeries) {
  Catalogue catalogue("1");
  catalogue.CountRequest(418);
  catalogue.CountRequest(200);
  EXPECT_THAT(catalogue.Text(), HasSubstr("penstock_requests_total{code=\"other\"} 1\n"));
  EXPECT_THAT(catalogue.Text(), HasSubstr("penstock_requests_total{code=\"200\"} 1\n"));
}

TEST(Catalogue, ARequestOfARouteIsCountedByTheClassOfItsStatus) {
  Catalogue catalogue("1");
  const HttpRouteMetrics route = catalogue.MakeHttpRouteMetrics("/v1/models/{id}", "GET");
  for (int status : {200, 204, 304, 404, 499, 503, 700}) route.Count(status, absl::Seconds(status));
  route.Count(400, absl::Milliseconds(100));
  catalogue.MakeHttpRouteMetrics("none", "POST").Count(404, absl::Milliseconds(101));
  const std::string text = catalogue.Text();
  const std::string labels = "{handler=\"/v1/models/{id}\",method=\"GET\"";
  for (const auto& [status, count] : {std::pair("2xx", 2), {"3xx", 1}, {"4xx", 3}, {"5xx", 2}}) {
    EXPECT_THAT(text, HasSubstr("http_requests_total" + labels + ",status=\"" + status + "\"} " +
                                std::to_string(count) + "\n"));
  }
  for (const auto& [bound, count] : {std::pair("0.1", 1), {"0.5", 1}, {"1.0", 1}, {"+Inf", 8}}) {
    EXPECT_THAT(text, HasSubstr("http_request_duration_seconds_bucket" + labels + ",le=\"" + bound +
                                "\"} " + std::to_string(count) + "\n"));
  }
  EXPECT_THAT(text, HasSubstr("http_request_duration_highr_seconds_bucket{le=\"0.1\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("http_request_duration_highr_seconds_bucket{le=\"0.25\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("http_request_duration_highr_seconds_count 9\n"));
}

TEST(Catalogue, WhatProbesAskIsNotCountedByRoute) {
  Catalogue catalogue("1");
  for (const char* path : {"/health", "/ready", "/metrics", "/metrics/lb", "/version"})
    catalogue.MakeHttpRouteMetrics(path, "GET").Count(200, absl::ZeroDuration());
  EXPECT_THAT(catalogue.Text(), Not(HasSubstr("http_requests_total")));
}

TEST(Catalogue, SourcesOfPromptTokensAddUpToAllOfThem) {
  Catalogue catalogue("1");
  const RequestMetrics metrics = catalogue.MakeRequestMetrics("m", 4096);
  metrics.CountPrompt(100, 64);
  metrics.CountPrompt(7, 0);
  const std::string text = catalogue.Text();
  const std::string model = "{engine=\"0\",model_name=\"m\"";
  EXPECT_THAT(text, HasSubstr("vllm:prompt_tokens_total" + model + "} 107\n"));
  EXPECT_THAT(text, HasSubstr("vllm:prompt_tokens_cached_total" + model + "} 64\n"));
  for (const auto& [source, tokens] :
       {std::pair("local_compute", 43), {"local_cache_hit", 64}, {"external_kv_transfer", 0}}) {
    EXPECT_THAT(text, HasSubstr("vllm:prompt_tokens_by_source_total" + model + ",source=\"" +
                                source + "\"} " + std::to_string(tokens) + "\n"));
  }
}

TEST(Catalogue, KernelSetsThatFailedTheirSelfTestAreOne) {
  Catalogue catalogue("1");
  catalogue.SetKernelSelfTest("avx2", false);
  catalogue.SetKernelSelfTest("avx512", true);
  const std::string text = catalogue.Text();
  EXPECT_THAT(text, HasSubstr("penstock_kernel_selftest_failed{kernel_set=\"avx2\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("penstock_kernel_selftest_failed{kernel_set=\"avx512\"} 1\n"));
}

TEST(Catalogue, ReadsItsOwnProcess) {
  Catalogue catalogue("1");
  EXPECT_THAT(catalogue.Text(), Not(HasSubstr("process_resident_memory_bytes 0\n")));
  EXPECT_THAT(catalogue.Text(), Not(HasSubstr("process_open_fds 0\n")));
}

TEST(Catalogue, AnEmptyHandleDoesNothing) {
  const EngineMetrics metrics;
  metrics.num_preemptions.Add();
  metrics.num_requests_running.Set(3);
  metrics.step_plan.Observe(1);
  EXPECT_EQ(metrics.num_preemptions.value(), 0);
}

TEST(Catalogue, MarkdownListsEveryRow) {
  const std::string page = CatalogueMarkdown();
  for (const MetricInfo& row : MetricCatalogue())
    EXPECT_THAT(page, HasSubstr("| `" + std::string(row.name) + "` |"));
  std::ifstream file(PENSTOCK_SOURCE_DIR "/docs/metrics.md");
  std::stringstream committed;
  committed << file.rdbuf();
  EXPECT_EQ(committed.str(), page) << "run: penstock check-config --metrics > docs/metrics.md";
}

}  // namespace
}  // namespace penstock
