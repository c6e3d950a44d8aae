#include "backend/cuda/peer_collective.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "backend/cuda/cuda_device.h"
#include "backend/cuda/peer_memory.h"
#include "base/status_macros.h"
#include "kernels/peer_launch.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

/// Up to so many bytes each rank adds up all rows itself: more traffic, one wait less.
constexpr int64_t MostOneShotBytes(int32_t size) { return (size <= 4 ? 512 : 256) * int64_t{1024}; }

/// What abort_ holds where it was the host that gave up.
constexpr uint32_t kByHost = UINT32_MAX;

}  // namespace

absl::StatusOr<std::unique_ptr<PeerCollective>> PeerCollective::Make(
    absl::Span<CudaStream* const> ranks, absl::Duration patience) {
  CHECK(ranks.size() >= 2 && ranks.size() <= kMostRanks);
  std::unique_ptr<PeerCollective> c(new PeerCollective(ranks.size(), patience));
  for (size_t r = 0; r < ranks.size(); ++r) c->ranks_[r].stream = ranks[r];
  RETURN_IF_ERROR(c->Open());
  return c;
}

absl::Status PeerCollective::Open() {
  std::set<int> devices;
  for (const Rank& rank : ranks_) devices.insert(rank.stream->device());
  CHECK(devices.size() == 1 || devices.size() == ranks_.size());
  waits_in_kernels_ = devices.size() > 1;
  if (waits_in_kernels_) {
    RETURN_IF_ERROR(EnablePeers());
    abort_ = reinterpret_cast<uint32_t*>(pinned_.Get(*ranks_[0].stream, sizeof(uint32_t)));
    if (abort_ == nullptr) return ranks_[0].stream->fault();
    *abort_ = 0;
  }
  for (Rank& rank : ranks_) {
    ASSIGN_OR_RETURN(rank.memory, rank.stream->Allocate(PeerCollectiveBytes(size())));
    for (cudaEvent_t& event : rank.reached) {
      rank.stream->Enqueue("make an event", [&](cudaStream_t) {
        return cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
      });
    }
    RETURN_IF_ERROR(rank.stream->Synchronize());  // the flags are zeros for all
  }
  return absl::OkStatus();
}

absl::Status PeerCollective::EnablePeers() {
  for (const Rank& rank : ranks_) {
    for (const Rank& peer : ranks_) {
      const int other = peer.stream->device();
      if (peer.stream == rank.stream) continue;
      int can = 0;
      rank.stream->Enqueue("ask for peers", [&](cudaStream_t) {
        return cudaDeviceCanAccessPeer(&can, rank.stream->device(), other);
      });
      if (rank.stream->ok() && can == 0) {
        return absl::UnavailableError(
            absl::StrCat("devices ", rank.stream->device(), " and ", other,
                         " cannot reach each other's memory, which ranks of one model must"));
      }
      rank.stream->Enqueue("enable peers", [&](cudaStream_t) {
        const cudaError_t error = cudaDeviceEnablePeerAccess(other, 0);
        if (error != cudaErrorPeerAccessAlreadyEnabled) return error;
        cudaGetLastError();  // which the runtime would tell the next launch
        return cudaSuccess;
      });
      RETURN_IF_ERROR(rank.stream->fault());
    }
  }
  return absl::OkStatus();
}

PeerCollective::~PeerCollective() {
  // No rank's memory goes while another's kernel may read it.
  for (const Rank& rank : ranks_) rank.stream->Synchronize().IgnoreError();
  for (const Rank& rank : ranks_) {
    for (const cudaEvent_t event : rank.reached) {
      if (event != nullptr) cudaEventDestroy(event);
    }
  }
}

PeerReduceArgs PeerCollective::ArgsOf(int32_t rank, float* rows, int64_t count) const {
  const PeerMemory place = PeerMemoryOf(size());
  PeerReduceArgs a;
  a.rows = rows;
  a.count = count;
  a.rank = rank;
  a.size = size();
  a.step = ranks_[rank].sums;
  a.two_shot = count * int64_t{sizeof(float)} > MostOneShotBytes(size());
  const size_t half = a.step % 2;
  for (int32_t r = 0; r < a.size; ++r) {
    auto* memory = static_cast<std::byte*>(ranks_[r].memory.data());
    a.inputs[r] = reinterpret_cast<float*>(memory + half * kPeerPieceBytes);
    a.sums[r] = reinterpret_cast<float*>(memory + place.sums_begin + half * place.sum_bytes);
    a.flags[r] = reinterpret_cast<uint32_t*>(memory + place.flags_begin);
  }
  a.abort = abort_;
  a.patience = absl::ToInt64Nanoseconds(patience());
  return a;
}

