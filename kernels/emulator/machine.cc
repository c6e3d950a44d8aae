#include "kernels/emulator/machine.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <utility>

namespace penstock::emulator {

Index3 thread_index, block_index, block_shape, grid_shape;

Machine& Machine::Get() {
  static Machine machine;
  return machine;
}

void Machine::Configure(const Options& wanted) {
  options = wanted;
  random_ = wanted.seed;
  shared_.reset();
}

uint64_t Machine::Next() {  // splitmix64
  random_ += 0x9E3779B97F4A7C15;
  uint64_t x = random_;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

void Machine::Shuffle(std::vector<int>& values) {
  for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[Next() % i]);
}

std::string Machine::WhoAmI() const {
  std::string who = "kernel " + std::string(shape_.name);
  char text[96];
  std::snprintf(text, sizeof text, ", block (%u, %u, %u)", block_index.x, block_index.y,
                block_index.z);
  who += text;
  if (current_ != nullptr) who += ", thread " + std::to_string(current_->index);
  return who;
}

void Machine::Note(const Fault& fault) {
  // What the place is called is found out on the host's stack, which is larger.
  pending_ = WhoAmI() + " " + fault.message;
  pending_place_ = fault.place;
}

void Machine::Abandon() {
  current_->state = Thread::State::kDone;
  current_->fiber.SwitchOut(true);
  std::abort();
}

void Machine::FailHost(const std::string& message) {
  if (fault.empty()) fault = message;
}

bool Machine::Run(const LaunchShape& shape, void (*body)(const void*), const void* parameters,
                  size_t parameter_bytes) {
  if (!fault.empty()) return false;
  if (!options.fault_file.empty() && std::filesystem::exists(options.fault_file)) {
    FailHost("kernel " + std::string(shape.name) + ": a fault that " + options.fault_file +
             " asks for");
    return false;
  }
  shape_ = shape;
  body_ = body;
  parameters_ = reinterpret_cast<uintptr_t>(parameters);
  parameter_bytes_ = parameter_bytes;
  num_threads_ = static_cast<int>(shape.block.x * shape.block.y * shape.block.z);
  const uint64_t num_blocks = uint64_t{shape.grid.x} * shape.grid.y * shape.grid.z;
  if (num_threads_ < 1 || num_threads_ > 1024 || num_blocks == 0) {
    FailHost("kernel " + std::string(shape.name) + " launched with " +
             std::to_string(num_threads_) + " threads and " + std::to_string(num_blocks) +
             " blocks");
    return false;
  }
  if (shared_ == nullptr) shared_ = std::make_unique<SharedMemory>(options.shared_bytes);
  while (threads_.size() < static_cast<size_t>(num_threads_)) {
    threads_.push_back(std::make_unique<Thread>());
  }
  if (!shape.early) settled_ = launch_;
  if (settled_ == launch_) names_.clear();
  ++launch_;
  names_.push_back(shape.name);
  grid_shape = shape.grid;
  block_shape = shape.block;
  std::vector<int> order(num_blocks);
  std::iota(order.begin(), order.end(), 0);
  Shuffle(order);
  for (const int block : order) {
    block_ = static_cast<uint32_t>(block) + 1;
    block_index = {block % shape.grid.x, block / shape.grid.x % shape.grid.y,
                   block / shape.grid.x / shape.grid.y};
    runs_kernel = true;
    RunBlock();
    runs_kernel = false;
    if (!fault.empty()) return false;
  }
  return true;
}

void Machine::RunBlock() {
  shared_->Reset();
  arrays_.clear();
  barriers_.clear();
  for (auto& of_warp : meetings_) of_warp.clear();
  released_.clear();
  clocks_.Reset();
  block_synchronised_ = false;
  current_ = nullptr;
  dynamic_shared = nullptr;
  if (shape_.shared_bytes > 0) {
    dynamic_shared = shared_->Take(shape_.shared_bytes);
    if (dynamic_shared == nullptr) {
      FailHost(WhoAmI() + " wants " + std::to_string(shape_.shared_bytes) +
               " bytes of shared memory, a block has " + std::to_string(options.shared_bytes));
      return;
    }
  }
  for (int i = 0; i < num_threads_; ++i) {
    Thread& thread = *threads_[i];
    thread.index = i;
    thread.state = Thread::State::kReady;
    thread.sees_kernels_before = !shape_.early;
    thread.groups.clear();
    thread.open_group.clear();
    thread.fiber.Start(&Machine::ThreadMain, nullptr);
  }
  std::vector<int> warps((num_threads_ + 31) / 32);
  std::iota(warps.begin(), warps.end(), 0);
  for (bool ran = true; ran;) {
    ran = false;
    Shuffle(warps);
    for (const int warp : warps) {
      // Some warps run ahead as far as they can before another has its turn.
      bool again = true;
      while (again && pending_.empty()) {
        const bool progress = RunWarp(warp);
        ran |= progress;
        again = progress && Next() % 2 == 0;
      }
    }
    if (!pending_.empty()) {
      fault = pending_ + ", at " + emulator::Describe(pending_place_);
      pending_.clear();
      return;
    }
  }
  const auto is_done = [](const auto& t) { return t->state == Thread::State::kDone; };
  if (!std::all_of(threads_.begin(), threads_.begin() + num_threads_, is_done)) ReportDeadlock();
}

bool Machine::RunWarp(int warp) {
  std::vector<int> lanes(std::min(32, num_threads_ - warp * 32));
  std::iota(lanes.begin(), lanes.end(), warp * 32);
  Shuffle(lanes);
  bool ran = false;
  for (const int index : lanes) {
    Thread& thread = *threads_[index];
    if (thread.state != Thread::State::kReady) continue;
    ran = true;
    current_ = &thread;
    thread_index = {index % block_shape.x, index / block_shape.x % block_shape.y,
                    index / block_shape.x / block_shape.y};
    thread.fiber.Resume();
    current_ = nullptr;
    if (!pending_.empty()) return true;
  }
  return ran;
}

void Machine::ThreadMain(void*) {
  Machine& machine = Get();
  machine.body_(reinterpret_cast<const void*>(machine.parameters_));
  machine.Guard([&] { machine.EndOfThread(); });
  machine.Abandon();
}

void Machine::EndOfThread() {
  for (const auto& group : current_->groups) {
    if (!group.empty()) Fail("ends while its cp.async is in flight", {group.front().where});
  }
  if (!current_->open_group.empty()) {
    Fail("ends while its cp.async is in flight", {current_->open_group.front().where});
  }
  if (!current_->sees_kernels_before) {
    Fail("ends without PdlWait, so that the next kernel would not wait for the ones before", {});
  }
}

void Machine::Wait(const char* in, const Where& at) {
  Thread* self = current_;
  self->state = Thread::State::kWaiting;
  self->waits_in = in;
  self->waits_at = at;
  self->fiber.SwitchOut(false);
}

void Machine::ReportDeadlock() {
  std::map<std::string, int> reasons;
  int ended = 0;
  for (int i = 0; i < num_threads_; ++i) {
    const Thread& thread = *threads_[i];
    if (thread.state == Thread::State::kDone) {
      ++ended;
    } else {
      ++reasons[std::string(thread.waits_in) + " at " + emulator::Describe({thread.waits_at})];
    }
  }
  std::string message = WhoAmI() + " deadlocks:";
  for (const auto& [reason, count] : reasons) {
    message += " " + std::to_string(count) + " threads wait in " + reason + ",";
  }
  FailHost(message + " " + std::to_string(ended) + " have ended");
}

uint32_t Machine::FullMask() const {
  const int lanes = std::min(32, num_threads_ - current_->index / 32 * 32);
  return lanes == 32 ? ~uint32_t{0} : (uint32_t{1} << lanes) - 1;
}

void Machine::Barrier(int id, int count, bool aligned, bool wait, const Where& where) {
  Thread* self = current_;
  if (count <= 0) count = num_threads_;
  BarrierState& barrier = barriers_[id];
  if (barrier.arrived == 0) {
    barrier.first = where;
  } else if (aligned && (barrier.first.line() != where.line() ||
                         std::strcmp(barrier.first.file_name(), where.file_name()) != 0)) {
    Fail("is at another barrier than threads that came before it, which wait at " +
             emulator::Describe({barrier.first}) + ": a deadlock",
         {where});
  }
  const int warp = self->index / 32;
  for (int w = 0; w < kMaxWarps; ++w) {
    barrier.clock[w] = std::max(barrier.clock[w], clocks_.known[warp][w]);
  }
  barrier.clock[warp] = std::max(barrier.clock[warp], clocks_.now[warp] + 1);
  barrier.all.push_back(self->index);
  if (wait) barrier.waiting.push_back(self->index);
  if (++barrier.arrived < count) {
    if (wait) Wait(aligned ? "__syncthreads" : "a named barrier", where);
    return;
  }
  const BarrierState complete = std::move(barrier);
  barriers_.erase(id);
  bool sees = false;
  for (const int i : complete.all) {
    sees |= threads_[i]->sees_kernels_before;
    const int w = i / 32;
    clocks_.now[w] = std::max(clocks_.now[w], complete.clock[w]);
  }
  for (const int i : complete.waiting) {
    threads_[i]->state = Thread::State::kReady;
    threads_[i]->sees_kernels_before |= sees;
    auto& known = clocks_.known[i / 32];
    for (int w = 0; w < kMaxWarps; ++w) known[w] = std::max(known[w], complete.clock[w]);
  }
}

void Machine::Meet(const char* what, uint32_t mask, const void* in, void* out,
                   void (*compute)(Lanes&), bool orders_memory, const Where& where) {
  Thread* self = current_;
  const int warp = self->index / 32;
  const int lane = self->index % 32;
  if ((mask >> lane & 1) == 0) {
    Fail(std::string("calls ") + what + " with a mask that lacks its own lane", {where});
  }
  auto& meetings = meetings_[warp];
  auto meeting = std::find_if(meetings.begin(), meetings.end(),
                              [&](const Meeting& m) { return (m.lanes.mask & mask) != 0; });
  if (meeting == meetings.end()) {
    meetings.push_back({what, where, 0, {}});
    meeting = meetings.end() - 1;
    meeting->lanes.mask = mask;
    meeting->lanes.first_thread = warp * 32;
  } else if (meeting->lanes.mask != mask || std::strcmp(meeting->what, what) != 0 ||
             meeting->where.line() != where.line() ||
             std::strcmp(meeting->where.file_name(), where.file_name()) != 0) {
    Fail(std::string("calls ") + what + " while lanes of its warp wait in " + meeting->what +
             " at " + emulator::Describe({meeting->where}) + ": a deadlock",
         {where});
  }
  meeting->lanes.in[lane] = in;
  meeting->lanes.out[lane] = out;
  meeting->arrived |= uint32_t{1} << lane;
  if (meeting->arrived != mask) return Wait(what, where);
  Lanes lanes = meeting->lanes;
  meetings.erase(meeting);
  if (orders_memory) ++clocks_.now[warp];
  bool sees = false;
  for (int l = 0; l < 32; ++l) {
    if (mask >> l & 1) sees |= threads_[warp * 32 + l]->sees_kernels_before;
  }
  for (int l = 0; l < 32; ++l) {
    if ((mask >> l & 1) == 0) continue;
    Thread& thread = *threads_[warp * 32 + l];
    thread.state = Thread::State::kReady;
    if (orders_memory) thread.sees_kernels_before |= sees;
  }
  compute(lanes);
}

void Machine::Release(uint32_t* flag, uint32_t value, const Where& where) {
  Check(current_->index, flag, sizeof value, Use::kAtomic, {where});
  const int warp = current_->index / 32;
  auto& clock = released_[flag];
  clock = clocks_.known[warp];
  clock[warp] = ++clocks_.now[warp];
  *flag = value;
}

uint32_t Machine::Acquire(const uint32_t* flag, const Where& where) {
  current_->fiber.SwitchOut(false);
  Check(current_->index, flag, sizeof *flag, Use::kAtomic, {where});
  const auto clock = released_.find(flag);
  if (clock != released_.end()) {
    auto& known = clocks_.known[current_->index / 32];
    for (int w = 0; w < kMaxWarps; ++w) known[w] = std::max(known[w], clock->second[w]);
  }
  return *flag;
}

void Machine::CopyAsync(const Copy& copy) {
  const Place place{copy.where};
  const int self = current_->index;
  const auto aligned = [&](const void* p) {
    return reinterpret_cast<uintptr_t>(p) % copy.bytes == 0;
  };
  if (copy.bytes != 4 && copy.bytes != 8 && copy.bytes != 16) {
    Fail("copies " + std::to_string(copy.bytes) + " bytes by cp.async: 4, 8 or 16", place);
  }
  if (!aligned(copy.shared) || !aligned(copy.global)) {
    Fail("copies to or from an address that is misaligned for a cp.async of " +
             std::to_string(copy.bytes) + " bytes",
         place);
  }
  if (!shared_->Holds(reinterpret_cast<uintptr_t>(copy.shared))) {
    Fail("copies by cp.async to what is not shared memory", place);
  }
  if (copy.valid > 0) Check(self, copy.global, copy.valid, Use::kRead, place);
  CheckShared(self, copy.shared, copy.bytes, Use::kWrite, place);
  const size_t offset = shared_->Offset(copy.shared);
  for (size_t i = 0; i < copy.bytes; ++i) shared_->state(offset + i) = ByteState::kInFlight;
  current_->open_group.push_back(copy);
}

void Machine::Land(const Copy& copy) {
  std::memcpy(copy.shared, copy.global, copy.valid);
  std::memset(copy.shared + copy.valid, 0, copy.bytes - copy.valid);
  const size_t offset = shared_->Offset(copy.shared);
  for (size_t i = 0; i < copy.bytes; ++i) shared_->state(offset + i) = ByteState::kWritten;
  // Others may not have looked at it since it was issued; from here on it is this thread's write.
  CheckShared(current_->index, copy.shared, copy.bytes, Use::kWrite, {copy.where});
}

void Machine::WaitForCopies(int groups) {
  auto& in_flight = current_->groups;
  while (static_cast<int>(in_flight.size()) > groups) {
    const std::vector<Copy> group = std::move(in_flight.front());
    in_flight.pop_front();
    for (const Copy& copy : group) Land(copy);
  }
}

void* Machine::SharedArray(const char* name, size_t bytes, const Where& where) {
  auto [found, is_new] = arrays_.try_emplace({where.file_name(), where.line(), name});
  if (is_new) found->second = {shared_->Take(bytes), bytes};
  if (found->second.first == nullptr) {
    Fail("wants " + std::to_string(bytes) + " bytes for " + name +
             ", more shared memory than a block's " + std::to_string(options.shared_bytes),
         {where});
  }
  return found->second.first;
}

}  // namespace penstock::emulator
