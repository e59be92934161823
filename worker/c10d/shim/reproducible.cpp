#include "shim.h"

#include <ATen/Context.h>

namespace esta_c10d {

void be_reproducible_on_cuda() noexcept {
  // It sets flags alone.
  auto& context = at::globalContext();
  // Not with warnings alone: attention's backward pass adds up in any order then. No operator of ours is refused by this.
  context.setDeterministicAlgorithms(true, /*warn_only=*/false);
  // It would also fill fresh memory, which is a debugging aid.
  context.setDeterministicFillUninitializedMemory(false);
  context.setDeterministicCuDNN(true);
  // Single precision is single precision, in the embedding of patches too.
  context.setAllowTF32CuDNN(false);
  // It plans anew for every width of a batch.
  context.setSDPUseCuDNN(false);
}

} // namespace esta_c10d