void PeerCollective::Launch(int32_t rank, const PeerReduceArgs& args) {
  ranks_[rank].stream->Enqueue("all-reduce",
                               [&](cudaStream_t stream) { return LaunchPeerReduce(args, stream); });
}

absl::Status PeerCollective::Reduce(int32_t rank, float* rows, int64_t count) {
  Rank& own = ranks_[rank];
  ++own.sums;
  PeerReduceArgs args = ArgsOf(rank, rows, count);
  if (waits_in_kernels_) {
    args.form = ReduceForm::kWaiting;
    Launch(rank, args);
    return Check(rank);
  }
  // inputs and sums are read by the others until they have come to the next barrier; until then this
  // rank writes to those of the other half.
  own.stream->Enqueue("all-reduce", [&](cudaStream_t stream) {
    return cudaMemcpyAsync(args.inputs[rank], rows, count * sizeof(float), cudaMemcpyDeviceToDevice,
                           stream);
  });
  RETURN_IF_ERROR(Barrier(rank));
  args.form = ReduceForm::kSum;
  Launch(rank, args);
  if (!args.two_shot) return Check(rank);
  RETURN_IF_ERROR(Barrier(rank));
  args.form = ReduceForm::kGather;
  Launch(rank, args);
  return Check(rank);
}

absl::Status PeerCollective::AllReduceSum(int32_t rank, const Tensor& rows) {
  CHECK(rows.dtype == DType::kFloat32 && rows.stride == rows.cols);
  constexpr int64_t kPiece = kPeerPieceBytes / sizeof(float);
  const int64_t count = rows.rows * rows.cols;
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    float* piece = static_cast<float*>(rows.data) + begin;
    RETURN_IF_ERROR(Reduce(rank, piece, std::min(kPiece, count - begin)));
  }
  return Check(rank);
}

absl::Status PeerCollective::Barrier(int32_t rank) {
  Rank& own = ranks_[rank];
  const uint32_t turn = own.barriers++ % 2;
  own.stream->Enqueue(
      "record", [&](cudaStream_t stream) { return cudaEventRecord(own.reached[turn], stream); });
  RETURN_IF_ERROR(Check(rank));
  // An event is waited for as it was last recorded: all have recorded theirs, and none does again
  // before all have enqueued their waits and come to the next barrier.
  RETURN_IF_ERROR(threads_.Barrier(rank));
  for (const Rank& other : ranks_) {
    if (&other == &own) continue;
    own.stream->Enqueue("wait for a rank", [&](cudaStream_t stream) {
      return cudaStreamWaitEvent(stream, other.reached[turn], 0);
    });
  }
  return Check(rank);
}

absl::Status PeerCollective::Check(int32_t rank) {
  const CudaStream& own = *ranks_[rank].stream;
  if (!own.ok()) {
    Abort(absl::Status(own.fault().code(),
                       absl::StrCat("rank ", rank, " of ", size(), ": ", own.fault().message())));
  }
  return status();
}

void PeerCollective::Abort(const absl::Status& why) {
  threads_.Abort(why);
  uint32_t nobody = 0;
  if (abort_ != nullptr)
    std::atomic_ref<uint32_t>(*abort_).compare_exchange_strong(nobody, kByHost);
}

absl::Status PeerCollective::status() const {
  if (!threads_.ok() || Missing() == 0) return threads_.status();
  return absl::DeadlineExceededError(absl::StrCat("rank ", Missing() - 1, " of ", size(),
                                                  " has stalled: no sign for ",
                                                  absl::FormatDuration(patience())));
}

absl::StatusOr<std::unique_ptr<Collective>> MakePeerCollective(absl::Span<Device* const> ranks,
                                                               absl::Duration patience) {
  std::vector<CudaStream*> streams;
  for (Device* rank : ranks) streams.push_back(&static_cast<CudaDevice*>(rank)->stream());
  return PeerCollective::Make(streams, patience);
}

}  // namespace penstock::PENSTOCK_KERNELS
