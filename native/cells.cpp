#include "cells.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace steercpp {

cells::cells(llama_context * context, llama_seq_id filler, llama_seq_id spare, std::function<void(llama_batch)> decode)
    : context_(context)
    , memory_(llama_get_memory(context))
    , filler_(filler)
    , spare_(spare)
    , decode_(std::move(decode)) {}

void cells::prepare(int32_t n_held, const std::vector<int32_t> & places, const std::vector<tail_copy> & tails) {
    int32_t n_cells = places.empty() ? n_held : places.back() + 1;
    for (const tail_copy & tail : tails) {
        n_cells = std::max(n_cells, tail.cell + tail.stop - tail.first);
    }
    const int32_t n_fillers = n_cells - n_held;
    const auto n_batch = static_cast<int32_t>(llama_n_batch(context_));
    const auto n_most = static_cast<size_t>(std::min(n_fillers, n_batch));
    std::vector<llama_token> tokens(n_most, 0);
    std::vector<llama_pos> positions(n_most);
    std::vector<int32_t> n_seq_id(n_most, 1);
    std::vector<llama_seq_id *> seq_id(n_most, &filler_);
    std::vector<int8_t> outputs(n_most, 0);
    first_filler_ = n_held;
    for (int32_t first = 0; first < n_fillers; first += n_batch) {
        llama_batch batch{};
        batch.n_tokens = std::min(n_batch, n_fillers - first);
        for (int32_t i = 0; i < batch.n_tokens; ++i) {
            positions[static_cast<size_t>(i)] = first + i;
        }
        batch.token = tokens.data();
        batch.pos = positions.data();
        batch.n_seq_id = n_seq_id.data();
        batch.seq_id = seq_id.data();
        batch.logits = outputs.data();
        decode_(batch);
    }

    // tails in the order of their cells: each takes the only empty ones
    std::vector<uint8_t> data;
    for (size_t i = 0; i < tails.size(); ++i) {
        const tail_copy & tail = tails[i];
        const bool again = i > 0 && tails[i - 1].from == tail.from && tails[i - 1].first == tail.first &&
                           tails[i - 1].stop == tail.stop;
        if (!again) {
            data = stored(tail.from, tail.first, tail.stop);
        }
        give_up(tail.cell, tail.cell + tail.stop - tail.first);
        store(data, tail.to);
    }
    for (size_t i = 0; i < places.size();) {
        size_t stop = i + 1;
        while (stop < places.size() && places[stop] == places[stop - 1] + 1) {
            ++stop;
        }
        give_up(places[i], places[stop - 1] + 1);
        i = stop;
    }
}

void cells::settle(llama_seq_id sequence, int32_t first) {
    const std::vector<uint8_t> data = stored(sequence, first, -1);
    llama_memory_seq_rm(memory_, sequence, first, -1);
    store(data, spare_);
    llama_memory_seq_cp(memory_, spare_, sequence, first, -1);
    llama_memory_seq_rm(memory_, spare_, -1, -1);
}

void cells::give_up(int32_t first, int32_t stop) {
    llama_memory_seq_rm(memory_, filler_, first - first_filler_, stop - first_filler_);
}

std::vector<uint8_t> cells::stored(llama_seq_id sequence, int32_t first, int32_t stop) {
    llama_memory_seq_cp(memory_, sequence, spare_, first, stop);
    std::vector<uint8_t> data(llama_state_seq_get_size(context_, spare_));
    const size_t size = llama_state_seq_get_data(context_, data.data(), data.size(), spare_);
    llama_memory_seq_rm(memory_, spare_, -1, -1);
    if (size != data.size()) {
        throw std::runtime_error("llama.cpp cannot copy K and V of a sequence");
    }
    return data;
}

void cells::store(const std::vector<uint8_t> & data, llama_seq_id sequence) {
    if (llama_state_seq_set_data(context_, data.data(), data.size(), sequence) == 0) {
        throw std::runtime_error("llama.cpp cannot store K and V of a sequence");
    }
}

} // namespace steercpp
