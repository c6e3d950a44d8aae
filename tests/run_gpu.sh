#!/usr/bin/env bash
# Everything that a GPU is asked, in one run of at most nine minutes: tests, sanitizer, ceilings, kernels, decode and
# prefill, serving. The same in a build tree and in the bundle of tests/gpu/make_bundle; needs bash and coreutils, sed, grep.
#
#   run_gpu.sh [--out DIR] [--only STAGE,...] [--seconds 520] [--dry] [--rehearse]
#
# DIR (or $OUT, or ./gpu-results) gets results.json, table.txt and logs.tar; both are written anew after every stage, so a
# run that is cut off leaves what it has. --dry only sees whether all programs start, and exits 4 where there is no GPU.
# --rehearse runs all stages on the emulator with next to no work, so that a test without a GPU sees them run.
# Exit: 0 all stages passed, 1 some did not (of the optional ones: failed, others also where they were cut off, had no time or
# have no program), 4 no GPU.
set -uo pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

out=${OUT:-gpu-results} only= seconds=520 dry= rehearse= build=build/release
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2; shift ;;
    --only) only=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --build) build=$2; shift ;;
    --dry) dry=1 ;;
    --rehearse) rehearse=1 ;;
    *) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 1 ;;
  esac
  shift
done
mkdir -p "$out" && out=$(cd "$out" && pwd) && logs=$(mktemp -d) || exit 1
trap 'rm -rf "$logs"' EXIT

# Where the programs are: beside this script, or in a build tree.
device=cuda
if [ -x "$here/penstock" ]; then
  cd "$here" || exit 1
  penstock=./penstock forward=./forward_bench bench=./gpu_bench
  kernel_tests=./parity_kernels_cuda_test lane_tests=./parity_lanes_cuda_test op_tests=./parity_test
else
  cd "$here/.." || exit 1
  penstock=$build/bin/penstock forward=$build/benchmarks/micro/forward_bench bench=$build/benchmarks/gpu/gpu_bench
  kernel_tests=$build/tests/parity/parity_kernels_cuda_test lane_tests=$build/tests/parity/parity_lanes_cuda_test
  op_tests=$build/tests/parity/parity_test
  [ -n "$rehearse" ] && bench=$build/benchmarks/gpu/emulated/gpu_bench_emulated \
    kernel_tests=$build/tests/parity/parity_kernels_emulated_test
fi
models=data/models
[ -d $models ] || models=../shared/data/models
[ -n "$rehearse" ] && device=cuda-emulated

rows=$logs/rows.jsonl stages=$logs/stages.jsonl
: >"$rows" && : >"$stages"
begin=$SECONDS
failed=0
optional=" tables own pdl_off clocks "   # figures, which a run may have no time for

left() { echo $((seconds - (SECONDS - begin))); }

# What is known so far, as one JSON and as a table.
write_results() {
  {
    printf '{"machine": %s,\n"stages": [\n' "$(cat "$logs/machine.json" 2>/dev/null || echo '{}')"
    sed '$!s/$/,/' "$stages"
    printf '],\n"rows": [\n'
    sed '$!s/$/,/' "$rows"
    printf ']}\n'
  } >"$out/results.json.new" && mv "$out/results.json.new" "$out/results.json"
  {
    printf '%-10s %-8s %5s  %s\n' stage result s note
    sed -nE 's/.*"stage": "([^"]*)", "result": "([^"]*)", "seconds": ([0-9]+), "note": "([^"]*)".*/\1|\2|\3|\4/p' "$stages" |
      while IFS='|' read -r a b c d; do printf '%-10s %-8s %5s  %s\n' "$a" "$b" "$c" "$d"; done
    printf '\n%-22s %-28s %-12s %10s %8s %8s %6s %6s\n' what shape format us GB/s TFLOP/s %limit %ceil
    sed -nE 's/.*"name": "([^"]*)", "shape": "([^"]*)", "format": "([^"]*)", "us_median": ([0-9.]+).*"gbs": ([0-9.]+), "tops": ([0-9.]+), "pct_of_limit": ([a-z0-9.]+), "pct_of_measured_ceiling": ([a-z0-9.]+).*/\1|\2|\3|\4|\5|\6|\7|\8/p' "$rows" |
      while IFS='|' read -r a b c d e f g h; do
        printf '%-22s %-28s %-12s %10s %8s %8s %6s %6s\n' "$a" "$b" "$c" "$d" "$e" "$f" "${g/null/-}" "${h/null/-}"
      done
    printf '\n%-34s %-14s %12s %10s\n' model what tok/s ms
    sed -nE 's/.*"model": "([^"]*)", "name": "([^"]*)", "tok_per_s": ([0-9.]+), "ms": ([0-9.]+).*/\1|\2|\3|\4/p' "$rows" |
      while IFS='|' read -r a b c d; do printf '%-34s %-14s %12s %10s\n' "$a" "$b" "$c" "$d"; done
    [ -s "$logs/serving.txt" ] && printf '\nserving\n' && cat "$logs/serving.txt"
  } >"$out/table.txt"
  tar -C "$logs" -cf "$out/logs.tar" .
}

