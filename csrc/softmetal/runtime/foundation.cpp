#include "softmetal/runtime/foundation.h"

#include <sys/utsname.h>

#include <algorithm>
#include <cctype>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "softmetal/runtime/softmetal.h"

namespace softmetal {

// Objects ---------------------------------------------------------------------------------------

static std::atomic<int64_t> live_count{0};

int64_t live_objects() { return live_count.load(std::memory_order_relaxed); }

std::string text(const char* format, ...) {
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  std::string result(static_cast<size_t>(std::vsnprintf(nullptr, 0, format, arguments)), '\0');
  va_end(arguments);
  std::vsnprintf(result.data(), result.size() + 1, format, again);
  va_end(again);
  return result;
}

bool debug_layer() {
  const char* value = std::getenv("MTL_DEBUG_LAYER");
  return value && *value && std::strcmp(value, "0") != 0;
}

static std::atomic<bool>& validation() {
  static std::atomic<bool> on{debug_layer()};
  return on;
}
void set_validation(bool on) { validation().store(on); }
bool validates() { return validation().load(std::memory_order_relaxed); }

void abort_with(const std::string& message) {
  std::fprintf(stderr, "softmetal: %s\n", message.c_str());
  std::fflush(stderr);
  std::abort();
}

void report_misuse(const std::string& message) {
  if (debug_layer()) abort_with(message);
  std::fprintf(stderr, "softmetal: %s\n", message.c_str());
}

bool keeps_zombies() {
#ifndef NDEBUG
  return true;
#else
  static const bool keep = [] {
    const char* wanted = std::getenv("NSZombieEnabled");  // as Foundation calls it
    return debug_layer() || (wanted && std::strcmp(wanted, "YES") == 0);
  }();
  return keep;
#endif
}

namespace {

// Freed objects whose memory is kept, oldest overwritten first.
struct Cemetery {
  static constexpr size_t kPlots = 4096;
  struct Grave {
    void* object = nullptr;
    const char* name = nullptr;
  };

  void bury(void* object, const char* name) {
    void* oldest;
    {
      std::lock_guard lock(mutex);
      Grave& grave = graves[next++ % kPlots];
      oldest = grave.object;
      grave = {object, name};
    }
    ::operator delete(oldest);
  }
  const char* name_of(const void* object) {
    std::lock_guard lock(mutex);
    for (const Grave& grave : graves)
      if (grave.object == object) return grave.name;
    return "an object";
  }

  std::mutex mutex;
  Grave graves[kPlots];
  size_t next = 0;
};

Cemetery& cemetery() {
  static Cemetery* const place = new Cemetery;  // outlives every thread
  return *place;
}

constexpr int32_t kImmortal = 1 << 30;

}  // namespace

void lock_zombies() { cemetery().mutex.lock(); }
void unlock_zombies() { cemetery().mutex.unlock(); }

Object::Object() { live_count.fetch_add(1, std::memory_order_relaxed); }
Object::~Object() { live_count.fetch_sub(1, std::memory_order_relaxed); }

void Object::make_immortal() {
  refs_.store(kImmortal, std::memory_order_relaxed);
  live_count.fetch_sub(1, std::memory_order_relaxed);
}

void Object::last_release(int32_t before) {
  if (before <= 0) over_released("release");
  if (!keeps_zombies()) {
    delete this;
    return;
  }
  const char* name = class_name();
  void* memory = this;
  this->~Object();
  cemetery().bury(memory, name);
}

void Object::over_released(const char* call) {
  abort_with(text("%s: %s at %p has already been freed; it was released more often than retained", call,
                  keeps_zombies() ? cemetery().name_of(this) : "an object", static_cast<void*>(this)));
}

std::string Object::describe() const {
  return text("<%s: %p>", class_name(), static_cast<const void*>(this));
}

static Object* object_of(const void* object) { return static_cast<Object*>(const_cast<void*>(object)); }

// A message to nil does nothing, as in Objective-C.
void retain(const void* object) {
  if (object) object_of(object)->retain();
}
void release(const void* object) {
  if (object) object_of(object)->release();
}
void autorelease(const void* object) {
  if (object) autorelease_object(object_of(object));
}
NS::UInteger retain_count(const void* object) {
  return object ? static_cast<NS::UInteger>(object_of(object)->refs()) : 0;
}
void* copy(const void* object) { return object ? object_of(object)->clone() : nullptr; }

// Autorelease pools -----------------------------------------------------------------------------

// One stack per thread; a pool is a mark in it. Objects without a pool go when the thread ends.
struct PoolStack {
  ~PoolStack() { drain_to(0); }

