#include "group.h"

#include "esta-c10d/src/bridge.rs.h"

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include <mutex>

namespace esta_c10d {

std::string describe_current_exception() {
  try {
    throw;
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "an exception of unknown type";
  }
}

struct Pending::State {
  at::Tensor tensor;
  c10::intrusive_ptr<c10d::Work> work;
  std::shared_ptr<const Group::State> group;
};

Pending::Pending(std::unique_ptr<State> state) : state_(std::move(state)) {}
Pending::~Pending() = default;

namespace {

Look failed(const std::exception_ptr& reason) {
  try {
    std::rethrow_exception(reason);
  } catch (...) {
    return Look{Phase::Failed, rust::String::lossy(describe_current_exception())};
  }
}

// A finished CUDA collective is finished on its own stream: the caller's stream must still be told to wait for it.
Look look_at(const Pending::State& pending) {
  auto& work = *pending.work;
  if (!work.isCompleted()) {
    return Look{Phase::Running, rust::String()};
  }
  if (auto reason = work.exception()) {
    return failed(reason);
  }
  if (pending.group->may_have_ended_them()) {
    return Look{Phase::Failed, "the group was aborted"};
  }
  work.synchronize();
  return Look{Phase::Finished, rust::String()};
}

std::unique_ptr<Pending> pending(
    at::Tensor tensor, c10::intrusive_ptr<c10d::Work> work, std::shared_ptr<const Group::State> group) {
  auto state = std::make_unique<Pending::State>(Pending::State{std::move(tensor), std::move(work), std::move(group)});
  return std::make_unique<Pending>(std::move(state));
}

} // namespace

Look Pending::look() const noexcept {
  try {
    return look_at(*state_);
  } catch (...) {
    return failed(std::current_exception());
  }
}

namespace {

// c10d numbers a group's collectives without a lock, and its flight recorder inserts into a map that all groups of the process
// share without one: two groups that issue at the same moment have crashed there. Issuing only queues, so one lock serves all.
std::mutex issuing;

} // namespace

// NCCL's kernels that an abort ends look like those that are done, to whoever asks the collective alone; the reason is known to
// the group only, before it aborts. What was done in truth is then called failed as well, which costs its repetition.
bool Group::State::may_have_ended_them() const {
  return abort == Abort::Possible && (aborted.load() || backend->getError() != c10d::ErrorType::SUCCESS);
}

Group::Group(std::shared_ptr<State> state) : state_(std::move(state)) {}
Group::~Group() = default;

std::shared_ptr<Group> make_group(c10::intrusive_ptr<c10d::Backend> backend, Abort abort) {
  return std::make_shared<Group>(std::make_shared<Group::State>(std::move(backend), abort));
}

std::unique_ptr<Pending> Group::all_reduce_sum(const Tensor& tensor) const {
  std::lock_guard<std::mutex> alone(issuing);
  std::vector<at::Tensor> tensors{tensor};
  return pending(tensor, state_->backend->allreduce(tensors), state_);
}

std::unique_ptr<Pending> Group::broadcast(const Tensor& tensor, int64_t root) const {
  std::lock_guard<std::mutex> alone(issuing);
  std::vector<at::Tensor> tensors{tensor};
  c10d::BroadcastOptions options;
  options.rootRank = root;
  return pending(tensor, state_->backend->broadcast(tensors, options), state_);
}

std::unique_ptr<Pending> Group::barrier() const {
  std::lock_guard<std::mutex> alone(issuing);
  return pending(at::Tensor(), state_->backend->barrier(), state_);
}

void Group::abort() const {
  if (state_->abort == Abort::Possible) {
    state_->aborted.store(true);
    state_->backend->abort();
  }
}

} // namespace esta_c10d
