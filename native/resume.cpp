#include "resume.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

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

// The scheduler hands a tensor of one device to another as a copy, which is no node of the graph, named
// "CUDA0#name#0" (ggml/src/ggml-backend.cpp, split_graph). ggml cuts names after 63 bytes, and a device on another
// machine has its host's name within its own.
struct copy_name {
    bool is_copy = false; // or may be one: the name is cut before the first '#'
    bool is_cut = false;  // `original` is only the beginning of its name
    std::string original;
};

copy_name read_copy_name(const char * name) {
    const char * first = std::strchr(name, '#');
    const char * last = std::strrchr(name, '#');
    if (first != nullptr && first != last) {
        return {true, false, std::string(first + 1, last)};
    }
    if (std::strlen(name) < GGML_MAX_NAME - 1) {
        return {};
    }
    return {true, true, first == nullptr ? "" : first + 1};
}

// The block whose weights a node multiplies by, from the weight's name "blk.<il>.": -1 for none.
int32_t block_of(const ggml_tensor * node) {
    if (node->op != GGML_OP_MUL_MAT && node->op != GGML_OP_MUL_MAT_ID) {
        return -1;
    }
    const char * own_name = root_of(node->src[0])->name;
    const copy_name copy = read_copy_name(own_name);
    const std::string name = copy.is_copy ? copy.original : own_name;
    char * end = nullptr;
    const long block = name.compare(0, 4, "blk.") == 0 ? std::strtol(name.c_str() + 4, &end, 10) : -1;
    return end != nullptr && *end == '.' ? static_cast<int32_t>(block) : -1;
}

bool same_layout(const ggml_tensor * a, const ggml_tensor * b) {
    return a->type == b->type && std::equal(a->ne, a->ne + GGML_MAX_DIMS, b->ne);
}

// Finds what each device's copies are copies of. A name does not always tell: some graphs give one name to a node of
// every block, and names may be cut. What is certain: a copy is of an earlier node of that name, type and shape; and a
// node whose values no other node uses was copied, or nobody would need it. Where only one copy can be that node's, it
// is. For any other copy all nodes that it can be of are given.
class copies {
  public:
    explicit copies(const std::vector<ggml_tensor *> & nodes) {
        const std::unordered_set<const ggml_tensor *> is_node(nodes.begin(), nodes.end());
        std::unordered_set<const ggml_tensor *> is_used;
        for (size_t i = 0; i < nodes.size(); ++i) {
            for (const ggml_tensor * source : nodes[i]->src) {
                if (source == nullptr) {
                    continue;
                }
                is_used.insert(source);
                if (source->view_src == nullptr && is_node.count(source) == 0 && originals_.count(source) == 0) {
                    add(nodes, source, i);
                }
            }
            if (nodes[i]->view_src != nullptr) {
                is_used.insert(nodes[i]->view_src);
            }
        }
        settle(nodes, [&](const ggml_tensor * node) {
            const bool is_stored = is_node.count(root_of(node)) == 0; // written into a buffer that outlives the graph
            const bool is_result = (node->flags & GGML_TENSOR_FLAG_OUTPUT) != 0 || node == nodes.back();
            return is_used.count(node) == 0 && !is_stored && !is_result;
        });
    }

    // Places among the nodes; none for what is no copy, or one of a weight or an input.
    const std::vector<int32_t> & originals(const ggml_tensor * copy) const {
        static const std::vector<int32_t> none;
        const auto known = originals_.find(copy);
        return known == originals_.end() ? none : known->second;
    }

    // Whether names are cut so that it stays open what they are copies of.
    bool are_cut() const {
        return std::any_of(originals_.begin(), originals_.end(), [](const auto & copy) {
            return copy.second.size() > 1 && read_copy_name(copy.first->name).is_cut;
        });
    }

  private:
    // Notes a tensor that is no node, first used by the node at `user`.
    void add(const std::vector<ggml_tensor *> & nodes, const ggml_tensor * copy, size_t user) {
        const copy_name name = read_copy_name(copy->name);
        std::vector<int32_t> & places = originals_[copy];
        if (!name.is_copy) {
            return;
        }
        for (size_t i = 0; i < user; ++i) {
            const char * other = nodes[i]->name;
            const bool begins = std::strncmp(other, name.original.c_str(), name.original.size()) == 0;
            const bool fits = begins && (name.is_cut || other[name.original.size()] == '\0');
            if (fits && same_layout(nodes[i], copy)) {
                places.push_back(static_cast<int32_t>(i));
            }
        }
    }

    template <typename Must> void settle(const std::vector<ggml_tensor *> & nodes, Must must_be_copied) {
        std::unordered_map<int32_t, std::vector<const ggml_tensor *>> possible; // copies of a node that must have one
        for (const auto & [copy, places] : originals_) {
            for (const int32_t place : places) {
                if (must_be_copied(nodes[static_cast<size_t>(place)])) {
                    possible[place].push_back(copy);
                }
            }
        }
        const auto only_for = [&possible](const ggml_tensor * copy) { // nodes that this copy alone can be of
            return std::count_if(possible.begin(), possible.end(), [copy](const auto & node) {
                return node.second.size() == 1 && node.second.front() == copy;
            });
        };
        for (bool is_new = true; is_new;) {
            is_new = false;
            for (const auto & [place, candidates] : possible) {
                const ggml_tensor * copy = candidates.size() == 1 ? candidates.front() : nullptr;
                if (copy == nullptr || originals_[copy].size() == 1 || only_for(copy) > 1) {
                    continue;
                }
                originals_[copy] = {place};
                for (auto & [other, others] : possible) {
                    if (other != place) {
                        others.erase(std::remove(others.begin(), others.end(), copy), others.end());
                    }
                }
                is_new = true;
            }
        }
    }

    std::unordered_map<const ggml_tensor *, std::vector<int32_t>> originals_;
};

// Walks from what lies above l_out-<il> to all that it needs below.
class needs {
  public:
    needs(const std::vector<ggml_tensor *> & nodes, int32_t at)
        : nodes_(nodes)
        , at_(at)
        , copies_(nodes)
        , live_(static_cast<size_t>(at) + 1, 0) {
        for (int32_t i = 0; i <= at; ++i) {
            const ggml_tensor * node = nodes[static_cast<size_t>(i)];
            ordinal_[node] = i;
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

    bool names_are_cut() const { return copies_.are_cut(); }

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
        for (const int32_t i : copies_.originals(root)) {
            mark(i);
        }
    }

    void mark(int32_t i) {
        if (i < at_ && live_[static_cast<size_t>(i)] == 0) {
            live_[static_cast<size_t>(i)] = 1;
            waiting_.push_back(i);
        }
    }

    const std::vector<ggml_tensor *> & nodes_;
    const int32_t at_;
    const copies copies_;
    std::vector<int8_t> live_;
    std::vector<int32_t> waiting_;
    std::unordered_map<const ggml_tensor *, int32_t> ordinal_;
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

size_t kept::n_bytes() const {
    size_t n_floats = logits.size();
    for (const kept_piece & piece : pieces) {
        n_floats += piece.rows.size();
    }
    return n_floats * sizeof(float) + norms.size() * sizeof(double);
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
    needs needed(nodes, at);
    const std::vector<int8_t> & live = needed.find();
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
        plan.reason = needed.names_are_cut()
                          ? "llama.cpp cuts the long names of the devices, so that it stays open what the blocks above "
                            "need; give the RPC servers shorter host names"
                          : "the blocks above need what every block below computes";
    }
    return plan;
}

} // namespace steercpp