  void drain_to(size_t mark) {
    // A destructor may autorelease more, so look at the size again each time.
    while (objects.size() > mark) {
      Object* object = objects.back();
      objects.pop_back();
      if (object) object->release();
    }
  }

  std::vector<Object*> objects;
  size_t pools = 0;
};
static thread_local PoolStack pool_stack;

class Pool final : public Object {
 public:
  const char* class_name() const override { return "NS::AutoreleasePool"; }
  ~Pool() override { drain(); }
  void drain() {
    if (mark == kNone) return;
    pool_stack.drain_to(mark);
    --pool_stack.pools;
    mark = kNone;
  }

  static constexpr size_t kNone = ~size_t{0};
  size_t mark = kNone;
};
SOFTMETAL_BRIDGE(NS::AutoreleasePool, Pool)

static std::atomic<int64_t> unpooled_count{0};
static std::atomic<const char*> unpooled_class{""};

int64_t unpooled_objects() { return unpooled_count.load(); }
const char* last_unpooled_class() { return unpooled_class.load(); }

void give_thread_pool() { pool_stack.pools = 1; }
void drain_thread_pool() { pool_stack.drain_to(0); }
void needs_pool(const char* call) {
  if (pool_stack.pools != 0) [[likely]]
    return;
  unpooled_count.fetch_add(1, std::memory_order_relaxed);
  unpooled_class.store(call, std::memory_order_relaxed);
}
void autorelease_object(Object* object) {
  if (pool_stack.pools == 0) [[unlikely]]
    needs_pool(object->class_name());
  pool_stack.objects.push_back(object);
}

// String ----------------------------------------------------------------------------------------

String* String::immortal(const char* text_value) {
  auto* string = new String(text_value);
  string->make_immortal();
  return string;
}

bool String::equals(const Object& other) const {
  const auto* string = dynamic_cast<const String*>(&other);
  return string && string->value == value;
}

NS::String* constant_string(const char* text_value) { return face(String::immortal(text_value)); }

static std::vector<NS::unichar> utf16(const std::string& utf8) {
  std::vector<NS::unichar> units;
  for (size_t i = 0; i < utf8.size();) {
    const auto lead = static_cast<unsigned char>(utf8[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint32_t point = length == 1 ? lead : lead & (0xffu >> (length + 1));
    for (size_t k = 1; k < length && i + k < utf8.size(); ++k)
      point = point << 6 | (static_cast<unsigned char>(utf8[i + k]) & 0x3fu);
    i += length;
    if (point < 0x10000) {
      units.push_back(static_cast<NS::unichar>(point));
    } else {
      units.push_back(static_cast<NS::unichar>(0xd7c0 + (point >> 10)));
      units.push_back(static_cast<NS::unichar>(0xdc00 + (point & 0x3ff)));
    }
  }
  return units;
}

static bool is_ascii(const std::string& value) {
  return std::all_of(value.begin(), value.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

// Collections -----------------------------------------------------------------------------------

std::string Array::describe() const {
  std::string result = "(";
  for (const auto& item : items) result += (result.size() > 1 ? ", " : "") + item->describe();
  return result + ")";
}

bool Array::equals(const Object& other) const {
  const auto* array = dynamic_cast<const Array*>(&other);
  return array && std::equal(items.begin(), items.end(), array->items.begin(), array->items.end(),
                             [](const auto& a, const auto& b) { return a->equals(*b); });
}

bool Data::equals(const Object& other) const {
  const auto* data = dynamic_cast<const Data*>(&other);
  return data && data->bytes == bytes;
}

std::string Dictionary::describe() const {
  std::string result = "{";
  for (const auto& [key, object] : items)
    result += (result.size() > 1 ? ", " : "") + key->describe() + " = " + object->describe();
  return result + "}";
}

void Dictionary::set(Object* key, Object* object) {
  for (auto& item : items) {
    if (item.first->equals(*key)) {
      item.second = Ref<Object>(object);
      return;
    }
  }
  items.emplace_back(Ref<Object>(key), Ref<Object>(object));
}

Object* Dictionary::find(const Object* key) const {
  for (const auto& item : items)
    if (key && item.first->equals(*key)) return item.second.get();
  return nullptr;
}

void* next_object(void* enumerator) {
  auto* list = static_cast<Enumerator*>(enumerator);
  return list->next < list->items.size() ? list->items[list->next++].get() : nullptr;
}

void* all_objects(void* enumerator) {
  auto* list = static_cast<Enumerator*>(enumerator);
  auto* array = new Array;
  while (list->next < list->items.size()) array->items.push_back(list->items[list->next++]);
  return face(autoreleased(array));
}

// Value -----------------------------------------------------------------------------------------

std::string Value::describe() const {
  switch (kind) {
    case Kind::Signed:
      return text("%lld", static_cast<long long>(integer));
    case Kind::Unsigned:
      return text("%llu", static_cast<unsigned long long>(natural));
    case Kind::Real:
      return text("%.17g", real);
    case Kind::Pointer:
      break;
  }
  return text("<%p>", pointer);
}

bool Value::equals(const Object& other) const {
  const auto* value = dynamic_cast<const Value*>(&other);
  if (!value || (kind == Kind::Pointer) != (value->kind == Kind::Pointer)) return false;
  if (kind == Kind::Pointer) return pointer == value->pointer;
  if (kind == Kind::Real || value->kind == Kind::Real) return as<double>() == value->as<double>();
  const bool negative = kind == Kind::Signed && integer < 0;
  const bool other_negative = value->kind == Kind::Signed && value->integer < 0;
  return negative == other_negative && as<uint64_t>() == value->as<uint64_t>();
}

size_t Value::hash() const {
  if (kind == Kind::Pointer) return std::hash<const void*>()(pointer);
  return std::hash<double>()(as<double>());  // equal numbers of different kinds hash alike
}

// Error, URL ------------------------------------------------------------------------------------

Error::Error(const char* domain_name, int64_t error_code, std::string message)
    : domain(Ref<String>::adopt(new String(domain_name))),
      code(error_code),
      info(Ref<Dictionary>::adopt(new Dictionary)) {
  auto string = Ref<String>::adopt(new String(std::move(message)));
  info->set(impl(NS::LocalizedDescriptionKey), string.get());
}

std::string Error::message() const {
  Object* found = info ? info->find(impl(NS::LocalizedDescriptionKey)) : nullptr;
  if (found) return found->describe();
  return text("The operation couldn't be completed. (%s error %lld.)", domain ? domain->value.c_str() : "",
              static_cast<long long>(code));
}

std::string Error::describe() const {
  return text("Error Domain=%s Code=%lld \"%s\"", domain ? domain->value.c_str() : "",
              static_cast<long long>(code), message().c_str());
}

bool URL::equals(const Object& other) const {
  const auto* url = dynamic_cast<const URL*>(&other);
  return url && url->path == path;
}

std::nullptr_t fail(NS::Error** error, const char* domain, int64_t code, const std::string& message) {
  if (error) *error = face(autoreleased(new Error(domain, code, message)));
  return nullptr;
}

}  // namespace softmetal

// The public classes ------------------------------------------------------------------------------

namespace NS {

using softmetal::autoreleased;
using softmetal::face;
using softmetal::impl;

const ErrorUserInfoKey LocalizedDescriptionKey = softmetal::constant_string("NSLocalizedDescription");
const ErrorUserInfoKey LocalizedFailureReasonErrorKey =
    softmetal::constant_string("NSLocalizedFailureReason");

UInteger Object::hash() const { return impl(this)->hash(); }
bool Object::isEqual(const Object* pObject) const { return pObject && impl(this)->equals(*impl(pObject)); }
String* Object::description() const { return softmetal::autoreleased_string(impl(this)->describe()); }
String* Object::debugDescription() const { return description(); }

AutoreleasePool* AutoreleasePool::alloc() { return face(new softmetal::Pool); }
AutoreleasePool* AutoreleasePool::init() {
  impl(this)->mark = softmetal::pool_stack.objects.size();
  ++softmetal::pool_stack.pools;
  return this;
}
void AutoreleasePool::drain() { release(); }
void AutoreleasePool::addObject(Object* pObject) { pObject->autorelease(); }

String* String::string() { return softmetal::autoreleased_string({}); }
String* String::string(const String* pString) {
  return softmetal::autoreleased_string(softmetal::str(pString));
}
String* String::string(const char* pString, StringEncoding encoding) {
  String* made = alloc()->init(pString, encoding);
  return made ? made->autorelease() : nullptr;
}
String* String::alloc() { return face(new softmetal::String); }
String* String::init() { return this; }
String* String::init(const String* pString) {
  impl(this)->value = softmetal::str(pString);
  return this;
}
String* String::init(const char* pString, StringEncoding encoding) {
  return init(const_cast<char*>(pString), pString ? std::strlen(pString) : 0, encoding, false);
}
String* String::init(void* pBytes, UInteger len, StringEncoding encoding, bool freeBuffer) {
  std::string value(static_cast<const char*>(pBytes), pBytes ? len : 0);
  if (freeBuffer) std::free(pBytes);
  const bool readable =
      encoding == UTF8StringEncoding || (encoding == ASCIIStringEncoding && softmetal::is_ascii(value));
  if (!pBytes || !readable) {
    release();
    return nullptr;
  }
  impl(this)->value = std::move(value);
  return this;
}
unichar String::character(UInteger index) const {
  const auto units = softmetal::utf16(impl(this)->value);
  if (index >= units.size())
    softmetal::abort_with(softmetal::text("NS::String::character: index is %zu, needs less than %zu",
                                          static_cast<size_t>(index), units.size()));
  return units[index];
}
UInteger String::length() const { return softmetal::utf16(impl(this)->value).size(); }
const char* String::cString(StringEncoding encoding) const {
  if (encoding == ASCIIStringEncoding && !softmetal::is_ascii(impl(this)->value)) return nullptr;
  return impl(this)->value.c_str();
}
const char* String::utf8String() const { return impl(this)->value.c_str(); }
UInteger String::maximumLengthOfBytes(StringEncoding encoding) const {
  return length() * (encoding == ASCIIStringEncoding ? 1 : 3);
}
UInteger String::lengthOfBytes(StringEncoding encoding) const {
  return cString(encoding) ? impl(this)->value.size() : 0;
}
bool String::isEqualToString(const String* pString) const { return isEqual(pString); }
const char* String::fileSystemRepresentation() const { return utf8String(); }
String* String::stringByAppendingString(const String* pString) const {
  return softmetal::autoreleased_string(impl(this)->value + softmetal::str(pString));
}
ComparisonResult String::caseInsensitiveCompare(const String* pString) const {
  auto folded = [](std::string value) {
    std::transform(value.begin(), value.end(), value.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return value;
  };
  const int order = folded(impl(this)->value).compare(folded(softmetal::str(pString)));
  return order < 0 ? OrderedAscending : order > 0 ? OrderedDescending : OrderedSame;
}

Array* Array::array() { return alloc()->init()->autorelease(); }
Array* Array::array(const Object* pObject) { return array(&pObject, 1); }
Array* Array::array(const Object* const* pObjects, UInteger count) {
  return alloc()->init(pObjects, count)->autorelease();
}
Array* Array::alloc() { return face(new softmetal::Array); }
Array* Array::init() { return this; }
Array* Array::init(const Object* const* pObjects, UInteger count) {
  for (UInteger i = 0; i < count; ++i) impl(this)->add(impl(pObjects[i]));
  return this;
}
UInteger Array::count() const { return impl(this)->items.size(); }
void* Array::objectAt(UInteger index) const {
  const auto& items = impl(this)->items;
  if (index >= items.size())
    softmetal::abort_with(softmetal::text("NS::Array::object: index is %zu, needs less than %zu",
                                          static_cast<size_t>(index), items.size()));
  return items[index].get();
}
Enumerator<Object>* Array::objectEnumerator() const {
  auto* list = new softmetal::Enumerator;
  list->items = impl(this)->items;
  return reinterpret_cast<Enumerator<Object>*>(autoreleased(list));
}

void* Data::mutableBytes() const { return impl(this)->bytes.data(); }
UInteger Data::length() const { return impl(this)->bytes.size(); }

Dictionary* Dictionary::dictionary() { return alloc()->init()->autorelease(); }
Dictionary* Dictionary::dictionary(const Object* pObject, const Object* pKey) {
  return dictionary(&pObject, &pKey, 1);
}
Dictionary* Dictionary::dictionary(const Object* const* pObjects, const Object* const* pKeys,
                                   UInteger count) {
  return alloc()->init(pObjects, pKeys, count)->autorelease();
}
Dictionary* Dictionary::alloc() { return face(new softmetal::Dictionary); }
Dictionary* Dictionary::init() { return this; }
Dictionary* Dictionary::init(const Object* const* pObjects, const Object* const* pKeys, UInteger count) {
  for (UInteger i = 0; i < count; ++i) impl(this)->set(impl(pKeys[i]), impl(pObjects[i]));
  return this;
}
UInteger Dictionary::count() const { return impl(this)->items.size(); }
void* Dictionary::keys() const {
  auto* list = new softmetal::Enumerator;
  for (const auto& item : impl(this)->items) list->items.push_back(item.first);
  return autoreleased(list);
}
void* Dictionary::objectFor(const Object* pKey) const { return impl(this)->find(impl(pKey)); }

namespace {

template <class T>
Number* number_of(T value) {
  using Kind = softmetal::Value::Kind;
  softmetal::Value* made;
  if constexpr (std::is_floating_point_v<T>) {
    made = new softmetal::Value(Kind::Real);
    made->real = value;
  } else if constexpr (std::is_signed_v<T>) {
    made = new softmetal::Value(Kind::Signed);
    made->integer = value;
  } else {
    made = new softmetal::Value(Kind::Unsigned);
    made->natural = value;
  }
  return static_cast<Number*>(face(autoreleased(made)));
}

}  // namespace

Value* Value::value(const void* pPointer) {
  auto* made = new softmetal::Value(softmetal::Value::Kind::Pointer);
  made->pointer = pPointer;
  return face(autoreleased(made));
}
void* Value::pointerValue() const { return const_cast<void*>(impl(this)->pointer); }

Number* Number::number(char value) { return number_of(value); }
Number* Number::number(unsigned char value) { return number_of(value); }
Number* Number::number(short value) { return number_of(value); }
Number* Number::number(unsigned short value) { return number_of(value); }
Number* Number::number(int value) { return number_of(value); }
Number* Number::number(unsigned int value) { return number_of(value); }
Number* Number::number(long value) { return number_of(value); }
Number* Number::number(unsigned long value) { return number_of(value); }
Number* Number::number(long long value) { return number_of(value); }
Number* Number::number(unsigned long long value) { return number_of(value); }
Number* Number::number(float value) { return number_of(value); }
Number* Number::number(double value) { return number_of(value); }
Number* Number::number(bool value) { return number_of(value); }

int Number::intValue() const { return impl(this)->as<int>(); }
unsigned int Number::unsignedIntValue() const { return impl(this)->as<unsigned>(); }
long long Number::longLongValue() const { return impl(this)->as<long long>(); }
unsigned long long Number::unsignedLongLongValue() const { return impl(this)->as<unsigned long long>(); }
float Number::floatValue() const { return impl(this)->as<float>(); }
double Number::doubleValue() const { return impl(this)->as<double>(); }
bool Number::boolValue() const { return impl(this)->as<double>() != 0; }
Integer Number::integerValue() const { return impl(this)->as<Integer>(); }
UInteger Number::unsignedIntegerValue() const { return impl(this)->as<UInteger>(); }
String* Number::stringValue() const { return description(); }
bool Number::isEqualToNumber(const Number* pNumber) const { return isEqual(pNumber); }

Error* Error::error(ErrorDomain domain, Integer code, Dictionary* pDictionary) {
  return alloc()->init(domain, code, pDictionary)->autorelease();
}
Error* Error::alloc() { return face(new softmetal::Error); }
Error* Error::init() { return this; }
Error* Error::init(ErrorDomain domain, Integer code, Dictionary* pDictionary) {
  impl(this)->domain = impl(domain);
  impl(this)->code = code;
  impl(this)->info = impl(pDictionary);
  return this;
}
Integer Error::code() const { return impl(this)->code; }
ErrorDomain Error::domain() const { return face(impl(this)->domain.get()); }
Dictionary* Error::userInfo() const {
  if (!impl(this)->info) return Dictionary::dictionary();
  return face(impl(this)->info.get());
}
String* Error::localizedDescription() const { return softmetal::autoreleased_string(impl(this)->message()); }
String* Error::localizedFailureReason() const {
  return userInfo()->object<String>(LocalizedFailureReasonErrorKey);
}

ProcessInfo* ProcessInfo::processInfo() {
  static auto* const info = new softmetal::ProcessInfo;
  return face(info);
}
String* ProcessInfo::operatingSystemVersionString() const {
  utsname system{};
  uname(&system);
  return softmetal::autoreleased_string(softmetal::text("%s %s", system.release, system.version));
}

URL* URL::fileURLWithPath(const String* pPath) { return alloc()->initFileURLWithPath(pPath)->autorelease(); }
URL* URL::alloc() { return face(new softmetal::URL); }
URL* URL::init() { return this; }
URL* URL::init(const String* pString) {
  const std::string value = softmetal::str(pString);
  if (value.rfind("file://", 0) != 0) {
    release();
    return nullptr;
  }
  impl(this)->path = value.substr(7);
  return this;
}
URL* URL::initFileURLWithPath(const String* pPath) {
  impl(this)->path = softmetal::str(pPath);
  return this;
}
const char* URL::fileSystemRepresentation() const { return impl(this)->path.c_str(); }

}  // namespace NS
