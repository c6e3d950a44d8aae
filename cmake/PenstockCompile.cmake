find_program(PENSTOCK_CCACHE ccache)
if(PENSTOCK_CCACHE AND PENSTOCK_PRECOMPILE)   # what ccache asks for where headers are precompiled
  set(PENSTOCK_CCACHE ${CMAKE_COMMAND} -E env
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${PENSTOCK_CCACHE})
endif()
if(PENSTOCK_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${PENSTOCK_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${PENSTOCK_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${PENSTOCK_CCACHE})
endif()

# How our own code is compiled: one interface target, and the function that makes a library of a folder.
add_library(penstock_options INTERFACE)
target_include_directories(penstock_options INTERFACE
  ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR})
target_compile_options(penstock_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-sign-compare $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict> -march=x86-64-v3 -ffp-contract=off
    -D_GLIBCXX_ASSERTIONS -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=>)
if(PENSTOCK_PRECOMPILE)   # some libraries ask for it, and it must be the same everywhere
  target_compile_options(penstock_options INTERFACE -pthread)
endif()
if(PENSTOCK_SANITIZE)
  # Kernels for the emulator are instrumented in their own way.
  target_compile_options(penstock_options INTERFACE
    $<$<NOT:$<BOOL:$<TARGET_PROPERTY:PENSTOCK_EMULATED_CODE>>>:-fsanitize=${PENSTOCK_SANITIZE}>
    -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(penstock_options INTERFACE -fsanitize=${PENSTOCK_SANITIZE})
  if(PENSTOCK_SANITIZE MATCHES undefined)   # a quarter of the time to compile; AddressSanitizer reports a null that is used
    target_compile_options(penstock_options INTERFACE -fno-sanitize=null,vptr)
  endif()
endif()
if(PENSTOCK_FUZZ AND NOT PENSTOCK_SANITIZE MATCHES address)
  message(FATAL_ERROR "PENSTOCK_FUZZ needs PENSTOCK_SANITIZE=address or address,undefined")
endif()

# penstock_precompile(<target> <owner> [<more headers>...]): what most files include, compiled once, for <owner>.
function(penstock_precompile target owner)
  if(NOT PENSTOCK_PRECOMPILE)
    return()
  endif()
  if(NOT target STREQUAL owner)
    target_precompile_headers(${target} REUSE_FROM ${owner})
    return()
  endif()
  target_precompile_headers(${target} PRIVATE <algorithm> <atomic> <chrono> <condition_variable> <filesystem> <fstream>
    <functional> <map> <memory> <mutex> <nlohmann/json.hpp> <optional> <random> <set> <sstream> <string> <thread>
    <utility> <vector> <absl/container/flat_hash_map.h> <absl/status/statusor.h> <absl/strings/str_cat.h>
    <absl/strings/str_split.h> <absl/time/time.h> <absl/types/span.h> ${ARGN})
endfunction()

# penstock_folder(<folder> [DEPS targets...]): every .cc directly in src/<folder> (and in the sub-folders named after
# SUBFOLDERS) becomes the static library penstock_<folder>. New files need no change here.
function(penstock_folder folder)
  cmake_parse_arguments(ARG "" "" "DEPS;SUBFOLDERS" ${ARGN})
  set(globs ${CMAKE_SOURCE_DIR}/src/${folder}/*.cc)
  foreach(sub IN LISTS ARG_SUBFOLDERS)
    list(APPEND globs ${CMAKE_SOURCE_DIR}/src/${folder}/${sub}/*.cc)
  endforeach()
  file(GLOB sources CONFIGURE_DEPENDS ${globs})
  string(REPLACE "/" "_" name ${folder})
  if(sources)
    add_library(penstock_${name} STATIC ${sources})
    target_link_libraries(penstock_${name} PUBLIC penstock_options ${ARG_DEPS})
    if(NOT name MATCHES "^(backend|engine)$")   # those have options of their own
      penstock_precompile(penstock_${name} penstock_base)
    endif()
    if(PENSTOCK_FUZZ)
      target_compile_options(penstock_${name} PRIVATE -fsanitize-coverage=${PENSTOCK_FUZZ_COVERAGE})
    endif()
  else()
    add_library(penstock_${name} INTERFACE)
    target_link_libraries(penstock_${name} INTERFACE penstock_options ${ARG_DEPS})
  endif()
endfunction()

# The presets of CI compile twenty files as one, which is several times faster than one by one. These files use names in
# their unnamed namespaces that a neighbour uses as well, or have flags of their own.
function(penstock_compile_alone)
  foreach(file IN LISTS ARGN)
    set_source_files_properties(${CMAKE_SOURCE_DIR}/src/${file} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  endforeach()
endfunction()
