"""llama.cpp as anyone would use it, through llama_cpp's ctypes alone: no callback, its own control vector.

The other side of every bit-equality test: it decodes the very batches that the engine decodes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path

import llama_cpp
import numpy as np

from steercpp.engine.packing import Batch, Pass

FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}


class StockRunner:
    """One model and context of llama.cpp; close it or use it as a context manager."""

    def __init__(
        self,
        path: Path,
        *,
        n_ctx: int = 512,
        n_batch: int = 512,
        threads: int = 1,
        n_seq_max: int = 256,
        flash_attn: str = "off",
        cache_type: int = llama_cpp.GGML_TYPE_F16,
        n_gpu_layers: int = 0,
        devices: Sequence[int] = (),
    ) -> None:
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = n_gpu_layers
        handles = (ctypes.c_void_p * (len(devices) + 1))(*devices, None)
        if devices:
            model_params.devices = ctypes.cast(handles, ctypes.c_void_p)
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
        assert self._model is not None, path
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = n_batch
        params.n_threads = params.n_threads_batch = threads
        params.n_seq_max = min(n_seq_max, n_batch)  # llama.cpp aborts where a batch holds fewer outputs
        params.kv_unified = True
        params.type_k = params.type_v = cache_type
        params.flash_attn_type = FLASH_ATTENTION[flash_attn]
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        assert self._context is not None, path
        self.n_batch = n_batch
        self.n_layer = llama_cpp.llama_model_n_layer(self._model)
        self.n_embd = llama_cpp.llama_model_n_embd(self._model)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def close(self) -> None:
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    def __enter__(self) -> StockRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_vector(self, directions: Mapping[int, np.ndarray] | None, strength: float = 1.0) -> None:
        """Load float32(strength) * direction at each layer, 1..n_layer-1, or nothing."""
        if directions is None:
            assert llama_cpp.llama_set_adapter_cvec(self._context, None, 0, self.n_embd, 0, 0) == 0
            return
        data = np.zeros((self.n_layer - 1, self.n_embd), np.float32)
        for il, direction in directions.items():
            data[il - 1] = np.float32(strength) * direction
        pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        assert (
            llama_cpp.llama_set_adapter_cvec(self._context, pointer, data.size, self.n_embd, 1, self.n_layer - 1) == 0
        )

    def logits(self, batch: Batch) -> np.ndarray:
        """(n_outputs, n_vocab) float32 of the batch's output rows, each pass from an empty memory."""
        return np.concatenate([self._pass_logits(part) for part in batch.passes])

    def _pass_logits(self, part: Pass) -> np.ndarray:
        memory = llama_cpp.llama_get_memory(self._context)
        llama_cpp.llama_memory_clear(memory, True)
        rows = []
        first = 0
        for piece in part.pieces:
            for source, target, n_positions in piece.copies:
                llama_cpp.llama_memory_seq_cp(memory, source, target, 0, n_positions)
            rows += self._decode(part, first, first + piece.n_rows)
            if piece.trunk >= 0:
                llama_cpp.llama_memory_seq_keep(memory, piece.trunk)
            first += piece.n_rows
        return np.array(rows, np.float32).reshape(-1, self.n_vocab)

    def _decode(self, part: Pass, first: int, stop: int) -> list[np.ndarray]:
        widest = int(np.diff(part.seq_offsets).max())
        batch = llama_cpp.llama_batch_init(stop - first, 0, widest)
        batch.n_tokens = stop - first
        for i, row in enumerate(range(first, stop)):
            batch.token[i] = int(part.tokens[row])
            batch.pos[i] = int(part.positions[row])
            sequences = part.seq_ids[part.seq_offsets[row] : part.seq_offsets[row + 1]]
            batch.n_seq_id[i] = len(sequences)
            for k, seq_id in enumerate(sequences):
                batch.seq_id[i][k] = int(seq_id)
            batch.logits[i] = int(part.outputs[row])
        status = llama_cpp.llama_decode(self._context, batch)
        llama_cpp.llama_batch_free(batch)
        assert status == 0, f"llama_decode returned {status}"
        outputs = [i for i in range(stop - first) if part.outputs[first + i]]
        return [
            np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context, i), (self.n_vocab,)).copy()
            for i in outputs
        ]
