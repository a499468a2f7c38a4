# The libraries cinch stands on, all from Debian's packages (tools/deps.txt names them; `make deps` installs).
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
foreach(dep libzmq libsodium yaml-0.1 jansson sqlite3 libzstd libmicrohttpd libprotobuf-c libcurl)
  string(MAKE_C_IDENTIFIER ${dep} id)
  pkg_check_modules(${id} REQUIRED IMPORTED_TARGET ${dep})
endforeach()
# Short names: cinch_room(... LIBS dep_zmq dep_sodium ...).
foreach(pair zmq:libzmq sodium:libsodium yaml:yaml-0.1 jansson:jansson sqlite:sqlite3 zstd:libzstd
             microhttpd:libmicrohttpd protobufc:libprotobuf-c curl:libcurl)
  string(REPLACE ":" ";" pair ${pair})
  list(GET pair 0 short)
  list(GET pair 1 dep)
  string(MAKE_C_IDENTIFIER ${dep} id)
  add_library(dep_${short} INTERFACE)
  target_link_libraries(dep_${short} INTERFACE PkgConfig::${id})
endforeach()
# The pthread build, not the OpenMP one: cinch sets its threads itself.
find_library(OPENBLAS_LIB NAMES openblas REQUIRED)
find_path(OPENBLAS_INC NAMES cblas.h PATH_SUFFIXES openblas openblas-pthread ${CMAKE_LIBRARY_ARCHITECTURE}
          ${CMAKE_LIBRARY_ARCHITECTURE}/openblas-pthread REQUIRED)
add_library(dep_openblas INTERFACE)
target_link_libraries(dep_openblas INTERFACE ${OPENBLAS_LIB})
target_include_directories(dep_openblas SYSTEM INTERFACE ${OPENBLAS_INC})
add_library(dep_math INTERFACE)
target_link_libraries(dep_math INTERFACE m)
add_library(dep_threads INTERFACE)
target_link_libraries(dep_threads INTERFACE Threads::Threads)
