// ONNX Runtime alone: answers for an array, then runs as many seconds as each line asks for. MODEL INPUT.npy SHAPE
#include <onnxruntime_c_api.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

const OrtApi* api = OrtGetApiBase()->GetApi(11);

void check(OrtStatus* status) {
  if (status) std::cerr << api->GetErrorMessage(status) << std::endl, std::exit(1);
}

double milliseconds() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int main(int, char** words) {
  OrtEnv* environment;
  OrtSessionOptions* options;
  OrtSession* session;
  OrtAllocator* allocator;
  OrtMemoryInfo* place;
  char *input, *output;
  check(api->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "bare", &environment));
  check(api->DisableTelemetryEvents(environment));
  check(api->CreateSessionOptions(&options));
  check(api->SetIntraOpNumThreads(options, 1));
  check(api->CreateSession(environment, words[1], options, &session));
  check(api->GetAllocatorWithDefaultOptions(&allocator));
  check(api->SessionGetInputName(session, 0, allocator, &input));
  check(api->SessionGetOutputName(session, 0, allocator, &output));
  std::ifstream file(words[2], std::ios::binary);
  std::vector<char> bytes(std::istreambuf_iterator<char>(file), {});
  bytes.erase(bytes.begin(), bytes.begin() + 10 + (unsigned char)bytes[8] + 256 * bytes[9]);
  std::vector<int64_t> shape;
  std::istringstream lengths(words[3]);
  for (std::string length; std::getline(lengths, length, ',');) shape.push_back(std::stoll(length));
  OrtValue *given, *made = nullptr;
  check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &place));
  check(api->CreateTensorWithDataAsOrtValue(place, bytes.data(), bytes.size(), shape.data(), shape.size(), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &given));
  const auto run = [&] {
    check(api->Run(session, nullptr, &input, &given, 1, &output, 1, &made));
  };
  run();
  float* scores;
  OrtTensorTypeAndShapeInfo* info;
  size_t count;
  check(api->GetTensorMutableData(made, (void**)&scores));
  check(api->GetTensorTypeAndShape(made, &info));
  check(api->GetTensorShapeElementCount(info, &count));
  std::cout << "[";
  for (size_t at = 0; at < count; at++) std::cout << (at ? ", " : "") << scores[at];
  std::cout << "]" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::string runs;
    for (const double end = milliseconds() + 1e3 * std::stod(line); milliseconds() < end;) {
      api->ReleaseValue(made), made = nullptr;
      const double before = milliseconds();
      run();
      runs += (runs.empty() ? "" : ", ") + std::to_string(milliseconds() - before);
    }
    std::cout << "[" << runs << "]" << std::endl;
  }
  api->ReleaseValue(made);
  api->ReleaseValue(given);
  api->ReleaseSession(session);
}
