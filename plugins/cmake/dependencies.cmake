# Where each dependency is: VIMDEPLOY_DEPS_DIR (made by tools/fetch_headers), then the system's folders, then the network,
# by hash. Highway and ONNX Runtime are headers only here; GoogleTest is built from its sources.

include(FetchContent)

function(_say_found what where)
  message(STATUS "vimdeploy: ${what} found in ${where}")
endfunction()

function(_say_download what)
  message(STATUS "vimdeploy: ${what} not found here; downloading (if that fails: install it, or run tools/fetch_headers "
                 "DIR and pass -DVIMDEPLOY_DEPS_DIR=DIR)")
endfunction()

function(_say_how_to_get what problem)
  message(FATAL_ERROR "vimdeploy: ${what} was not found and its download failed (${problem}); run "
                      "tools/fetch_headers DIR, or install it, and pass -DVIMDEPLOY_DEPS_DIR=DIR, the folder above usr/include.")
endfunction()

# Sets `result` to the folder that holds `header`, or to nothing.
function(_find_header result header)
  unset(found)
  if(VIMDEPLOY_DEPS_DIR)
    find_path(found ${header} PATHS ${VIMDEPLOY_DEPS_DIR}/usr/include PATH_SUFFIXES ${ARGN} NO_DEFAULT_PATH NO_CACHE)
  endif()
  if(NOT found)
    find_path(found ${header} PATH_SUFFIXES ${ARGN} NO_CACHE)
  endif()
  set(${result} ${found} PARENT_SCOPE)
endfunction()

function(_add_headers target dir)
  add_library(${target} INTERFACE)
  target_include_directories(${target} SYSTEM INTERFACE ${dir})
endfunction()

# Target vimdeploy_highway: the headers of Highway 1.2.0 or newer.
function(find_highway)
  _find_header(dir hwy/highway.h)
  if(NOT dir)
    _say_download(Highway)
    FetchContent_Declare(highway
      GIT_REPOSITORY https://github.com/google/highway.git
      GIT_TAG 457c891775a7397bdb0376bb1031e6e027af1c48 # 1.2.0
      SOURCE_SUBDIR headers-only)
    FetchContent_MakeAvailable(highway)
    set(dir ${highway_SOURCE_DIR})
  endif()
  _say_found(Highway ${dir})
  _add_headers(vimdeploy_highway ${dir})
endfunction()

# Target vimdeploy_onnxruntime_headers: those of ONNX Runtime 1.21, the oldest version that the library runs on.
function(find_onnxruntime_headers)
  _find_header(dir onnxruntime_cxx_api.h onnxruntime onnxruntime/core/session)
  if(NOT dir)
    set(dir ${CMAKE_BINARY_DIR}/_deps/onnxruntime-headers)
    set(url https://raw.githubusercontent.com/microsoft/onnxruntime/v1.21.0/include/onnxruntime/core/session)
    set(hash_onnxruntime_c_api.h 7783e9664bdb0b1b36145b5c8587dd1bc9a399aa000edf2e3dd03003cafc6882)
    set(hash_onnxruntime_cxx_api.h b3b27d6a6fced0725e3f188379cca008b1d7a456997684756374d4b388f2cf05)
    set(hash_onnxruntime_cxx_inline.h 7f448e994c732eacd9e49900365fefa8f1ac998a6d6eb78e5f4aab1b8d9d8900)
    set(hash_onnxruntime_float16.h 6c4db3d1954b266c4febe413351af86cac922e3448538e7e452e51d646e56a4a)
    foreach(header onnxruntime_c_api.h onnxruntime_cxx_api.h onnxruntime_cxx_inline.h onnxruntime_float16.h)
      if(NOT EXISTS ${dir}/${header})
        file(DOWNLOAD ${url}/${header} ${dir}/${header}.part STATUS status TLS_VERIFY ON)
        list(POP_FRONT status code)
        if(NOT code EQUAL 0)
          _say_how_to_get("ONNX Runtime's headers" "${status}")
        endif()
        file(SHA256 ${dir}/${header}.part hash)
        if(NOT hash STREQUAL hash_${header})
          _say_how_to_get("ONNX Runtime's headers" "${header} has the hash ${hash}, wanted ${hash_${header}}")
        endif()
        file(RENAME ${dir}/${header}.part ${dir}/${header})
      endif()
    endforeach()
  endif()
  _say_found("ONNX Runtime's headers" ${dir})
  _add_headers(vimdeploy_onnxruntime_headers ${dir})
  target_compile_definitions(vimdeploy_onnxruntime_headers INTERFACE ORT_API_MANUAL_INIT)
endfunction()

# Target GTest::gtest_main.
function(find_googletest)
  set(BUILD_GMOCK OFF)
  set(INSTALL_GTEST OFF)
  if(VIMDEPLOY_DEPS_DIR AND EXISTS ${VIMDEPLOY_DEPS_DIR}/usr/src/googletest/CMakeLists.txt)
    set(FETCHCONTENT_SOURCE_DIR_GOOGLETEST ${VIMDEPLOY_DEPS_DIR}/usr/src/googletest)
  else()
    find_package(GTest CONFIG QUIET)
    if(GTest_FOUND)
      _say_found(GoogleTest ${GTest_DIR})
      return()
    endif()
    _say_download(GoogleTest)
  endif()
  FetchContent_Declare(googletest
    GIT_REPOSITORY https://github.com/google/googletest.git
    GIT_TAG 6910c9d9165801d8827d628cb72eb7ea9dd538c5) # 1.16.0
  FetchContent_MakeAvailable(googletest)
  _say_found(GoogleTest ${googletest_SOURCE_DIR})
endfunction()
