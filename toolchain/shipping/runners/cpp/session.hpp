// ONNX Runtime's C API: a variant is opened, run and timed.
#pragma once
#include <onnxruntime_c_api.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "arrays.hpp"

inline constexpr uint32_t API_VERSION = 11;  // whatever is newer has these functions too
inline const OrtApi* api = nullptr;
inline OrtEnv* environment = nullptr;

inline void check(OrtStatus* status) {
  if (!status) return;
  const std::string said = api->GetErrorMessage(status);
  api->ReleaseStatus(status);
  throw std::runtime_error(said.substr(0, said.find('\n')));
}

inline double milliseconds() {
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
