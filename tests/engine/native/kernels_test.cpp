// Convolutions and linear layers of drawn shapes, of float32 and of int8, against plain loops. Arguments: first seed,
// number of cases. Prints a checksum of the outputs of int8. Exit code 0 where all agree.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>

#include "kernels.h"
#include "op.h"

using namespace hscc;

namespace {

struct Case {
    Record record;
    std::vector<Shape> shapes;
    std::vector<std::vector<uint8_t>> storage;
    std::string text;
};

std::mt19937 generator;

int draw(int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator); }
bool chance(int percent) { return draw(1, 100) <= percent; }

std::vector<float> numbers(size_t n, float scale = 1) {
    std::vector<float> v(n);
    for (float& x : v) x = scale * std::uniform_real_distribution<float>(-1, 1)(generator);
    return v;
}

template <class T> void add(Case& c, DType dtype, const std::vector<T>& v) {
    c.storage.emplace_back(v.size() * sizeof(T));
    if (!v.empty()) std::memcpy(c.storage.back().data(), v.data(), v.size() * sizeof(T));
    c.record.tensors.push_back({dtype, nullptr, v.size()});
}

// Weights in a drawn format; those of 16 bits are rounded first, so that the plain loops see the same numbers.
void add_weights(Case& c, std::vector<float> v, int format) {
    if (format == 0 || v.empty()) return add(c, DType::f32, v);
    std::vector<uint16_t> half(v.size());
    for (size_t i = 0; i < v.size(); i++) {
        uint32_t bits;
        std::memcpy(&bits, &v[i], 4);
        if (format == 2) {
            half[i] = uint16_t(bits >> 16);
        } else {  // f16: cut to ten bits of fraction; small numbers to zero
            const int exponent = int(bits >> 23 & 255) - 127 + 15;
            half[i] = uint16_t(bits >> 16 & 0x8000) | (exponent > 0 ? uint16_t(exponent << 10 | (bits >> 13 & 1023)) : 0);
        }
    }
    add(c, format == 1 ? DType::f16 : DType::bf16, half);
}

void point(Case& c) {
    for (size_t i = 0; i < c.storage.size(); i++) c.record.tensors[i].data = c.storage[i].data();
}

void draw_activation(Case& c, std::vector<float>& floats) {
    const int act = draw(0, 4);
    c.record.ints.push_back(act);
    floats = act == 2 ? std::vector<float>{-0.2f, 0.3f} : std::vector<float>{0.1f, 0.0f};
}

