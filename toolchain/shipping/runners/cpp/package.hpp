// What a package says, and whether its files are those that it lists.
#pragma once
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sha256.hpp"

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

inline fs::path root;
inline json package;

/** What happened, what to do, the exit code. */
struct Refused {
  std::string what, then;
  int code = 2;
};

inline std::string brief(double value, int digits = 3) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*g", digits, value);
  return text;
}

inline std::string joined(const std::vector<std::string>& parts, const char* between) {
  std::string all;
  for (const auto& part : parts) all += (all.empty() ? "" : between) + part;
  return all;
}

inline Bytes bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || fs::is_directory(path)) throw Refused{path.string() + " cannot be read.", "Give a file that is there."};
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

inline json read(const std::string& name) {
  const Bytes content = bytes_of(root / name);
  return json::parse(content.begin(), content.end());
}
/** The variants called so; all without a name, the recommended one first. */
inline std::vector<json> chosen(const std::string& name) {
  std::vector<json> found;
  std::vector<std::string> names;
  for (const auto& each : package["variants"]) {
    names.push_back(each["name"]);
    if (name.empty() || name == names.back()) found.push_back(each);
  }
  if (found.empty()) throw Refused{"There is no variant '" + name + "'.", "Choose from " + joined(names, ", ") + "."};
  return found;
}

/** Each file that is not as SHA256SUMS says. */
inline std::string files_wrong() {
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
    if (!fs::exists(status)) wrong.push_back("missing: " + name);
    else if (hash.empty()) wrong.push_back("extra: " + name);
    else if (!fs::is_regular_file(status) || sha256(bytes_of(root / name)) != hash) wrong.push_back("changed: " + name);
  }
  return joined(wrong, "; ");
}
