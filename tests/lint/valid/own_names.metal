// Names of types beyond kernels on buffers, which are free for other uses.
#include <metal_stdlib>
using namespace metal;

struct sampler {
  float x;
};
template <class T, int N>
struct extents {
  T v[N];
};
namespace raytracing {
inline float ray() { return 1; }
}  // namespace raytracing
template <typename mesh>
mesh next(mesh x) {
  return x + mesh(1);
}

kernel void own_names(device float* tensor [[buffer(0)]], constant float& mesh [[buffer(1)]],
                      uint i [[thread_position_in_grid]]) {
  sampler s = {1};
  extents<float, 2> e = {{1, 2}};
  float intersector = 2, coherent = 1;
  bool depth2d = tensor[1] < mesh && mesh > 2;
  bool many = mesh < intersector && tensor > &tensor[1] || (i & 1 and mesh > 2);
  float picked = min(mesh < intersector, tensor > &tensor[2]);
  for (uint imageblock = 0; imageblock < i; imageblock++) many |= imageblock & i;
  tensor[i] = many + picked + s.x + e.v[0] + raytracing::ray() + next(intersector) + coherent + depth2d;
}
