// The seam between Rust and libtorch's process groups: two owning handles and two ways to form a group.
// Kept free of libtorch's headers, so that the code cxx generates compiles in a moment.
#pragma once

#include <rust/cxx.h>

#include <cstdint>
#include <memory>
#include <string>

namespace at {
class Tensor;
}

namespace esta_c10d {

// Text of the exception being handled. Call only inside a catch block.
std::string describe_current_exception();

} // namespace esta_c10d

// How cxx turns a C++ exception into a Rust error; unlike its default this also stops what is no std::exception.
namespace rust::behavior {
template <typename Try, typename Fail>
static void trycatch(Try&& attempt, Fail&& fail) noexcept {
  try {
    attempt();
  } catch (...) {
    fail(esta_c10d::describe_current_exception().c_str());
  }
}
} // namespace rust::behavior

namespace esta_c10d {

using Tensor = at::Tensor;

struct Seat;
struct Look;
struct StoreBridge;

// One collective under way. Owns a reference to its tensor until it is destroyed.
class Pending {
 public:
  struct State;
  explicit Pending(std::unique_ptr<State> state);
  ~Pending();
  // Never blocks, never throws.
  Look look() const noexcept;

 private:
  std::unique_ptr<State> state_;
};

// One rank's end of a process group. The destructor of a Gloo group waits for its pending collectives.
class Group {
 public:
  struct State;
  explicit Group(std::shared_ptr<State> state);
  ~Group();
  std::unique_ptr<Pending> all_reduce_sum(const Tensor& tensor) const;
  std::unique_ptr<Pending> broadcast(const Tensor& tensor, int64_t root) const;
  std::unique_ptr<Pending> barrier() const;
  // Ends every pending collective where the backend can (NCCL); does nothing for Gloo.
  void abort() const;

 private:
  std::shared_ptr<State> state_;
};

std::shared_ptr<Group> form_gloo(
    const Seat& seat, rust::Slice<const rust::String> interfaces, rust::Str hostname, rust::Box<StoreBridge> store);
std::shared_ptr<Group> form_nccl(const Seat& seat, rust::Box<StoreBridge> store);

// Of the headers this was compiled against, such as 2.11.0.
rust::String torch_version();

// Holds CUDA's operators of this process to the same bits for the same operands.
void be_reproducible_on_cuda() noexcept;

// The CUDA device that the calling thread currently uses.
int32_t current_cuda_device();

// Bytes that the current CUDA device has free.
uint64_t free_cuda_memory();
uint64_t used_cuda_memory();

} // namespace esta_c10d
