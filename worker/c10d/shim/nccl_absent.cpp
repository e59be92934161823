// Stands in for nccl.cpp in builds without the feature `cuda`. There is then no CUDA, unless a preloaded library plays it: the
// rehearsals of worker/rehearsal, in which the path of a GPU runs on machines that have none.
#include "group.h"

#include "esta-c10d/src/bridge.rs.h"

#include <dlfcn.h>

#include <stdexcept>

namespace esta_c10d {
namespace {

using FormNccl =
    c10d::Backend*(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, std::chrono::milliseconds timeout);
using Memory = void(uint64_t* free, uint64_t* total);

template <typename Function>
Function& rehearsed(const char* name, const char* absent) {
  auto* function = reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
  if (function == nullptr) {
    throw std::runtime_error(std::string("this program was built without ") + absent + " (feature `cuda`)");
  }
  return *function;
}

std::pair<uint64_t, uint64_t> memory_info() {
  uint64_t free = 0, total = 0;
  rehearsed<Memory>("esta_rehearsal_memory", "CUDA")(&free, &total);
  return {free, total};
}

} // namespace

std::shared_ptr<Group> form_nccl(const Seat& seat, rust::Box<StoreBridge> store) {
  auto& form = rehearsed<FormNccl>("esta_rehearsal_nccl", "NCCL");
  const std::chrono::milliseconds timeout(seat.timeout_ms);
  auto* backend = form(make_store(std::move(store), timeout), seat.rank, seat.world, timeout);
  return make_group(c10::intrusive_ptr<c10d::Backend>::reclaim(backend), Abort::Possible);
}

uint64_t free_cuda_memory() {
  return memory_info().first;
}

uint64_t used_cuda_memory() {
  const auto [free, total] = memory_info();
  return total - free;
}

int32_t current_cuda_device() {
  rehearsed<Memory>("esta_rehearsal_memory", "CUDA");
  return 0;
}

} // namespace esta_c10d
