#include "shim.h"

#include <torch/version.h>

namespace esta_c10d {

rust::String torch_version() {
  return rust::String(TORCH_VERSION);
}

} // namespace esta_c10d
