// Runs a package through ONNX Runtime's C API, on Linux and macOS. CMakeLists.txt says how to build it.
//
//     run PACKAGE "a sentence" | input.npy     the answer, a line of JSON
//     run PACKAGE --self-test [--variant V]    files, version, golden outputs: a receipt in JSON
//     run PACKAGE                              requests on stdin, a line each, as nnx's benchmark sends them
//
// Exit codes: 0 done, 1 a check failed, 2 wrong input, 3 not available here.
#include <algorithm>
#include <clocale>
#include <cstdlib>
#include <iostream>
#include <stdexcept>

#include "self_test.hpp"
#include "serve.hpp"

constexpr auto USAGE = "Usage: run PACKAGE [--variant V] [--threads N] SENTENCE|FILE.npy | --self-test [--max-slowdown X]";

struct Asked {
  std::string given, variant;
  int threads = 0;
  double max_slowdown = 0;
  bool self_test = false;
};
json nested(const Array& array, size_t axis, size_t& place) {
  if (axis == array.shape.size()) return array.told(place++);
  json made = json::array();
  for (int64_t step = 0; step < array.shape[axis]; step++) made.push_back(nested(array, axis + 1, place));
  return made;
}

json answer(const json& variant, const Asked& asked) {
  const bool array = asked.given.size() > 4 && asked.given.substr(asked.given.size() - 4) == ".npy";
  const json how = array || package["preprocessing"].is_null() ? json{{"kind", "array"}} : read(package["preprocessing"]);
  Arrays inputs;
  if (array) inputs.push_back(saved(asked.given, package["inputs"][0]["name"]));
  else if (how["kind"] == "tfidf") inputs.push_back(weighed(asked.given, how));
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
    if (word == "--trust") throw Refused{"This runner looks at no signature.", "Ask runners/python/signature.py, or nnx verify.", 3};
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
  if (plain.size() > (asked.self_test ? 1 : 2)) throw Refused{"Name one thing to answer for, or --self-test.", USAGE};
  root = plain[0];
  if (plain.size() == 2) asked.given = plain[1];
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
  const std::vector<json> variants = chosen(asked.variant);
  if (!asked.self_test && asked.given.empty()) return serve(), 0;
  const json result = asked.self_test ? self_test(variants, asked.threads, asked.max_slowdown) : answer(variants[0], asked);
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
