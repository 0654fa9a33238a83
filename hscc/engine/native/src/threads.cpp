// A small pool of threads: workers spin for a moment between two calls, then sleep.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "op.h"

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace hscc {
namespace {

// Long enough for the gap between two operations of a network, short enough not to take a core from anybody.
constexpr std::chrono::microseconds SPIN{60};
constexpr int MOST_THREADS = 1024;

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Spins until `done()`; false when the time is over.
template <class Done> bool spin(const Done& done) {
    const auto end = std::chrono::steady_clock::now() + SPIN;
    do {
        for (int i = 0; i < 64; i++) {
            if (done()) return true;
            relax();
        }
    } while (std::chrono::steady_clock::now() < end);
    return done();
}

// A woken worker may find itself on its caller's processor, where the system leaves it for long if all others have
// something to do: two threads then take turns on one processor. Such a worker moves to another one.
#if defined(__linux__)
int processor() { return sched_getcpu(); }
void leave(int taken) {
    cpu_set_t allowed;
    if (taken < 0 || taken >= CPU_SETSIZE || sched_getcpu() != taken || sched_getaffinity(0, sizeof allowed, &allowed)) return;
    cpu_set_t others = allowed;
    CPU_CLR(taken, &others);
    if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others)) return;
    sched_setaffinity(0, sizeof allowed, &allowed);
}
#else
int processor() { return -1; }
void leave(int) {}
#endif

}  // namespace

// A call is one round. `gate` counts the workers inside the round in its low half and holds the number of the round in
// its upper half; the bit between says whether workers may still enter. A worker that wakes too late for a round finds
// the gate shut, so the caller never waits for a thread that is not working.
struct Threads::State {
    static constexpr uint64_t OPEN = uint64_t(1) << 31;
    static constexpr uint64_t INSIDE = OPEN - 1;

    std::atomic<uint64_t> gate{0};
    std::atomic<int> next{0};
    std::atomic<int> sleeping{0};
    std::atomic<bool> caller_sleeps{false};
    std::atomic<int> caller_processor{-1};
    std::atomic<bool> stop{false};
    int tasks = 0;
    void (*call)(void*, int, int) = nullptr;
    void* body = nullptr;
    std::mutex mutex;
    std::condition_variable wake_workers, wake_caller;
    std::vector<std::thread> workers;

    void work(int thread) {
        for (int task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) call(body, task, thread);
    }

    void worker(int thread) {
        uint32_t seen = 0;
        const auto news = [&] { return uint32_t(gate.load() >> 32) != seen || stop.load(); };
        for (;;) {
            if (!spin(news)) {
                std::unique_lock<std::mutex> lock(mutex);
                sleeping.fetch_add(1);
                wake_workers.wait(lock, news);
                sleeping.fetch_sub(1);
                lock.unlock();
                leave(caller_processor.load());
            }
            if (stop.load()) return;
            uint64_t now = gate.load();
            seen = uint32_t(now >> 32);
            while ((now & OPEN) && uint32_t(now >> 32) == seen && !gate.compare_exchange_weak(now, now + 1)) {
            }
            if (!(now & OPEN) || uint32_t(now >> 32) != seen) continue;
            work(thread);
            const uint64_t before = gate.fetch_sub(1);
            if ((before & INSIDE) == 1 && caller_sleeps.load()) {
                std::lock_guard<std::mutex> lock(mutex);
                wake_caller.notify_one();
            }
        }
    }
};

Threads::Threads(int count) {
    if (count < 1 || count > MOST_THREADS)
        throw Error("The number of threads is " + std::to_string(count) + "; choose one from 1 to " +
                    std::to_string(MOST_THREADS) + ".");
    state_ = std::make_unique<State>();
    try {
        for (int i = 1; i < count; i++) state_->workers.emplace_back([state = state_.get(), i] { state->worker(i); });
    } catch (const std::system_error&) {  // the system gives no more: work with those there are
    }
}

Threads::~Threads() {
    {
        std::lock_guard<std::mutex> lock(state_->mutex);
        state_->stop.store(true);
    }
    state_->wake_workers.notify_all();
    for (std::thread& worker : state_->workers) worker.join();
}

int Threads::count() const { return int(state_->workers.size()) + 1; }

void Threads::run_raw(int tasks, void (*call)(void*, int, int), void* body) {
    State& s = *state_;
    if (tasks <= 1 || s.workers.empty()) {
        for (int task = 0; task < tasks; task++) call(body, task, 0);
        return;
    }
    s.tasks = tasks;
    s.call = call;
    s.body = body;
    s.next.store(0);
    s.gate.store(((s.gate.load() >> 32) + 1) << 32 | State::OPEN);
    if (s.sleeping.load() > 0) {
        s.caller_processor.store(processor());
        { std::lock_guard<std::mutex> lock(s.mutex); }
        s.wake_workers.notify_all();
    }
    s.work(0);
    s.gate.fetch_and(~State::OPEN);
    const auto empty = [&] { return (s.gate.load() & State::INSIDE) == 0; };
    if (spin(empty)) return;
    std::unique_lock<std::mutex> lock(s.mutex);
    s.caller_sleeps.store(true);
    s.wake_caller.wait(lock, empty);
    s.caller_sleeps.store(false);
}

}  // namespace hscc
