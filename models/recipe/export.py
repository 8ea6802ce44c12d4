"""From torch to GGUF, and from F32 to Q8_0 by llama.cpp's own quantizer."""

from __future__ import annotations

import ctypes
from pathlib import Path

import gguf
import llama_cpp
import sentencepiece as spm

from .corpus import CHAT_TEMPLATE
from .network import Network

NAME = "steercpp embedded model"


def export(network: Network, tokenizer: spm.SentencePieceProcessor, path: Path, *, licence: str) -> None:
    """Write the F32 model. Rotary pairs are neighbours, as llama.cpp wants them for `llama`: nothing is permuted."""
    shape = network.shape
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(NAME)
    writer.add_license(licence)
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_rope_dimension_count(shape.n_rot)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.rms_eps)
    writer.add_vocab_size(shape.n_vocab)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_tokenizer(writer, tokenizer)
    for name, parameter in network.named_parameters():
        writer.add_tensor(name, parameter.detach().float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: spm.SentencePieceProcessor) -> None:
    ids = range(tokenizer.get_piece_size())
    kinds = [gguf.TokenType.NORMAL] * len(ids)
    for token in ids:
        if tokenizer.is_unknown(token):
            kinds[token] = gguf.TokenType.UNKNOWN
        elif tokenizer.is_control(token):
            kinds[token] = gguf.TokenType.CONTROL
        elif tokenizer.is_byte(token):
            kinds[token] = gguf.TokenType.BYTE
    writer.add_tokenizer_model("llama")
    writer.add_token_list([tokenizer.id_to_piece(token) for token in ids])
    writer.add_token_scores([tokenizer.get_score(token) for token in ids])
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_unk_token_id(tokenizer.unk_id())
    writer.add_bos_token_id(tokenizer.bos_id())
    writer.add_eos_token_id(tokenizer.eos_id())
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def quantize_q8_0(source: Path, target: Path) -> None:
    """Write `source` as Q8_0."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    params.nthread = 1
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    if status != 0:
        raise RuntimeError(f"llama_model_quantize returned {status} for {source}")
