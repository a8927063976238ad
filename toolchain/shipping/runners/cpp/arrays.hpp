// Arrays of numbers: as golden.bin and numpy.save hold them, and how far two are apart.
#pragma once
#include <onnxruntime_c_api.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <regex>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "package.hpp"

inline const std::map<std::string, std::pair<ONNXTensorElementDataType, int>> TYPES{
    {"bool", {ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, 1}},      {"float16", {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, 2}},
    {"float32", {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, 4}},  {"float64", {ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE, 8}},
    {"int8", {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, 1}},      {"uint8", {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, 1}},
    {"int16", {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16, 2}},    {"uint16", {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16, 2}},
    {"int32", {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, 4}},    {"uint32", {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32, 4}},
    {"int64", {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, 8}},    {"uint64", {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64, 8}},
};

/** Numbers row by row; `bytes` keeps them alive. */
struct Array {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::shared_ptr<Bytes> bytes;
  size_t offset = 0;

  size_t count() const {
    size_t all = 1;
    for (int64_t length : shape) all *= size_t(length);
    return all;
  }
  size_t width() const { return size_t(TYPES.at(dtype).second); }
  /** Whether all of it lies in its bytes. */
  bool fits() const {
    if (!TYPES.count(dtype) || offset > bytes->size()) return false;
    size_t most = (bytes->size() - offset) / width();
    for (int64_t length : shape) {
      if (length == 0) return true;
      if (length < 0 || (most /= size_t(length)) == 0) return false;
    }
    return true;
  }
  unsigned char* at(size_t place) const { return bytes->data() + offset + place * width(); }

  double real(size_t place) const {
    if (dtype == "float32") return value<float>(place);
    if (dtype == "float64") return value<double>(place);
    if (dtype != "float16") return double(whole(place));
    const auto half = value<uint16_t>(place);
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    const double size = exponent == 31 ? (fraction ? NAN : INFINITY)
                                       : exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
    return half >> 15 ? -size : size;
  }
  json told(size_t place) const { return dtype[0] == 'f' ? json(real(place)) : json(whole(place)); }

 private:
  template <typename T>
  T value(size_t place) const {
    T found;
    std::memcpy(&found, at(place), sizeof found);
    return found;
  }
  int64_t whole(size_t place) const {
    int64_t found = dtype[0] == 'i' && (at(place)[width() - 1] & 0x80) ? -1 : 0;
    std::memcpy(&found, at(place), width());
    return found;
  }
};
using Arrays = std::vector<Array>;

inline Arrays arrays(const json& described, const std::shared_ptr<Bytes>& content) {
  Arrays found;
  for (const auto& each : described) found.push_back({each["name"], each["dtype"], each["shape"], content, each["offset"]});
  for (const Array& each : found)
    if (!each.fits()) throw std::runtime_error("'" + each.name + "' does not lie in nnx/golden.bin");
  return found;
}

inline std::string kind_of(const Array& array) {
  std::vector<std::string> lengths;
  for (int64_t length : array.shape) lengths.push_back(std::to_string(length));
  return array.dtype + "[" + joined(lengths, ", ") + "]";
}

/** (largest difference of finite values, what is wrong or ""); within the tolerance no clear answer can be another. */
inline std::pair<double, std::string> compared(const Array& got, const Array& want, const json& tolerance) {
  if (kind_of(got) != kind_of(want)) return {0, "is " + kind_of(got) + ", not " + kind_of(want)};
  const double absolute = tolerance["absolute"], relative = tolerance["relative"];
  const bool real = want.dtype[0] == 'f';
  double largest = 0;
  size_t many = 0;
  for (size_t place = 0; place < want.count(); place++) {
    if (!real) {
      many += std::memcmp(got.at(place), want.at(place), want.width()) != 0;
      continue;
    }
    const double one = got.real(place), other = want.real(place), off = std::abs(one - other);
    if (std::isfinite(off)) largest = std::max(largest, off);
    const bool near = std::isfinite(off) && off <= absolute + relative * std::abs(other);
    many += !(one == other || (std::isnan(one) && std::isnan(other)) || near);
  }
  const std::string count = std::to_string(many);
  if (!many) return {largest, ""};
  if (!real) return {0, "differs in " + count + " of " + std::to_string(want.count()) + " values"};
  return {largest, "is off by " + brief(largest) + " in " + count + " values, " + brief(absolute) + " is allowed"};
}
/** What numpy.save wrote. */
inline Array saved(const std::string& path, const std::string& name) {
  const auto content = std::make_shared<Bytes>(bytes_of(path));
  const Refused bad{path + " cannot be read: it is not numbers, row by row.", "Give what numpy.save wrote."};
  if (content->size() < 12 || std::memcmp(content->data(), "\x93NUMPY", 6) != 0) throw bad;
  const Bytes& all = *content;
  const size_t start = all[6] == 1 ? 10 : 12;
  const size_t size = all[8] | all[9] << 8 | (all[6] == 1 ? 0 : size_t(all[10]) << 16 | size_t(all[11]) << 24);
  if (start + size > all.size()) throw bad;
  const std::string header(all.begin() + long(start), all.begin() + long(start + size));
  std::smatch kind, shape;
  if (!std::regex_search(header, kind, std::regex("'descr': '[<|]([fiub])([1248])'")) || header.find("order': True") != header.npos ||
      !std::regex_search(header, shape, std::regex("'shape': \\(([0-9, ]*)\\)")))
    throw bad;
  const std::map<std::string, std::string> names{{"f", "float"}, {"i", "int"}, {"u", "uint"}, {"b", "bool"}};
  Array made{name, names.at(kind[1]) + (kind[1] == "b" ? "" : std::to_string(8 * std::stoi(kind[2]))), {}, content, start + size};
  std::istringstream lengths(shape[1]);
  for (std::string length; std::getline(lengths, length, ',');)
    if (length.find_first_of("0123456789") != length.npos) made.shape.push_back(std::stoll(length));
  if (!made.fits() || made.offset + made.count() * made.width() != all.size()) throw bad;
  return made;
}
