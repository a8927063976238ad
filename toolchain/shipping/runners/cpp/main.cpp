// Runs a package through ONNX Runtime's C API, on Linux and macOS. CMakeLists.txt says how to build it.
//
//     run PACKAGE "a sentence" | input.npy     the answer, a line of JSON
//     run PACKAGE --self-test [--variant V]    files, version, golden outputs: a receipt in JSON
//
// Exit codes: 0 done, 1 a check failed, 2 wrong input, 3 not available here.
#include <onnxruntime_c_api.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <clocale>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <cwctype>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>
#include <thread>

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;
using Bytes = std::vector<unsigned char>;

constexpr auto USAGE = "Usage: run PACKAGE [--variant V] [--threads N] SENTENCE|FILE.npy | --self-test [--max-slowdown X]";
constexpr uint32_t API_VERSION = 11;  // whatever is newer has these functions too
const OrtApi* api = nullptr;
OrtEnv* environment = nullptr;
fs::path root;
json package;

/** What happened, what to do, the exit code. */
struct Refused {
  std::string what, then;
  int code = 2;
};

std::string brief(double value, int digits = 3) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*g", digits, value);
  return text;
}

std::string joined(const std::vector<std::string>& parts, const char* between) {
  std::string all;
  for (const auto& part : parts) all += (all.empty() ? "" : between) + part;
  return all;
}

Bytes bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || fs::is_directory(path)) throw Refused{path.string() + " cannot be read.", "Give a file that is there."};
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

json read(const std::string& name) {
  const Bytes content = bytes_of(root / name);
  return json::parse(content.begin(), content.end());
}