note() { printf '%s' "$1" | tr '"\\\n\t|' "'/  /" | cut -c1-160; }

finish() {
  write_results
  echo; cat "$out/table.txt"
  [ $failed -eq 0 ] && exit 0 || exit 1
}
trap 'failed=1; echo "cut off"; kill $(jobs -p) 2>/dev/null; finish' TERM INT

# stage NAME LIMIT COMMAND...: its output is logs/NAME.log, its last line the note.
stage() {
  local name=$1 limit=$2 started=$SECONDS result=passed status=0
  shift 2
  if [ -n "$only" ] && [[ ",$only," != *",$name,"* ]]; then return; fi
  [ "$(left)" -lt "$limit" ] && limit=$(left)
  if [ "$limit" -lt 5 ]; then
    result=skipped status=0
    echo "no time left" >"$logs/$name.log"
  else
    export stage_end=$((SECONDS - begin + limit))
    "$@" "$limit" >"$logs/$name.log" 2>&1 &
    wait $!
    status=$?
  fi
  [ $status -eq 124 ] || [ $status -eq 137 ] && result="cut off"
  [ $status -eq 77 ] && result=absent
  [ $status -ne 0 ] && [ "$result" = passed ] && result=failed
  case $result in
    passed) ;;
    failed) failed=1 ;;
    *) [[ $optional == *" $name "* ]] || failed=1 ;;
  esac
  printf '{"stage": "%s", "result": "%s", "seconds": %d, "note": "%s"}\n' "$name" "$result" $((SECONDS - started)) \
    "$(note "$(grep -av '^ *$' "$logs/$name.log" | tail -n 1)")" >>"$stages"
  tail -n 1 "$stages"
  write_results
}

within() { local limit=$1; shift; timeout -k 5 "$limit" "$@"; }

# --- the stages; the last argument of each is its time limit

machine() {
  local gpu
  gpu=$(timeout 10 nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit \
    --format=csv,noheader 2>/dev/null | head -n 1)
  echo "GPU: ${gpu:-nvidia-smi says nothing}"
  { ldconfig -p 2>/dev/null | sed -n 's/.*=> //p' | grep -E 'lib(cublasLt|nccl|cuda)\.so'
    timeout 4 find / -xdev \( -name 'libcublasLt.so.*' -o -name 'libnccl.so.*' \) 2>/dev/null
  } | sort -u | tee "$logs/libraries.txt"
  printf '{"gpu": "%s", "cores": "%s", "kernel": "%s", "build": "%s", "libraries": "%s", "time": "%s", "rehearsal": %s}\n' \
    "$(note "$gpu")" "$(nproc)" "$(uname -r)" "$(note "$($penstock version 2>/dev/null | head -n 2)")" \
    "$(note "$(tr '\n' ';' <"$logs/libraries.txt")")" "$(date -u +%FT%TZ)" \
    "$([ -n "$rehearse" ] && echo true || echo false)" >"$logs/machine.json"
  echo "${gpu:-no answer of nvidia-smi}"
}

gtest() {  # PROGRAM FILTER LIMIT
  [ -x "$1" ] || { echo "$1 is not there"; return 77; }
  PENSTOCK_REQUIRE_GPU=1 within "$3" "$1" --gtest_filter="$2" --gtest_brief=1
}

kernels_tests() { gtest $kernel_tests '*' "$1"; }
lanes_tests() { gtest $lane_tests '*' "$1"; }
ops_tests() {
  local filter='*/cuda:*/cuda_*:*_on_cuda-*cuda_emulated*'
  [ -n "$rehearse" ] && filter='*OpsParity*/cuda_emulated'
  gtest $op_tests "$filter" "$1"
}

