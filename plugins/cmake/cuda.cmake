# The CUDA kernels. VIMDEPLOY_CUDA is OFF, ON, or AUTO, which builds them if nvcc 12 or newer is found.
#
# Target vimdeploy_scan_cuda: the kernels for every architecture in CMAKE_CUDA_ARCHITECTURES, by default all of those
# below that the compiler knows. CUDA's runtime is linked statically, so that the libraries load on machines without it.

set(VIMDEPLOY_CUDA AUTO CACHE STRING "CUDA kernels: OFF, ON, or AUTO, if nvcc is found")

# Sets `version` to that of nvcc, such as 12.6, or to nothing, and CMAKE_CUDA_COMPILER to its path if it was not set. A
# Jetson has it where CUDA installs itself, but not on PATH.
function(_find_nvcc version)
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(CMAKE_CUDA_COMPILER nvcc PATHS /usr/local/cuda/bin)
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  set(found "")
  if(CMAKE_CUDA_COMPILER)
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE text)
    string(REGEX MATCH "release ([0-9]+\\.[0-9]+)" _ "${text}")
    set(found ${CMAKE_MATCH_1})
  endif()
  set(${version} ${found} PARENT_SCOPE)
endfunction()

# From Turing on; 87 is Jetson Orin, 110 Jetson Thor as CUDA 13 calls it. PTX, which newer devices take: of the newest one,
# and of 100, because a device from 10.1 to 11.0 takes no PTX of 120.
function(_architectures_of version result)
  set(found 75-real 80-real 86-real 87-real 89-real)
  if(version VERSION_LESS 12.8)
    list(APPEND found 90)
  elseif(version VERSION_LESS 13)
    list(APPEND found 90-real 100 120)
  else()
    list(APPEND found 90-real 100 110-real 120)
  endif()
  set(${result} ${found} PARENT_SCOPE)
endfunction()

function(_add_scan_cuda)
  find_package(CUDAToolkit REQUIRED)
  add_library(vimdeploy_scan_cuda STATIC
    scan/cuda/conv1d.cu
    scan/cuda/device_scope.cpp
    scan/cuda/facts.cu
    scan/cuda/launch.cpp
    scan/cuda/selective_scan.cu)
  set_target_properties(vimdeploy_scan_cuda PROPERTIES
    CUDA_STANDARD 17
    CUDA_STANDARD_REQUIRED ON
    CUDA_VISIBILITY_PRESET hidden
    CUDA_RUNTIME_LIBRARY Static)
  target_link_libraries(vimdeploy_scan_cuda PUBLIC vimdeploy_scan CUDA::cudart_static)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
    target_compile_options(vimdeploy_scan_cuda PRIVATE
      $<$<COMPILE_LANGUAGE:CUDA>:-compress-mode=size>  # which all drivers of CUDA 13 can read; a fifth of the size
      $<$<COMPILE_LANGUAGE:CUDA>:--split-compile=0>)   # on all cores, also for one architecture
  endif()
  if(VIMDEPLOY_BUILD_TESTS)
    set(launcher ${CMAKE_CURRENT_SOURCE_DIR}/cmake/keep_ptxas_report ${CMAKE_CUDA_COMPILER_LAUNCHER})
    set_target_properties(vimdeploy_scan_cuda PROPERTIES CUDA_COMPILER_LAUNCHER "${launcher}")
    target_compile_options(vimdeploy_scan_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-v>)
  else()
    target_compile_options(vimdeploy_scan_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--threads=0>)  # architectures at once
  endif()
endfunction()

if(VIMDEPLOY_CUDA STREQUAL OFF)
  message(STATUS "vimdeploy: CUDA kernels are left out: VIMDEPLOY_CUDA is OFF")
else()
  _find_nvcc(cuda_version)
  if(cuda_version VERSION_GREATER_EQUAL 12)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      _architectures_of(${cuda_version} CMAKE_CUDA_ARCHITECTURES)
    endif()
    enable_language(CUDA)
    _add_scan_cuda()
    message(STATUS "vimdeploy: CUDA kernels by nvcc ${cuda_version} for ${CMAKE_CUDA_ARCHITECTURES}")
  elseif(VIMDEPLOY_CUDA STREQUAL ON)
    message(FATAL_ERROR "vimdeploy: VIMDEPLOY_CUDA is ON, but nvcc 12 or newer was not found (found: '${cuda_version}'); "
                        "put it on PATH, or pass -DCMAKE_CUDA_COMPILER=PATH")
  else()
    message(STATUS "vimdeploy: CUDA kernels are left out: nvcc 12 or newer was not found (found: '${cuda_version}')")
  endif()
endif()
