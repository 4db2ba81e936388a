// What stands behind the opaque classes of the public headers: a counted object. A public
// pointer and the pointer to the object behind it are the same address; SOFTMETAL_BRIDGE
// declares the pair and gives impl() and face() to go from one to the other.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include <Foundation/Foundation.hpp>

namespace softmetal {

class Object {
 public:
  Object();
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object();

  virtual const char* class_name() const = 0;
  virtual std::string describe() const;
  virtual bool equals(const Object& other) const { return this == &other; }
  virtual size_t hash() const { return reinterpret_cast<size_t>(this); }
  // Immutable classes share themselves; descriptors override this with a real copy. Returns +1.
  virtual Object* clone() {
    retain();
    return this;
  }

  void retain() {
    if (refs_.fetch_add(1, std::memory_order_relaxed) <= 0) over_released("retain");
  }
  void release() {
    const int32_t before = refs_.fetch_sub(1, std::memory_order_acq_rel);
    if (before <= 1) last_release(before);
  }
  // Somebody else has a reference. What others did with it before they gave it up is visible if not.
  bool shared() const { return refs_.load(std::memory_order_acquire) > 1; }
  int32_t refs() const { return refs_.load(std::memory_order_relaxed); }

 protected:
  // Never freed and not counted as alive.
  void make_immortal();

 private:
  void last_release(int32_t before);
  [[noreturn]] void over_released(const char* call);

  std::atomic<int32_t> refs_{1};
};

// A strong reference to an internal object.
template <class T>
class Ref {
 public:
  Ref() = default;
  Ref(T* object) : object_(object) {
    if (object_) object_->retain();
  }
  Ref(const Ref& other) : Ref(other.object_) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  ~Ref() {
    if (object_) object_->release();
  }
  Ref& operator=(Ref other) {
    std::swap(object_, other.object_);
    return *this;
  }
  // Takes over a reference that the caller owns.
  static Ref adopt(T* object) {
    Ref ref;
    ref.object_ = object;
    return ref;
  }
  T* get() const { return object_; }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  T* object_ = nullptr;
};

// The calling thread, one of our own that never ends, has a pool, and drain_thread_pool() empties it.
void give_thread_pool();
void drain_thread_pool();

// Keep the store of freed objects consistent over a fork.
void lock_zombies();
void unlock_zombies();

// Notes a call that needs a pool on macOS, whatever it autoreleases here; see unpooled_objects().
void needs_pool(const char* call);

// Hands one reference of the caller to the calling thread's innermost autorelease pool.
void autorelease_object(Object* object);

template <class T>
T* autoreleased(T* object) {
  if (object) autorelease_object(object);
  return object;
}

// The calls of the public API are const-correct as Apple's are, the objects behind them are not.
#define SOFTMETAL_IMPL(Face, Impl) \
  inline Impl* impl(const Face* object) { return reinterpret_cast<Impl*>(const_cast<Face*>(object)); }
#define SOFTMETAL_BRIDGE(Face, Impl) \
  SOFTMETAL_IMPL(Face, Impl)         \
  inline Face* face(Impl* object) { return reinterpret_cast<Face*>(object); }

SOFTMETAL_BRIDGE(NS::Object, Object)

// True in debug builds, under MTL_DEBUG_LAYER=1 and NSZombieEnabled=YES: freed objects are kept for a
// while so that a release too many is noticed instead of corrupting the heap.
bool keeps_zombies();

// MTL_DEBUG_LAYER is set: misuse aborts where it happens.
bool debug_layer();

// See set_validation().
bool validates();

// Reports misuse that no command buffer can carry: aborts under the debug layer, else says it on stderr.
void report_misuse(const std::string& message);
[[noreturn]] void abort_with(const std::string& message);

// printf into a string.
__attribute__((format(printf, 1, 2))) std::string text(const char* format, ...);

}  // namespace softmetal
