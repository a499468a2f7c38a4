# libcinchrt, the runtime as a library for others' programs: shared with a soname and versioned symbols, and static; with its header,
# a pkg-config file and a CMake package (find_package(cinchrt), targets cinchrt::cinchrt and cinchrt::static). One component, cinchrt:
# `cmake --install build --component cinchrt --prefix DIR` puts only this.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(CINCHRT_VERSION 1.0.0) # the first number is the soname's and changes when a program must be compiled again
add_library(cinchrt SHARED $<TARGET_OBJECTS:cinch_rt>)
add_library(cinchrt_static STATIC $<TARGET_OBJECTS:cinch_rt>)
set_target_properties(cinchrt PROPERTIES VERSION ${CINCHRT_VERSION} SOVERSION 1 LINKER_LANGUAGE C
                      LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cinchrt.map)
target_link_options(cinchrt PRIVATE -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/cinchrt.map)
set_target_properties(cinchrt_static PROPERTIES OUTPUT_NAME cinchrt EXPORT_NAME static LINKER_LANGUAGE C)

install(TARGETS cinchrt cinchrt_static EXPORT cinchrt_targets COMPONENT cinchrt
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cinchrt NAMELINK_COMPONENT cinchrt
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cinchrt
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES cinchrt.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT cinchrt)

# Both descriptions find the prefix from where they lie, so an installed tree may be moved.
set(cinchrt_package ${CMAKE_INSTALL_LIBDIR}/cmake/cinchrt)
install(EXPORT cinchrt_targets FILE cinchrt-config.cmake NAMESPACE cinchrt:: DESTINATION ${cinchrt_package}
        COMPONENT cinchrt)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/cinchrt-config-version.cmake
                                 VERSION ${CINCHRT_VERSION} COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/cinchrt-config-version.cmake DESTINATION ${cinchrt_package}
        COMPONENT cinchrt)
file(RELATIVE_PATH cinchrt_up /p/${CMAKE_INSTALL_LIBDIR}/pkgconfig /p)
configure_file(cinchrt.pc.in cinchrt.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/cinchrt.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
        COMPONENT cinchrt)