Case draw_convolution() {
    Case c;
    c.record.kind = Kind::conv;
    const int rank = draw(1, 3);
    int kernel[3] = {1, 1, 1}, stride[3] = {1, 1, 1}, pad[3] = {0, 0, 0}, dilation[3] = {1, 1, 1}, up[3] = {1, 1, 1}, in[3] = {1, 1, 1}, out[3] = {1, 1, 1};
    const int style = draw(0, 5);  // 0: depthwise, 1: grouped, else: whatever
    for (int d = 3 - rank; d < 3; d++) {
        kernel[d] = chance(30) ? 1 : draw(1, rank == 3 ? 3 : 5);
        stride[d] = draw(1, 3);
        dilation[d] = chance(70) ? 1 : draw(1, 3);
        pad[d] = chance(40) ? 0 : draw(0, (kernel[d] - 1) * dilation[d] + 1);
        in[d] = draw(1, rank == 1 ? 60 : rank == 2 ? 17 : 7);
        up[d] = style != 0 && chance(15) ? draw(1, 3) : 1;
        const int most = (in[d] + 2 * pad[d] - (kernel[d] - 1) * dilation[d] - 1) / stride[d] + 1;
        out[d] = std::max(1, most * up[d] - draw(0, 2));
    }
    const bool wide = chance(8);
    int C = wide ? 512 : draw(1, 50), O = draw(1, 70), r = 0, groups = 1, S = 0;
    if (style == 0) {
        O = C;
        groups = C;
    } else {
        if (chance(35)) r = draw(1, 40);
        if (chance(45)) S = draw(1, 60);
        if (style == 1) {
            groups = draw(1, 4);
            (r ? r : C) = groups * draw(1, 20);
            (S ? S : O) = groups * draw(1, 20);
        }
    }
    if (style == 2 && chance(30)) C = draw(1, 4), r = draw(1, 3);  // a first layer
    const int ci = r ? r : C, regions = style == 0 || chance(50) ? 1 : draw(1, 5);
    const Shape x = {C, in[0], in[1], in[2]}, y = {O, out[0], out[1], out[2]};
    c.shapes = {x, y, y};
    c.record.inputs = {0};
    if (chance(30)) c.record.inputs.push_back(1);
    c.record.output = 2;
    for (const int* a : {kernel, stride, pad, dilation, up})
        for (int d = 0; d < 3; d++) c.record.ints.push_back(a[d]);
    c.record.ints.insert(c.record.ints.end(), {r, groups, regions});
    draw_activation(c, c.record.floats);
    const int format = chance(30) ? draw(1, 2) : 0;
    add_weights(c, numbers(size_t(r) * C, 0.3f), format);
    std::vector<int32_t> permutation;
    if (!r && style != 0 && chance(20)) {
        for (int i = 0; i < C; i++) permutation.push_back(i);
        std::shuffle(permutation.begin(), permutation.end(), generator);
    }
    add(c, DType::i32, permutation);
    std::vector<uint8_t> index;
    if (regions > 1 || chance(20))
        for (int64_t i = 0; i < y.positions(); i++) index.push_back(uint8_t(chance(80) && i ? index.back() : draw(0, regions - 1)));
    add(c, DType::u8, index);
    for (int i = 0; i < regions; i++) {
        int s = S;
        if (S && regions > 1) s = chance(20) ? -1 : chance(20) && O % groups == 0 ? 0 : groups * draw(1, 20);
        c.record.ints.push_back(s);
        const size_t k = size_t(kernel[0]) * kernel[1] * kernel[2] * (ci / groups);
        add_weights(c, s < 0 ? std::vector<float>{} : numbers((s ? s : O) * k, 0.3f), format);
        add_weights(c, s > 0 ? numbers(size_t(O) * s, 0.3f) : std::vector<float>{}, format);
        add(c, DType::f32, numbers(O));
    }
    c.text = "conv C " + std::to_string(C) + " O " + std::to_string(O) + " r " + std::to_string(r) + " groups " + std::to_string(groups) +
             " regions " + std::to_string(regions) + " S " + std::to_string(S) + " format " + std::to_string(format);
    point(c);
    return c;
}

Case draw_linear() {
    Case c;
    c.record.kind = Kind::linear;
    const bool wide = chance(20);
    const Shape x = wide ? Shape{512, 1, draw(1, 3), draw(1, 5)} : Shape{draw(1, 60), 1, draw(1, 4), draw(1, 4)};
    const int I = int(x.size()), O = draw(1, 200), S = chance(50) ? draw(1, 60) : 0;
    c.shapes = {x, {O, 1, 1, 1}, {O, 1, 1, 1}};
    c.record.inputs = {0};
    if (chance(30)) c.record.inputs.push_back(1);
    c.record.output = 2;
    c.record.ints = {S};
    draw_activation(c, c.record.floats);
    const int format = chance(50) ? draw(1, 2) : 0;
    add_weights(c, numbers(size_t(S) * I, 0.2f), format);
    add_weights(c, numbers(size_t(O) * (S ? S : I), 0.2f), format);
    add(c, DType::f32, numbers(O));
    c.text = "linear I " + std::to_string(I) + " O " + std::to_string(O) + " S " + std::to_string(S) + " format " + std::to_string(format);
    point(c);
    return c;
}

