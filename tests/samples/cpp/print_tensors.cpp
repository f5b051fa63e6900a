// print_tensors METADATA PICTURE...: the tensors that samples/cpp makes of pictures, one after another: shape, values.
// METADATA has the entries of a file, a line for each name and each value.

#include <cstdio>
#include <fstream>

#include "common/prepare.h"

int main(int count, char** arguments) {
  try {
    std::ifstream file(arguments[1]);
    std::map<std::string, std::string> entries;
    for (std::string name, value; std::getline(file, name) && std::getline(file, value);) entries[name] = value;
    const auto model = classify::Model::from_metadata(entries);
    for (int i = 2; i < count; ++i) {
      const classify::Tensor tensor = tensor_from(classify::read_picture(arguments[i]), model);
      std::fwrite(tensor.shape.data(), sizeof(int64_t), tensor.shape.size(), stdout);
      std::visit([](const auto& values) { std::fwrite(values.data(), sizeof(values[0]), values.size(), stdout); },
                 tensor.values);
    }
    return 0;
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "%s\n", problem.what());
    return 1;
  }
}
