# cinch_room(NAME SOURCES ... [LIBS ...]): one static library `cinch_NAME`, with the project's warnings.
# Files that need an instruction set carry it in their name: foo__avx2.c, foo__avxvnni.c, foo__avx512.c,
# foo__avx512vnni.c, foo__amx.c get the matching compiler flags, and only they; on other machines than x86-64 they are
# left out, and what chooses between the sets asks the compiler (__x86_64__) whether they exist.
set(CINCH_WARNINGS -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith
    -Wno-unused-parameter -fno-math-errno -ffp-contract=off)
if(CINCH_WERROR)
  list(APPEND CINCH_WARNINGS -Werror)
endif()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(CINCH_X86 ON)
endif()
set(CINCH_ISA_avx2 -mavx2 -mfma -mf16c)
set(CINCH_ISA_avxvnni ${CINCH_ISA_avx2} -mavxvnni)
set(CINCH_ISA_avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512cd -mfma -mf16c -mprefer-vector-width=512)
set(CINCH_ISA_avx512vnni ${CINCH_ISA_avx512} -mavx512vnni)
set(CINCH_ISA_amx ${CINCH_ISA_avx512vnni} -mamx-tile -mamx-int8 -mamx-bf16)

# libFuzzer steers by coverage: every room is instrumented for it, or the fuzzers would be blind beyond their own
# file. AddressSanitizer's runtime holds the symbols that programs without libFuzzer need then.
if(CINCH_FUZZ)
  if(NOT CINCH_SANITIZE)
    set(CINCH_SANITIZE address)
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

if(CINCH_SANITIZE)
  add_compile_options(-fsanitize=${CINCH_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${CINCH_SANITIZE})
endif()

# Kernels run on tables that were checked before; a canary in the innermost ones would cost per cent.
if(CINCH_HARDEN)
  set(CINCH_KERNEL -fno-stack-protector)
endif()

# cinch_isa_sources(OUT sources ...): those that this machine's compiler can take, with their flags set.
function(cinch_isa_sources OUT)
  set(kept)
  foreach(src ${ARGN})
    if(NOT src MATCHES "__(avx2|avxvnni|avx512|avx512vnni|amx)\\.c$")
      list(APPEND kept ${src})
    elseif(CINCH_X86)
      list(APPEND kept ${src})
      set_source_files_properties(${src} PROPERTIES COMPILE_OPTIONS "${CINCH_ISA_${CMAKE_MATCH_1}};${CINCH_KERNEL}")
    endif()
  endforeach()
  set(${OUT} ${kept} PARENT_SCOPE)
endfunction()

function(cinch_room NAME)
  cmake_parse_arguments(R "" "" "SOURCES;LIBS" ${ARGN})
  cinch_isa_sources(sources ${R_SOURCES})
  add_library(cinch_${NAME} STATIC ${sources})
  target_include_directories(cinch_${NAME} PUBLIC ${CMAKE_SOURCE_DIR})
  target_compile_options(cinch_${NAME} PRIVATE ${CINCH_WARNINGS})
  target_link_libraries(cinch_${NAME} PUBLIC ${R_LIBS})
endfunction()

# cinch_program(NAME SOURCES ... LIBS ...): an executable in build/bin.
function(cinch_program NAME)
  cmake_parse_arguments(R "" "" "SOURCES;LIBS" ${ARGN})
  cinch_isa_sources(sources ${R_SOURCES})
  add_executable(${NAME} ${sources})
  target_include_directories(${NAME} PRIVATE ${CMAKE_SOURCE_DIR})
  target_compile_options(${NAME} PRIVATE ${CINCH_WARNINGS})
  target_link_libraries(${NAME} PRIVATE ${R_LIBS})
endfunction()
