// Where in the K/V buffer the rows of a piece lie.
//
// llama.cpp sums over a buffer's cells a vector's width at a time, masked ones included, as zeros. So a row keeps its
// bits where what it sees begins at a multiple of the width, in whole chunks and in the same order; what lies in other
// chunks adds exact zeros. llama.cpp offers no choice of cells: new tokens take the first empty ones in order
// (src/llama-kv-cache.cpp, find_slot). So all cells of the piece are taken by fillers first, of a sequence that nobody
// sees, and given up where rows are to go.

#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "llama.h"

namespace steercpp {

// Positions first..stop-1 of one sequence are stored again, K and V, from a cell on, for another sequence.
struct tail_copy {
    int32_t from;
    int32_t to;
    int32_t first;
    int32_t stop;
    int32_t cell;
};

class cells {
  public:
    // `filler` and `spare` are sequences that nothing else uses. `decode` decodes fillers without computing anything.
    cells(llama_context * context, llama_seq_id filler, llama_seq_id spare, std::function<void(llama_batch)> decode);

    // Leaves exactly the cells of `places`, ascending, empty among the first ones, and stores the tails. The n_held
    // first cells are taken already, all others are empty.
    void prepare(int32_t n_held, const std::vector<int32_t> & places, const std::vector<tail_copy> & tails);

    // Stores positions `first` and above of the only sequence that is left again, in the first empty cells.
    void settle(llama_seq_id sequence, int32_t first);

  private:
    void give_up(int32_t first, int32_t stop);
    std::vector<uint8_t> stored(llama_seq_id sequence, int32_t first, int32_t stop);
    void store(const std::vector<uint8_t> & data, llama_seq_id sequence);

    llama_context * context_;
    llama_memory_t memory_;
    llama_seq_id filler_;
    llama_seq_id spare_;
    std::function<void(llama_batch)> decode_;
    int32_t first_filler_ = 0; // cell of the filler at position 0
};

} // namespace steercpp
