// SHA-256, as FIPS 180-4 has it.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

using Bytes = std::vector<unsigned char>;

inline std::string sha256(Bytes message) {
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
