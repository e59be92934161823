// What libtorch asks of a CUDA runtime beside its operators: the allocator, the current device, streams and events (there is
// one stream, and whatever is queued on it is done at once), generators, and the hooks by which libtorch_cpu reaches CUDA.
#include "arena.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace rehearsal {
namespace {

using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;
using c10::Stream;

const Device kDevice(DeviceType::CUDA, 0);

// As many as CUDA_VISIBLE_DEVICES names, of which the first is there; one where it is not set.
DeviceIndex count_devices() {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  return visible == nullptr ? 1 : static_cast<DeviceIndex>(1 + std::count(visible, visible + std::strlen(visible), ','));
}

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* data = Arena::get().allocate(bytes);
    return {data, data, &release, kDevice};
  }

  c10::DeleterFnPtr raw_deleter() const override {
    return &release;
  }

  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(Arena::get().on_host(to), Arena::get().on_host(from), bytes);
  }

  static void release(void* data) {
    Arena::get().release(data);
  }
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override {
    return DeviceType::CUDA;
  }
  Device exchangeDevice(Device device) const override {
    setDevice(device);
    return kDevice;
  }
  Device getDevice() const override {
    return kDevice;
  }
  void setDevice(Device device) const override {
    TORCH_CHECK(device == kDevice, "CUDA error: invalid device ordinal (", device, ", rehearsed device)");
  }
  void uncheckedSetDevice(Device) const noexcept override {}
  Stream getStream(Device device) const override {
    return Stream(Stream::DEFAULT, device);
  }
  Stream getDefaultStream(Device device) const override {
    return Stream(Stream::DEFAULT, device);
  }
  Stream getStreamFromGlobalPool(Device device, bool) const override {
    return Stream(Stream::DEFAULT, device);
  }
  Stream exchangeStream(Stream stream) const override {
    return Stream(Stream::DEFAULT, stream.device());
  }
  DeviceIndex deviceCount() const noexcept override {
    return 1;
  }
  void record(void**, const Stream&, DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override {
    return true;
  }
  bool queryStream(const Stream&) const override {
    return true;
  }
  void synchronizeStream(const Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(DeviceIndex) const override {}
};

struct Hooks final : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}

  void init() const override {}
  bool isBuilt() const override {
    return true;
  }
  bool isAvailable() const override {
    return true;
  }
  bool hasCUDA() const override {
    return true;
  }
  bool hasCUDART() const override {
    return true;
  }
  bool hasPrimaryContext(DeviceIndex) const override {
    return true;
  }
  const at::Generator& getDefaultGenerator(DeviceIndex) const override {
    static const at::Generator generator = at::detail::createCPUGenerator();
    return generator;
  }
  at::Generator getNewGenerator(DeviceIndex) const override {
    return at::detail::createCPUGenerator();
  }
  Device getDeviceFromPtr(void*) const override {
    return kDevice;
  }
  DeviceIndex deviceCount() const override {
    return count_devices();
  }
  int getNumGPUs() const override {
    return count_devices();
  }
  DeviceIndex current_device() const override {
    return 0;
  }
  DeviceIndex getCurrentDevice() const override {
    return 0;
  }
  void setCurrentDevice(DeviceIndex) const override {}
  DeviceIndex exchangeDevice(DeviceIndex) const override {
    return 0;
  }
  DeviceIndex maybeExchangeDevice(DeviceIndex) const override {
    return 0;
  }
  void deviceSynchronize(DeviceIndex) const override {}
};

Allocator allocator;
C10_REGISTER_GUARD_IMPL(CUDA, Guard)
const bool is_prepared = [] {
  c10::SetAllocator(DeviceType::CUDA, &allocator);
  // The device has the plain form of attention alone; the host takes the same, so that their numbers can be compared.
  at::globalContext().setSDPUseFlash(false);
  return true;
}();

} // namespace
} // namespace rehearsal

namespace at {
// libtorch looks for this very name.
using CUDAHooks = rehearsal::Hooks;
REGISTER_CUDA_HOOKS(CUDAHooks)
} // namespace at
