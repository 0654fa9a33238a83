#include "file.h"

#include <array>
#include <cstring>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file's numbers are read as they lie");

namespace hscc {
namespace {

constexpr char kMagic[8] = {'H', 'S', 'C', 'C', 'E', 'N', 'G', '\0'};
constexpr uint32_t kVersion = 1;
constexpr uint64_t kHeaderBytes = 40, kAlignment = 64;
// Planning memory takes time in the square of these; DenseNet-264 has about a thousand.
constexpr uint32_t kMostValues = 16384, kMostOperations = 16384;
// Kernels may number the elements of one image's value with int32.
constexpr int64_t kMostNumbers = 0x7fffffff;

std::string text(uint64_t number) { return std::to_string(number); }

// Reads numbers one after the other and knows where the bytes end.
class Cursor {
public:
    Cursor(const uint8_t* data, uint64_t bytes) : data_(data), left_(bytes) {}
    uint64_t left() const { return left_; }
    template <class T> T take(const std::string& what) {
        need(sizeof(T), what);
        T value;
        std::memcpy(&value, data_, sizeof value);
        data_ += sizeof value;
        left_ -= sizeof value;
        return value;
    }
    // A count of things that take so many bytes each: no larger than what is left can hold.
    uint32_t take_count(uint64_t bytes_each, const std::string& what) {
        const auto count = take<uint32_t>("the number of " + what);
        if (count > left_ / bytes_each)
            throw Error("the file says " + text(count) + " " + what + ", more than its program holds");
        return count;
    }
    template <class T> std::vector<T> take_list(const std::string& what) {
        std::vector<T> list(take_count(sizeof(T), what));
        if (!list.empty()) std::memcpy(list.data(), data_, list.size() * sizeof(T));
        data_ += list.size() * sizeof(T);
        left_ -= list.size() * sizeof(T);
        return list;
    }

private:
    void need(uint64_t bytes, const std::string& what) const {
        if (left_ < bytes) throw Error("the program ends before " + what);
    }
    const uint8_t* data_;
    uint64_t left_;
};

uint64_t dtype_bytes(DType type) {
    switch (type) {
        case DType::f32: case DType::i32: return 4;
        case DType::f16: case DType::bf16: return 2;
        default: return 1;
    }
}

// Whether no number is infinite or NaN: those have all bits of the exponent set.
template <class Bits> bool all_finite(const uint8_t* data, uint64_t count, Bits exponent) {
    bool bad = false;
    for (uint64_t i = 0; i < count; i++) {
        Bits bits;
        std::memcpy(&bits, data + i * sizeof bits, sizeof bits);
        bad |= (bits & exponent) == exponent;
    }
    return !bad;
}

bool finite(const Tensor& t) {
    switch (t.dtype) {
        case DType::f32: return all_finite<uint32_t>(t.data, t.count, 0x7f800000u);
        case DType::f16: return all_finite<uint16_t>(t.data, t.count, 0x7c00u);
        case DType::bf16: return all_finite<uint16_t>(t.data, t.count, 0x7f80u);
        default: return true;
    }
}

Shape take_shape(Cursor& cursor, uint32_t number) {
    const std::string what = "value " + text(number);
    Shape shape;
    double numbers = 1;  // no overflow
    for (int32_t* size : {&shape.channels, &shape.depth, &shape.rows, &shape.columns}) {
        *size = cursor.take<int32_t>("the shape of " + what);
        if (*size < 1) throw Error(what + " has a size of " + std::to_string(*size) + ", which must be at least 1");
        numbers *= *size;
    }
    if (numbers > double(kMostNumbers)) throw Error(what + " has more than 2147483647 numbers per image");
    return shape;
}

Tensor take_tensor(Cursor& cursor, const uint8_t* weights, uint64_t weights_bytes, const std::string& what) {
    const auto dtype = cursor.take<uint32_t>("a tensor of " + what);
    const auto offset = cursor.take<uint64_t>("a tensor of " + what);
    const auto count = cursor.take<uint64_t>("a tensor of " + what);
    if (dtype > uint32_t(DType::u8)) throw Error(what + " has a tensor of an unknown type, " + text(dtype));
    if (count == 0) return {};
    Tensor tensor{DType(dtype), nullptr, count};
    if (offset % kAlignment) throw Error(what + " has a tensor whose offset is not a multiple of 64");
    if (offset > weights_bytes || count > (weights_bytes - offset) / dtype_bytes(tensor.dtype))
        throw Error(what + " has a tensor outside the weights");
    tensor.data = weights + offset;
    if (!finite(tensor)) throw Error(what + " has weights that are infinite or not a number");
    return tensor;
}

void check_value(int32_t id, size_t values, const std::string& what) {
    if (id < 0 || size_t(id) >= values) throw Error(what + " names value " + std::to_string(id) + ", which does not exist");
}

void write_once(std::vector<bool>& written, int32_t id, const std::string& what) {
    check_value(id, written.size(), what);
    if (written[id]) throw Error(what + " writes value " + std::to_string(id) + ", which is written before");
    written[id] = true;
}

void check_written(const std::vector<bool>& written, int32_t id, const std::string& what) {
    check_value(id, written.size(), what);
    if (!written[id]) throw Error(what + " reads value " + std::to_string(id) + " before it is written");
}

Record take_record(Cursor& cursor, uint32_t number, const uint8_t* weights, uint64_t weights_bytes) {
    std::string what = "operation " + text(number);
    Record record;
    const auto kind = cursor.take<uint32_t>(what);
    record.kind = Kind(kind);
    if (kind < uint32_t(Kind::conv) || !kind_name(record.kind))
        throw Error(what + " is of kind " + text(kind) + ", which this version does not know; update hscc");
    what += std::string(" (") + kind_name(record.kind) + ")";
    record.inputs = cursor.take_list<int32_t>("inputs of " + what);
    record.output = cursor.take<int32_t>("the output of " + what);
    record.ints = cursor.take_list<int32_t>("integers of " + what);
    record.floats = cursor.take_list<float>("floats of " + what);
    for (const float x : record.floats)
        if (x != x) throw Error(what + " has a parameter that is not a number");
    const auto tensors = cursor.take_count(20, "tensors of " + what);
    for (uint32_t i = 0; i < tensors; i++) record.tensors.push_back(take_tensor(cursor, weights, weights_bytes, what));
    return record;
}

}  // namespace

const char* kind_name(Kind kind) {
    switch (kind) {
        case Kind::conv: return "conv";
        case Kind::linear: return "linear";
        case Kind::pool: return "pool";
        case Kind::adaptive_pool: return "adaptive_pool";
        case Kind::binary: return "binary";
        case Kind::affine: return "affine";
        case Kind::concat: return "concat";
        case Kind::resize: return "resize";
        case Kind::select: return "select";
        case Kind::softmax: return "softmax";
        case Kind::pad: return "pad";
        case Kind::norm: return "norm";
        case Kind::reshape: return "reshape";
        case Kind::conv8: return "conv8";
        case Kind::linear8: return "linear8";
    }
    return nullptr;
}

uint32_t crc32(const uint8_t* data, size_t bytes) {
    // Table k gives what a byte contributes with k more bytes behind it, so that eight bytes take one step.
    static const auto table = [] {
        std::array<std::array<uint32_t, 256>, 8> t{};
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t x = i;
            for (int bit = 0; bit < 8; bit++) x = (x >> 1) ^ (x & 1 ? 0xedb88320u : 0);
            t[0][i] = x;
        }
        for (int k = 1; k < 8; k++)
            for (uint32_t i = 0; i < 256; i++) t[k][i] = (t[k - 1][i] >> 8) ^ t[0][t[k - 1][i] & 255];
        return t;
    }();
    uint32_t crc = 0xffffffffu;
    for (; bytes >= 8; bytes -= 8, data += 8) {
        uint32_t low, high;
        std::memcpy(&low, data, 4);
        std::memcpy(&high, data + 4, 4);
        low ^= crc;
        crc = table[7][low & 255] ^ table[6][low >> 8 & 255] ^ table[5][low >> 16 & 255] ^ table[4][low >> 24] ^
              table[3][high & 255] ^ table[2][high >> 8 & 255] ^ table[1][high >> 16 & 255] ^ table[0][high >> 24];
    }
    for (; bytes; bytes--) crc = (crc >> 8) ^ table[0][(crc ^ *data++) & 255];
    return ~crc;
}

