// NCCL's part: a Gloo group over the twins of the device's tensors. Like NCCL it moves nothing else, and can be aborted: what was
// under way then looks like what is done.
#include "arena.h"
#include "twin.h"

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <atomic>

namespace rehearsal {
namespace {

using Gloo = c10d::ProcessGroupGloo;
using Tensors = std::vector<at::Tensor>;
using WorkPtr = c10::intrusive_ptr<c10d::Work>;

// A collective that ends when its group is aborted.
class Work final : public c10d::Work {
 public:
  Work(WorkPtr gloo, std::shared_ptr<const std::atomic<bool>> aborted) : gloo_(std::move(gloo)), aborted_(std::move(aborted)) {}

  bool isCompleted() override {
    return gloo_->isCompleted() || aborted_->load();
  }

  bool isSuccess() const override {
    return exception() == nullptr;
  }

  // NCCL's kernels that an abort ends leave none.
  std::exception_ptr exception() const override {
    return gloo_->isCompleted() ? gloo_->exception() : nullptr;
  }

  void synchronize() override {}

 private:
  WorkPtr gloo_;
  std::shared_ptr<const std::atomic<bool>> aborted_;
};

class Nccl final : public c10d::Backend {
 public:
  Nccl(int rank, int size, c10::intrusive_ptr<Gloo> gloo)
      : c10d::Backend(rank, size), gloo_(std::move(gloo)), aborted_(std::make_shared<std::atomic<bool>>(false)) {}

  const std::string getBackendName() const override {
    return "nccl";
  }

  WorkPtr allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) override {
    Tensors twins = twins_of(tensors);
    return work(gloo_->allreduce(twins, options));
  }

  WorkPtr broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) override {
    Tensors twins = twins_of(tensors);
    return work(gloo_->broadcast(twins, options));
  }

  WorkPtr barrier(const c10d::BarrierOptions& options) override {
    return work(gloo_->barrier(options));
  }

  void abort() override {
    aborted_->store(true);
  }

  c10d::ErrorType getError() override {
    return c10d::ErrorType::SUCCESS;
  }

 private:
  static Tensors twins_of(const Tensors& tensors) {
    Tensors twins;
    for (const at::Tensor& tensor : tensors) {
      TORCH_CHECK(tensor.is_cuda() && tensor.is_contiguous(), "Tensors must be CUDA and dense (rehearsed device)");
      twins.push_back(twin_of(tensor));
    }
    return twins;
  }

  WorkPtr work(WorkPtr gloo) const {
    TORCH_CHECK(!aborted_->load(), "NCCL communicator was aborted (rehearsed device)");
    return c10::make_intrusive<Work>(std::move(gloo), aborted_);
  }

  c10::intrusive_ptr<Gloo> gloo_;
  std::shared_ptr<std::atomic<bool>> aborted_;
};

} // namespace
} // namespace rehearsal

// What esta-c10d looks for in builds without CUDA.
extern "C" __attribute__((visibility("default"))) c10d::Backend* esta_rehearsal_nccl(
    const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, std::chrono::milliseconds timeout) {
  using namespace rehearsal;
  auto options = Gloo::Options::create(timeout);
  options->devices.push_back(Gloo::createDefaultDevice());
  auto gloo = c10::make_intrusive<Gloo>(store, rank, size, options);
  return c10::make_intrusive<Nccl>(rank, size, std::move(gloo)).release();
}

extern "C" __attribute__((visibility("default"))) uint64_t esta_rehearsal_take_peak() {
  return rehearsal::Arena::get().take_peak();
}

// Free and total bytes of the device.
extern "C" __attribute__((visibility("default"))) void esta_rehearsal_memory(uint64_t* free, uint64_t* total) {
  const auto& arena = rehearsal::Arena::get();
  *total = arena.total();
  *free = arena.total() - arena.used();
}
