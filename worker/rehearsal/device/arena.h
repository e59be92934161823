// The memory of the device: host memory which the host may not touch. It is mapped twice, once without any rights at the
// addresses that tensors carry, and once readable and writable for the operators: reading a device pointer ends the process, as
// it would with a real device.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>

namespace rehearsal {

class Arena {
 public:
  // The only one of the process.
  static Arena& get();

  // Filled with 0xff, which is NaN in every floating type: fresh device memory holds nothing one may rely on.
  void* allocate(size_t bytes);
  void release(void* device);

  // Where the operators find what lies at an address of the device.
  void* on_host(const void* device) const;

  size_t total() const;
  size_t used() const;
  // The most that was in use at once since this was last asked.
  size_t take_peak();

 private:
  Arena();

  const size_t total_;
  char* device_ = nullptr;
  char* host_ = nullptr;
  mutable std::mutex mutex_;
  std::map<size_t, size_t> free_;      // offset -> length, neighbours joined
  std::map<size_t, size_t> taken_;     // offset -> length
  size_t used_ = 0;
  size_t peak_ = 0;
};

} // namespace rehearsal
