// <metal_geometric> and the matrix types.
#pragma once

#include "softmetal_math.h"

namespace metal {

// Sums of small floats are formed in float and rounded once.
template <class A, class B>
SOFTMETAL_INLINE auto dot(const A& a, const B& b) {
  using V = softmetal::value_type<A, B>;
  using T = softmetal::element_of<V>;
  const V u = softmetal::as_value<V>(a), v = softmetal::as_value<V>(b);
  float sum = float(u.x) * float(v.x) + float(u.y) * float(v.y);
  if constexpr (softmetal::width_of<V> > 2) sum += float(u.z) * float(v.z);
  if constexpr (softmetal::width_of<V> > 3) sum += float(u.w) * float(v.w);
  return T(sum);
}
template <class A>
SOFTMETAL_INLINE auto length_squared(const A& a) {
  return dot(a, a);
}
template <class A>
SOFTMETAL_INLINE auto length(const A& a) {
  return sqrt(dot(a, a));
}
template <class A, class B>
SOFTMETAL_INLINE auto distance_squared(const A& a, const B& b) {
  return length_squared(a - b);
}
template <class A, class B>
SOFTMETAL_INLINE auto distance(const A& a, const B& b) {
  return length(a - b);
}
template <class A>
SOFTMETAL_INLINE auto normalize(const A& a) {
  const softmetal::vector_of<A> v = a;
  return v * rsqrt(dot(v, v));
}
template <class A, class B>
SOFTMETAL_INLINE auto cross(const A& a, const B& b) {
  using V = softmetal::value_type<A, B>;
  static_assert(softmetal::width_of<V> == 3, "cross takes two vectors of three components");
  const V u = softmetal::as_value<V>(a), v = softmetal::as_value<V>(b);
  return V(u.y * v.z - u.z * v.y, u.z * v.x - u.x * v.z, u.x * v.y - u.y * v.x);
}
template <class V, class I, class R>
SOFTMETAL_INLINE softmetal::vector_of<V> faceforward(const V& n, const I& incident, const R& reference) {
  const softmetal::vector_of<V> v = n;
  return dot(reference, incident) < 0.0f ? v : -v;
}
template <class I, class V>
SOFTMETAL_INLINE softmetal::vector_of<I> reflect(const I& incident, const V& n) {
  return incident - (dot(n, incident) * 2) * n;
}
template <class I, class V, class E>
SOFTMETAL_INLINE softmetal::vector_of<I> refract(const I& incident, const V& n, const E& eta) {
  using T = softmetal::element_of<softmetal::vector_of<I>>;
  const float d = dot(n, incident), e = float(eta), k = 1.0f - e * e * (1.0f - d * d);
  if (k < 0.0f) return softmetal::vector_of<I>(T(0.0f));
  return incident * T(e) - n * T(e * d + softmetal::sqrt(k));
}

#define SOFTMETAL_GEOMETRIC_FORMS \
  using metal::cross;             \
  using metal::distance;          \
  using metal::distance_squared;  \
  using metal::dot;               \
  using metal::faceforward;       \
  using metal::length;            \
  using metal::length_squared;    \
  using metal::normalize;         \
  using metal::reflect;           \
  using metal::refract;
namespace fast {
SOFTMETAL_GEOMETRIC_FORMS
}
namespace precise {
SOFTMETAL_GEOMETRIC_FORMS
}
#undef SOFTMETAL_GEOMETRIC_FORMS

// Columns first, as in MSL: float3x2 has three columns of two rows.
template <class T, int Cols, int Rows>
struct matrix {
  vec<T, Rows> columns[Cols];

