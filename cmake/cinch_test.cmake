# The limits below are for a quiet machine; a busy one takes several times as long, and so does a sanitizer. A
# limit is there to end what hangs, never to judge speed.
macro(cinch_patient_timeout)
  if(CINCH_SANITIZE)
    math(EXPR T_TIMEOUT "${T_TIMEOUT} * 8")
  else()
    math(EXPR T_TIMEOUT "${T_TIMEOUT} * 4")
  endif()
endmacro()

# cinch_test(NAME LABEL unit|golden|integration|gpu|chaos|fuzz|browser SOURCES ... [LIBS ...] [TIMEOUT s]):
# one cmocka program under CTest. A test that exits with 77 counts as skipped; it must print why.
function(cinch_test NAME)
  cmake_parse_arguments(T "" "LABEL;TIMEOUT" "SOURCES;LIBS" ${ARGN})
  if(NOT CINCH_TESTS)
    return()
  endif()
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 120)
  endif()
  cinch_patient_timeout()
  cinch_isa_sources(sources ${T_SOURCES})
  add_executable(test_${NAME} ${sources})
  set_target_properties(test_${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_include_directories(test_${NAME} PRIVATE ${CMAKE_SOURCE_DIR})
  target_compile_options(test_${NAME} PRIVATE ${CINCH_WARNINGS})
  target_compile_definitions(test_${NAME} PRIVATE CINCH_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                             CINCH_BINARY_DIR="${CMAKE_BINARY_DIR}")
  target_link_libraries(test_${NAME} PRIVATE ${T_LIBS} cmocka)
  add_test(NAME ${NAME} COMMAND test_${NAME} WORKING_DIRECTORY ${CMAKE_BINARY_DIR})
  set_tests_properties(${NAME} PROPERTIES LABELS ${T_LABEL} TIMEOUT ${T_TIMEOUT} SKIP_RETURN_CODE 77)
endfunction()

# cinch_script_test(NAME LABEL l COMMAND ... [TIMEOUT s]): a script under CTest, run in the build folder with
# CINCH_SOURCE_DIR and CINCH_BIN (the programs' folder) in its environment.
function(cinch_script_test NAME)
  cmake_parse_arguments(T "" "LABEL;TIMEOUT" "COMMAND" ${ARGN})
  if(NOT CINCH_TESTS)
    return()
  endif()
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 300)
  endif()
  cinch_patient_timeout()
  add_test(NAME ${NAME} COMMAND ${T_COMMAND} WORKING_DIRECTORY ${CMAKE_BINARY_DIR})
  set_tests_properties(${NAME} PROPERTIES LABELS ${T_LABEL} TIMEOUT ${T_TIMEOUT} SKIP_RETURN_CODE 77
    ENVIRONMENT "CINCH_SOURCE_DIR=${CMAKE_SOURCE_DIR};CINCH_BIN=${CMAKE_BINARY_DIR}/bin")
endfunction()

# cinch_fuzz(NAME SOURCES ... CORPUS folder [MUTATIONS n] LIBS ...): a parser under hostile bytes, twice. Always: the corpus and
# n mutations of each of its files, drawn the same every time, as a test `fuzz_NAME` (label fuzz). With CINCH_FUZZ (clang; then every
# room is instrumented): a libFuzzer program build/fuzz/NAME; `make fuzz` runs all of them.
function(cinch_fuzz NAME)
  cmake_parse_arguments(F "" "CORPUS;MUTATIONS" "SOURCES;LIBS" ${ARGN})
  if(NOT F_MUTATIONS)
    set(F_MUTATIONS 5000)
  endif()
  if(CINCH_TESTS)
    set(replay fuzz_${NAME}_replay)
    add_executable(${replay} ${F_SOURCES} ${CMAKE_SOURCE_DIR}/tests/fuzz/replay.c)
    set_target_properties(${replay} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    target_include_directories(${replay} PRIVATE ${CMAKE_SOURCE_DIR})
    target_compile_options(${replay} PRIVATE ${CINCH_WARNINGS})
    target_link_libraries(${replay} PRIVATE ${F_LIBS} cinch_base)
    cinch_script_test(fuzz_${NAME} LABEL fuzz TIMEOUT 120
      COMMAND ${CMAKE_BINARY_DIR}/tests/${replay} ${F_CORPUS} ${F_MUTATIONS})
  endif()
  if(CINCH_FUZZ)
    add_executable(fuzz_${NAME}_libfuzzer ${F_SOURCES})
    set_target_properties(fuzz_${NAME}_libfuzzer PROPERTIES OUTPUT_NAME ${NAME}
                          RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
    target_include_directories(fuzz_${NAME}_libfuzzer PRIVATE ${CMAKE_SOURCE_DIR})
    target_link_options(fuzz_${NAME}_libfuzzer PRIVATE -fsanitize=fuzzer)
    target_link_libraries(fuzz_${NAME}_libfuzzer PRIVATE ${F_LIBS} cinch_base)
    file(APPEND ${CMAKE_BINARY_DIR}/fuzz/list "${NAME} ${F_CORPUS}\n")
    add_dependencies(fuzzers fuzz_${NAME}_libfuzzer)
  endif()
endfunction()
