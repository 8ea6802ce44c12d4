"""Small models of many architectures with random weights, and what is expected of each when it is steered.

Names of hyperparameters and tensors are those that llama.cpp 0.5.0 reads (src/models/*.cpp, load_arch_*). Tensors are
written "name rows columns; ...", as NumPy counts, in the widths of `WIDTHS`. ".weight" is left out; a name that ends in
a dot goes without it. All models have the tokenizer of tiny_model.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import gguf
import numpy as np
from tiny_model import add_vocabulary, finish, vocabulary

Key: TypeAlias = bool | int | float | list[int] | list[bool]
Keys: TypeAlias = dict[str, Key]

N_LAYER = 6
ATTENTION_BLOCKS = (2, 4)  # of a hybrid; its other blocks are recurrent
KV_BLOCKS = 4  # of gemma4-shared: the first blocks have K and V of their own, the others use theirs

# Where a matrix has so many columns they are a multiple of 32, so that Q8_0 takes it.
WIDTHS = {
    "vocab": len(vocabulary()[0]),
    "blocks": N_LAYER,
    "embd": 64,
    "ff": 96,
    "heads": 4,
    "head": 16,
    "q": 64,
    "kv": 32,
    "experts": 4,
    "inner": 128,  # of a mamba block
    "conv": 4,
    "state": 16,
    "step": 32,
    "extra": 32,  # an input for each layer
    "streams": 4,  # of the residual stream
    "rank": 32,
    "rope": 16,
}

KEYS: Keys = {
    "context_length": 512,
    "embedding_length": WIDTHS["embd"],
    "block_count": N_LAYER,
    "feed_forward_length": WIDTHS["ff"],
    "attention.head_count": WIDTHS["heads"],
    "attention.head_count_kv": 2,
    "attention.layer_norm_rms_epsilon": 1e-5,
}
MOE: Keys = {"expert_count": WIDTHS["experts"], "expert_used_count": 2}
SLIDING: Keys = {"attention.sliding_window": 8}  # fewer positions than a prompt has, so that it masks some
NO_ATTENTION: Keys = {"attention.head_count": 0, "attention.head_count_kv": 0, "feed_forward_length": 0}
HYBRID: Keys = {"attention.head_count_kv": [2 * (il in ATTENTION_BLOCKS) for il in range(N_LAYER)]}
MAMBA_KEYS: Keys = {
    "ssm.conv_kernel": WIDTHS["conv"],
    "ssm.inner_size": WIDTHS["inner"],
    "ssm.state_size": WIDTHS["state"],
    "ssm.time_step_rank": WIDTHS["step"],
}
GEMMA4_KEYS: Keys = {
    **SLIDING,
    "attention.sliding_window_pattern": [il % 2 == 0 for il in range(N_LAYER)],
    "attention.key_length_swa": WIDTHS["head"],
    "attention.value_length_swa": WIDTHS["head"],
    "embedding_length_per_layer_input": 0,
}
HY_V4_KEYS: Keys = {
    **MOE,
    "attention.head_count_kv": 1,
    "attention.key_length": WIDTHS["rank"] + WIDTHS["rope"],
    "attention.value_length": WIDTHS["rank"],
    "attention.key_length_mla": WIDTHS["head"] + WIDTHS["rope"],
    "attention.value_length_mla": WIDTHS["head"],
    "attention.q_lora_rank": WIDTHS["rank"],
    "attention.kv_lora_rank": WIDTHS["rank"],
    "rope.dimension_count": WIDTHS["rope"],
    "leading_dense_block_count": N_LAYER,
    "expert_shared_count": 1,
    "expert_feed_forward_length": WIDTHS["ff"],
    "hyper_connection.count": WIDTHS["streams"],
    "hyper_connection.epsilon": 1e-6,
    "hyper_connection.magnitude": 2.0,
}

UNTIED = "output vocab embd; "  # without it the token embeddings serve
ATTENTION = "attn_norm embd; attn_q q embd; attn_k kv embd; attn_v kv embd; attn_output embd q; "
HEAD_NORMS = "attn_q_norm head; attn_k_norm head; "
BIASES = "attn_q.bias q; attn_k.bias kv; attn_v.bias kv; "
POST_NORMS = "post_attention_norm embd; post_ffw_norm embd; "
FEED_FORWARD = "ffn_norm embd; ffn_gate ff embd; ffn_up ff embd; ffn_down embd ff; "
FUSED = "attn_norm embd; attn_qkv q+2*kv embd; attn_output embd q; ffn_norm embd; ffn_up 2*ff embd; ffn_down embd ff; "
EXPERTS = """ffn_norm embd; ffn_gate_inp experts embd; ffn_gate_exps experts ff embd; ffn_up_exps experts ff embd;
    ffn_down_exps experts embd ff; """
MAMBA = """attn_norm embd; ssm_in 2*inner embd; ssm_conv1d inner conv; ssm_conv1d.bias inner; ssm_x step+2*state inner;
    ssm_dt inner step; ssm_dt.bias inner; ssm_a. inner state; ssm_d. inner; ssm_out embd inner; """
MAMBA2 = """attn_norm embd; ssm_in 2*inner+2*state+step embd; ssm_conv1d inner+2*state conv;
    ssm_conv1d.bias inner+2*state; ssm_dt.bias step; ssm_a. step 1; ssm_d. step 1; ssm_norm 1 inner;
    ssm_out embd inner; """
MAMBA_NORMS = "ssm_dt_norm step; ssm_b_norm state; ssm_c_norm state; "
CONVOLUTION = """attn_norm embd; shortconv.conv embd 3; shortconv.in_proj 3*embd embd;
    shortconv.out_proj embd embd; """
PLAMO2 = """attn_norm embd; post_attention_norm. embd; ffn_norm embd; ffn_up 2*ff embd; ffn_down embd ff;
    post_ffw_norm. embd; """
PLAMO2_MAMBA = """ssm_in 2*inner embd; ssm_conv1d inner conv; ssm_x 64+2*state inner; ssm_dt step 64; ssm_dt.bias step;
    ssm_a. step; ssm_d. step; ssm_out embd inner; ssm_dt_norm. 64; ssm_b_norm. state; ssm_c_norm. state; """
PLAMO2_ATTENTION = "attn_qkv q+2*kv embd; attn_q_norm heads head; attn_k_norm 2 head; attn_output embd q; "
PLAIN = ATTENTION + FEED_FORWARD
GEMMA3 = PLAIN + HEAD_NORMS + POST_NORMS
GEMMA4 = GEMMA3 + "layer_output_scale 1; "
GEMMA4_WITHOUT_KV = """attn_norm embd; attn_q q embd; attn_output embd q; attn_q_norm head; layer_output_scale 1; """
ROPE = "rope_freqs 8; "
INPUTS = "per_layer_token_embd vocab blocks*extra; per_layer_model_proj blocks*extra embd; per_layer_proj_norm extra; "
INPUT = "inp_gate extra embd; proj embd extra; post_norm embd; "
ALTUP = "altup_proj 3 embd embd; altup_unembd_proj 3 embd embd; "
GEMMA3N = """altup_correct_coef streams streams; altup_correct_scale embd; altup_predict_coef streams*streams streams;
    altup_router streams embd; altup_router_norm embd; laurel_l 64 embd; laurel_r embd 64; laurel_post_norm embd; """
HY_V4 = """attn_norm embd; attn_sinks heads; attn_q_a rank embd; attn_q_a_norm rank; attn_q_b q+heads*rope rank;
    attn_kv_a_mqa rank+rope embd; attn_kv_a_norm rank; attn_k_b heads rank head; attn_v_b heads head rank;
    attn_output embd q; attn_gate q embd; hc_attn_fn 2*streams streams*embd; hc_attn_base 2*streams; hc_attn_scale 2;
    hc_ffn_fn 2*streams streams*embd; hc_ffn_base 2*streams; hc_ffn_scale 2; """
HY_V4_HEAD = "output_hc_fn streams streams*embd; output_hc_base streams; output_hc_scale 1; "


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A model, and what is expected of it.

    Attributes:
        name: general.architecture.
        title: what is special about it.
        blocks: tensors of every block, or of each one.
        tensors: others than the token embeddings and the last norm.
        keys, widths: beside `KEYS` and `WIDTHS`, or in their place.
        last_norm: the name of the last norm.
        refused: part of what is said where it cannot be steered; "" where it can.
        stock: whether llama.cpp's own control vector reaches its graph.
        left_out: blocks that a pass need not compute when it is steered from layer 0, 1, ..., N_LAYER-1 on.
        recurrent: whether sequences are decoded one at a time.
    """

    name: str
    title: str
    blocks: str | list[str] = PLAIN
    tensors: str = ""
    keys: Keys = field(default_factory=dict)
    widths: Mapping[str, int] = field(default_factory=dict)
    last_norm: str = "output_norm"
    refused: str = ""
    stock: bool = True
    left_out: tuple[int, ...] = tuple(range(1, N_LAYER + 1))
    recurrent: bool = False

    def write(self, path: Path) -> Path:
        """Write the model, F32, with the same bytes every time."""
        writer = gguf.GGUFWriter(path, self.name)
        for key, value in (KEYS | self.keys).items():
            _add_key(writer, f"{self.name}.{key}", value)
        add_vocabulary(writer, None)
        rng = np.random.default_rng(0)
        parts = [("", f"token_embd vocab embd; {self.last_norm} embd; {self.tensors}")]
        parts += [(f"blk.{il}.", block) for il, block in enumerate(self._each_block())]
        for prefix, part in parts:
            for tensor, shape in _shapes(part, WIDTHS | dict(self.widths)).items():
                writer.add_tensor(prefix + tensor, _values(tensor, shape, rng))
        finish(writer)
        return path

    def _each_block(self) -> list[str]:
        return [self.blocks] * N_LAYER if isinstance(self.blocks, str) else self.blocks


