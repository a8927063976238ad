// A sentence becomes a row of TF-IDF weights, by the tokens and capitals that Python knows.
#pragma once
#include <cmath>
#include <cwctype>
#include <memory>
#include <string>
#include <vector>

#include "arrays.hpp"

inline std::u32string decoded(const std::string& text) {
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

inline void append(std::string& text, char32_t point) {
  if (point < 0x80) return text.push_back(char(point));
  const int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
  text += char((0xff00 >> (more + 1) & 0xff) | point >> 6 * more);
  for (int part = more - 1; part >= 0; part--) text += char(0x80 | (point >> 6 * part & 0x3f));
}

/** As Python's \s; no-break spaces, which iswspace leaves out, among them. */
inline bool is_space(char32_t point) {
  return (point >= 9 && point <= 13) || (point >= 0x1c && point <= 0x20) || point == 0x85 || point == 0xa0 || point == 0x1680 ||
         (point >= 0x2000 && point <= 0x200a) || point == 0x2028 || point == 0x2029 || point == 0x202f || point == 0x205f ||
         point == 0x3000;
}

/** The row of TF-IDF weights of a sentence. */
inline Array weighed(const std::string& sentence, const json& how) {
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
