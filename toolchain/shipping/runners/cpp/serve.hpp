// What nnx's benchmark asks of a row, a line of JSON each: open, start, turn, memory, outputs.
#pragma once
#include <algorithm>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "npz.hpp"
#include "session.hpp"

/** A variant with its samples; without `inputs` of its own it runs on the golden ones. */
class Row {
 public:
  explicit Row(const json& asked) {
    const json given = asked.value("inputs", json()), axes = asked.value("axes", json()), name = asked.value("variant", json());
    session = std::make_unique<Session>(chosen(name.is_null() ? "" : std::string(name))[0], asked.value("threads", 1));
    batch = asked.value("batch", size_t(1));
    for (const auto& each : package["outputs"]) names.push_back(each["name"]);
    if (given.is_null()) samples = golden();
    else for (const auto& [input, file] : given.items()) samples.push_back(saved(file, input));
    for (const Array& each : samples) {
      places.push_back(axes.is_object() && axes.contains("inputs") ? axes["inputs"].value(each.name, json(0)) : json(0));
      count = std::max(count, size_t(each.shape.at(0)));
    }
  }

  json start() {
    first = feeds(0);
    const double before = milliseconds();
    session->run(first, names);
    const double first_run_ms = milliseconds() - before;
    json shapes = json::object();
    for (const Array& each : first) shapes[each.name] = each.shape;
    const json facts{{"onnxruntime", OrtGetApiBase()->GetVersionString()}, {"runner", "cpp"}};
    return {{"load_ms", session->load_ms}, {"first_run_ms", first_run_ms}, {"nodes", json::object()}, {"facts", facts}, {"shapes", shapes}};
  }

  json turn(const json& asked) const {
    session->timed(first, names, 0, 1e3 * double(asked["warm_up_s"]));
    const double started = milliseconds();
    const auto runs = session->timed(first, names, asked["min_runs"], 1e3 * double(asked["seconds"]));
    const double seconds = (milliseconds() - started) / 1e3;
    const size_t most = asked["most_kept"], step = std::max<size_t>(1, (runs.size() + most - 1) / most);
    json kept = json::array();
    for (size_t at = 0; at < runs.size(); at += step) kept.push_back(runs[at]);
    return {{"runs_ms", kept}, {"runs", runs.size()}, {"seconds", seconds}};
  }

  static json memory() {
    json peak;
    std::ifstream told("/proc/self/status");
    for (std::string line; std::getline(told, line);)
      if (line.rfind("VmHWM:", 0) == 0) peak = std::stoll(line.substr(6)) * 1024;
    return {{"peak_memory_bytes", peak}, {"device_memory_bytes", json()}};
  }

  /** Each call's outputs, in an .npz that says in "built" which array is which. */
  json outputs(const std::string& path) const {
    json built = json::array();
    std::vector<std::pair<std::string, Bytes>> members;
    for (size_t start = 0; start < count; start += batch) {
      json call = json::object();
      for (Array& each : session->run(feeds(start), names)) {
        if (!each.shape.empty() && size_t(each.shape[0]) == batch) each.shape[0] = int64_t(std::min(batch, count - start));
        call[each.name] = {"array", std::to_string(members.size())};
        members.emplace_back(std::to_string(members.size()), npy(each));
      }
      built.push_back(call);
    }
    members.emplace_back("built", npy(built.dump(-1, ' ', true)));
    write_zip(path, members);
    return nullptr;
  }

 private:
  std::unique_ptr<Session> session;
  size_t batch = 1, count = 0;
  std::vector<std::string> names;
  Arrays samples, first;
  std::vector<json> places;

  static Arrays golden() {
    const json told = read("nnx/golden.json");
    const auto content = std::make_shared<Bytes>(bytes_of(root / "nnx/golden.bin"));
    Arrays found = arrays(told["cases"][0]["inputs"], content);
    for (Array& each : found) each.bytes = std::make_shared<Bytes>(), each.offset = 0, each.shape[0] = 0;
    for (size_t number = 0; number < size_t(told["singles"]); number++) {
      const Arrays more = arrays(told["cases"][number]["inputs"], content);
      for (size_t at = 0; at < more.size(); at++) {
        found[at].bytes->insert(found[at].bytes->end(), more[at].at(0), more[at].at(more[at].count()));
        found[at].shape[0] += more[at].shape[0];
      }
    }
    return found;
  }

  /** A whole batch from there on, going round; samples lie along the axis that the benchmark names, or come alone. */
  Arrays feeds(size_t start) const {
    Arrays made;
    for (size_t at = 0; at < samples.size(); at++) {
      const Array& all = samples[at];
      const bool alone = places[at].is_null();
      const size_t axis = alone ? 0 : size_t(places[at]), together = alone ? 1 : batch;
      Array each{all.name, all.dtype, {all.shape.begin() + 1, all.shape.end()}, std::make_shared<Bytes>(), 0};
      const size_t size = each.count() * all.width();
      size_t inner = all.width();
      for (size_t place = axis; place < each.shape.size(); place++) inner *= size_t(each.shape[place]);
      if (!alone) each.shape.insert(each.shape.begin() + long(axis), int64_t(together));
      each.bytes->reserve(size * together);
      for (size_t outer = 0; outer < size; outer += inner) {
        for (size_t step = 0; step < together; step++) {
          const unsigned char* from = all.at(0) + (start + step) % count * size + outer;
          each.bytes->insert(each.bytes->end(), from, from + inner);
        }
      }
      made.push_back(each);
    }
    return made;
  }
};

/** A line of JSON for each one on stdin, until it ends. */
inline void serve() {
  std::unique_ptr<Row> row;
  for (std::string line; std::getline(std::cin, line);) {
    json told;
    try {
      const json asked = json::parse(line);
      const std::string op = asked["op"];
      if (op == "open") row.reset(), row = std::make_unique<Row>(asked), told["result"] = nullptr;
      else if (row && op == "start") told["result"] = row->start();
      else if (row && op == "turn") told["result"] = row->turn(asked);
      else if (row && op == "memory") told["result"] = Row::memory();
      else if (row && op == "outputs") told["result"] = row->outputs(asked["path"]);
      else throw Refused{"There is no operation '" + op + "' now.", "Send open, start, turn, memory, outputs."};
    } catch (const Refused& refused) {
      told = {{"error", {{"kind", "BadUsage"}, {"what", refused.what}, {"do", refused.then}}}};
    } catch (const std::exception& error) {
      told = {{"error", {{"kind", "bug"}, {"what", error.what()}, {"do", "Look at the request."}}}};
    }
    std::cout << told.dump(-1, ' ', false, json::error_handler_t::replace) << std::endl;
  }
}