/** FIPS 180-4. */
std::string sha256(Bytes message) {
  static const std::array<uint32_t, 64> constants = [] {  // of the fractions of cube roots of primes
    std::array<uint32_t, 64> made{};
    for (int prime = 2, count = 0; count < 64; prime++) {
      bool composite = false;
      for (int divisor = 2; divisor * divisor <= prime; divisor++) composite |= prime % divisor == 0;
      if (!composite) made[count++] = uint32_t(uint64_t(std::floor(std::cbrt((long double)prime) * 4294967296.0L)));
    }
    return made;
  }();
  std::array<uint32_t, 8> state{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  const uint64_t bits = message.size() * 8;
  message.push_back(0x80);
  while (message.size() % 64 != 56) message.push_back(0);
  for (int shift = 56; shift >= 0; shift -= 8) message.push_back(uint8_t(bits >> shift));
  const auto turned = [](uint32_t word, int by) { return word >> by | word << (32 - by); };
  for (size_t start = 0; start < message.size(); start += 64) {
    std::array<uint32_t, 64> words{};
    for (int at = 0; at < 16; at++)
      for (int part = 0; part < 4; part++) words[at] = words[at] << 8 | message[start + 4 * at + part];
    for (int at = 16; at < 64; at++) {
      const uint32_t two = words[at - 2], fifteen = words[at - 15];
      words[at] = words[at - 16] + words[at - 7] + (turned(fifteen, 7) ^ turned(fifteen, 18) ^ fifteen >> 3) +
                  (turned(two, 17) ^ turned(two, 19) ^ two >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (int at = 0; at < 64; at++) {
      const uint32_t one = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + constants[at] + words[at];
      const uint32_t two = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
    }
    const std::array<uint32_t, 8> added{a, b, c, d, e, f, g, h};
    for (int at = 0; at < 8; at++) state[at] += added[at];
  }
  std::string hex;
  char part[9];
  for (uint32_t word : state) std::snprintf(part, sizeof part, "%08x", word), hex += part;
  return hex;
}

/** Each file that is not as SHA256SUMS says. */
std::string files_wrong() {
  std::map<std::string, std::string> names;  // hashes, "" where none is listed
  std::ifstream sums(root / "SHA256SUMS");
  for (std::string line; std::getline(sums, line);)
    if (line.size() > 66) names[line.substr(66)] = line.substr(0, 64);
  for (const auto& each : fs::recursive_directory_iterator(root))
    if (each.is_symlink() || !each.is_directory()) names.try_emplace(each.path().lexically_relative(root).generic_string());
  std::vector<std::string> wrong;
  for (const auto& [name, hash] : names) {
    if (name == "SHA256SUMS" || name == "model.sig") continue;
    const auto status = fs::symlink_status(root / name);
    if (!fs::exists(status)) wrong.push_back(name + " is missing");
    else if (hash.empty()) wrong.push_back(name + " is not listed");
    else if (!fs::is_regular_file(status) || sha256(bytes_of(root / name)) != hash) wrong.push_back(name + " is changed");
  }
  return joined(wrong, "; ");
}

const std::map<std::string, std::pair<ONNXTensorElementDataType, int>> TYPES{
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

Arrays arrays(const json& described, const std::shared_ptr<Bytes>& content) {
  Arrays found;
  for (const auto& each : described) found.push_back({each["name"], each["dtype"], each["shape"], content, each["offset"]});
  for (const Array& each : found)
    if (!each.fits()) throw std::runtime_error("'" + each.name + "' does not lie in nnx/golden.bin");
  return found;
}

std::string kind_of(const Array& array) {
  std::vector<std::string> lengths;
  for (int64_t length : array.shape) lengths.push_back(std::to_string(length));
  return array.dtype + "[" + joined(lengths, ", ") + "]";
}

/** (largest difference of finite values, what is wrong or ""); within the tolerance no clear answer can be another. */
std::pair<double, std::string> compared(const Array& got, const Array& want, const json& tolerance) {
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

void check(OrtStatus* status) {
  if (!status) return;
  const std::string said = api->GetErrorMessage(status);
  api->ReleaseStatus(status);
  throw std::runtime_error(said.substr(0, said.find('\n')));
}

double milliseconds() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/** A variant on the CPU, opened as the package asks; its row tells the threads where nobody else does. */
class Session {
 public:
  double load_ms;

  Session(const json& variant, int threads) {
    const double started = milliseconds();
    threads = threads ? threads : variant["row"].is_null() ? 1 : int(variant["row"]["threads"]);
    OrtSessionOptions* options = nullptr;
    check(api->CreateSessionOptions(&options));
    const std::unique_ptr<OrtSessionOptions, decltype(api->ReleaseSessionOptions)> kept(options, api->ReleaseSessionOptions);
    const std::string model = variant["model"];
    try {
      check(api->SetIntraOpNumThreads(options, threads));
      for (const auto& [key, given] : variant["session_options"].items()) {
        const std::string value = given;
        if (key == "session.graph_optimization_level") {
          const std::map<std::string, int> levels{{"disable_all", 0}, {"enable_basic", 1}, {"enable_extended", 2}, {"enable_layout", 3}};
          const auto level = levels.find(value);
          check(api->SetSessionGraphOptimizationLevel(options, GraphOptimizationLevel(level == levels.end() ? 99 : level->second)));
        } else if (key == "session.execution_mode") {
          check(api->SetSessionExecutionMode(options, value == "parallel" ? ORT_PARALLEL : ORT_SEQUENTIAL));
          check(api->SetInterOpNumThreads(options, threads));
        } else if (key == "session.enable_mem_pattern") {
          check(value == "1" ? api->EnableMemPattern(options) : api->DisableMemPattern(options));
        } else {
          check(api->AddSessionConfigEntry(options, key.c_str(), value.c_str()));
        }
      }
      if (!variant["shared_weights"].is_null()) {
        const std::string folder = (root / std::string(variant["shared_weights"])).string();
        check(api->AddSessionConfigEntry(options, "session.model_external_initializers_file_folder_path", folder.c_str()));
      }
      check(api->CreateSession(environment, (root / model).c_str(), options, &session));
    } catch (const std::runtime_error& error) {
      const std::string why = error.what(), version = OrtGetApiBase()->GetVersionString(), least = variant["onnxruntime"];
      const std::string short_why = why.size() > 200 ? why.substr(why.size() - 200) : why;
      throw Refused{"onnxruntime " + version + " refuses " + model + ": " + short_why, "It wants onnxruntime " + least + " or later.", 1};
    }
    load_ms = milliseconds() - started;
  }
  ~Session() { api->ReleaseSession(session); }
  Session(const Session&) = delete;

  /** The outputs called so. */
  Arrays run(const Arrays& inputs, const std::vector<std::string>& names) const {
    Call call(inputs, names);
    call.run(session);
    Arrays found;
    for (size_t at = 0; at < names.size(); at++) found.push_back(copied(names[at], call.outputs[at]));
    return found;
  }

  /** Each run's milliseconds. */
  std::vector<double> timed(const Arrays& inputs, const std::vector<std::string>& names, size_t least, double most_ms) const {
    std::vector<double> runs;
    Call call(inputs, names);
    for (const double end = milliseconds() + most_ms; runs.size() < least || milliseconds() < end;) {
      const double before = milliseconds();
      call.run(session);
      runs.push_back(milliseconds() - before);
      call.release();
    }
    return runs;
  }

 private:
  OrtSession* session = nullptr;

  /** Inputs as ONNX Runtime sees them, where they lie. */
  struct Call {
    std::vector<OrtValue*> inputs, outputs;
    std::vector<const char*> given, wanted;

    Call(const Arrays& arrays, const std::vector<std::string>& names) : outputs(names.size()) {
      OrtMemoryInfo* place = nullptr;
      check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &place));
      for (const Array& each : arrays) {
        OrtValue* made = nullptr;
        OrtStatus* status = api->CreateTensorWithDataAsOrtValue(
            place, each.at(0), each.count() * each.width(), each.shape.data(), each.shape.size(), TYPES.at(each.dtype).first, &made);
        inputs.push_back(made);
        given.push_back(each.name.c_str());
        if (status) api->ReleaseMemoryInfo(place);
        check(status);
      }
      api->ReleaseMemoryInfo(place);
      for (const std::string& name : names) wanted.push_back(name.c_str());
    }
    ~Call() {
      release();
      for (OrtValue* each : inputs) api->ReleaseValue(each);
    }
    void run(OrtSession* session) {
      check(api->Run(session, nullptr, given.data(), inputs.data(), inputs.size(), wanted.data(), wanted.size(), outputs.data()));
    }
    void release() {
      for (OrtValue*& each : outputs) api->ReleaseValue(each), each = nullptr;
    }
  };

  static Array copied(const std::string& name, OrtValue* value) {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(api->GetTensorTypeAndShape(value, &info));
    ONNXTensorElementDataType type{};
    size_t rank = 0;
    void* data = nullptr;
    OrtStatus* status = api->GetTensorElementType(info, &type);
    if (!status) status = api->GetDimensionsCount(info, &rank);
    Array made{name, "", std::vector<int64_t>(rank), nullptr, 0};
    if (!status) status = api->GetDimensions(info, made.shape.data(), rank);
    if (!status) status = api->GetTensorMutableData(value, &data);
    api->ReleaseTensorTypeAndShapeInfo(info);
    check(status);
    for (const auto& [dtype, each] : TYPES)
      if (each.first == type) made.dtype = dtype;
    if (made.dtype.empty()) throw std::runtime_error("'" + name + "' is of a type that this runner does not read");
    const auto* start = static_cast<unsigned char*>(data);
    made.bytes = std::make_shared<Bytes>(start, start + made.count() * made.width());
    return made;
  }
};

std::u32string decoded(const std::string& text) {
  std::u32string found;
  for (size_t at = 0; at < text.size();) {
    const auto first = static_cast<unsigned char>(text[at++]);
    const int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : first >= 0xc0 ? 1 : 0;
    char32_t point = more ? first & (0x3f >> more) : first;
    for (int part = 0; part < more && at < text.size(); part++) point = point << 6 | (text[at++] & 0x3f);
    found += point;
  }
  return found;
}

void append(std::string& text, char32_t point) {
  if (point < 0x80) return text.push_back(char(point));
  const int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
  text += char((0xff00 >> (more + 1) & 0xff) | point >> 6 * more);
  for (int part = more - 1; part >= 0; part--) text += char(0x80 | (point >> 6 * part & 0x3f));
}

/** As Python's \s; no-break spaces, which iswspace leaves out, among them. */
bool is_space(char32_t point) {
  return (point >= 9 && point <= 13) || (point >= 0x1c && point <= 0x20) || point == 0x85 || point == 0xa0 || point == 0x1680 ||
         (point >= 0x2000 && point <= 0x200a) || point == 0x2028 || point == 0x2029 || point == 0x202f || point == 0x205f ||
         point == 0x3000;
}

/** The row of TF-IDF weights of a sentence. */
Array weighed(const std::string& sentence, const json& how) {
  if (how["tokenizer"]["pattern"] != "\\S+") throw Refused{"This runner knows tokens between spaces alone.", "Use another runner."};
  const std::vector<float> idf = how["idf"];
  std::vector<float> row(idf.size());
  std::string token;
  const auto counted = [&] {
    const auto found = how["vocabulary"].find(token);
    if (!token.empty() && found != how["vocabulary"].end()) row[size_t(*found)] += 1;
    token.clear();
  };
  const std::u32string text = decoded(sentence);
  const auto letter = [&](size_t at) { return at < text.size() && std::iswalpha(wint_t(text[at])); };
  for (size_t at = 0; at < text.size(); at++) {
    if (is_space(text[at])) counted();
    else if (text[at] == U'İ') token += "i\u0307";  // the letter that becomes two
    else if (text[at] == U'Σ') append(token, at && letter(at - 1) && !letter(at + 1) ? U'ς' : U'σ');
    else append(token, char32_t(std::towlower(wint_t(text[at]))));
  }
  counted();
  double squares = 0;
  for (size_t at = 0; at < row.size(); at++) row[at] *= idf[at], squares += double(row[at]) * row[at];
  for (float& value : row) value = float(value / std::max(std::sqrt(squares), 1e-30));
  const auto* start = reinterpret_cast<const unsigned char*>(row.data());
  return {how["input"], "float32", {1, int64_t(row.size())}, std::make_shared<Bytes>(start, start + 4 * row.size()), 0};
}

/** What numpy.save wrote. */
Array saved(const std::string& path, const std::string& name) {
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

struct Asked {
  std::string given, variant;
  int threads = 0;
  double max_slowdown = 0;
  bool self_test = false;
};

json machine() {
  utsname names{};
  uname(&names);
  std::string processor;
  std::ifstream told("/proc/cpuinfo");
  for (std::string line; processor.empty() && std::getline(told, line);)
    if (line.rfind("model name", 0) == 0 || line.rfind("Model\t", 0) == 0) processor = line.substr(line.find(": ") + 2);
  return {{"system", names.sysname}, {"architecture", names.machine}, {"processor", processor}, {"cores", std::thread::hardware_concurrency()}};
}

bool older(const std::string& version, const std::string& least) {
  int major = 0, minor = 0, other_major = 0, other_minor = 0;
  std::sscanf(version.c_str(), "%d.%d", &major, &minor);
  std::sscanf(least.c_str(), "%d.%d", &other_major, &other_minor);
  return std::pair(major, minor) < std::pair(other_major, other_minor);
}

/** What is said of one variant; what is wrong goes into `wrong`. */
json tested(const json& variant, const json& golden, const std::shared_ptr<Bytes>& content, int threads, std::vector<std::string>& wrong) {
  const Session session(variant, threads);
  const std::string name = variant["name"];
  json largest = json::object();
  std::vector<std::string> names;
  for (const auto& each : golden["cases"][0]["outputs"][name]) names.push_back(each["name"]);
  for (size_t number = 0; number < golden["cases"].size(); number++) {
    const auto& each = golden["cases"][number];
    const Arrays got = session.run(arrays(each["inputs"], content), names), wanted = arrays(each["outputs"][name], content);
    for (size_t at = 0; at < wanted.size(); at++) {
      const std::string& output = wanted[at].name;
      const auto [off, why] = compared(got[at], wanted[at], golden["tolerances"][name][output]);
      largest[output] = std::max(off, largest.value(output, 0.0));
      if (!why.empty()) wrong.push_back("'" + output + "' of case " + std::to_string(number) + " " + why);
    }
  }
  const Arrays first = arrays(golden["cases"][0]["inputs"], content);
  session.timed(first, names, 3, 50);
  auto runs = session.timed(first, names, 10, 300);
  std::sort(runs.begin(), runs.end());
  const double p50 = runs[runs.size() / 2], p99 = runs[runs.size() * 99 / 100];
  const json slower = variant["row"].is_null() ? json() : json(p50 / double(variant["row"]["latency_ms"]["p50"]));
  return {{"latency_ms", {{"p50", p50}, {"p99", p99}}}, {"load_ms", session.load_ms}, {"slower", slower},
          {"nodes", json::object()}, {"largest_difference", largest}};
}

/** The receipt. */
json self_test(const std::vector<json>& variants, const Asked& asked) {
  json checks = json::array(), told = json::object();
  bool ok = true;
  const auto checked = [&](const std::string& name, const std::string& wrong, const std::string& right) {
    ok &= wrong.empty();
    checks.push_back({{"name", name}, {"ok", wrong.empty()}, {"detail", wrong.empty() ? right : wrong}});
  };
  checked("files", files_wrong(), "as in SHA256SUMS");
  const json golden = read("nnx/golden.json");
  const auto content = std::make_shared<Bytes>(bytes_of(root / "nnx/golden.bin"));
  for (size_t number = 0; number < golden["cases"].size(); number++) {
    const auto& each = golden["cases"][number];
    if (each["text"].is_null()) continue;
    const Array made = weighed(each["text"], read(package["preprocessing"])), want = arrays(each["inputs"], content)[0];
    double off = 0;
    for (size_t at = 0; at < want.count(); at++) off = std::max(off, std::abs(made.real(at) - want.real(at)));
    const std::string said = "the input is off by " + brief(off);
    checked("preprocessing " + std::to_string(number), off <= 1e-6 ? "" : said, said);
  }
  const std::string version = OrtGetApiBase()->GetVersionString();
  for (const json& variant : variants) {
    const std::string name = variant["name"], least = variant["onnxruntime"], said = version + ", at least " + least + " is wanted";
    checked("onnxruntime " + name, older(version, least) ? said : "", said);
    std::vector<std::string> wrong;
    json result;
    try {
      result = tested(variant, golden, content, asked.threads, wrong);
    } catch (const Refused& refused) {
      checked("golden " + name, refused.what, "");
      continue;
    } catch (const std::exception& error) {  // whatever comes is the result of the test
      checked("golden " + name, error.what(), "");
      continue;
    }
    checked("golden " + name, joined(wrong, "; "), std::to_string(golden["cases"].size()) + " cases");
    checked("placement " + name, "", "not told");
    std::string measured = brief(result["latency_ms"]["p50"]) + " ms";
    const double slower = result["slower"].is_null() ? 0 : double(result["slower"]);
    if (slower) measured += ", " + brief(slower, 2) + " times that of " + std::string(variant["row"]["machine"]);
    checked("latency " + name, asked.max_slowdown && slower > asked.max_slowdown ? measured : "", measured);
    told[name] = result;
  }
  return {{"ok", ok}, {"package", package["name"]}, {"version", package["version"]}, {"digest", sha256(bytes_of(root / "SHA256SUMS"))},
          {"checks", checks}, {"onnxruntime", version}, {"compiler", __VERSION__}, {"machine", machine()},
          {"latency_ms", told.empty() ? json() : told.begin().value()["latency_ms"]}, {"variants", told}};
}

json nested(const Array& array, size_t axis, size_t& place) {
  if (axis == array.shape.size()) return array.told(place++);
  json made = json::array();
  for (int64_t step = 0; step < array.shape[axis]; step++) made.push_back(nested(array, axis + 1, place));
  return made;
}

json answer(const json& variant, const Asked& asked) {
  const json how = package["preprocessing"].is_null() ? json{{"kind", "array"}} : read(package["preprocessing"]);
  const bool array = asked.given.size() > 4 && asked.given.substr(asked.given.size() - 4) == ".npy";
  Arrays inputs;
  if (how["kind"] == "tfidf") inputs.push_back(weighed(asked.given, how));
  else if (array) inputs.push_back(saved(asked.given, how.value("input", std::string(package["inputs"][0]["name"]))));
  else if (how["kind"] == "image") throw Refused{"This runner decodes no pictures.", "Use the Python runner or the page, or give a .npy.", 3};
  else throw Refused{"How to make an input of that is not in the package.", "Give a .npy of what the model takes."};
  std::vector<std::string> names;
  for (const auto& each : package["outputs"]) names.push_back(each["name"]);
  const Session session(variant, asked.threads);
  const double started = milliseconds();
  Arrays outputs;
  try {
    outputs = session.run(inputs, names);
  } catch (const std::runtime_error& error) {
    throw Refused{std::string("onnxruntime refuses that input: ") + error.what(), "Give what nnx/package.json says of it."};
  }
  const double latency = milliseconds() - started;
  const json labels = package["labels"].is_null() ? json::array() : read(package["labels"]);
  json told;
  if (const Array& first = outputs[0]; !labels.empty() && !first.shape.empty() && first.count() == labels.size() && first.shape.back() == int64_t(labels.size())) {
    std::vector<size_t> order(labels.size());
    for (size_t at = 0; at < order.size(); at++) order[at] = at;
    std::stable_sort(order.begin(), order.end(), [&](size_t one, size_t other) { return first.real(one) > first.real(other); });
    told["answer"] = labels[order[0]];
    for (size_t at = 0; at < std::min<size_t>(5, order.size()); at++) told["scores"][std::string(labels[order[at]])] = first.real(order[at]);
  } else {
    for (const Array& each : outputs) {
      size_t place = 0;
      told["outputs"][each.name] = nested(each, 0, place);
    }
  }
  told["variant"] = variant["name"];
  told["latency_ms"] = latency;
  return told;
}

Asked parsed(int count, char** words) {
  Asked asked;
  std::vector<std::string> plain;
  for (int at = 1; at < count; at++) {
    const std::string word = words[at];
    const bool takes = word == "--variant" || word == "--threads" || word == "--max-slowdown";
    if (takes && at + 1 == count) throw Refused{word + " wants a value.", USAGE};
    if (word == "--self-test") asked.self_test = true;
    else if (word == "--variant") asked.variant = words[++at];
    else if (takes) {
      char* end = nullptr;
      const double value = std::strtod(words[++at], &end);
      if (*end || !(value > 0) || value > 1e6) throw Refused{word + " is no number above 0.", USAGE};
      (word == "--threads" ? void(asked.threads = int(value)) : void(asked.max_slowdown = value));
    } else if (word.size() > 1 && word[0] == '-') throw Refused{"There is no option " + word + ".", USAGE};
    else plain.push_back(word);
  }
  if (plain.empty()) throw Refused{"Name a package.", USAGE};
  if (plain.size() != (asked.self_test ? 1 : 2)) throw Refused{"Name one thing to answer for, or --self-test.", USAGE};
  root = plain[0];
  if (!asked.self_test) asked.given = plain[1];
  return asked;
}

int told(int count, char** words) {
  const Asked asked = parsed(count, words);
  std::setlocale(LC_CTYPE, "C.UTF-8");  // capitals of all scripts
  api = OrtGetApiBase()->GetApi(API_VERSION);
  if (!api) throw Refused{std::string("onnxruntime ") + OrtGetApiBase()->GetVersionString() + " is too old.", "Take a newer one.", 3};
  check(api->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "run", &environment));
  check(api->DisableTelemetryEvents(environment));
  package = read("nnx/package.json");
  std::vector<json> variants;
  std::vector<std::string> names;
  for (const auto& each : package["variants"]) {
    names.push_back(each["name"]);
    if (asked.variant.empty() || asked.variant == names.back()) variants.push_back(each);
  }
  if (variants.empty()) throw Refused{"There is no variant '" + asked.variant + "'.", "Choose from " + joined(names, ", ") + "."};
  const json result = asked.self_test ? self_test(variants, asked) : answer(variants[0], asked);
  std::cout << result.dump(-1, ' ', false, json::error_handler_t::replace) << std::endl;
  return result.value("ok", true) ? 0 : 1;
}

int main(int count, char** words) {
  try {
    return told(count, words);
  } catch (const Refused& refused) {
    if (refused.code == 3)
      std::cout << json{{"ok", false}, {"error", {{"kind", "ProviderUnavailable"}, {"what", refused.what}, {"do", refused.then}}}} << std::endl;
    std::cerr << refused.what << " " << refused.then << std::endl;
    return refused.code;
  } catch (const std::exception& error) {
    std::cerr << error.what() << " Look at the package." << std::endl;
    return 2;
  }
}
