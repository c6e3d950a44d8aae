// The penstock binary.
#include "server/commands.h"

int main(int argc, char** argv) { return penstock::RunCommand(argc, argv); }
