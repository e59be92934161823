// What the shim's own files share: how a c10d backend and a c10d store are made into handles.
#pragma once

#include "shim.h"

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <atomic>

namespace esta_c10d {

enum class Abort { Impossible, Possible };

struct Group::State {
  c10::intrusive_ptr<c10d::Backend> backend;
  const Abort abort;
  // Set before the group's collectives are ended.
  std::atomic<bool> aborted{false};

  State(c10::intrusive_ptr<c10d::Backend> backend, Abort abort) : backend(std::move(backend)), abort(abort) {}
  bool may_have_ended_them() const;
};

std::shared_ptr<Group> make_group(c10::intrusive_ptr<c10d::Backend> backend, Abort abort);

// A c10d store whose every call is answered by Rust.
c10::intrusive_ptr<c10d::Store> make_store(rust::Box<StoreBridge> bridge, std::chrono::milliseconds timeout);

} // namespace esta_c10d