File parse(const uint8_t* data, size_t bytes) {
    if (bytes < sizeof kMagic || std::memcmp(data, kMagic, sizeof kMagic)) throw Error("this is no engine file");
    if (bytes < kHeaderBytes) throw Error("the file is cut off");
    Cursor header(data + sizeof kMagic, kHeaderBytes - sizeof kMagic);
    const auto version = header.take<uint32_t>("");
    if (version != kVersion)
        throw Error("the file has format version " + text(version) + " and this library reads version " + text(kVersion));
    const auto crc = header.take<uint32_t>("");
    const auto card_bytes = header.take<uint64_t>(""), program_bytes = header.take<uint64_t>(""),
               weights_bytes = header.take<uint64_t>("");
    // One after the other, so that no sum overflows.
    uint64_t left = bytes - kHeaderBytes;
    bool fits = card_bytes <= left;
    if (fits) left -= card_bytes;
    fits = fits && program_bytes <= left;
    if (fits) left -= program_bytes;
    const uint64_t padding = fits ? (0 - (kHeaderBytes + card_bytes + program_bytes)) % kAlignment : 0;
    if (!fits || padding > left || left - padding != weights_bytes)
        throw Error("the file has " + text(bytes) + " bytes, which is not what its header says; it is cut off or damaged");
    if (crc32(data + 16, bytes - 16) != crc) throw Error("the file is damaged: its checksum does not fit its content");

    const uint8_t* program = data + kHeaderBytes + card_bytes;
    const uint8_t* weights = program + program_bytes + padding;
    for (const uint8_t* p = program + program_bytes; p < weights; p++)
        if (*p) throw Error("the padding before the weights is not zero");

    File file;
    file.card.assign(reinterpret_cast<const char*>(data) + kHeaderBytes, card_bytes);
    if (file.card.find('\0') != std::string::npos) throw Error("the card holds a zero byte");
    Cursor cursor(program, program_bytes);
    const auto values = cursor.take_count(16, "values");
    if (values > kMostValues) throw Error("the file has " + text(values) + " values; at most " + text(kMostValues) + " can be run");
    for (uint32_t i = 0; i < values; i++) file.values.push_back(take_shape(cursor, i));
    std::vector<bool> written(values, false);
    file.inputs = cursor.take_list<int32_t>("inputs");
    for (const int32_t id : file.inputs) write_once(written, id, "the list of inputs");
    file.outputs = cursor.take_list<int32_t>("outputs");
    if (file.inputs.empty()) throw Error("the network has no input");
    if (file.outputs.empty()) throw Error("the network has no output");
    const auto operations = cursor.take_count(28, "operations");
    if (operations > kMostOperations)
        throw Error("the file has " + text(operations) + " operations; at most " + text(kMostOperations) + " can be run");
    for (uint32_t i = 0; i < operations; i++) {
        file.records.push_back(take_record(cursor, i, weights, weights_bytes));
        const Record& record = file.records.back();
        const std::string what = "operation " + text(i) + " (" + kind_name(record.kind) + ")";
        if (record.inputs.empty()) throw Error(what + " has no input");
        for (const int32_t id : record.inputs) check_written(written, id, what);
        write_once(written, record.output, what);
    }
    for (const int32_t id : file.outputs) check_written(written, id, "the list of outputs");
    if (cursor.left()) throw Error("the program has " + text(cursor.left()) + " bytes too many");
    return file;
}

std::vector<float> read_floats(const Tensor& tensor) {
    std::vector<float> numbers(tensor.count);
    if (tensor.absent()) return numbers;
    const auto half = [&](uint64_t i) {
        uint16_t bits;
        std::memcpy(&bits, tensor.data + 2 * i, 2);
        return bits;
    };
    const auto from_bits = [](uint32_t bits) {
        float x;
        std::memcpy(&x, &bits, 4);
        return x;
    };
    switch (tensor.dtype) {
        case DType::f32:
            std::memcpy(numbers.data(), tensor.data, tensor.count * 4);
            break;
        case DType::bf16:
            for (uint64_t i = 0; i < tensor.count; i++) numbers[i] = from_bits(uint32_t(half(i)) << 16);
            break;
        case DType::f16:
            // Shifted into float32's places the exponent is too small by 112; subnormals become normal that way too.
            for (uint64_t i = 0; i < tensor.count; i++) {
                const uint32_t bits = half(i);
                const float scaled = from_bits((bits & 0x7fffu) << 13) * 0x1p112f;
                numbers[i] = bits & 0x8000u ? -scaled : scaled;
            }
            break;
        default:
            throw Error("a tensor of integers stands where floats are expected");
    }
    return numbers;
}

}  // namespace hscc
