# cmake -DOUT=FILE.cc -DFILES=a;b -P EmbedPage.cmake: the files' bytes as PageFiles() of api/openai/page_files.h.
set(arrays "")
set(rows "")
set(index 0)
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(REGEX REPLACE "((0x..,){24})" "\\1\n" bytes "${bytes}")
  string(APPEND arrays "constexpr unsigned char kFile${index}[] = {\n${bytes}};\n")
  string(APPEND rows "    {\"${name}\", {reinterpret_cast<const char*>(kFile${index}), sizeof kFile${index}}},\n")
  math(EXPR index "${index} + 1")
endforeach()
file(WRITE ${OUT} "#include \"api/openai/page_files.h\"\n\nnamespace penstock {\nnamespace {\n\n${arrays}\n}  // namespace\n
absl::Span<const PageFile> PageFiles() {
  static const PageFile files[] = {\n${rows}  };
  return files;\n}\n\n}  // namespace penstock\n")
