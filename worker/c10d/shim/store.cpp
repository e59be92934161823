#include "group.h"

#include "esta-c10d/src/bridge.rs.h"

namespace esta_c10d {
namespace {

using Bytes = std::vector<uint8_t>;
using Keys = std::vector<std::string>;

Bytes bytes(const rust::Vec<uint8_t>& value) {
  return Bytes(value.begin(), value.end());
}

rust::Slice<const uint8_t> slice(const Bytes& value) {
  return {value.data(), value.size()};
}

// Shared by clones. Every method may be called from any of libtorch's threads; a failure in Rust arrives as an exception.
class CallbackStore final : public c10d::Store {
 public:
  CallbackStore(std::shared_ptr<rust::Box<StoreBridge>> bridge, std::chrono::milliseconds timeout)
      : c10d::Store(timeout), bridge_(std::move(bridge)) {}

  c10::intrusive_ptr<c10d::Store> clone() override {
    return c10::make_intrusive<CallbackStore>(bridge_, timeout_);
  }

  void set(const std::string& key, const Bytes& value) override {
    rust().set(key, slice(value));
  }

  Bytes get(const std::string& key) override {
    return bytes(rust().get(key, timeout_.count()));
  }

  int64_t add(const std::string& key, int64_t amount) override {
    return rust().add(key, amount);
  }

  Bytes compareSet(const std::string& key, const Bytes& expected, const Bytes& desired) override {
    return bytes(rust().compare_set(key, slice(expected), slice(desired)));
  }

  bool deleteKey(const std::string& key) override {
    return rust().remove(key);
  }

  bool check(const Keys& keys) override {
    return rust().check(keys);
  }

  void wait(const Keys& keys) override {
    wait(keys, timeout_);
  }

  void wait(const Keys& keys, const std::chrono::milliseconds& timeout) override {
    rust().wait(keys, timeout.count());
  }

  int64_t getNumKeys() override {
    C10_THROW_ERROR(NotImplementedError, "this store does not count its keys");
  }

 private:
  const StoreBridge& rust() const {
    return **bridge_;
  }

  std::shared_ptr<rust::Box<StoreBridge>> bridge_;
};

} // namespace

c10::intrusive_ptr<c10d::Store> make_store(rust::Box<StoreBridge> bridge, std::chrono::milliseconds timeout) {
  return c10::make_intrusive<CallbackStore>(std::make_shared<rust::Box<StoreBridge>>(std::move(bridge)), timeout);
}

} // namespace esta_c10d
