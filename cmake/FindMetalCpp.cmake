# Apple's metal-cpp: adds the target metal_cpp, which is <Metal/Metal.hpp> and the frameworks behind it.
#
# The headers are, in this order,
#   1. those in METALLOID_METAL_CPP_DIR, a variable of CMake or of the environment,
#   2. those inside the wheel mlx-metal (or mlx) of the Python in use,
#   3. what Apple offers at METALLOID_METAL_CPP_URL, if METALLOID_METAL_CPP_SHA256 is its hash.
# csrc/metalloid/apple/metal_cpp.cpp is the one source that defines what they declare.

set(METALLOID_METAL_CPP_DIR "$ENV{METALLOID_METAL_CPP_DIR}" CACHE PATH
    "Directory of metal-cpp, with Metal/Metal.hpp; empty: from Python's mlx-metal, else from Apple")
set(METALLOID_METAL_CPP_URL "https://developer.apple.com/metal/cpp/files/metal-cpp_26.zip" CACHE STRING
    "Where Apple offers metal-cpp")
set(METALLOID_METAL_CPP_SHA256 "" CACHE STRING "SHA-256 of the file at METALLOID_METAL_CPP_URL; empty: no download")

# The headers that the Python in use has, or "". Nothing is imported: mlx itself may not work here.
function(_metalloid_find_metal_cpp_of_python out)
  set(${out} "" PARENT_SCOPE)
  if(NOT Python_EXECUTABLE)
    find_package(Python 3.10 COMPONENTS Interpreter QUIET)
  endif()
  if(NOT Python_EXECUTABLE)
    return()
  endif()
  set(program [=[
import importlib.util, pathlib
spec = importlib.util.find_spec("mlx")
for place in spec.submodule_search_locations if spec else ():
    directory = pathlib.Path(place, "include", "metal_cpp")
    if (directory / "Metal" / "Metal.hpp").is_file():
        print(directory.as_posix())
        break
]=])
  execute_process(COMMAND "${Python_EXECUTABLE}" -c "${program}" OUTPUT_VARIABLE directory RESULT_VARIABLE status
                  OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(status EQUAL 0)
    set(${out} "${directory}" PARENT_SCOPE)
  endif()
endfunction()

function(_metalloid_download_metal_cpp out)
  if(NOT METALLOID_METAL_CPP_SHA256 MATCHES "^[0-9a-fA-F]+$")
    message(FATAL_ERROR
      "Apple's metal-cpp is not here. Any one of these helps:\n"
      "  pip install mlx-metal              in the Python of this build, as the wheel carries it\n"
      "  -DMETALLOID_METAL_CPP_DIR=...      what holds Metal/Metal.hpp\n"
      "  -DMETALLOID_METAL_CPP_SHA256=...   to download ${METALLOID_METAL_CPP_URL}, a file that has this hash")
  endif()
  include(FetchContent)
  if(POLICY CMP0135)
    cmake_policy(SET CMP0135 NEW)
  endif()
  FetchContent_Declare(metal_cpp URL ${METALLOID_METAL_CPP_URL} URL_HASH SHA256=${METALLOID_METAL_CPP_SHA256})
  FetchContent_MakeAvailable(metal_cpp)
  set(${out} "${metal_cpp_SOURCE_DIR}" PARENT_SCOPE)
endfunction()

if(METALLOID_METAL_CPP_DIR)
  set(METALLOID_METAL_CPP "${METALLOID_METAL_CPP_DIR}")
else()
  _metalloid_find_metal_cpp_of_python(METALLOID_METAL_CPP)
  if(NOT METALLOID_METAL_CPP)
    _metalloid_download_metal_cpp(METALLOID_METAL_CPP)
  endif()
endif()

foreach(header IN ITEMS Metal/Metal.hpp Metal/MTLResidencySet.hpp Foundation/Foundation.hpp)
  if(NOT EXISTS "${METALLOID_METAL_CPP}/${header}")
    message(FATAL_ERROR "${METALLOID_METAL_CPP} has no ${header}: needs metal-cpp of macOS 15 or newer")
  endif()
endforeach()
set(METALLOID_METAL_CPP_VERSION "of no known version")
if(EXISTS "${METALLOID_METAL_CPP}/Metal/MTLVersion.hpp")
  file(STRINGS "${METALLOID_METAL_CPP}/Metal/MTLVersion.hpp" lines REGEX "define METALCPP_VERSION_[A-Z]+ +[0-9]+")
  string(REGEX REPLACE "[^0-9;]" "" numbers "${lines}")
  string(REPLACE ";" "." METALLOID_METAL_CPP_VERSION "${numbers}")
endif()
message(STATUS "metal-cpp ${METALLOID_METAL_CPP_VERSION}: ${METALLOID_METAL_CPP}")

if(CMAKE_OSX_DEPLOYMENT_TARGET AND CMAKE_OSX_DEPLOYMENT_TARGET VERSION_LESS 14.0)
  message(FATAL_ERROR "The deployment target is macOS ${CMAKE_OSX_DEPLOYMENT_TARGET}, needs 14.0 or newer "
                      "(CMAKE_OSX_DEPLOYMENT_TARGET, or MACOSX_DEPLOYMENT_TARGET in the environment)")
endif()

add_library(metal_cpp INTERFACE)
target_include_directories(metal_cpp SYSTEM INTERFACE "${METALLOID_METAL_CPP}")
# The module exports its entry point and no more.
target_compile_definitions(metal_cpp INTERFACE METALCPP_SYMBOL_VISIBILITY_HIDDEN)
# QuartzCore brings Core Graphics, without which a command-line program has no default device.
target_link_libraries(metal_cpp INTERFACE "-framework Metal" "-framework Foundation" "-framework QuartzCore")
