# Finds each dependency: in VIMDEPLOY_DEPS_DIR (made by tools/fetch_headers), in the system's folders, on the network by
# hash, or, if that cannot be reached, as Debian's packages by tools/fetch_headers. Highway, ONNX Runtime and TensorRT are
# headers only here; GoogleTest is built from its sources.

include(FetchContent)

function(_say_found what where)
  message(STATUS "vimdeploy: ${what} found in ${where}")
endfunction()

# Sets `result` to the folder that holds `header`, or to nothing. ARGN: folders below usr/include that may hold it.
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

# Downloads a file, unless it is there with this hash already. Sets `problem` to what went wrong, or to nothing.
function(_download problem url file sha256)
  if(NOT EXISTS ${file})
    message(STATUS "vimdeploy: downloading ${url}")
    file(DOWNLOAD ${url} ${file}.part STATUS status TLS_VERIFY ON TIMEOUT 120 INACTIVITY_TIMEOUT 20)
    list(POP_FRONT status code)
    if(NOT code EQUAL 0)
      set(${problem} "${url}: ${status}" PARENT_SCOPE)
      return()
    endif()
    file(SHA256 ${file}.part hash)
    if(NOT hash STREQUAL sha256)
      set(${problem} "${url} has the hash ${hash}, wanted ${sha256}" PARENT_SCOPE)
      return()
    endif()
    file(RENAME ${file}.part ${file})
  endif()
  set(${problem} "" PARENT_SCOPE)
endfunction()

# Downloads headers into a folder. Sets `problem` to what went wrong, or to nothing. ARGN: each header and its SHA-256.
function(_download_headers problem dir url)
  set(headers ${ARGN})
  while(headers)
    list(POP_FRONT headers header sha256)
    _download(problem_here ${url}/${header} ${dir}/${header} ${sha256})
    if(problem_here)
      break()
    endif()
  endwhile()
  set(${problem} "${problem_here}" PARENT_SCOPE)
endfunction()

# Sets `result` to the folder that holds `header`, out of Debian's packages. Ends the build if they cannot be had either;
# `problem` is why they are wanted.
function(_headers_of_debian result what header problem)
  set(VIMDEPLOY_DEPS_DIR ${CMAKE_BINARY_DIR}/_deps/debian)
  set(script ${CMAKE_CURRENT_SOURCE_DIR}/../tools/fetch_headers)
  message(STATUS "vimdeploy: ${problem}; trying Debian's packages instead (tools/fetch_headers)")
  execute_process(COMMAND ${script} ${VIMDEPLOY_DEPS_DIR} ERROR_VARIABLE said RESULT_VARIABLE code)
  string(STRIP "${said}" said)
  if(NOT said)
    set(said ${code})
  endif()
  _find_header(dir ${header} ${ARGN})
  if(NOT code EQUAL 0 OR NOT dir)
    message(FATAL_ERROR "vimdeploy: ${what} cannot be had: not on this machine, not from the network (${problem}), "
                        "not from Debian (${said}). Run tools/fetch_headers DIR where there is a network, and build with "
                        "-C cmake.define.VIMDEPLOY_DEPS_DIR=DIR.")
  endif()
  set(${result} ${dir} PARENT_SCOPE)
endfunction()

function(_add_headers target dir)
  add_library(${target} INTERFACE)
  target_include_directories(${target} SYSTEM INTERFACE ${dir})
endfunction()

# Target vimdeploy_highway: the headers of Highway 1.2.0 or newer.
function(find_highway)
  _find_header(dir hwy/highway.h)
  if(NOT dir)
    set(downloaded ${CMAKE_BINARY_DIR}/_deps)
    _download(problem https://github.com/google/highway/archive/refs/tags/1.2.0.tar.gz ${downloaded}/highway-1.2.0.tar.gz
      7e0be78b8318e8bdbf6fa545d2ecb4c90f947df03f7aadc42c1967f019e63343)
    if(problem)
      _headers_of_debian(dir Highway hwy/highway.h "${problem}")
    else()
      file(ARCHIVE_EXTRACT INPUT ${downloaded}/highway-1.2.0.tar.gz DESTINATION ${downloaded})
      set(dir ${downloaded}/highway-1.2.0)
    endif()
  endif()
  _say_found(Highway ${dir})
  _add_headers(vimdeploy_highway ${dir})
endfunction()

