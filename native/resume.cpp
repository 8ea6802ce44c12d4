#include "resume.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <unordered_map>

namespace steercpp {

namespace {

bool computes(const ggml_tensor * node) {
    switch (node->op) {
    case GGML_OP_NONE:
    case GGML_OP_VIEW:
    case GGML_OP_RESHAPE:
    case GGML_OP_PERMUTE:
    case GGML_OP_TRANSPOSE:
        return false;
    default:
        return true;
    }
}

const ggml_tensor * root_of(const ggml_tensor * tensor) {
    while (tensor->view_src != nullptr) {
        tensor = tensor->view_src;
    }
    return tensor;
}

// The block whose weights a node multiplies by, from the weight's name "blk.<il>.": -1 for none.
int32_t block_of(const ggml_tensor * node) {
    if (node->op != GGML_OP_MUL_MAT && node->op != GGML_OP_MUL_MAT_ID) {
        return -1;
    }
    const char * name = root_of(node->src[0])->name;
    if (const char * copied = std::strchr(name, '#')) {
        name = copied + 1; // another device's copy, "CUDA0#blk.3.attn_q.weight#0"
    }
    return std::strncmp(name, "blk.", 4) == 0 ? std::atoi(name + 4) : -1;
}

// Walks from what lies above l_out-<il> to all that it needs below.
class needs {
  public:
    needs(const std::vector<ggml_tensor *> & nodes, int32_t at)
        : nodes_(nodes)
        , at_(at)
        , live_(static_cast<size_t>(at) + 1, 0) {
        for (int32_t i = 0; i <= at; ++i) {
            const ggml_tensor * node = nodes[static_cast<size_t>(i)];
            ordinal_[node] = i;
            by_name_.emplace(node->name, i);
            if (computes(node)) {
                writers_[root_of(node)].push_back(i);
            }
        }
    }

    const std::vector<int8_t> & find() {
        for (size_t i = static_cast<size_t>(at_) + 1; i < nodes_.size(); ++i) {
            visit_sources(nodes_[i]);
        }
        while (!waiting_.empty()) {
            const int32_t i = waiting_.back();
            waiting_.pop_back();
            visit_sources(nodes_[static_cast<size_t>(i)]);
        }
        return live_;
    }

  private:
    void visit_sources(const ggml_tensor * node) {
        for (const ggml_tensor * source : node->src) {
            if (source != nullptr) {
                visit(source);
            }
        }
        if (node->view_src != nullptr) {
            visit(node->view_src);
        }
    }

    void visit(const ggml_tensor * source) {
        const ggml_tensor * root = root_of(source);
        if (root == nodes_[static_cast<size_t>(at_)]) {
            return; // given
        }
        for (const ggml_tensor * step = source; step != nullptr; step = step->view_src) {
            const auto found = ordinal_.find(step);
            if (found != ordinal_.end()) {
                mark(found->second);
            }
        }
        const auto written = writers_.find(root);
        if (written != writers_.end()) {
            for (const int32_t i : written->second) {
                mark(i);
            }
        }
        visit_original(root->name);
    }

    // The scheduler hands a tensor of one device to another as a copy, which is no node, named "CUDA0#name#0".
    void visit_original(const char * name) {
        const char * first = std::strchr(name, '#');
        const char * last = std::strrchr(name, '#');
        if (first == nullptr || first == last) {
            return;
        }
        const std::string original(first + 1, last);
        if (original == nodes_[static_cast<size_t>(at_)]->name) {
            return;
        }
        const auto range = by_name_.equal_range(original);
        for (auto it = range.first; it != range.second; ++it) {
            mark(it->second);
        }
    }

    void mark(int32_t i) {
        if (i != at_ && live_[static_cast<size_t>(i)] == 0) {
            live_[static_cast<size_t>(i)] = 1;
            waiting_.push_back(i);
        }
    }

    const std::vector<ggml_tensor *> & nodes_;
    const int32_t at_;
    std::vector<int8_t> live_;
    std::vector<int32_t> waiting_;
    std::unordered_map<const ggml_tensor *, int32_t> ordinal_;
    std::unordered_multimap<std::string, int32_t> by_name_;
    std::unordered_map<const ggml_tensor *, std::vector<int32_t>> writers_;
};

} // namespace

std::string kept::reason() const {
    for (const kept_piece & piece : pieces) {
        if (!piece.plan.reason.empty()) {
            return piece.plan.reason;
        }
    }
    return "";
}

int32_t kept::n_blocks_skipped() const {
    return pieces.empty() || !reason().empty() ? 0 : pieces.front().plan.n_blocks_skipped;
}

size_t kept::n_bytes() const {
    size_t n_floats = logits.size();
    for (const kept_piece & piece : pieces) {
        n_floats += piece.rows.size();
    }
    return n_floats * sizeof(float);
}

int32_t layer_of(const char * name) {
    constexpr char prefix[] = "l_out-";
    if (std::strncmp(name, prefix, sizeof(prefix) - 1) != 0) {
        return -1;
    }
    const char * digit = name + sizeof(prefix) - 1;
    int32_t il = 0;
    int32_t n_digits = 0;
    for (; *digit >= '0' && *digit <= '9' && n_digits < 6; ++digit, ++n_digits) {
        il = 10 * il + (*digit - '0');
    }
    return n_digits > 0 && *digit == '\0' ? il : -1;
}

// FNV-1a
uint64_t node_signature(const ggml_tensor * node) {
    uint64_t hash = 14695981039346656037ull;
    for (const char * c = node->name; *c != '\0'; ++c) {
        hash = (hash ^ static_cast<unsigned char>(*c)) * 1099511628211ull;
    }
    return (hash ^ static_cast<uint64_t>(node->op)) * 1099511628211ull;
}

skip_plan plan_skips(const std::vector<ggml_tensor *> & nodes, int32_t il) {
    skip_plan plan;
    plan.il = il;
    const auto named = [il](const ggml_tensor * node) { return layer_of(node->name) == il; };
    const auto found = std::find_if(nodes.begin(), nodes.end(), named);
    if (found == nodes.end()) {
        plan.reason = "the graph has no node l_out-" + std::to_string(il);
        return plan;
    }
    const auto at = static_cast<int32_t>(found - nodes.begin());
    if (std::any_of(found + 1, nodes.end(), named) || root_of(*found) != *found) {
        plan.reason = "l_out-" + std::to_string(il) + " is no tensor of its own";
        return plan;
    }
    const std::vector<int8_t> live = needs(nodes, at).find();
    std::vector<int8_t> block_runs(static_cast<size_t>(il) + 1, 0);
    std::vector<int8_t> block_seen(static_cast<size_t>(il) + 1, 0);
    for (int32_t i = 0; i <= at; ++i) {
        const ggml_tensor * node = nodes[static_cast<size_t>(i)];
        const bool skipped = live[static_cast<size_t>(i)] == 0;
        plan.signatures.push_back(node_signature(node));
        plan.skipped.push_back(skipped);
        const int32_t block = block_of(node);
        if (block >= 0 && block <= il) {
            block_seen[static_cast<size_t>(block)] = 1;
            block_runs[static_cast<size_t>(block)] |= static_cast<int8_t>(!skipped);
        }
    }
    for (size_t block = 0; block < block_seen.size(); ++block) {
        plan.n_blocks_skipped += block_seen[block] != 0 && block_runs[block] == 0;
    }
    if (plan.n_blocks_skipped == 0) {
        plan.reason = "the blocks above need what every block below computes";
    }
    return plan;
}

} // namespace steercpp
