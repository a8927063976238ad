// Arrays as numpy.load reads them: .npy, and .npz, which is a zip of those.
#pragma once
#include <array>
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"

inline Bytes npy_of(const std::string& kind, const std::vector<int64_t>& shape, const unsigned char* data, size_t size) {
  std::string header = "{'descr': '" + kind + "', 'fortran_order': False, 'shape': (";
  for (int64_t length : shape) header += std::to_string(length) + ",";
  header += "), }";
  header.append(63 - (header.size() + 10) % 64, ' ') += '\n';
  const std::string start = std::string("\x93NUMPY\x01\0", 8) + char(header.size() & 255) + char(header.size() >> 8) + header;
  Bytes made(start.begin(), start.end());
  made.insert(made.end(), data, data + size);
  return made;
}

inline Bytes npy(const Array& array) {
  const char letter = array.dtype[0];  // that of bool and the floats too
  const std::string kind = (array.width() == 1 ? "|" : "<") + std::string(1, letter) + std::to_string(array.width());
  return npy_of(kind, array.shape, array.at(0), array.count() * array.width());
}

/** A text of ASCII letters, which numpy keeps in four bytes each. */
inline Bytes npy(const std::string& text) {
  Bytes letters;
  for (char letter : text) letters.insert(letters.end(), {static_cast<unsigned char>(letter), 0, 0, 0});
  return npy_of("<U" + std::to_string(text.size()), {}, letters.data(), letters.size());
}

/** A zip of these files, as they are. */
inline void write_zip(const std::string& path, const std::vector<std::pair<std::string, Bytes>>& members) {
  static const std::array<uint32_t, 256> remainders = [] {
    std::array<uint32_t, 256> made{};
    for (uint32_t byte = 0; byte < 256; byte++) {
      made[byte] = byte;
      for (int bit = 0; bit < 8; bit++) made[byte] = made[byte] & 1 ? made[byte] >> 1 ^ 0xedb88320 : made[byte] >> 1;
    }
    return made;
  }();
  const auto number = [](uint64_t value, int bytes) {
    if (bytes == 4 && value > 0xffffffff) throw std::runtime_error("outputs of more than 4 GB");
    std::string made;
    for (int at = 0; at < bytes; at++) made += char(value >> 8 * at & 255);
    return made;
  };
  std::ofstream file(path, std::ios::binary);
  std::string list;
  uint64_t offset = 0;
  for (const auto& [name, content] : members) {
    uint32_t crc = ~0u;
    for (unsigned char byte : content) crc = crc >> 8 ^ remainders[(crc ^ byte) & 255];
    const std::string called = name + ".npy", size = number(content.size(), 4);
    // version, flags, method, time: none; the first day there is; checksum, sizes, lengths of the name and of more
    const std::string facts = number(20, 2) + number(0, 6) + number(33, 2) + number(~crc, 4) + size + size + number(called.size(), 4);
    list += "PK\x01\x02" + number(20, 2) + facts + number(0, 10) + number(offset, 4) + called;
    const std::string head = "PK\x03\x04" + facts + called;
    file << head;
    file.write(reinterpret_cast<const char*>(content.data()), std::streamsize(content.size()));
    offset += head.size() + content.size();
  }
  const std::string many = number(members.size(), 2);
  file << list << "PK\x05\x06" << number(0, 4) << many << many << number(list.size(), 4) << number(offset, 4) << number(0, 2);
  if (!file.flush()) throw std::runtime_error(path + " cannot be written");
}