def _add_key(writer: gguf.GGUFWriter, key: str, value: Key) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case list():
            writer.add_array(key, value)


def _shapes(part: str, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Shapes by full name; a size is a sum of products."""
    found = {}
    for line in filter(None, map(str.strip, part.split(";"))):
        name, *sizes = line.split()
        whole = name.rstrip(".") if name.endswith((".", ".bias")) else f"{name}.weight"
        found[whole] = tuple(
            sum(math.prod(widths.get(factor) or int(factor) for factor in term.split("*")) for term in size.split("+"))
            for size in sizes
        )
    return found


def _values(tensor: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random values that keep a row about as long as it was: scales near 1, small biases, matrices by their width."""
    values = rng.standard_normal(shape)
    if tensor == "ssm_a":
        values = -np.exp(values / 2)  # a state decays
    elif tensor.endswith("bias"):
        values = values / 8
    elif "norm" in tensor or len(shape) == 1:
        values = 1 + values / 8
    else:
        values = values / np.sqrt(shape[-1])
    return values.astype(np.float32)


def _hybrid(recurrent: str, attention: str) -> list[str]:
    return [attention if il in ATTENTION_BLOCKS else recurrent for il in range(N_LAYER)]


ARCHITECTURES = {
    "llama-mha": Architecture(
        name="llama",
        title="as Llama 2",
        tensors=UNTIED,
        keys={"attention.head_count_kv": 4},
        widths={"kv": 64},
    ),
    "llama-mha-tied": Architecture(
        name="llama", title="tied output", keys={"attention.head_count_kv": 4}, widths={"kv": 64}
    ),
    "llama-gqa": Architecture(name="llama", title="grouped queries, as Llama 3", tensors=UNTIED),
    "llama-gqa-tied": Architecture(name="llama", title="grouped queries, tied output"),
    "llama-moe": Architecture(
        name="llama", title="experts, as Mixtral", blocks=ATTENTION + EXPERTS, tensors=UNTIED, keys=MOE
    ),
    "qwen2": Architecture(name="qwen2", title="biases, tied output", blocks=PLAIN + BIASES),
    "qwen3": Architecture(
        name="qwen3",
        title="normed heads, wider than n_embd / n_head",
        blocks=PLAIN + HEAD_NORMS,
        tensors=UNTIED,
        keys={"attention.key_length": 32, "attention.value_length": 32},
        widths={"head": 32, "q": 128, "kv": 64},
    ),
    "gemma2": Architecture(
        name="gemma2", title="sliding window, soft caps, tied output", blocks=PLAIN + POST_NORMS, keys=SLIDING
    ),
    "gemma3": Architecture(
        name="gemma3", title="sliding window, normed heads, tied output", blocks=GEMMA3, keys=SLIDING
    ),
    "gemma4-inputs": Architecture(
        name="gemma4",
        title="an input for each layer",
        blocks=GEMMA4 + INPUT,
        tensors=ROPE + INPUTS,
        keys=GEMMA4_KEYS | {"embedding_length_per_layer_input": WIDTHS["extra"]},
    ),
    "gemma4-shared": Architecture(
        name="gemma4",
        title=f"blocks {KV_BLOCKS} and {KV_BLOCKS + 1} use K and V of blocks {KV_BLOCKS - 2} and {KV_BLOCKS - 1}",
        blocks=[GEMMA4] * KV_BLOCKS + [GEMMA4_WITHOUT_KV + FEED_FORWARD + POST_NORMS] * (N_LAYER - KV_BLOCKS),
        tensors=ROPE,
        keys=GEMMA4_KEYS | {"attention.shared_kv_layers": N_LAYER - KV_BLOCKS},
        left_out=(1, 2, 2, 0, 1, 6),  # blocks 2 and 3 give the K and V that blocks 4 and 5 use
    ),
    "phi3": Architecture(name="phi3", title="fused matrices", blocks=FUSED, tensors=UNTIED),
    "mamba": Architecture(
        name="mamba", title="recurrent", blocks=MAMBA, keys=NO_ATTENTION | MAMBA_KEYS, recurrent=True
    ),
    "mamba2": Architecture(
        name="mamba2",
        title="recurrent",
        blocks=MAMBA2,
        keys=NO_ATTENTION | MAMBA_KEYS | {"ssm.group_count": 1},
        recurrent=True,
    ),
    "jamba": Architecture(
        name="jamba",
        title="hybrid of mamba blocks and attention",
        blocks=_hybrid(MAMBA + MAMBA_NORMS + FEED_FORWARD, PLAIN),
        tensors=UNTIED,
        keys=HYBRID | MAMBA_KEYS,
        recurrent=True,
    ),
    "lfm2": Architecture(
        name="lfm2",
        title="hybrid of short convolutions and attention",
        blocks=_hybrid(CONVOLUTION + FEED_FORWARD, PLAIN + HEAD_NORMS),
        keys=HYBRID | {"shortconv.l_cache": 3},
        last_norm="token_embd_norm",
        recurrent=True,
    ),
    "gemma3n": Architecture(
        name="gemma3n",
        title="four residual streams, an input for each layer",
        blocks=GEMMA3 + INPUT + GEMMA3N,
        tensors=INPUTS + ALTUP,
        keys=SLIDING,
        widths={"extra": 256},
        refused="is f32 [64, ",
    ),
    "plamo2": Architecture(
        name="plamo2",
        title="names no layer's output",
        blocks=_hybrid(PLAMO2 + PLAMO2_MAMBA, PLAMO2 + PLAMO2_ATTENTION),
        tensors=UNTIED,
        keys=HYBRID | MAMBA_KEYS | {"ssm.group_count": 0},
        refused="has no node l_out-",
        stock=False,
        recurrent=True,
    ),
    "hy-v4": Architecture(
        name="hy_v4",
        title="four residual streams",
        blocks=HY_V4 + FEED_FORWARD,
        tensors=UNTIED + HY_V4_HEAD,
        keys=HY_V4_KEYS,
        refused="is f32 [64, 4, ",
        stock=False,
    ),
}

STEERABLE = [name for name, architecture in ARCHITECTURES.items() if not architecture.refused]
Models: TypeAlias = Callable[[str, str], Path]  # the file of an architecture, by its name and type
