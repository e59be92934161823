#include "group.h"

#include "esta-c10d/src/bridge.rs.h"

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

namespace esta_c10d {
namespace {

// libtorch's default answers an error or a time-out of a collective by ending the process from the watchdog's thread.
// Here the watchdog only aborts the communicators; the error reaches the caller through its own poll.
class Nccl final : public c10d::ProcessGroupNCCL {
 public:
  Nccl(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, c10::intrusive_ptr<Options> options)
      : c10d::ProcessGroupNCCL(store, rank, size, std::move(options)) {
    asyncErrorHandling_ = c10d::CleanUpOnly;
  }

 protected:
  void terminateProcess(const std::string&) override {}
};

// Free and total bytes of the current device. libtorch asks the CUDA runtime, which nothing here links.
std::pair<size_t, size_t> memory_info() {
  return c10::cuda::CUDACachingAllocator::get()->getMemoryInfo(c10::cuda::current_device());
}

} // namespace

std::shared_ptr<Group> form_nccl(const Seat& seat, rust::Box<StoreBridge> store) {
  const std::chrono::milliseconds timeout(seat.timeout_ms);
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  auto backend = c10::make_intrusive<Nccl>(make_store(std::move(store), timeout), seat.rank, seat.world, options);
  // Otherwise the first collective would connect, and block its caller meanwhile.
  backend->eagerConnectSingleDevice(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(seat.device)));
  return make_group(std::move(backend), Abort::Possible);
}

uint64_t free_cuda_memory() {
  return memory_info().first;
}

uint64_t used_cuda_memory() {
  const auto [free, total] = memory_info();
  return total - free;
}

int32_t current_cuda_device() {
  return c10::cuda::current_device();
}

} // namespace esta_c10d
