// A tensor of the device as the host's operators see it.
#pragma once

#include <ATen/core/Tensor.h>

namespace rehearsal {

// A CPU tensor over the memory of `tensor`, which must be one of the device.
at::Tensor twin_of(const at::Tensor& tensor);

} // namespace rehearsal
