# cmake -DSOURCE=FOLDER -DOUT=FILE.cc -P BuildCommit.cmake: BuildCommit() of server/build_info.h, the checkout's commit and
# whether files differ from it. Run by every build; the file is written where it changes, so that nothing else compiles.
set(commit "")
if(EXISTS ${SOURCE}/.git)   # not that of a repository around an unpacked source
  execute_process(COMMAND git --no-optional-locks describe --always --dirty --abbrev=12 "--exclude=*"
    WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  execute_process(COMMAND git ls-files --others --exclude-standard -- src include kernels cmake   # which are compiled too
    WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE new_files OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(new_files AND NOT commit MATCHES "-dirty$")
    string(APPEND commit "-dirty")
  endif()
endif()
if(NOT commit)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT "#include \"server/build_info.h\"

namespace penstock {

const char* BuildCommit() { return \"@commit@\"; }

}  // namespace penstock
" @ONLY)
