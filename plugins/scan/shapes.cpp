#include "scan/shapes.h"

#include <algorithm>
#include <string_view>

namespace vimdeploy {
namespace {

// The dimensions of a tensor: "(K, B, L, R+2N)" has K, B, L and R+2N. On the stack: they are read at every call of a
// node.
class Dims {
 public:
  explicit Dims(const TensorSpec& spec) {
    for (std::string_view rest = std::string_view(spec.dims).substr(1); !rest.empty();) {
      const size_t length = rest.find_first_of(",)");
      dims_[size_++] = rest.substr(0, length);
      rest.remove_prefix(std::min(rest.size(), length + std::string_view(", ").size()));
    }
  }

  size_t size() const { return size_; }
  std::string_view operator[](size_t axis) const { return dims_[axis]; }
  const std::string_view* begin() const { return dims_; }
  const std::string_view* end() const { return dims_ + size_; }

 private:
  std::string_view dims_[4];
  size_t size_ = 0;
};

// The value of a sum such as R+2N.
int64_t size_of(std::string_view dim, const Sizes& sizes) {
  int64_t sum = 0, factor = 1;
  for (char c : dim) {
    if ('A' <= c && c <= 'Z') sum += factor * sizes.get(c);
    factor = '0' <= c && c <= '9' ? c - '0' : 1;
  }
  return sum;
}

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

Status error(const char* op, const TensorSpec& input, const Shape& found, const std::string& wanted) {
  return Status::error(std::string(op) + ": input " + input.name + " has shape " + to_string(found) + ", wanted " +
                       input.dims + wanted);
}

// Reads the sizes that are a dimension of some input by themselves, if all inputs have as many axes as they should.
Status read_sizes(const char* op, const Inputs& inputs, const std::vector<Shape>& shapes, Sizes& sizes) {
  if (shapes.size() != inputs.size()) {
    return Status::error(std::string(op) + ": found " + std::to_string(shapes.size()) + " inputs, wanted " +
                         std::to_string(inputs.size()));
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Dims dims(inputs[i]);
    if (shapes[i].size() != dims.size()) return error(op, inputs[i], shapes[i], "");
    for (size_t axis = 0; axis < dims.size(); ++axis) {
      if (dims[axis].size() == 1) sizes.set(dims[axis][0], shapes[i][axis]);
    }
  }
  return {};
}

Status check_shapes(const char* op, const Inputs& inputs, const std::vector<Shape>& shapes, const Sizes& sizes) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Dims dims(inputs[i]);
    const auto is_size = [&](int64_t found, std::string_view dim) { return found == size_of(dim, sizes); };
    if (!std::equal(shapes[i].begin(), shapes[i].end(), dims.begin(), dims.end(), is_size)) {
      return error(op, inputs[i], shapes[i], " = " + to_string(shape_of(inputs[i], sizes)));
    }
  }
  return {};
}

}  // namespace

Shape shape_of(const TensorSpec& spec, const Sizes& sizes) {
  Shape shape;
  for (std::string_view dim : Dims(spec)) shape.push_back(size_of(dim, sizes));
  return shape;
}

Status sizes_from_shapes(const Inputs& inputs, const std::vector<Shape>& shapes, Conv1dProblem& problem) {
  Sizes sizes;
  sizes.set('K', problem.directions());
  if (Status s = read_sizes(problem.name, inputs, shapes, sizes); !s.ok()) return s;
  problem.batch = sizes.get('B');
  problem.tokens = sizes.get('L');
  problem.channels = sizes.get('E');
  problem.width = sizes.get('W');
  problem.row = sizes.get('X', problem.channels);
  if (Status s = check(problem); !s.ok()) return s;
  if (Status s = check_shapes(problem.name, inputs, shapes, sizes); !s.ok()) return s;
  problem.row = shapes[0].back();
  return {};
}

Status sizes_from_shapes(const Inputs& inputs, const std::vector<Shape>& shapes, SelectiveScanProblem& problem) {
  Sizes sizes;
  sizes.set('K', problem.directions());
  sizes.set('G', problem.directions());
  if (Status s = read_sizes(problem.name, inputs, shapes, sizes); !s.ok()) return s;
  problem.batch = sizes.get('B');
  problem.tokens = sizes.get('L');
  problem.channels = sizes.get('E');
  problem.states = sizes.get('N');
  problem.rank = sizes.get('R');
  if (sizes.get('R', 1) < 1) {  // check() takes 0 for an operator without a low rank
    return Status::error(std::string(problem.name) + ": R (rank) is " + std::to_string(problem.rank) +
                         ", wanted at least 1");
  }
  if (Status s = check(problem); !s.ok()) return s;
  return check_shapes(problem.name, inputs, shapes, sizes);
}

Shape output_shape(const Conv1dProblem& problem) {
  return {problem.directions(), problem.batch, problem.tokens, problem.channels};
}

Shape output_shape(const SelectiveScanProblem& problem) {
  if (problem.is_gated) return {problem.batch, problem.tokens, problem.channels};
  return {problem.batch, problem.directions(), problem.tokens, problem.channels};
}

std::vector<InputAxis> axes_of(const TensorSpec& output, const Inputs& inputs) {
  std::vector<InputAxis> axes;
  for (std::string_view dim : Dims(output)) {
    for (size_t input = 0, before = axes.size(); axes.size() == before; ++input) {
      const Dims dims(inputs[input]);
      const auto found = std::find(dims.begin(), dims.end(), dim);
      if (found != dims.end()) axes.push_back({input, static_cast<size_t>(found - dims.begin())});
    }
  }
  return axes;
}

}  // namespace vimdeploy