# Reference logits, in every way in which a prompt is computed.
check_models() {
  local dir weights passed=0 bad= status on=$device
  local list=(models/demo "$models"/families/* "$models"/quantized/* tests/goldens/families/*)
  [ -n "$rehearse" ] && list=(models/demo tests/goldens/families/arcee) on=cpu   # the emulator would take minutes
  for dir in "${list[@]}"; do
    [ -f "$dir/golden.safetensors" ] || continue
    [ $((SECONDS - begin)) -ge "$stage_end" ] && { bad+=" no-time-for:$dir"; break; }
    [[ $dir = tests/goldens/* ]] && weights=formula || weights=file
    within $((stage_end - (SECONDS - begin) + 1)) "$penstock" check-model "$dir" --weights $weights --device $on >"$logs/model.txt" 2>&1
    status=$?
    echo "$dir: $status $(tail -n 1 "$logs/model.txt")"
    # What the device has no kernels for is refused with a line that says so.
    if [ $status -eq 1 ] && grep -q 'cannot compute the model' "$logs/model.txt"; then continue; fi
    if [ $status -eq 0 ]; then passed=$((passed + 1)); else bad+=" $dir"; cat "$logs/model.txt"; fi
  done
  echo "$passed models pass;${bad:+ not:$bad}"
  [ -z "$bad" ] && [ $passed -gt 0 ]
}

figures() {  # LIMIT ARGUMENTS...: rows of gpu_bench; each run measures ceilings, those of the first are kept
  local limit=$1 unwanted='^$'
  shift
  grep -aq '"ceiling/' "$rows" && unwanted='"ceiling/'
  [ -n "$rehearse" ] && set -- --tiny "$@"
  within "$limit" "$bench" --output "$logs/figures.jsonl" "$@"
  local status=$?
  grep -a '"us_median"' "$logs/figures.jsonl" | grep -av "$unwanted" >>"$rows"
  return $status
}
kernels() { figures "$1"; }
own_kernels() { figures "$1" --only linear/ --deterministic strict --format-suffix " own" --seconds 0.2; }
without_pdl() { PENSTOCK_PDL=off figures "$1" --only linear/o --format-suffix " pdl off"; }
clocks() {
  if [ -n "$rehearse" ]; then figures "$1" --only ceiling/ --soak 0.2; return; fi
  timeout 20 nvidia-smi --query-gpu=clocks.sm,power.draw,temperature.gpu --format=csv,noheader -l 1 2>/dev/null &
  figures "$1" --only ceiling/ --soak 10
  local status=$?
  wait
  return $status
}

# forward NAME DIR QUANTIZE KV BATCHES PREFILLS LIMIT
forward() {
  local name=$1 dir=$2 quantize=$3 kv=$4 batches=$5 prefills=$6 limit=$7 weights=formula context=1024 time=1.5 status
  [ -n "$rehearse" ] && dir=models/demo weights=file batches=2 prefills=16 context=20 time=0.1
  within "$limit" "$forward" "$dir" auto $weights "$(nproc)" "$quantize" --device $device --kv-dtype "$kv" \
    --batches "$batches" --prefills "$prefills" --context $context --seconds $time --step 2048 >"$logs/forward.jsonl"
  status=$?
  cat "$logs/forward.jsonl"
  sed -n "s|^{\"name\"|{\"model\": \"$name\", \"name\"|p" "$logs/forward.jsonl" | grep -a tok_per_s >>"$rows"
  return $status
}
tables() {
  local all=1,8,32,64,128,256 few=1,32,128
  [ -n "$rehearse" ] && { forward demo models/demo none auto 2 16 "$1"; return; }
  forward "1B bf16" benchmarks/shapes/llama-1b none auto $few 512,2048 $(($1 / 6)) &&
    forward "8B bf16" benchmarks/shapes/llama-8b none auto $all 512,2048,8000 $(($1 / 3)) &&
    forward "8B int8-channel, int8 KV" benchmarks/shapes/llama-8b int8-channel int8 $all 512,2048 $(($1 / 4)) &&
    forward "8B int4-128" benchmarks/shapes/llama-8b int4-128 auto $few 2048 $(($1 / 4))
}

serving() {
  local limit=$1 dir=benchmarks/shapes/llama-8b weights=formula port server i status=1 scenario=benchmarks/serving/gpu.yaml
  local more=(--max-model-len 8192)
  if [ -n "$rehearse" ]; then
    dir=models/demo weights=file scenario=
    more=(--set engine.kv_memory=2MiB --set engine.max_batch=2 --set engine.max_step_tokens=32 --max-model-len 128)
  fi
  cat >"$logs/serve.yaml" <<END
models:
  shape: {path: $dir, weights: $weights}
END
  within "$limit" "$penstock" serve --config "$logs/serve.yaml" --device $device --port 0 --grpc-port 0 \
    --set server.ready_file="$logs/ready.json" "${more[@]}" \
    >"$logs/server.log" 2>&1 &
  server=$!
  for ((i = 0; i < limit * 5; ++i)); do
    kill -0 $server 2>/dev/null || break
    if [ -s "$logs/ready.json" ]; then
      port=$(sed 's/.*"http": \([0-9]*\).*/\1/' "$logs/ready.json")
      if [ -n "$rehearse" ]; then
        within "$limit" "$penstock" bench serve --target 127.0.0.1:$port --set requests=2 --set prompt_words=4 --set max_tokens=2 \
          --output "$logs/serving.json" >"$logs/serving.txt"
      else
        within "$limit" "$penstock" bench serve $scenario --target 127.0.0.1:$port --pid $server \
          --output "$logs/serving.json" >"$logs/serving.txt"
      fi
      status=$?
      break
    fi
    sleep 0.2
  done
  kill $server 2>/dev/null
  wait $server 2>/dev/null
  cat "$logs/serving.txt" 2>/dev/null || tail -n 3 "$logs/server.log"
  [ -s "$logs/serving.json" ] && tr '\n' ' ' <"$logs/serving.json" |
    sed 's/^\(.*\)$/{"name": "serving", "scenarios": \1}\n/' >>"$rows"
  return $status
}

sanitize() {  # TOOL LIMIT
  local sanitizer filter='-*KernelsThatWaitForEachOther*'   # they need the GPU to themselves, and no delay
  if [ -n "$rehearse" ]; then "$kernel_tests" --gtest_filter="$filter" --gtest_list_tests; return; fi
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1)
  [ -n "$sanitizer" ] || { echo "compute-sanitizer is not on this machine"; return 77; }
  PENSTOCK_REQUIRE_GPU=1 within "$2" "$sanitizer" --tool "$1" --error-exitcode 9 $kernel_tests --gtest_brief=1 \
    --gtest_filter="$filter"
}
memcheck() { sanitize memcheck "$1"; }
racecheck() { sanitize racecheck "$1"; }

