#include "softmetal/msl/builtins.h"

#include <unordered_map>

namespace softmetal::msl {
namespace {

constexpr Builtin kBuiltins[] = {
    {"thread_position_in_grid", true, false, false},
    {"threads_per_grid", true, false, false},
    {"grid_origin", true, false, false},
    {"grid_size", true, false, false},
    {"thread_position_in_threadgroup", true, true, false},
    {"thread_index_in_threadgroup", false, true, false},
    {"threadgroup_position_in_grid", true, true, false},
    {"threadgroups_per_grid", true, true, false},
    {"threads_per_threadgroup", true, true, false},
    {"dispatch_threads_per_threadgroup", true, true, false},
    {"thread_index_in_simdgroup", false, true, true},
    {"simdgroup_index_in_threadgroup", false, true, true},
    {"threads_per_simdgroup", false, true, true},
    {"simdgroups_per_threadgroup", false, true, true},
    {"dispatch_simdgroups_per_threadgroup", false, true, true},
    {"thread_execution_width", false, true, true},
    {"thread_index_in_quadgroup", false, true, true},
    {"quadgroup_index_in_threadgroup", false, true, true},
    {"quadgroups_per_threadgroup", false, true, true},
    {"dispatch_quadgroups_per_threadgroup", false, true, true},
};

constexpr const char* kGraphics = "it belongs to graphics functions, and only compute kernels are";
constexpr const char* kRayTracing = "ray tracing is not";
constexpr const char* kLinked = "functions that are linked or called through tables are not";
constexpr const char* kArgumentBuffer =
    "members of argument buffers are not; pass the buffer as an argument of its own";
constexpr const char* kTexture = "textures and samplers are not";

const std::unordered_map<std::string_view, const char*>& attributes() {
  static const std::unordered_map<std::string_view, const char*> table = {
      {"stage_in", "a kernel reads its input from buffers here"},
      {"id", kArgumentBuffer},
      {"texture", kTexture},
      {"sampler", kTexture},
      {"vertex", kGraphics},
      {"fragment", kGraphics},
      {"mesh", kGraphics},
      {"object", kGraphics},
      {"tile", kGraphics},
      {"patch", kGraphics},
      {"attribute", kGraphics},
      {"position", kGraphics},
      {"point_size", kGraphics},
      {"point_coord", kGraphics},
      {"front_facing", kGraphics},
      {"color", kGraphics},
      {"depth", kGraphics},
      {"stencil", kGraphics},
      {"sample_id", kGraphics},
      {"sample_mask", kGraphics},
      {"user", kGraphics},
      {"flat", kGraphics},
      {"center_perspective", kGraphics},
      {"center_no_perspective", kGraphics},
      {"centroid_perspective", kGraphics},
      {"centroid_no_perspective", kGraphics},
      {"sample_perspective", kGraphics},
      {"sample_no_perspective", kGraphics},
      {"clip_distance", kGraphics},
      {"vertex_id", kGraphics},
      {"instance_id", kGraphics},
      {"base_vertex", kGraphics},
      {"base_instance", kGraphics},
      {"primitive_id", kGraphics},
      {"barycentric_coord", kGraphics},
      {"render_target_array_index", kGraphics},
      {"viewport_array_index", kGraphics},
      {"amplification_id", kGraphics},
      {"amplification_count", kGraphics},
      {"early_fragment_tests", kGraphics},
      {"raster_order_group", kGraphics},
      {"imageblock_data", kGraphics},
      {"implicit_imageblock_data", kGraphics},
      {"alias_implicit_imageblock", kGraphics},
      {"payload", kGraphics},
      {"patch_id", kGraphics},
      {"position_in_patch", kGraphics},
      {"shared", kGraphics},
      {"invariant", kGraphics},
      {"threadgroup_imageblock", kGraphics},
      {"visible", kLinked},
      {"stitchable", kLinked},
      {"intersection", kRayTracing},
      {"origin", kRayTracing},
      {"direction", kRayTracing},
      {"min_distance", kRayTracing},
      {"max_distance", kRayTracing},
      {"distance", kRayTracing},
      {"geometry_id", kRayTracing},
      {"accept_intersection", kRayTracing},
      {"continue_search", kRayTracing},
      {"world_space_origin", kRayTracing},
      {"world_space_direction", kRayTracing},
      {"required_threads_per_threadgroup", "a kernel takes any threadgroup size up to its maximum here"},
  };
  return table;
}

const std::unordered_map<std::string_view, const char*>& types() {
  static const std::unordered_map<std::string_view, const char*> table = {
      {"texture1d", kTexture},
      {"texture1d_array", kTexture},
      {"texture2d", kTexture},
      {"texture2d_array", kTexture},
      {"texture2d_ms", kTexture},
      {"texture2d_ms_array", kTexture},
      {"texture3d", kTexture},
      {"texturecube", kTexture},
      {"texturecube_array", kTexture},
      {"texture_buffer", kTexture},
      {"depth2d", kTexture},
      {"depth2d_array", kTexture},
      {"depth2d_ms", kTexture},
      {"depth2d_ms_array", kTexture},
      {"depthcube", kTexture},
      {"depthcube_array", kTexture},
      {"sampler", kTexture},
      {"visible_function_table", kLinked},
      {"intersection_function_table", kRayTracing},
      {"intersector", kRayTracing},
      {"intersection_query", kRayTracing},
      {"acceleration_structure", kRayTracing},
      {"primitive_acceleration_structure", kRayTracing},
      {"instance_acceleration_structure", kRayTracing},
      {"imageblock", kGraphics},
      {"imageblock_slice", kGraphics},
      {"mesh_grid_properties", kGraphics},
      {"patch_control_point", kGraphics},
      {"interpolant", kGraphics},
      {"render_pipeline_state", kGraphics},
      {"depth_stencil_state", kGraphics},
      {"compute_pipeline_state", "commands encoded by the GPU are not"},
      {"compute_command", "commands encoded by the GPU are not"},
      {"render_command", "commands encoded by the GPU are not"},
      {"tensor_handle", "tensors are not"},
      {"tensor_inline", "tensors are not"},
      {"cooperative_tensor", "tensors are not"},
      {"os_log", "logging is not"},
  };
  return table;
}

}  // namespace

const Builtin* find_builtin(std::string_view name) {
  for (const Builtin& b : kBuiltins)
    if (b.name == name) return &b;
  return nullptr;
}

const char* unsupported_attribute(std::string_view name) {
  const auto it = attributes().find(name);
  return it == attributes().end() ? nullptr : it->second;
}

const char* unsupported_type(std::string_view name) {
  const auto it = types().find(name);
  return it == types().end() ? nullptr : it->second;
}

}  // namespace softmetal::msl