// The same operation with bytes for weights, scales behind them, and stages of bytes between the products.
Case quantised(const Case& c) {
    Case q;
    const bool linear = c.record.kind == Kind::linear;
    const auto& i = c.record.ints;
    q.record = c.record;
    q.record.kind = linear ? Kind::linear8 : Kind::conv8;
    q.record.tensors.clear();
    q.shapes = c.shapes;
    q.text = "int8 " + c.text;
    const auto matrix = [&](const Tensor& t, int rows) {
        std::vector<int8_t> bytes(t.count);
        for (int8_t& b : bytes) b = int8_t(draw(-128, 127));
        add(q, DType::i8, bytes);
        std::vector<float> scales = numbers(t.absent() ? 0 : size_t(rows), 0.02f);
        for (float& s : scales) s = (std::fabs(s) + 0.001f) / std::sqrt(float(t.count / uint64_t(rows)));
        add(q, DType::f32, scales);
    };
    const auto copy = [&](const Tensor& t) {
        if (t.dtype == DType::f32) return add(q, t.dtype, read_floats(t));
        add(q, t.dtype, std::vector<uint8_t>(t.data, t.data + t.count * (t.dtype == DType::i32 ? 4 : 1)));
        q.record.tensors.back().count = t.count;
    };
    const int O = c.shapes[2].channels;
    size_t stages = 2;
    if (linear) {
        matrix(c.record.tensors[0], i[0]);
        matrix(c.record.tensors[1], O);
        copy(c.record.tensors[2]);
    } else {
        matrix(c.record.tensors[0], i[15]);
        copy(c.record.tensors[1]);
        copy(c.record.tensors[2]);
        for (int r = 0; r < i[17]; r++) {
            const int S = i[19 + size_t(r)];
            matrix(c.record.tensors[3 + 3 * size_t(r)], S > 0 ? S : O);
            matrix(c.record.tensors[4 + 3 * size_t(r)], O);
            copy(c.record.tensors[5 + 3 * size_t(r)]);
        }
        stages += size_t(i[17]);
    }
    std::vector<float> floats;
    for (size_t s = 0; s < stages; s++) {
        floats.push_back(0.004f + 0.004f * float(draw(0, 100)) / 100);
        floats.push_back(float(chance(10) ? 0 : chance(10) ? 255 : draw(0, 255)));
    }
    q.record.floats.insert(q.record.floats.begin(), floats.begin(), floats.end());
    point(q);
    return q;
}

float activated(const Record& r, int act, double x) {
    float v = float(x);
    activate(act, r.floats[r.floats.size() - 2], r.floats.back(), &v, 1);
    return v;
}

