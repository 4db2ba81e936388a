# macOS on Apple silicon from Linux, to check the build: Debian's clang-16, lld-16 and llvm-16, with headers and stub
# libraries that tools/macos/sysroot.py puts into METALLOID_MACOS_SYSROOT (a variable of CMake or of the environment).
if(NOT METALLOID_MACOS_SYSROOT)
  set(METALLOID_MACOS_SYSROOT "$ENV{METALLOID_MACOS_SYSROOT}" CACHE PATH "What tools/macos/sysroot.py made")
endif()
if(NOT EXISTS "${METALLOID_MACOS_SYSROOT}/MacOSX.sdk/SDKSettings.json")
  message(FATAL_ERROR "METALLOID_MACOS_SYSROOT is \"${METALLOID_MACOS_SYSROOT}\", needs what tools/macos/sysroot.py made")
endif()
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES METALLOID_MACOS_SYSROOT)

set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_PROCESSOR arm64)
# Without a version, which the project's deployment target gives.
set(CMAKE_CXX_COMPILER_TARGET arm64-apple-macos)
set(CMAKE_OSX_SYSROOT "${METALLOID_MACOS_SYSROOT}/MacOSX.sdk")

set(llvm /usr/lib/llvm-16/bin)
set(CMAKE_CXX_COMPILER ${llvm}/clang++)
set(CMAKE_AR ${llvm}/llvm-ar CACHE FILEPATH "")
set(CMAKE_RANLIB ${llvm}/llvm-ranlib CACHE FILEPATH "")
set(CMAKE_STRIP ${llvm}/llvm-strip CACHE FILEPATH "")
set(CMAKE_INSTALL_NAME_TOOL ${llvm}/llvm-install-name-tool CACHE FILEPATH "")
foreach(kind IN ITEMS EXE SHARED MODULE)
  set(CMAKE_${kind}_LINKER_FLAGS_INIT -fuse-ld=lld)
endforeach()

# Python and nanobind are this machine's; libraries are only the stubs.
set(CMAKE_FIND_ROOT_PATH "${METALLOID_MACOS_SYSROOT}/MacOSX.sdk")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