# --- the run

if [ -n "$dry" ]; then
  bad=0
  for program in $penstock $forward $bench $kernel_tests $lane_tests $op_tests; do
    case $program in
      *_test*) "$program" --gtest_list_tests >"$logs/dry.txt" 2>&1 ;;
      *penstock) "$program" version >"$logs/dry.txt" 2>&1 ;;
      *) "$program" --help >"$logs/dry.txt" 2>&1; grep -q usage "$logs/dry.txt" ;;
    esac || { bad=1; echo "$program does not start: $(head -n 2 "$logs/dry.txt")"; continue; }
    echo "$program starts"
  done
  [ $bad -eq 0 ] || exit 1
  "$penstock" check-model models/demo --device $device --golden /nowhere >"$logs/dry.txt" 2>&1
  status=$?
  if [ $status -eq 4 ]; then
    echo "no GPU: $(tail -n 1 "$logs/dry.txt")"
    exit 4
  fi
  echo "there is a GPU; run it without --dry"
  exit 0
fi
if [ -z "$rehearse" ]; then
  "$penstock" check-model models/demo --device $device --golden /nowhere >"$logs/dry.txt" 2>&1
  [ $? -eq 4 ] && { echo "no GPU: $(tail -n 1 "$logs/dry.txt")"; exit 4; }
fi

# What decides whether the rest means anything comes first; what may take long without saying much comes last. The limits
# are less than --seconds together.
stage machine 15 machine
if [ -z "$rehearse" ]; then
  stage lanes 10 lanes_tests
  stage kernel_tests 40 kernels_tests
fi
stage ops 50 ops_tests
stage models 90 check_models
stage memcheck 45 memcheck
stage racecheck 45 racecheck
stage kernels 65 kernels
stage serving 50 serving
stage tables 60 tables
stage own 15 own_kernels
stage pdl_off 10 without_pdl
stage clocks 20 clocks
finish
