# What a program that parses what strangers send is built with: stack canaries, checked libc calls, guarded stack
# growth, control-flow marks, position independence, and tables that are read-only once it runs. For every program
# and library; tests/check_hardening.py looks at the result. -DCINCH_HARDEN=OFF is for those who measure its cost.
include(CheckCCompilerFlag)
include(CheckPIESupported)

option(CINCH_HARDEN "Build with stack protector, fortified calls, full RELRO, PIE and control-flow protection" ON)
if(NOT CINCH_HARDEN)
  return()
endif()

check_pie_supported(LANGUAGES C) # CMAKE_POSITION_INDEPENDENT_CODE alone compiles for a PIE, but does not link one

set(CINCH_HARDEN_COMPILE)
set(CMAKE_REQUIRED_FLAGS -Werror) # clang takes another machine's flags with a warning
foreach(flag -fstack-protector-strong -fstack-clash-protection -fcf-protection=full -mbranch-protection=standard)
  string(MAKE_C_IDENTIFIER "CINCH_HAS${flag}" has)
  check_c_compiler_flag(${flag} ${has})
  if(${has})
    list(APPEND CINCH_HARDEN_COMPILE ${flag})
  endif()
endforeach()
unset(CMAKE_REQUIRED_FLAGS)
# Fortified calls need an optimiser, which Debug has not, and would hide calls from sanitizers.
if(NOT CINCH_SANITIZE AND NOT CINCH_FUZZ AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
  list(APPEND CINCH_HARDEN_COMPILE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
endif()
set(CINCH_HARDEN_LINK -Wl,-z,relro,-z,now,-z,noexecstack)
add_compile_options(${CINCH_HARDEN_COMPILE})
add_link_options(${CINCH_HARDEN_LINK})