  matrix() = default;
  // The scalar on the diagonal, zero elsewhere.
  template <class S, enable_if_t<softmetal::is_splat<T, S>(), int> = 0>
  constexpr SOFTMETAL_INLINE explicit matrix(const S& diagonal) : columns() {
    for (int c = 0; c < (Cols < Rows ? Cols : Rows); c++) set(c, c, T(diagonal));
  }
  // One vector for each column, or one number for each element, column by column.
  template <class A, class... P, enable_if_t<softmetal::are_parts<T, Cols * Rows, A, P...>(), int> = 0>
  constexpr SOFTMETAL_INLINE matrix(const A& first, const P&... p) : columns() {
    if constexpr (sizeof...(P) + 1 == Cols) {
      int c = 1;
      columns[0] = vec<T, Rows>(first);
      ((columns[c++] = vec<T, Rows>(p)), ...);
    } else {
      static_assert(sizeof...(P) + 1 == Cols * Rows,
                    "a matrix is made from its columns or from all its elements");
      const T all[] = {T(first), T(p)...};
      for (int i = 0; i < Cols * Rows; i++) set(i / Rows, i % Rows, all[i]);
    }
  }
  template <class U, enable_if_t<!is_same<U, T>::value, int> = 0>
  constexpr SOFTMETAL_INLINE explicit matrix(const matrix<U, Cols, Rows>& m) : columns() {
    for (int c = 0; c < Cols; c++) columns[c] = vec<T, Rows>(m.columns[c]);
  }

  constexpr SOFTMETAL_INLINE vec<T, Rows>& operator[](size_t c) { return columns[c]; }
  constexpr SOFTMETAL_INLINE const vec<T, Rows>& operator[](size_t c) const { return columns[c]; }