// Each output's sum of absolute products bounds its rounding error.
void plain_convolution(const Case& c, int batch, const std::vector<std::vector<float>>& values, std::vector<float>& out, std::vector<float>& bound) {
    const auto& i = c.record.ints;
    const Shape &x = c.shapes[0], &y = c.shapes[2];
    const int r = i[15], groups = i[16], C = x.channels, O = y.channels, ci = r ? r : C, cg = ci / groups;
    const auto projection = read_floats(c.record.tensors[0]);
    const int32_t* permutation = c.record.tensors[1].absent() ? nullptr : reinterpret_cast<const int32_t*>(c.record.tensors[1].data);
    std::vector<double> map(size_t(batch) * x.positions() * ci);
    for (size_t p = 0; p < size_t(batch) * x.positions(); p++)
        for (int q = 0; q < ci; q++) {
            const float* v = &values[0][p * C];
            double sum = 0;
            if (r)
                for (int k = 0; k < C; k++) sum += double(projection[q * C + k]) * v[k];
            else
                sum = v[permutation ? permutation[q] : q];
            map[p * ci + q] = sum;
        }
    std::vector<std::vector<float>> tensors;
    for (size_t t = 3; t < c.record.tensors.size(); t++) tensors.push_back(read_floats(c.record.tensors[t]));
    const size_t taps = size_t(i[0]) * i[1] * i[2];
    size_t at = 0;
    for (int b = 0; b < batch; b++)
        for (int z = 0; z < y.depth; z++)
            for (int v = 0; v < y.rows; v++)
                for (int u = 0; u < y.columns; u++, at++) {
                    const int region = c.record.tensors[2].absent() ? 0 : c.record.tensors[2].data[at % y.positions()];
                    const int S = i[19 + region], outputs = S ? S : O;
                    const auto &core = tensors[3 * region], &decoder = tensors[3 * region + 1], &bias = tensors[3 * region + 2];
                    std::vector<double> hidden(std::max(outputs, 0)), size(hidden.size());
                    for (int o = 0; o < outputs; o++)
                        for (size_t t = 0; t < taps; t++) {
                            const int tz = int(t) / i[2] / i[1], ty = int(t) / i[2] % i[1], tx = int(t) % i[2];
                            const int iz = z / i[12] * i[3] - i[6] + tz * i[9], iy = v / i[13] * i[4] - i[7] + ty * i[10], ix = u / i[14] * i[5] - i[8] + tx * i[11];
                            if (iz < 0 || iy < 0 || ix < 0 || iz >= x.depth || iy >= x.rows || ix >= x.columns) continue;
                            const double* m = &map[(((size_t(b) * x.depth + iz) * x.rows + iy) * x.columns + ix) * ci];
                            for (int k = 0; k < cg; k++) {
                                const double term = m[o / (outputs / groups) * cg + k] * core[(o * taps + t) * cg + k];
                                hidden[o] += term;
                                size[o] += std::fabs(term) * (r ? C : 1);
                            }
                        }
                    for (int o = 0; o < O; o++) {
                        double sum = bias[o], terms = std::fabs(sum);
                        if (S == 0) sum += hidden[o], terms += size[o];
                        for (int s = 0; s < S; s++) sum += decoder[size_t(o) * S + s] * hidden[s], terms += std::fabs(decoder[size_t(o) * S + s]) * size[s];
                        if (c.record.inputs.size() > 1) sum += values[1][at * O + o];
                        out[at * O + o] = activated(c.record, i[18], sum);
                        bound[at * O + o] = float(1 + terms);
                    }
                }
}

void plain_linear(const Case& c, int batch, const std::vector<std::vector<float>>& values, std::vector<float>& out, std::vector<float>& bound) {
    const int S = c.record.ints[0], I = int(c.shapes[0].size()), O = c.shapes[2].channels;
    const auto encoder = read_floats(c.record.tensors[0]), weight = read_floats(c.record.tensors[1]), bias = read_floats(c.record.tensors[2]);
    for (int b = 0; b < batch; b++) {
        std::vector<double> x(values[0].begin() + size_t(b) * I, values[0].begin() + size_t(b + 1) * I);
        if (S) {
            std::vector<double> hidden(S);
            for (int s = 0; s < S; s++)
                for (int k = 0; k < I; k++) hidden[s] += encoder[size_t(s) * I + k] * x[k];
            x = hidden;
        }
        for (int o = 0; o < O; o++) {
            double sum = bias[o], terms = std::fabs(sum);
            for (size_t k = 0; k < x.size(); k++) sum += weight[o * x.size() + k] * x[k], terms += std::fabs(weight[o * x.size() + k] * x[k]);
            if (c.record.inputs.size() > 1) sum += values[1][size_t(b) * O + o];
            out[size_t(b) * O + o] = activated(c.record, c.record.ints[1], sum);
            bound[size_t(b) * O + o] = float(1 + terms * (S ? 8 : 1));
        }
    }
}

// Bytes between two products.
struct Bytes {
    float scale;
    int zero;
    int of(float v) const { return std::clamp(int(std::nearbyint(std::clamp(v, -256.0f, 256.0f))) + zero, 0, 255); }
};

