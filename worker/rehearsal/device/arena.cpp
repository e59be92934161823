#include "arena.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

namespace rehearsal {
namespace {

constexpr size_t kMebibyte = size_t{1} << 20;
// As CUDA's caching allocator rounds.
constexpr size_t kGrain = 512;

size_t size_from_environment() {
  const char* said = std::getenv("ESTA_REHEARSAL_MIB");
  const size_t mebibytes = said == nullptr ? 8192 : std::strtoul(said, nullptr, 10);
  TORCH_CHECK(mebibytes > 0, "ESTA_REHEARSAL_MIB is no number of mebibytes: ", said);
  return mebibytes * kMebibyte;
}

char* map(int memory, size_t bytes, int rights) {
  void* address = mmap(nullptr, bytes, rights, MAP_SHARED | MAP_NORESERVE, memory, 0);
  TORCH_CHECK(address != MAP_FAILED, "the rehearsed device got no memory: ", std::strerror(errno));
  return static_cast<char*>(address);
}

} // namespace

Arena& Arena::get() {
  // Never destroyed: tensors of other libraries' statics outlive everything here.
  static Arena* arena = new Arena();
  return *arena;
}

Arena::Arena() : total_(size_from_environment()) {
  const int memory = memfd_create("esta-rehearsal", MFD_CLOEXEC);
  TORCH_CHECK(memory >= 0 && ftruncate(memory, static_cast<off_t>(total_)) == 0,
              "the rehearsed device got no memory: ", std::strerror(errno));
  device_ = map(memory, total_, PROT_NONE);
  host_ = map(memory, total_, PROT_READ | PROT_WRITE);
  close(memory);
  free_.emplace(0, total_);
}

void* Arena::allocate(size_t bytes) {
  if (bytes == 0) {
    return nullptr;
  }
  const size_t length = (bytes + kGrain - 1) / kGrain * kGrain;
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto range = free_.begin(); range != free_.end(); ++range) {
    const auto [offset, available] = *range;
    if (available < length) {
      continue;
    }
    free_.erase(range);
    if (available > length) {
      free_.emplace(offset + length, available - length);
    }
    taken_.emplace(offset, length);
    used_ += length;
    peak_ = std::max(peak_, used_);
    std::memset(host_ + offset, 0xff, length);
    return device_ + offset;
  }
  TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory. Tried to allocate ", bytes, " bytes, ", total_ - used_,
                   " of ", total_, " are free (rehearsed device)");
}

void Arena::release(void* device) {
  if (device == nullptr) {
    return;
  }
  std::lock_guard<std::mutex> lock(mutex_);
  auto taken = taken_.find(static_cast<size_t>(static_cast<char*>(device) - device_));
  TORCH_INTERNAL_ASSERT(taken != taken_.end(), "released what was not allocated");
  auto [offset, length] = *taken;
  taken_.erase(taken);
  used_ -= length;
  auto next = free_.lower_bound(offset);
  if (next != free_.end() && next->first == offset + length) {
    length += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    auto before = std::prev(next);
    if (before->first + before->second == offset) {
      before->second += length;
      return;
    }
  }
  free_.emplace(offset, length);
}

void* Arena::on_host(const void* device) const {
  return device == nullptr ? nullptr : host_ + (static_cast<const char*>(device) - device_);
}

size_t Arena::total() const {
  return total_;
}

size_t Arena::used() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return used_;
}

size_t Arena::take_peak() {
  std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(peak_, used_);
}

} // namespace rehearsal
