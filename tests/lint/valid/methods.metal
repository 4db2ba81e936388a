// Methods without a space, which are for objects of the thread, and what they hand on of themselves.
#include <metal_stdlib>
using namespace metal;

inline void exchange(thread float& x, thread float& y) {
  float t = x;
  x = y;
  y = t;
}
template <typename T>
inline void exchange_any(thread T& x, thread T& y) {
  T t = x;
  x = y;
  y = t;
}
inline float first_two(const thread float* p) { return p[0] + p[1]; }

struct Row {
  float v[4];
  simdgroup_float8x8 tile;

  thread float& at(short i) { return v[i]; }
  const thread float& at(short i) const { return v[i]; }
  thread float& operator[](int i) thread { return v[i]; }
  thread float2* pairs() { return reinterpret_cast<thread float2*>(v); }
  thread Row& self() { return *this; }
  thread Row& operator+=(Row b) {
    for (short i = 0; i < 4; ++i) at(i) += b.at(i);
    return *this;
  }
  thread Row& operator=(float x) thread {
    for (thread auto& element : v) element = x;
    return *this;
  }
  void clear() {
    thread float* p = v;
    for (short i = 0; i < 4; ++i) p[i] = 0;
  }
  void turn() {
    exchange(v[0], v[1]);
    exchange_any(v[2], v[3]);
  }
  void split() {
    int exponent;
    v[0] = frexp(v[1], exponent) + modf(v[2], v[3]) + sincos(v[1], v[2]);
  }
  void load(const device float* p) {
    simdgroup_load(tile, p, 8);
    simdgroup_multiply_accumulate(tile, tile, tile, tile);
  }
  float sum() const { return first_two(v) + at(2) + at(3); }
  Row plus(Row b) const {
    Row r;
    for (short i = 0; i < 4; ++i) r.at(i) = at(i) + b.at(i);
    return r;
  }
  static float twice(float x) { return 2 * x; }
};

struct Identity {
  float operator()(float x) const { return x; }
  float one() const { return 1; }
  float one(int n) const { return n; }
  template <typename T>
  T same(T x) const {
    return x;
  }
};

template <typename P>
struct View {
  P p;
  float first() const { return p[0]; }
};

struct Base {
  float state;
  Base(float x) : state(x) {}
  float next() { return state += 1; }
};
struct Derived : Base {
  Derived(float x) : Base(x) {}
  float two() { return next() * 2; }
};

template <typename T, int Rows, int Columns>
struct Fragments {
  typedef metal::vec<T, 2> Fragment;
  Fragment held[Rows * Columns];
  METAL_FUNC Fragments() thread {}
  METAL_FUNC constexpr thread Fragment& at(const short i, const short j) { return held[i * Columns + j]; }
  METAL_FUNC constexpr const thread Fragment& at(const short i, const short j) const {
    return held[i * Columns + j];
  }
  METAL_FUNC thread T* elements() { return reinterpret_cast<thread T*>(held); }
};

Row cleared() {
  Row r;
  r.clear();
  return r;
}
Identity identity() { return Identity(); }

kernel void methods(device float* x [[buffer(0)]], device Row* rows [[buffer(1)]]) {
  Row r;
  r.load(x);
  r.turn();
  r.split();
  r.at(1) += 1;
  r.pairs()[1] += 1;
  r += rows[0];
  r = 3.0f;
  r[0] = 1;
  const Row copy = rows[1];
  x[0] = r.self().sum() + copy.sum() + Row::twice(x[1]);

  // On temporaries, which lie in the thread's memory too.
  x[1] = cleared().plus(r).sum() + Identity()(x[2]) + Identity{}(x[3]) + Identity().same(2.0f);
  x[2] = identity().one() + identity().one(1);
  x[5] = View<device float*>{x}.first();
  auto square = [](float y) { return y * y; };
  x[3] = square(2) + [](float y) { return y; }(3);

  Derived d(1);
  Fragments<float, 2, 2> fragments;
  fragments.at(1, 1).x = d.two();
  x[4] = fragments.elements()[1];
}