// A matrix of bytes with its scales.
struct Matrix {
    const int8_t* weights;
    std::vector<float> scales;
    explicit Matrix(const Tensor* t) : weights(reinterpret_cast<const int8_t*>(t[0].data)), scales(read_floats(t[1])) {}
    float number(int64_t sum, size_t row, Bytes from) const { return float(sum) * float(double(from.scale) * scales[row]); }
    int byte(int64_t sum, size_t row, Bytes from, Bytes to) const {
        return to.of(float(sum) * float(double(from.scale) * scales[row] / double(to.scale)));
    }
    // Row times bytes that lie side by side.
    int64_t sum(size_t row, const std::vector<int>& x, Bytes from) const {
        int64_t total = 0;
        for (size_t k = 0; k < x.size(); k++) total += int64_t(x[k] - from.zero) * weights[row * x.size() + k];
        return total;
    }
};

Bytes stage(const Case& c, size_t place) { return {c.record.floats[2 * place], int(c.record.floats[2 * place + 1])}; }

std::vector<int> input_bytes(const std::vector<float>& x, Bytes stage) {
    std::vector<int> bytes;
    for (const float v : x) bytes.push_back(stage.of(v / stage.scale));
    return bytes;
}

void plain_convolution8(const Case& c, int batch, const std::vector<std::vector<float>>& values, std::vector<float>& out) {
    const auto& i = c.record.ints;
    const auto& tensors = c.record.tensors;
    const Shape &x = c.shapes[0], &y = c.shapes[2];
    const int r = i[15], groups = i[16], C = x.channels, O = y.channels, ci = r ? r : C, cg = ci / groups;
    const Bytes first = stage(c, 0), mapped = r ? stage(c, 1) : first;
    const auto given = input_bytes(values[0], first);
    const int32_t* permutation = tensors[2].absent() ? nullptr : reinterpret_cast<const int32_t*>(tensors[2].data);
    std::vector<int> map;
    for (size_t p = 0; p < size_t(batch) * x.positions(); p++)
        for (int q = 0; q < ci; q++) {
            const std::vector<int> v(given.begin() + int64_t(p) * C, given.begin() + int64_t(p + 1) * C);
            map.push_back(!r ? v[permutation ? permutation[q] : q] : Matrix(&tensors[0]).byte(Matrix(&tensors[0]).sum(q, v, first), q, first, mapped));
        }
    std::vector<Matrix> cores, decoders;
    std::vector<std::vector<float>> biases;
    for (int region = 0; region < i[17]; region++) {
        cores.emplace_back(&tensors[4 + 5 * region]);
        decoders.emplace_back(&tensors[6 + 5 * region]);
        biases.push_back(read_floats(tensors[8 + 5 * region]));
    }
    const size_t taps = size_t(i[0]) * i[1] * i[2];
    size_t at = 0;
    for (int b = 0; b < batch; b++)
        for (int z = 0; z < y.depth; z++)
            for (int v = 0; v < y.rows; v++)
                for (int u = 0; u < y.columns; u++, at++) {
                    const int region = tensors[3].absent() ? 0 : tensors[3].data[at % y.positions()];
                    const int S = i[19 + region], outputs = S ? S : O;
                    const Matrix &core = cores[region], &decoder = decoders[region];
                    const Bytes between = stage(c, 2 + region);
                    std::vector<int64_t> sums(std::max(outputs, 0));
                    for (int o = 0; o < outputs; o++)
                        for (size_t t = 0; t < taps; t++) {
                            const int tz = int(t) / i[2] / i[1], ty = int(t) / i[2] % i[1], tx = int(t) % i[2];
                            const int iz = z / i[12] * i[3] - i[6] + tz * i[9], iy = v / i[13] * i[4] - i[7] + ty * i[10], ix = u / i[14] * i[5] - i[8] + tx * i[11];
                            if (iz < 0 || iy < 0 || ix < 0 || iz >= x.depth || iy >= x.rows || ix >= x.columns) continue;
                            const int* m = &map[(((size_t(b) * x.depth + iz) * x.rows + iy) * x.columns + ix) * ci];
                            for (int k = 0; k < cg; k++)
                                sums[o] += int64_t(m[o / (outputs / groups) * cg + k] - mapped.zero) * core.weights[(o * taps + t) * cg + k];
                        }
                    std::vector<int> hidden;
                    for (int s = 0; s < S; s++) hidden.push_back(core.byte(sums[s], s, mapped, between));
                    for (int o = 0; o < O; o++) {
                        float sum = S < 0 ? 0.0f : S ? decoder.number(decoder.sum(o, hidden, between), o, between) : core.number(sums[o], o, mapped);
                        sum += biases[region][o];
                        if (c.record.inputs.size() > 1) sum += values[1][at * O + o];
                        out[at * O + o] = activated(c.record, i[18], sum);
                    }
                }
}

