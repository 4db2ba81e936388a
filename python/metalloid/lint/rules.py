"""The rules: their names, what they ask for, and where Apple's Metal Shading Language Specification has that.

Sections are cited by chapter and title, as the numbers below a chapter differ between versions of the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    name: str
    summary: str
    section: str


_RESTRICTIONS = "1 Introduction, Restrictions"
_SCALARS = "2 Data Types, Scalar Data Types"
_VECTORS = "2 Data Types, Vector Data Types"
_MATRICES = "2 Data Types, Matrix Data Types"
_SIMDGROUP = "2 Data Types, SIMD-group Matrix Data Types"
_ATOMICS = "2 Data Types, Atomic Data Types"
_REINTERPRET = "2 Data Types, Type Conversions and Reinterpreting Data"
_IMPLICIT = "2 Data Types, Implicit Type Conversions"
_SPACES = "4 Address Spaces"
_CONSTANT = "4 Address Spaces, Constant Address Space"
_THREADGROUP = "4 Address Spaces, Threadgroup Address Space"
_KERNELS = "5 Function and Variable Declarations, Compute Functions (Kernels)"
_HOST_NAME = "5 Function and Variable Declarations, Host Name Attribute"
_LOCATING = "5 Function and Variable Declarations, Locating Buffer, Texture, and Sampler Arguments"
_BUILTINS = "5 Function and Variable Declarations, Attributes for Kernel Function Input"
_STORAGE = "5 Function and Variable Declarations, Storage Class Specifiers"
_FUNCTION_CONSTANTS = "5 Function and Variable Declarations, Program Scope Function Constants"
_LIBRARY = "6 Metal Standard Library"
_HEADERS = "6 Metal Standard Library, Namespace and Header Files"
_LIMITS = "Metal Feature Set Tables, Implementation Limits"
_CXX = "1 Introduction, Metal and C++"

RULES = {
    rule.name: rule
    for rule in (
        # Kernels
        Rule("kernel-result", "a kernel returns void", _KERNELS),
        Rule("kernel-name", "a kernel has another name than main", _KERNELS),
        Rule("kernel-member", "a kernel is not a member of a class", _KERNELS),
        Rule("kernel-call", "a kernel is dispatched: nothing calls it", _KERNELS),
        Rule("host-name-clash", "no two kernels of a library have one name", _HOST_NAME),
        Rule(
            "host-name-form",
            "[[host_name]] takes a string, and the instantiation of a kernel has one",
            _HOST_NAME,
        ),
        Rule("max-threads", "[[max_total_threads_per_threadgroup]] takes a number from 1 to 1024", _LIMITS),
        # Their arguments
        Rule("argument-attribute", "an argument by value has an attribute that says what it holds", _KERNELS),
        Rule(
            "argument-space", "a pointer or reference is to device, constant or threadgroup memory", _KERNELS
        ),
        Rule("argument-pointer", "a pointer argument does not point to pointers", _KERNELS),
        Rule("attribute-conflict", "an argument has one attribute that says what it holds", _LOCATING),
        Rule("attribute-index", "an attribute that takes an index has one", _LOCATING),
        Rule("attribute-place", "an attribute stands where it has a meaning", _LOCATING),
        Rule("attribute-unknown", "an attribute is one of Metal's", _LOCATING),
        Rule("buffer-duplicate", "no two arguments of a kernel have one [[buffer]] index", _LOCATING),
        Rule("buffer-range", "a [[buffer]] index is from 0 to 30", _LIMITS),
        Rule("buffer-count", "a kernel has at most 31 buffers", _LIMITS),
        Rule(
            "buffer-type",
            "a [[buffer]] argument is a pointer or reference to device or constant memory",
            _LOCATING,
        ),
        Rule("builtin-type", "a built-in attribute is on an argument of the type that it gives", _BUILTINS),
        Rule("inline-size", "what a `constant` reference refers to fits setBytes: 4096 bytes", _LIMITS),
        Rule(
            "threadgroup-duplicate", "no two arguments of a kernel have one [[threadgroup]] index", _LOCATING
        ),
        Rule("threadgroup-range", "a [[threadgroup]] index is from 0 to 30", _LIMITS),
        Rule(
            "threadgroup-type",
            "a [[threadgroup]] argument is a pointer or reference to threadgroup memory",
            _LOCATING,
        ),
        # Memory
        Rule("address-space", "nothing changes its address space", _SPACES),
        Rule("pointer-space", "a pointer or reference names its address space", _SPACES),
        Rule("program-scope-space", "a program-scope variable is in the constant address space", _CONSTANT),
        Rule("constant-initializer", "a program-scope variable has an initializer", _CONSTANT),
        Rule("constant-write", "the constant address space is read only", _CONSTANT),
        Rule("threadgroup-initializer", "a threadgroup variable has no initializer", _THREADGROUP),
        Rule(
            "threadgroup-scope",
            "a threadgroup variable is declared in a kernel",
            _THREADGROUP,
        ),
        Rule("threadgroup-memory", "the threadgroup variables of a kernel fit the GPU", _LIMITS),
        Rule(
            "atomic-type",
            "an atomic is int, uint, bool, ulong or float, each with its own operations",
            _ATOMICS,
        ),
        # Function constants
        Rule("function-constant-duplicate", "no two function constants have one index", _FUNCTION_CONSTANTS),
        Rule(
            "function-constant-range",
            "the index of a function constant is from 0 to 65535",
            _FUNCTION_CONSTANTS,
        ),
        Rule("function-constant-initializer", "a function constant has no initializer", _FUNCTION_CONSTANTS),
        Rule("function-constant-type", "a function constant is a scalar or a vector", _FUNCTION_CONSTANTS),
        # Types
        Rule("double", "there is neither double nor long double", _SCALARS),
        Rule(
            "bfloat-conversion",
            "float and half become bfloat, and bfloat becomes half, by a cast alone",
            _IMPLICIT,
        ),
        Rule("long-long", "there is no long long: long has 64 bits", _SCALARS),
        Rule("swizzle", "a swizzle names components that there are, and assigns each once", _VECTORS),
        Rule("matrix", "a matrix is made of its columns or of all its elements", _MATRICES),
        Rule("simdgroup-matrix", "a simdgroup_matrix has 8 x 8 elements of floating point", _SIMDGROUP),
        Rule("as-type", "as_type keeps the size", _REINTERPRET),
        # What C++ has and Metal lacks
        Rule("recursion", "no function calls itself, directly or through others", _RESTRICTIONS),
        Rule("virtual", "there are no virtual functions", _RESTRICTIONS),
        Rule("exception", "there are no exceptions", _RESTRICTIONS),
        Rule("rtti", "there is neither dynamic_cast nor typeid", _RESTRICTIONS),
        Rule("new-delete", "there is neither new nor delete", _RESTRICTIONS),
        Rule("goto", "there is no goto", _RESTRICTIONS),
        Rule("variadic", "no function takes arguments without types", _RESTRICTIONS),
        Rule(
            "storage-class",
            "there are no local static variables but constants, no thread_local, no register",
            _STORAGE,
        ),
        Rule("assembly", "there is no inline assembly", _RESTRICTIONS),
        Rule("std-header", "headers are Metal's own or yours: there is no C++ standard library", _HEADERS),
        Rule("std-namespace", "what C++ has in std, Metal has in metal", _HEADERS),
        Rule("stdlib-include", "a file with kernels includes <metal_stdlib>", _HEADERS),
        Rule("language-version", "what is used is in the chosen version of the language", _LIBRARY),
        # All else that clang finds
        Rule("undeclared", "names are declared before they are used", _CXX),
        Rule("call", "a call has a function for its arguments", _CXX),
        Rule("type", "types agree", _CXX),
        Rule("syntax", "the text is C++", _CXX),
        Rule("preprocessor", "macros and includes work out", "1 Introduction, Preprocessing Directives"),
        Rule(
            "unsupported",
            "textures, ray tracing, tensors and the rest of graphics are not linted",
            "none: metalloid's own",
        ),
    )
}

# The types of arguments with built-in attributes: positions may be vectors, indices are scalars.
POSITIONS = frozenset(
    (
        *("thread_position_in_grid", "threads_per_grid", "grid_origin", "grid_size"),
        *("thread_position_in_threadgroup", "threadgroup_position_in_grid", "threadgroups_per_grid"),
        *("threads_per_threadgroup", "dispatch_threads_per_threadgroup"),
    )
)
INDICES = frozenset(
    (
        *("thread_index_in_threadgroup", "thread_index_in_simdgroup", "simdgroup_index_in_threadgroup"),
        *("threads_per_simdgroup", "simdgroups_per_threadgroup", "dispatch_simdgroups_per_threadgroup"),
        *("thread_execution_width", "thread_index_in_quadgroup", "quadgroup_index_in_threadgroup"),
        *("quadgroups_per_threadgroup", "dispatch_quadgroups_per_threadgroup"),
    )
)
BUILTINS = POSITIONS | INDICES
LOCATIONS = frozenset(("buffer", "threadgroup"))
KERNEL_ATTRIBUTES = frozenset(("kernel", "host_name", "max_total_threads_per_threadgroup"))
ATTRIBUTES = BUILTINS | LOCATIONS | KERNEL_ATTRIBUTES | {"function_constant"}
# Of Metal, and beyond what kernels on buffers use.
OTHER_ATTRIBUTES = frozenset(
    (
        *("stage_in", "id", "texture", "sampler", "vertex", "fragment", "mesh", "object", "tile", "patch"),
        *("attribute", "position", "point_size", "point_coord", "front_facing", "color", "depth", "stencil"),
        *("sample_id", "sample_mask", "user", "flat", "center_perspective", "center_no_perspective"),
        *("centroid_perspective", "centroid_no_perspective", "sample_perspective", "sample_no_perspective"),
        *("clip_distance", "vertex_id", "instance_id", "base_vertex", "base_instance", "primitive_id"),
        *("barycentric_coord", "render_target_array_index", "viewport_array_index", "amplification_id"),
        *("amplification_count", "early_fragment_tests", "raster_order_group", "imageblock_data"),
        *("implicit_imageblock_data", "alias_implicit_imageblock", "payload", "patch_id"),
        *("position_in_patch", "shared", "invariant", "threadgroup_imageblock", "visible", "stitchable"),
        *("intersection", "origin", "direction", "min_distance", "max_distance", "distance", "geometry_id"),
        *("accept_intersection", "continue_search", "world_space_origin", "world_space_direction"),
        "required_threads_per_threadgroup",
    )
)

# Types, and a namespace of types, that are beyond kernels on buffers.
OTHER_TYPES = re.compile(
    r"texture(1d|2d|2d_ms|cube)(_array)?|texture3d|texture_buffer|depth(2d|2d_ms|cube)(_array)?|sampler|"
    r"\w+_function_table|\w*acceleration_structure|intersector|intersection_(query|result|params)|raytracing|"
    r"imageblock(_slice)?|mesh|mesh_grid_properties|patch_control_point|interpolant|"
    r"(render|compute)_(pipeline_state|command)|depth_stencil_state|d?extents|"
    r"tensor(_handle|_inline|_offset)?|cooperative_tensor"
)

VERSIONS = ("1.0", "1.1", "1.2", "2.0", "2.1", "2.2", "2.3", "2.4", "3.0", "3.1", "3.2", "4.0")
# Patterns of names, and the version that they came with.
SINCE = (
    (r"(packed_)?bfloat[234]?|simdgroup_bfloat8x8", "3.1"),
    (r"atomic_float", "3.0"),
    (r"atomic_thread_fence|memory_order_(acquire|release|acq_rel|seq_cst)", "3.2"),
    (r"thread_scope_(thread|simdgroup|threadgroup|device|system)|coherent", "3.2"),
    (r"os_log(_default)?", "3.2"),
    (r"simdgroup_(matrix|float8x8|half8x8|load|store|multiply|multiply_accumulate)", "2.3"),
)


@dataclass(frozen=True)
class Family:
    """The limits of a family of GPUs."""

    threadgroup_memory: int
    atomics_64: bool
    threads_per_threadgroup: int = 1024
    buffers: int = 31
    threadgroup_arguments: int = 31
    inline_bytes: int = 4096


FAMILIES = {
    "apple7": Family(threadgroup_memory=32 << 10, atomics_64=False),
    "apple8": Family(threadgroup_memory=32 << 10, atomics_64=True),
    "apple9": Family(threadgroup_memory=32 << 10, atomics_64=True),
    "apple10": Family(threadgroup_memory=32 << 10, atomics_64=True),
}
