# Makes of shaders/*.metal what the library loads.
#
#   metalloid_compile_shaders(TARGET)
#
# adds TARGET, which builds it in ${CMAKE_BINARY_DIR}, sets METALLOID_METALLIB to its path in the caller's scope, and
# installs it beside the Python extension. It has one of two forms, as METALLOID_SHADERS says:
#   metallib  metalloid.metallib is compiled. On the Mac it is one file, made by Apple's tools. Elsewhere it is a
#             directory with one shared object per instruction set, and one of 32 lanes that reports its accesses in
#             checked/, made by mslc with a C++ compiler of the machine.
#   source    metalloid.metal is all shaders and their headers in one text, compiled when a device is first used.
# auto is metallib, but source on a Mac without Apple's Metal compiler, and in builds elsewhere for the Mac.

set(METALLOID_SHADERS auto CACHE STRING "Form of the built-in shaders: auto, metallib or source")
set_property(CACHE METALLOID_SHADERS PROPERTY STRINGS auto metallib source)
set(METALLOID_SHADER_CXX "" CACHE STRING
    "C++ compiler for the shaders, with arguments; empty: clang++ >= 16, else Python's ziglang, else g++ >= 12")

# The major version of `command`, or 0 where it does not run.
function(_metalloid_compiler_version out)
  execute_process(COMMAND ${ARGN} -dumpversion OUTPUT_VARIABLE version ERROR_QUIET RESULT_VARIABLE status
                  OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(status EQUAL 0 AND version MATCHES "^([0-9]+)")
    set(${out} ${CMAKE_MATCH_1} PARENT_SCOPE)
  else()
    set(${out} 0 PARENT_SCOPE)
  endif()
endfunction()

# A command line whose words may hold spaces.
function(_metalloid_command_line out)
  set(line "")
  foreach(word IN LISTS ARGN)
    string(APPEND line " \"${word}\"")
  endforeach()
  string(STRIP "${line}" line)
  set(${out} "${line}" PARENT_SCOPE)
endfunction()

function(_metalloid_find_shader_compiler out)
  if(METALLOID_SHADER_CXX)
    set(${out} "${METALLOID_SHADER_CXX}" PARENT_SCOPE)
    return()
  endif()
  if(DEFINED ENV{METALLOID_SHADER_CXX} AND NOT "$ENV{METALLOID_SHADER_CXX}" STREQUAL "")
    set(${out} "$ENV{METALLOID_SHADER_CXX}" PARENT_SCOPE)
    return()
  endif()

  set(names clang++)
  foreach(version RANGE 40 16 -1)
    list(APPEND names clang++-${version})
  endforeach()
  foreach(name IN LISTS names)
    find_program(program ${name} NO_CACHE)
    if(program)
      _metalloid_compiler_version(version "${program}")
      if(version GREATER_EQUAL 16)
        _metalloid_command_line(line "${program}")
        set(${out} "${line}" PARENT_SCOPE)
        return()
      endif()
    endif()
    unset(program)
  endforeach()

  # Under a Python build this is the interpreter of the build environment, which requires ziglang.
  find_package(Python COMPONENTS Interpreter QUIET)
  if(Python_Interpreter_FOUND)
    execute_process(COMMAND "${Python_EXECUTABLE}" -m ziglang version RESULT_VARIABLE status OUTPUT_QUIET ERROR_QUIET)
    if(status EQUAL 0)
      _metalloid_command_line(line "${Python_EXECUTABLE}" -m ziglang c++)
      set(${out} "${line}" PARENT_SCOPE)
      return()
    endif()
  endif()

  find_program(program g++ NO_CACHE)
  if(program)
    _metalloid_compiler_version(version "${program}")
    if(version GREATER_EQUAL 12)
      _metalloid_command_line(line "${program}")
      set(${out} "${line}" PARENT_SCOPE)
      return()
    endif()
  endif()
  message(FATAL_ERROR "No compiler for the shaders: needs clang++ >= 16, or `pip install ziglang`, or g++ >= 12; "
                      "METALLOID_SHADER_CXX names another one")
endfunction()

# The flags of `xcrun metal`, found by compiling a kernel: Xcode may have a `metal` that only says what is missing.
# Where none work `flags` is empty and `problem` says why.
function(_metalloid_probe_metal flags problem)
  set(${flags} "" PARENT_SCOPE)
  find_program(METALLOID_XCRUN xcrun)
  if(NOT METALLOID_XCRUN)
    set(${problem} "there is no xcrun" PARENT_SCOPE)
    return()
  endif()
  set(probe ${CMAKE_BINARY_DIR}/metalloid_shaders/probe)
  file(WRITE ${probe}.metal "#include <metal_stdlib>\n"
                            "kernel void probe(device bfloat* x [[buffer(0)]]) { x[0] = bfloat(float(x[1]) + 1.0f); }\n")
  # Relaxed arithmetic that keeps infinities and NaN, as on the other devices; Xcode 15 has but one kind, without them.
  foreach(math "-fmetal-math-mode=relaxed;-fmetal-math-fp32-functions=fast" -ffast-math)
    # Metal 3.1 is the first with bfloat, and of macOS 14.
    set(tried -std=metal3.1 -mmacosx-version-min=14.0 -O2 ${math})
    file(REMOVE ${probe}.air ${probe}.metallib)
    execute_process(
      COMMAND ${METALLOID_XCRUN} -sdk macosx metal ${tried} -c ${probe}.metal -o ${probe}.air
      OUTPUT_VARIABLE said ERROR_VARIABLE said RESULT_VARIABLE status)
    if(status EQUAL 0)
      execute_process(COMMAND ${METALLOID_XCRUN} -sdk macosx metallib ${probe}.air -o ${probe}.metallib
                      OUTPUT_VARIABLE said ERROR_VARIABLE said RESULT_VARIABLE status)
    endif()
    if(EXISTS ${probe}.metallib)
      set(${flags} ${tried} PARENT_SCOPE)
      return()
    endif()
  endforeach()
  string(STRIP "${said}" said)
  set(${problem} "`xcrun metal` compiles nothing: ${said}" PARENT_SCOPE)
endfunction()

# One file, made by Apple's tools.
function(_metalloid_compile_metallib target root library)
  set(objects "")
  foreach(shader IN LISTS shaders)
    get_filename_component(name ${shader} NAME_WE)
    set(object ${CMAKE_BINARY_DIR}/metalloid_shaders/${name}.air)
    file(RELATIVE_PATH source ${root} ${shader})
    add_custom_command(
      OUTPUT ${object}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/metalloid_shaders
      COMMAND ${METALLOID_XCRUN} -sdk macosx metal ${flags} -I shaders -c ${source} -o ${object}
      WORKING_DIRECTORY ${root}
      DEPENDS ${shader} ${headers}
      COMMENT "Compiling ${source}"
      VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  add_custom_command(
    OUTPUT ${library}
    COMMAND ${METALLOID_XCRUN} -sdk macosx metallib ${objects} -o ${library}
    DEPENDS ${objects}
    COMMENT "Linking the shaders: ${library}"
    VERBATIM)
  add_custom_target(${target} ALL DEPENDS ${library})
  install(FILES ${library} DESTINATION metalloid)
endfunction()

# One shared object for each instruction set, made by mslc.
function(_metalloid_compile_bundle target root bundle)
  _metalloid_find_shader_compiler(compiler)
  message(STATUS "Shader compiler: ${compiler}")
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(isas x86-64-v3 x86-64-v4 x86-64-v4-bf16)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    set(isas aarch64)
  else()
    message(FATAL_ERROR "Shaders cannot be compiled for ${CMAKE_SYSTEM_PROCESSOR}: x86-64 and aarch64 are supported")
  endif()

  set(runtime ${root}/csrc/softmetal)
  file(GLOB stdlib CONFIGURE_DEPENDS ${runtime}/msl/stdlib/*.h)
  # Relative, so that the libraries name their sources alike wherever they are built.
  set(names "")
  foreach(shader IN LISTS shaders)
    file(RELATIVE_PATH name ${root} ${shader})
    list(APPEND names ${name})
  endforeach()
  list(GET isas 0 oldest)
  set(libraries "")
  foreach(isa IN LISTS isas ITEMS checked)
    if(isa STREQUAL "checked")
      set(isa ${oldest})
      set(library ${bundle}/checked/${isa}.so)
      set(width --width 32 --checked)
    else()
      set(library ${bundle}/${isa}.so)
      set(width --width any)
    endif()
    get_filename_component(place ${library} DIRECTORY)
    add_custom_command(
      OUTPUT ${library}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${place}
      COMMAND mslc --cxx "${compiler}" --isa ${isa} ${width} -I shaders -o ${library} ${names}
      WORKING_DIRECTORY ${root}
      DEPENDS mslc ${shaders} ${headers} ${stdlib} ${runtime}/msl/kernel_entry.h ${runtime}/msl/support.cpp
              ${runtime}/runtime/kernel_abi.h
      COMMENT "Compiling the shaders: ${library}"
      VERBATIM)
    list(APPEND libraries ${library})
  endforeach()
  add_custom_target(${target} ALL DEPENDS ${libraries})
  install(DIRECTORY ${bundle} DESTINATION metalloid)
endfunction()

function(metalloid_compile_shaders target)
  get_filename_component(root ${CMAKE_CURRENT_FUNCTION_LIST_DIR} DIRECTORY)
  file(GLOB shaders CONFIGURE_DEPENDS ${root}/shaders/*.metal)
  file(GLOB headers CONFIGURE_DEPENDS ${root}/shaders/params/*.h ${root}/shaders/include/*)
  if(NOT shaders)
    message(FATAL_ERROR "No shaders: ${root}/shaders holds no .metal file")
  endif()
  if(NOT METALLOID_SHADERS MATCHES "^(auto|metallib|source)$")
    message(FATAL_ERROR "METALLOID_SHADERS is \"${METALLOID_SHADERS}\", needs auto, metallib or source")
  endif()

  set(form ${METALLOID_SHADERS})
  if(APPLE AND NOT form STREQUAL "source")
    _metalloid_probe_metal(flags problem)
    if(NOT flags AND form STREQUAL "metallib")
      message(FATAL_ERROR "METALLOID_SHADERS is metallib, which needs Apple's Metal compiler, but ${problem}\n"
                          "It comes with Xcode 15 and 16, and with Xcode 26 by `xcodebuild -downloadComponent "
                          "MetalToolchain`. METALLOID_SHADERS=source compiles the shaders when they are first used.")
    endif()
    if(NOT flags)
      message(STATUS "No Metal compiler: ${problem}")
      set(form source)
    endif()
  endif()

  set(source ${CMAKE_BINARY_DIR}/metalloid.metal)
  set(flatten ${root}/cmake/FlattenShaders.cmake)
  add_custom_command(
    OUTPUT ${source}
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${source} -P ${flatten}
    DEPENDS ${flatten} ${shaders} ${headers}
    COMMENT "Putting the shaders into one file: ${source}"
    VERBATIM)
  # Made in any case, so that every build shows that it can be.
  add_custom_target(${target}_source DEPENDS ${source})

  set(library ${CMAKE_BINARY_DIR}/metalloid.metallib)
  if(form STREQUAL "source")
    set(library ${source})
    message(STATUS "Shaders: compiled when they are first used")
    add_custom_target(${target} ALL)
    install(FILES ${source} DESTINATION metalloid)
  elseif(APPLE)
    string(REPLACE ";" " " shown "${flags}")
    message(STATUS "Shaders: compiled by xcrun metal ${shown}")
    _metalloid_compile_metallib(${target} ${root} ${library})
  else()
    _metalloid_compile_bundle(${target} ${root} ${library})
  endif()
  add_dependencies(${target} ${target}_source)
  set(METALLOID_METALLIB ${library} PARENT_SCOPE)
endfunction()
