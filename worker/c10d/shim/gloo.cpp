// Debian's gloo headers are older than the gloo inside libtorch: nothing here may instantiate a gloo class or call one of its
// methods, only pass on pointers that libtorch made.
#include "group.h"

#include "esta-c10d/src/bridge.rs.h"

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

namespace esta_c10d {
namespace {

using Gloo = c10d::ProcessGroupGloo;

void add_devices(Gloo::Options& options, rust::Slice<const rust::String> interfaces, rust::Str hostname) {
  for (const auto& interface : interfaces) {
    options.devices.push_back(Gloo::createDeviceForInterface(std::string(interface)));
  }
  if (!hostname.empty()) {
    options.devices.push_back(Gloo::createDeviceForHostname(std::string(hostname)));
  }
  if (options.devices.empty()) {
    options.devices.push_back(Gloo::createDefaultDevice());
  }
}

} // namespace

std::shared_ptr<Group> form_gloo(
    const Seat& seat, rust::Slice<const rust::String> interfaces, rust::Str hostname, rust::Box<StoreBridge> store) {
  const std::chrono::milliseconds timeout(seat.timeout_ms);
  auto options = Gloo::Options::create(timeout);
  add_devices(*options, interfaces, hostname);
  auto backend = c10::make_intrusive<Gloo>(make_store(std::move(store), timeout), seat.rank, seat.world, options);
  return make_group(std::move(backend), Abort::Impossible);
}

} // namespace esta_c10d
