// The one-file format: reading it with all checks.
#pragma once

#include "op.h"

namespace hscc {

// What a file says. Tensors point into the bytes that were read.
struct File {
    std::string card;
    std::vector<Shape> values;
    std::vector<int32_t> inputs, outputs;
    std::vector<Record> records;
};

// Reads a file's bytes, 4-byte aligned at least; throws Error with a sentence that says what is wrong.
File parse(const uint8_t* data, size_t bytes);

// The name of a kind, for messages and profiles.
const char* kind_name(Kind);

// CRC-32 as zlib computes it.
uint32_t crc32(const uint8_t* data, size_t bytes);

}  // namespace hscc