# Target vimdeploy_onnxruntime_headers: those of ONNX Runtime 1.21, the oldest version that the library runs on.
function(find_onnxruntime_headers)
  _find_header(dir onnxruntime_cxx_api.h onnxruntime onnxruntime/core/session)
  if(NOT dir)
    set(dir ${CMAKE_BINARY_DIR}/_deps/onnxruntime-headers)
    _download_headers(problem ${dir}
      https://raw.githubusercontent.com/microsoft/onnxruntime/v1.21.0/include/onnxruntime/core/session
      onnxruntime_c_api.h 7783e9664bdb0b1b36145b5c8587dd1bc9a399aa000edf2e3dd03003cafc6882
      onnxruntime_cxx_api.h b3b27d6a6fced0725e3f188379cca008b1d7a456997684756374d4b388f2cf05
      onnxruntime_cxx_inline.h 7f448e994c732eacd9e49900365fefa8f1ac998a6d6eb78e5f4aab1b8d9d8900
      onnxruntime_float16.h 6c4db3d1954b266c4febe413351af86cac922e3448538e7e452e51d646e56a4a)
    if(problem)
      _headers_of_debian(dir "ONNX Runtime's headers" onnxruntime_cxx_api.h "${problem}" onnxruntime)
    endif()
  endif()
  _say_found("ONNX Runtime's headers" ${dir})
  _add_headers(vimdeploy_onnxruntime_headers ${dir})
  target_compile_definitions(vimdeploy_onnxruntime_headers INTERFACE ORT_API_MANUAL_INIT)
endfunction()

# Target vimdeploy_tensorrt_headers, or none: those of TensorRT 10.0 or newer, and CUDA's, which they include. They
# are downloaded only on demand, VIMDEPLOY_TENSORRT=ON.
function(find_tensorrt_headers)
  set(root ${TENSORRT_ROOT})
  if(NOT root)
    set(root $ENV{TENSORRT_ROOT})
  endif()
  if(root)
    find_path(dir NvInferRuntime.h PATHS ${root}/include NO_DEFAULT_PATH NO_CACHE)
    if(NOT dir)
      message(FATAL_ERROR "vimdeploy: TENSORRT_ROOT is ${root}, which has no include/NvInferRuntime.h; set it to the "
                          "folder above TensorRT's include, or leave it out.")
    endif()
  else()
    _find_header(dir NvInferRuntime.h)
  endif()
  if(dir)
    file(STRINGS ${dir}/NvInferRuntime.h declarations REGEX "class IPluginV3OneRuntime")
    if(NOT declarations)
      message(STATUS "vimdeploy: TensorRT's headers in ${dir} are passed over: they are older than 10.0")
      unset(dir)
    endif()
  endif()
  if(NOT dir AND VIMDEPLOY_TENSORRT STREQUAL ON)
    set(dir ${CMAKE_BINARY_DIR}/_deps/tensorrt-headers)
    _download_headers(problem ${dir}
      https://raw.githubusercontent.com/NVIDIA/TensorRT/82d1dca801c8318a5605399d5240780d0679e4e1/include # 11.1
      NvInferImpl.h c6acddec7e286c18e9cd08511553c2015f99c487ca25717790e54e30c18ade79
      NvInferLegacyDims.h 3e10fe5b85545f2e956e6935271badf0b1c72553b698000a61d46d69c5d53030
      NvInferPluginBase.h 759f354754e64bf4d1e68d7df796c155c46f8a27541bf1912ba13e79a5a26fc2
      NvInferRuntime.h e78c2d49516a66f726864904386534f63eacf0ad75a6dfdde7dfa70adf39f797
      NvInferRuntimeBase.h ec38759dbf8a5538c4cd30890f1764658bc2dcec87e95ac18148e476cbe1671b
      NvInferRuntimeCommon.h eff4c0251cb4813bbc7fe34c6b28fdb6c08734c27ae53b07974d2557bf1431be
      NvInferRuntimePlugin.h d4db4236da9c03e543949247a75478b5ce68fc84eb30cd15b35081b94c8d8391
      NvInferVersion.h 8648df4851fb2df1a15d7dfdae6454428c4b119055f65f6a98de8ff806977b2e)
    if(problem)
      message(FATAL_ERROR "vimdeploy: TensorRT's headers are not on this machine, and their download failed (${problem}); "
                          "pass -DTENSORRT_ROOT=DIR, the folder above include.")
    endif()
  endif()
  if(dir)
    _say_found("TensorRT's headers" ${dir})
    _add_headers(vimdeploy_tensorrt_headers ${dir})
    target_link_libraries(vimdeploy_tensorrt_headers INTERFACE CUDA::toolkit)
  endif()
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
    message(STATUS "vimdeploy: GoogleTest not found here; downloading")
  endif()
  FetchContent_Declare(googletest
    GIT_REPOSITORY https://github.com/google/googletest.git
    GIT_TAG 6910c9d9165801d8827d628cb72eb7ea9dd538c5) # 1.16.0
  FetchContent_MakeAvailable(googletest)
  _say_found(GoogleTest ${googletest_SOURCE_DIR})
endfunction()
