# What cmake --install and the wheel put where, so that a project outside finds it by find_package(vimdeploy).
#
# In a wheel all of it lies in the Python package, whose folder is a prefix then, as /usr/local is; `vimdeploy doctor
# --cmake-path` prints it.

if(SKBUILD)
  set(_libraries vimdeploy/lib)
  set(_headers vimdeploy/include)
else()
  include(GNUInstallDirs)
  set(_libraries ${CMAKE_INSTALL_LIBDIR})
  set(_headers ${CMAKE_INSTALL_INCLUDEDIR})
endif()

# Installs a library as the target vimdeploy::NAME.
function(add_to_package target name)
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  install(TARGETS ${target} EXPORT vimdeploy DESTINATION ${_libraries} INCLUDES DESTINATION ${_headers})
endfunction()

# Installs what find_package(vimdeploy) reads, after the last library.
function(install_package)
  include(CMakePackageConfigHelpers)
  set(version ${CMAKE_CURRENT_BINARY_DIR}/vimdeployConfigVersion.cmake)
  write_basic_package_version_file(${version} COMPATIBILITY SameMinorVersion)
  install(EXPORT vimdeploy NAMESPACE vimdeploy:: FILE vimdeployConfig.cmake DESTINATION ${_libraries}/cmake/vimdeploy)
  install(FILES ${version} DESTINATION ${_libraries}/cmake/vimdeploy)
  install(FILES c_api/vimdeploy.h DESTINATION ${_headers})
endfunction()
