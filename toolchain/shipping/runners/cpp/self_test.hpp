// The receipt: files, version, sentences, golden outputs, latency.
#pragma once
#include <sys/utsname.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "sentence.hpp"
#include "session.hpp"

inline json machine() {
  utsname names{};
  uname(&names);
  std::string processor;
  std::ifstream told("/proc/cpuinfo");
  for (std::string line; processor.empty() && std::getline(told, line);)
    if (line.rfind("model name", 0) == 0 || line.rfind("Model\t", 0) == 0) processor = line.substr(line.find(": ") + 2);
  return {{"system", names.sysname}, {"architecture", names.machine}, {"processor", processor}, {"cores", std::thread::hardware_concurrency()}};
}

inline bool older(const std::string& version, const std::string& least) {
  int major = 0, minor = 0, other_major = 0, other_minor = 0;
  std::sscanf(version.c_str(), "%d.%d", &major, &minor);
  std::sscanf(least.c_str(), "%d.%d", &other_major, &other_minor);
  return std::pair(major, minor) < std::pair(other_major, other_minor);
}
/** What is said of one variant; what is wrong goes into `wrong`. */
inline json tested(const json& variant, const json& golden, const std::shared_ptr<Bytes>& content, int threads, std::vector<std::string>& wrong) {
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
inline json self_test(const std::vector<json>& variants, int threads, double max_slowdown) {
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
      result = tested(variant, golden, content, threads, wrong);
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
    checked("latency " + name, max_slowdown && slower > max_slowdown ? measured : "", measured);
    told[name] = result;
  }
  return {{"ok", ok}, {"package", package["name"]}, {"version", package["version"]}, {"digest", sha256(bytes_of(root / "SHA256SUMS"))},
          {"checks", checks}, {"onnxruntime", version}, {"compiler", __VERSION__}, {"machine", machine()},
          {"latency_ms", told.empty() ? json() : told.begin().value()["latency_ms"]}, {"variants", told}};
}