void plain_linear8(const Case& c, int batch, const std::vector<std::vector<float>>& values, std::vector<float>& out) {
    const int S = c.record.ints[0], I = int(c.shapes[0].size()), O = c.shapes[2].channels;
    const Matrix encoder(&c.record.tensors[0]), weight(&c.record.tensors[2]);
    const auto bias = read_floats(c.record.tensors[4]);
    for (int b = 0; b < batch; b++) {
        Bytes from = stage(c, 0);
        auto x = input_bytes({values[0].begin() + int64_t(b) * I, values[0].begin() + int64_t(b + 1) * I}, from);
        if (S) {
            std::vector<int> hidden;
            for (int s = 0; s < S; s++) hidden.push_back(encoder.byte(encoder.sum(s, x, from), s, from, stage(c, 1)));
            x = hidden;
            from = stage(c, 1);
        }
        for (int o = 0; o < O; o++) {
            float sum = weight.number(weight.sum(o, x, from), o, from) + bias[o];
            if (c.record.inputs.size() > 1) sum += values[1][size_t(b) * O + o];
            out[size_t(b) * O + o] = activated(c.record, c.record.ints[1], sum);
        }
    }
}

std::unique_ptr<Op> make(const Case& c) {
    switch (c.record.kind) {
        case Kind::linear: return make_linear(c.record, c.shapes);
        case Kind::linear8: return make_linear8(c.record, c.shapes);
        case Kind::conv8: return make_conv8(c.record, c.shapes);
        default: return make_conv(c.record, c.shapes);
    }
}

// Of all outputs of int8 whose activation is the same on every machine.
uint64_t checksum = 14695981039346656037u;

float* aligned(size_t bytes) { return static_cast<float*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64)); }

// Values as the executor lays them out, with NaN in the 64 numbers behind: what is computed must not depend on them.
float* value(const std::vector<float>& numbers) {
    float* p = aligned((numbers.size() + 64) * sizeof(float));
    std::memcpy(p, numbers.data(), numbers.size() * sizeof(float));
    for (int i = 0; i < 64; i++) p[numbers.size() + i] = NAN;
    return p;
}

bool agrees(const Case& c, int batch, Threads& threads) {
    const auto op = make(c);
    const bool linear = c.record.kind == Kind::linear || c.record.kind == Kind::linear8;
    const bool bytes = c.record.kind == Kind::linear8 || c.record.kind == Kind::conv8;
    std::vector<std::vector<float>> values;
    std::vector<float*> pointers;
    for (const Shape& s : c.shapes) {
        values.push_back(numbers(size_t(batch) * s.size()));
        pointers.push_back(value(values.back()));
    }
    const size_t n = values[2].size();
    std::vector<float> expected(n), bound(n), first;
    if (bytes)
        (linear ? plain_linear8 : plain_convolution8)(c, batch, values, expected);
    else
        (linear ? plain_linear : plain_convolution)(c, batch, values, expected, bound);
    bool good = true;
    for (int repeat = 0; repeat < 2; repeat++) {
        const size_t size = op->scratch_bytes(batch, threads.count());
        uint8_t* scratch = reinterpret_cast<uint8_t*>(aligned(size));
        std::memset(scratch, 0xff, size);  // NaN: nothing may be read before it is written
        for (size_t i = 0; i < n; i++) pointers[2][i] = NAN;
        op->run(Run{batch, pointers, threads, scratch});
        std::free(scratch);
        if (repeat && std::memcmp(first.data(), pointers[2], n * sizeof(float))) std::printf("not the same bits twice: %s\n", c.text.c_str()), good = false;
        first.assign(pointers[2], pointers[2] + n);
        for (int i = 0; i < 64; i++)
            if (!std::isnan(pointers[2][n + i])) {
                std::printf("written behind the output: %s\n", c.text.c_str());
                good = false;
                break;
            }
        for (size_t i = 0; i < n; i++)
            if (!(std::fabs(first[i] - expected[i]) <= 2e-6f * (bytes ? 1 + std::fabs(expected[i]) : bound[i]))) {
                std::printf("%s, batch %d: number %zu is %g instead of %g (bound %g)\n", c.text.c_str(), batch, i, first[i], expected[i], bound[i]);
                good = false;
                break;
            }
    }
    if (bytes && c.record.ints[linear ? 1 : 18] <= 3)
        for (size_t i = 0; i < n * sizeof(float); i++) checksum = (checksum ^ reinterpret_cast<const uint8_t*>(first.data())[i]) * 1099511628211u;
    for (float* p : pointers) std::free(p);
    return good;
}

