// Stands in for nccl.cpp in builds without the feature `cuda`.
#include "shim.h"

#include "esta-c10d/src/bridge.rs.h"

#include <stdexcept>

namespace esta_c10d {

std::shared_ptr<Group> form_nccl(const Seat&, rust::Box<StoreBridge>) {
  throw std::runtime_error("this program was built without NCCL (feature `cuda`)");
}

uint64_t free_cuda_memory() {
  throw std::runtime_error("this program was built without CUDA (feature `cuda`)");
}

uint64_t used_cuda_memory() {
  throw std::runtime_error("this program was built without CUDA (feature `cuda`)");
}

int32_t current_cuda_device() {
  throw std::runtime_error("this program was built without CUDA (feature `cuda`)");
}

} // namespace esta_c10d
