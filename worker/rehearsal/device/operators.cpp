// Every operator of the device is the host's own, run on twins: CPU tensors over the same memory. What CUDA refuses is
// refused here: operands on different devices above all.
#include "arena.h"
#include "twin.h"

#include <ATen/Context.h>
#include <ATen/core/boxing/KernelFunction.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty_strided.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <unordered_map>

namespace rehearsal {
namespace {

using at::IValue;
using at::Tensor;
using c10::DeviceType;
using c10::OperatorHandle;
using c10::Storage;
using c10::StorageImpl;
using torch::jit::Stack;

const c10::Device kDevice(DeviceType::CUDA, 0);

bool on_device(const Tensor& tensor) {
  return tensor.defined() && tensor.is_cuda();
}

// A CPU storage over the memory of one of the device, which it keeps alive.
Storage host_storage(const Storage& storage) {
  auto keep = std::make_unique<Storage>(storage);
  void* data = Arena::get().on_host(storage.data());
  void (*release)(void*) = [](void* kept) { delete static_cast<Storage*>(kept); };
  c10::DataPtr pointer(data, keep.release(), release, c10::Device(DeviceType::CPU));
  return Storage(c10::make_intrusive<StorageImpl>(
      StorageImpl::use_byte_size_t(), storage.nbytes(), std::move(pointer), c10::GetAllocator(DeviceType::CPU), /*resizable=*/true));
}

// Gives a storage of the device the content that its twin has in memory of its own.
void take_over(const StorageImpl& host, StorageImpl& device) {
  c10::DataPtr memory = c10::GetAllocator(DeviceType::CUDA)->allocate(host.nbytes());
  std::memcpy(Arena::get().on_host(memory.get()), host.data(), host.nbytes());
  device.set_data_ptr_noswap(std::move(memory));
  device.set_nbytes(host.nbytes());
}

Tensor tensor_over(Storage storage, c10::DispatchKey key, const Tensor& like) {
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), like.dtype());
  auto* impl = tensor.unsafeGetTensorImpl();
  impl->set_storage_offset(like.storage_offset());
  impl->set_sizes_and_strides(like.sizes(), like.strides());
  if (like.unsafeGetTensorImpl()->is_wrapped_number()) {
    impl->set_wrapped_number(true);
  }
  return tensor;
}

// The twins of one call, and the way back.
class Twins {
 public:
  Tensor twin(const Tensor& tensor) {
    if (!on_device(tensor)) {
      return tensor;
    }
    const Storage& storage = tensor.storage();
    auto [entry, fresh] = host_.try_emplace(storage.unsafeGetStorageImpl());
    if (fresh) {
      entry->second = host_storage(storage);
      device_.emplace(entry->second.unsafeGetStorageImpl(), storage);
    }
    Tensor twin = tensor_over(entry->second, c10::DispatchKey::CPU, tensor);
    pairs_.emplace_back(tensor, twin);
    return twin;
  }

  // A result of the host's operator as one of the device: the argument it is, a view of an argument, or new.
  Tensor returned(const Tensor& result) const {
    if (!result.defined()) {
      return result;
    }
    for (const auto& [tensor, twin] : pairs_) {
      if (result.is_same(twin)) {
        return tensor;
      }
    }
    if (auto entry = device_.find(result.storage().unsafeGetStorageImpl()); entry != device_.end()) {
      return tensor_over(entry->second, c10::DispatchKey::CUDA, result);
    }
    Tensor fresh = at::empty_strided(result.sizes(), result.strides(), result.options().device(kDevice));
    const size_t bytes = result.storage().nbytes() - result.storage_offset() * result.itemsize();
    std::memcpy(Arena::get().on_host(fresh.mutable_data_ptr()), result.const_data_ptr(),
                std::min(bytes, fresh.storage().nbytes()));
    return fresh;
  }

  // An operator that works in place may have made its tensor larger, or changed its shape.
  void follow() const {
    for (const auto& [host, device] : device_) {
      if (host->data() != Arena::get().on_host(device.data())) {
        take_over(*host, *device.unsafeGetStorageImpl());
      }
    }
    for (const auto& [tensor, twin] : pairs_) {
      if (tensor.sizes() != twin.sizes() || tensor.strides() != twin.strides()) {
        auto* impl = tensor.unsafeGetTensorImpl();
        impl->set_storage_offset(twin.storage_offset());
        impl->set_sizes_and_strides(twin.sizes(), twin.strides());
      }
    }
  }

 private:
  std::unordered_map<const StorageImpl*, Storage> host_;
  std::unordered_map<const StorageImpl*, Storage> device_;
  std::vector<std::pair<Tensor, Tensor>> pairs_;
};