// A damaged record must be refused, or run; it must not crash.
void damage(Case c, Threads& threads) {
    for (int n = draw(1, 3); n > 0; n--) {
        const int what = draw(0, 6);
        auto& ints = c.record.ints;
        if (what <= 1 && !ints.empty())
            ints[draw(0, int(ints.size()) - 1)] = chance(50) ? draw(-3, 9) : chance(50) ? INT32_MAX - draw(0, 2) : draw(INT32_MIN, INT32_MAX);
        else if (what == 2)
            c.record.tensors[draw(0, int(c.record.tensors.size()) - 1)].count /= 2;
        else if (what == 3)
            c.record.tensors[draw(0, int(c.record.tensors.size()) - 1)].count = 0;
        else if (what == 4)
            c.record.inputs.push_back(draw(-1, 4));
        else if (what == 5 && !c.record.floats.empty())
            c.record.floats[draw(0, int(c.record.floats.size()) - 1)] = chance(50) ? float(draw(-3, 300)) : chance(50) ? INFINITY : 1e-42f;
        else
            ints.resize(draw(0, int(ints.size()) + 2));
    }
    try {
        const auto op = make(c);
        const size_t bytes = op->scratch_bytes(1, threads.count());
        if (bytes > size_t(1) << 26) return;
        std::vector<float*> pointers;
        for (const Shape& s : c.shapes) pointers.push_back(value(numbers(size_t(s.size()))));
        uint8_t* scratch = reinterpret_cast<uint8_t*>(aligned(bytes));
        op->run(Run{1, pointers, threads, scratch});
        std::free(scratch);
        for (float* p : pointers) std::free(p);
    } catch (const Error&) {
    }
}

}  // namespace

int main(int argc, char** argv) {
    const int seed = argc > 1 ? std::atoi(argv[1]) : 0, cases = argc > 2 ? std::atoi(argv[2]) : 200;
    int bad = 0;
    Threads one(1), three(3);
    for (int i = 0; i < cases && bad < 10; i++) {
        generator.seed(unsigned(seed + i));
        Case c = chance(25) ? draw_linear() : draw_convolution();
        if (chance(50)) c = quantised(c);
        const int batch = chance(20) ? draw(10, 40) : draw(1, 4);
        try {
            if (!agrees(c, batch, chance(50) ? one : three)) std::printf("seed %d\n", seed + i), bad++;
        } catch (const Error& e) {
            std::printf("seed %d: %s: %s\n", seed + i, c.text.c_str(), e.what());
            bad++;
        }
        Case damaged = c;
        point(damaged);
        damage(damaged, one);
    }
    std::printf("%s: %d cases, %d bad, checksum %016llx\n", kernels().name, cases, bad, static_cast<unsigned long long>(checksum));
    return bad != 0;
}
