#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "kernels/emulator/emulator.h"

namespace penstock::emulator {

Options OptionsFromEnvironment() {
  Options options;
  const char* said = std::getenv("PENSTOCK_EMULATED_GPU");
  std::istringstream words(said == nullptr ? "" : said);
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    const std::string key = word.substr(0, equals);
    std::istringstream value(equals == std::string::npos ? "" : word.substr(equals + 1));
    char dot = '.';
    if (key == "gpus") value >> options.gpus;
    if (key == "capability") value >> options.major >> dot >> options.minor;
    if (key == "driver") value >> options.driver;
    if (key == "memory") value >> options.memory;
    if (key == "others") value >> options.others;
    if (key == "fault_file") value >> options.fault_file;
    if (value.fail() || !value.eof() || dot != '.') {
      std::fprintf(stderr, "PENSTOCK_EMULATED_GPU: cannot read %s\n", word.c_str());
      std::exit(1);
    }
  }
  return options;
}

}  // namespace penstock::emulator