template <typename Change>
void each_tensor(IValue& value, Change change) {
  if (value.isTensor()) {
    value = change(value.toTensor());
  } else if (value.isTensorList()) {
    c10::List<Tensor> changed;
    for (const Tensor& tensor : value.toTensorVector()) {
      changed.push_back(change(tensor));
    }
    value = std::move(changed);
  } else if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> changed;
    for (const std::optional<Tensor>& tensor : value.toOptionalTensorVector()) {
      changed.push_back(tensor ? std::optional<Tensor>(change(*tensor)) : std::nullopt);
    }
    value = std::move(changed);
  }
}

// Where CUDA itself takes operands of the host.
bool crosses(std::string_view name) {
  for (std::string_view known : {"aten::copy_", "aten::_index_put_impl_", "aten::index"}) {
    if (name == known) {
      return true;
    }
  }
  return false;
}

void refuse_strangers(const OperatorHandle& op, const Stack& stack, size_t first) {
  if (crosses(op.schema().name())) {
    return;
  }
  for (size_t i = first; i < stack.size(); ++i) {
    IValue value = stack[i];
    each_tensor(value, [&](const Tensor& tensor) {
      // A number on the host is a parameter to the device.
      TORCH_CHECK(!tensor.defined() || on_device(tensor) || tensor.dim() == 0,
                  "Expected all tensors to be on the same device, but argument ", op.schema().arguments()[i - first].name(),
                  " of ", op.schema().operator_name(), " is on ", tensor.device(), " with shape ", tensor.sizes(),
                  " and another is on ", kDevice, " (rehearsed device)");
      return tensor;
    });
  }
}

void run_on_twins(const OperatorHandle& op, Stack* stack) {
  Twins twins;
  const size_t first = stack->size() - op.schema().arguments().size();
  for (size_t i = first; i < stack->size(); ++i) {
    IValue& value = (*stack)[i];
    if (value.isDevice()) {
      value = c10::Device(DeviceType::CPU);
    } else {
      each_tensor(value, [&](const Tensor& tensor) { return twins.twin(tensor); });
    }
  }
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  twins.follow();
  for (size_t i = stack->size() - op.schema().returns().size(); i < stack->size(); ++i) {
    each_tensor((*stack)[i], [&](const Tensor& tensor) { return twins.returned(tensor); });
  }
}

// Where a test asks for it, that whoever computes has asked for the same bits each time: the host's operators give them anyway.
void demand_reproducibility(const OperatorHandle& op) {
  static const bool demanded = std::getenv("ESTA_REHEARSAL_REPRODUCIBLE") != nullptr;
  TORCH_CHECK(!demanded || (at::globalContext().deterministicAlgorithms() && std::getenv("CUBLAS_WORKSPACE_CONFIG") != nullptr),
              op.schema().operator_name(), " may add in any order: deterministic algorithms are off (rehearsed device)");
}

void any_operator(const OperatorHandle& op, Stack* stack) {
  demand_reproducibility(op);
  refuse_strangers(op, *stack, stack->size() - op.schema().arguments().size());
  run_on_twins(op, stack);
}

Tensor& copy(Tensor& self, const Tensor& source, bool) {
  Twins twins;
  twins.twin(self).copy_(twins.twin(source));
  return self;
}

Tensor empty(c10::SymIntArrayRef size, std::optional<c10::ScalarType> dtype, std::optional<c10::Layout> layout,
             std::optional<c10::Device>, std::optional<bool>, std::optional<c10::MemoryFormat> format) {
  auto* allocator = c10::GetAllocator(DeviceType::CUDA);
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), allocator, c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                   c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<c10::ScalarType> dtype,
                     std::optional<c10::Layout>, std::optional<c10::Device>, std::optional<bool>) {
  auto* allocator = c10::GetAllocator(DeviceType::CUDA);
  return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), allocator,
                                           c10::DispatchKeySet(c10::DispatchKey::CUDA), c10::dtype_or_default(dtype));
}

TORCH_LIBRARY_IMPL(_, CUDA, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&any_operator>());
}

// A kernel of the host's own goes before the composition that backends without one are given, and so does the choice among
// libraries in a convolution: otherwise numbers would be rounded otherwise.
bool has_own_kernel(const c10::OperatorName& name) {
  if (name.name == "aten::convolution" || name.name == "aten::convolution_backward") {
    return true;
  }
  const auto op = c10::Dispatcher::singleton().findOp(name);
  return op && op->hasKernelForDispatchKey(c10::DispatchKey::CPU);
}

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("copy_", &copy);
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames()) {
    const bool given = name.name == "aten::copy_" || name.name == "aten::empty" || name.name == "aten::empty_strided";
    if (name.getNamespace() == "aten" && !given && has_own_kernel(name)) {
      const std::string local = c10::toString(name).substr(std::string_view("aten::").size());
      library.impl(local.c_str(), torch::CppFunction::makeFromBoxedFunction<&any_operator>());
    }
  }
}

} // namespace

Tensor twin_of(const Tensor& tensor) {
  return Twins().twin(tensor);
}

} // namespace rehearsal