 private:
  constexpr SOFTMETAL_INLINE void set(int c, int r, T value) {
    if (r == 0) columns[c].x = value;
    if (r == 1) columns[c].y = value;
    if constexpr (Rows > 2) {
      if (r == 2) columns[c].z = value;
    }
    if constexpr (Rows > 3) {
      if (r == 3) columns[c].w = value;
    }
  }
};

template <class T, int C, int R>
SOFTMETAL_INLINE matrix<T, C, R> operator+(matrix<T, C, R> a, const matrix<T, C, R>& b) {
  for (int c = 0; c < C; c++) a[c] += b[c];
  return a;
}
template <class T, int C, int R>
SOFTMETAL_INLINE matrix<T, C, R> operator-(matrix<T, C, R> a, const matrix<T, C, R>& b) {
  for (int c = 0; c < C; c++) a[c] -= b[c];
  return a;
}
template <class T, int C, int R>
SOFTMETAL_INLINE matrix<T, C, R> operator-(matrix<T, C, R> a) {
  for (int c = 0; c < C; c++) a[c] = -a[c];
  return a;
}
template <class T, int C, int R>
SOFTMETAL_INLINE matrix<T, C, R> operator*(matrix<T, C, R> a, type_identity_t<T> s) {
  for (int c = 0; c < C; c++) a[c] *= s;
  return a;
}
template <class T, int C, int R>
SOFTMETAL_INLINE matrix<T, C, R> operator*(type_identity_t<T> s, const matrix<T, C, R>& a) {
  return a * s;
}
template <class T, int C, int R>
SOFTMETAL_INLINE matrix<T, C, R> operator/(matrix<T, C, R> a, type_identity_t<T> s) {
  for (int c = 0; c < C; c++) a[c] /= s;
  return a;
}
// A combination of the columns.
template <class T, int C, int R>
SOFTMETAL_INLINE vec<T, R> operator*(const matrix<T, C, R>& m, const type_identity_t<vec<T, C>>& v) {
  vec<T, R> sum = m[0] * v.x + m[1] * v.y;
  if constexpr (C > 2) sum += m[2] * v.z;
  if constexpr (C > 3) sum += m[3] * v.w;
  return sum;
}
// A row vector times a matrix: one product per column.
template <class T, int C, int R>
SOFTMETAL_INLINE vec<T, C> operator*(const type_identity_t<vec<T, R>>& v, const matrix<T, C, R>& m) {
  vec<T, C> r;
  for (int c = 0; c < C; c++) r[c] = dot(v, m[c]);
  return r;
}
template <class T, int C, int K, int R>
SOFTMETAL_INLINE matrix<T, C, R> operator*(const matrix<T, K, R>& a, const matrix<T, C, K>& b) {
  matrix<T, C, R> m;
  for (int c = 0; c < C; c++) m[c] = a * b[c];
  return m;
}
template <class T, int C, int R, class B>
SOFTMETAL_INLINE matrix<T, C, R>& operator+=(matrix<T, C, R>& a, const B& b) {
  return a = a + b;
}
template <class T, int C, int R, class B>
SOFTMETAL_INLINE matrix<T, C, R>& operator-=(matrix<T, C, R>& a, const B& b) {
  return a = a - b;
}
template <class T, int C, int R, class B>
SOFTMETAL_INLINE matrix<T, C, R>& operator*=(matrix<T, C, R>& a, const B& b) {
  return a = a * b;
}
template <class T, int C, int R, class B>
SOFTMETAL_INLINE matrix<T, C, R>& operator/=(matrix<T, C, R>& a, const B& b) {
  return a = a / b;
}
template <class T, int C, int R>
SOFTMETAL_INLINE bool operator==(const matrix<T, C, R>& a, const matrix<T, C, R>& b) {
  bool equal = true;
  for (int c = 0; c < C; c++) equal = equal && all(a[c] == b[c]);
  return equal;
}
template <class T, int C, int R>
SOFTMETAL_INLINE bool operator!=(const matrix<T, C, R>& a, const matrix<T, C, R>& b) {
  return !(a == b);
}

template <class T, int C, int R>
SOFTMETAL_INLINE matrix<T, R, C> transpose(const matrix<T, C, R>& m) {
  matrix<T, R, C> t;
  for (int c = 0; c < C; c++) {
    for (int r = 0; r < R; r++) t[r][c] = m[c][r];
  }
  return t;
}
template <class T>
SOFTMETAL_INLINE T determinant(const matrix<T, 2, 2>& m) {
  return T(float(m[0].x) * float(m[1].y) - float(m[1].x) * float(m[0].y));
}
template <class T>
SOFTMETAL_INLINE T determinant(const matrix<T, 3, 3>& h) {
  const auto m = matrix<float, 3, 3>(h);
  return T(dot(m[0], cross(m[1], m[2])));
}
// By the 2x2 minors of the upper and of the lower half.
template <class T>
SOFTMETAL_INLINE T determinant(const matrix<T, 4, 4>& m) {
  float upper[6], lower[6];
  int k = 0;
  for (int i = 0; i < 4; i++) {
    for (int j = i + 1; j < 4; j++, k++) {
      upper[k] = float(m[i].x) * float(m[j].y) - float(m[j].x) * float(m[i].y);
      lower[k] = float(m[i].z) * float(m[j].w) - float(m[j].z) * float(m[i].w);
    }
  }
  return T(upper[0] * lower[5] - upper[1] * lower[4] + upper[2] * lower[3] + upper[3] * lower[2] -
           upper[4] * lower[1] + upper[5] * lower[0]);
}

}  // namespace metal

#define SOFTMETAL_MATRIX_NAME(T, C, R)       \
  typedef metal::matrix<T, C, R> T##C##x##R; \
  namespace metal {                          \
  using ::T##C##x##R;                        \
  }
#define SOFTMETAL_MATRIX_NAMES(T) \
  SOFTMETAL_MATRIX_NAME(T, 2, 2)  \
  SOFTMETAL_MATRIX_NAME(T, 2, 3)  \
  SOFTMETAL_MATRIX_NAME(T, 2, 4)  \
  SOFTMETAL_MATRIX_NAME(T, 3, 2)  \
  SOFTMETAL_MATRIX_NAME(T, 3, 3)  \
  SOFTMETAL_MATRIX_NAME(T, 3, 4)  \
  SOFTMETAL_MATRIX_NAME(T, 4, 2)  \
  SOFTMETAL_MATRIX_NAME(T, 4, 3)  \
  SOFTMETAL_MATRIX_NAME(T, 4, 4)
SOFTMETAL_MATRIX_NAMES(float)
SOFTMETAL_MATRIX_NAMES(half)
#undef SOFTMETAL_MATRIX_NAMES
#undef SOFTMETAL_MATRIX_NAME
