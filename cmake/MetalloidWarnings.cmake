# Warning and sanitizer flags that every target of our own uses.
add_library(metalloid_flags INTERFACE)
target_compile_options(metalloid_flags INTERFACE -Wall -Wextra -Wshadow -Wno-unknown-pragmas)
# gcc 12 and 13 see an overlap in "text" + std::string (gcc's bug 105651).
target_compile_options(metalloid_flags INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
if(METALLOID_WERROR)
  target_compile_options(metalloid_flags INTERFACE -Werror)
endif()
if(METALLOID_SANITIZE)
  target_compile_options(metalloid_flags INTERFACE -fsanitize=${METALLOID_SANITIZE} -fno-omit-frame-pointer -g)
  target_link_options(metalloid_flags INTERFACE -fsanitize=${METALLOID_SANITIZE})
endif()
