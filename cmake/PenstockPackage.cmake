# What an installation holds, and the packages made of it: `cpack -G DEB` in a build folder (./dev package).
install(TARGETS penstock RUNTIME)
install(FILES deploy/debian/penstock.yaml DESTINATION /etc/penstock)
install(DIRECTORY models/demo DESTINATION share/penstock/models
  PATTERN golden.safetensors EXCLUDE PATTERN "*.py" EXCLUDE PATTERN training.json EXCLUDE)
install(FILES configs/reference.yaml LICENSE DESTINATION share/doc/penstock)
install(DIRECTORY deploy/prometheus deploy/grafana deploy/haproxy deploy/nginx DESTINATION share/doc/penstock/examples)
# The unit of deploy/systemd is for /usr/local.
file(READ deploy/systemd/penstock.service unit)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS deploy/systemd/penstock.service)
string(REPLACE /usr/local/bin/ /usr/bin/ unit "${unit}")
string(REPLACE /etc/systemd/system/ /lib/systemd/system/ unit "${unit}")
file(WRITE ${CMAKE_BINARY_DIR}/package/penstock.service "${unit}")
install(FILES ${CMAKE_BINARY_DIR}/package/penstock.service DESTINATION /lib/systemd/system)
# What the program itself can say of its commands.
foreach(page "help --man|share/man/man1/penstock.1" "completion bash|share/bash-completion/completions/penstock"
        "completion zsh|share/zsh/vendor-completions/_penstock" "completion fish|share/fish/vendor_completions.d/penstock.fish")
  string(REGEX REPLACE "^(.*)\\|(.*)$" "\\1;\\2" page "${page}")
  list(GET page 0 words)
  list(GET page 1 file)
  get_filename_component(folder ${file} DIRECTORY)
  get_filename_component(name ${file} NAME)
  string(REPLACE " " ";" words "${words}")
  set(made ${CMAKE_BINARY_DIR}/package/${name})
  install(CODE "execute_process(COMMAND $<TARGET_FILE:penstock> ${words} OUTPUT_FILE ${made} COMMAND_ERROR_IS_FATAL ANY)")
  install(FILES ${made} DESTINATION ${folder})
endforeach()

# Who made what is linked, and under which licences.
set(notices ${CMAKE_BINARY_DIR}/package/THIRD-PARTY-NOTICES)
install(CODE "execute_process(COMMAND ${CMAKE_SOURCE_DIR}/cmake/third_party_notices ${CMAKE_BINARY_DIR}
  $<TARGET_FILE:penstock> OUTPUT_FILE ${notices} COMMAND_ERROR_IS_FATAL ANY)")
install(FILES ${notices} DESTINATION share/doc/penstock)
# In the archive that deploy/make_archive makes, the program and its libraries find each other by a DT_RPATH, which an
# installation takes away. Not by BUILD_RPATH: CMake would put a colon behind it, which means the folder of whoever calls.
# In a file, since no CMake 3.25 gets a dollar sign past Ninja and the shell.
file(WRITE ${CMAKE_BINARY_DIR}/package/link_options "-Wl,--disable-new-dtags -Wl,-rpath=$ORIGIN/../lib\n")
target_link_options(penstock PRIVATE "@${CMAKE_BINARY_DIR}/package/link_options")
install(CODE "file(RPATH_REMOVE FILE \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/bin/penstock\")")

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME penstock)
set(CPACK_PACKAGE_CONTACT "Penstock <penstock@localhost>")
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR}/package)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_SET_DESTDIR ON)   # files of /etc and /lib beside the prefix
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS ca-certificates)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_SOURCE_DIR}/deploy/debian/postinst ${CMAKE_SOURCE_DIR}/deploy/debian/prerm
  ${CMAKE_SOURCE_DIR}/deploy/debian/postrm ${CMAKE_SOURCE_DIR}/deploy/debian/conffiles)
include(CPack)
