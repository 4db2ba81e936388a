# Compiles shaders/*.metal into the bundle that the library loads.
#
#   metalloid_compile_shaders(TARGET)
#
# adds TARGET, which builds ${CMAKE_BINARY_DIR}/metalloid.metallib, sets METALLOID_METALLIB to that path in the
# caller's scope, and installs the bundle beside the Python extension. Off the Mac the bundle is a directory with
# one shared object per instruction set, and one of 32 lanes that reports its accesses in checked/, made by mslc with
# a C++ compiler of the machine.

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

function(metalloid_compile_shaders target)
  set(bundle ${CMAKE_BINARY_DIR}/metalloid.metallib)
  set(METALLOID_METALLIB ${bundle} PARENT_SCOPE)
  set(directory ${PROJECT_SOURCE_DIR}/shaders)
  file(GLOB shaders CONFIGURE_DEPENDS ${directory}/*.metal)
  file(GLOB headers CONFIGURE_DEPENDS ${directory}/params/*.h ${directory}/include/*)
  if(NOT shaders)
    message(FATAL_ERROR "No shaders: ${directory} holds no .metal file")
  endif()

  if(APPLE)
    # One file made by Apple's tools belongs here: xcrun metal -c for each shader, then xcrun metallib.
    message(FATAL_ERROR "Compiling shaders with Apple's tools is not implemented yet")
  endif()

  _metalloid_find_shader_compiler(compiler)
  message(STATUS "Shader compiler: ${compiler}")
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(isas x86-64-v3 x86-64-v4 x86-64-v4-bf16)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    set(isas aarch64)
  else()
    message(FATAL_ERROR "Shaders cannot be compiled for ${CMAKE_SYSTEM_PROCESSOR}: x86-64 and aarch64 are supported")
  endif()

  set(runtime ${PROJECT_SOURCE_DIR}/csrc/softmetal)
  file(GLOB stdlib CONFIGURE_DEPENDS ${runtime}/msl/stdlib/*.h)
  # Relative, so that the libraries name their sources alike wherever they are built.
  set(names "")
  foreach(shader IN LISTS shaders)
    file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR} ${shader})
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
      WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
      DEPENDS mslc ${shaders} ${headers} ${stdlib} ${runtime}/msl/kernel_entry.h ${runtime}/msl/support.cpp
              ${runtime}/runtime/kernel_abi.h
      COMMENT "Compiling the shaders: ${library}"
      VERBATIM)
    list(APPEND libraries ${library})
  endforeach()
  add_custom_target(${target} ALL DEPENDS ${libraries})
  install(DIRECTORY ${bundle} DESTINATION metalloid)
endfunction()
