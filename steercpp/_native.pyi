"""Types of the native module; the meaning of each argument is written in native/*.h."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

class ModelFileError(RuntimeError): ...
class DeviceError(RuntimeError): ...
class UnsteerableGraphError(RuntimeError): ...
class DecodeError(RuntimeError): ...
class BusyError(RuntimeError): ...

class Model:
    n_layer: int
    n_embd: int
    n_vocab: int
    n_ctx_train: int
    n_swa: int
    is_recurrent: bool
    uses_devices: bool
    description: str
    chat_template: str
    bos: int
    eos: int
    adds_bos: bool
    def ends_generation(self, token: int) -> bool: ...
    def metadata(self, key: str) -> str: ...
    def tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]: ...
    def detokenize(self, tokens: Sequence[int]) -> bytes: ...
    def spell(self, tokens: Sequence[int]) -> bytes: ...
    def pieces(self) -> list[bytes]: ...
    kind: str
    def unknown_tokens(self) -> list[int]: ...

class Base:
    reason: str
    n_bytes: int

class Sampler:
    def __init__(
        self,
        *,
        n_vocab: int,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        seed: int,
        repeat_penalty: float,
        frequency_penalty: float,
        presence_penalty: float,
        repeat_last_n: int,
        logit_bias: Sequence[tuple[int, float]],
    ) -> None: ...
    def accept(self, token: int) -> None: ...
    def sample(self, logits: npt.NDArray[np.float32]) -> int: ...

class DecodeResult:
    logprobs: npt.NDArray[np.float64]
    captures: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    entropy: npt.NDArray[np.float64]
    kl: npt.NDArray[np.float64]
    kl_from_base: npt.NDArray[np.float64]
    top_tokens: npt.NDArray[np.int32]
    attention_bits: npt.NDArray[np.uint64]
    top_logprobs: npt.NDArray[np.float64]
    sampled: list[int]
    sampled_logprobs: list[float]
    base: Base | None
    token_layers: int
    n_cuts: int
    n_writes: int
    reason: str
    nonfinite_row: int
    failed_rows: list[int]

class Session:
    def decode(
        self,
        tokens: npt.NDArray[np.int32],
        positions: npt.NDArray[np.int32],
        seq_offsets: npt.NDArray[np.int32],
        seq_ids: npt.NDArray[np.int32],
        outputs: npt.NDArray[np.int8],
        pieces: Sequence[tuple[int, Sequence[tuple[int, int, int]], int]],
        *,
        fresh: bool,
        operations: Sequence[
            tuple[int, int, int, npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int8]]
        ],
        capture_layers: Sequence[int],
        capture_rows: Sequence[int],
        keep_layer: int,
        keep_logits: bool,
        base: Base | None,
        keeps_below: bool,
        query_rows: npt.NDArray[np.int32],
        query_tokens: npt.NDArray[np.int32],
        want_logits: bool,
        want_entropy: bool,
        want_kl: bool,
        want_kl_from_base: bool,
        n_top: int,
        sampler_rows: Sequence[int],
        samplers: Sequence[Sampler],
        want_sampled_logprobs: bool,
        cells: Sequence[tuple[Sequence[int], int, Sequence[tuple[int, int, int, int, int]], int]],
        want_attention_bits: bool,
    ) -> DecodeResult: ...
    def copy_sequence(self, source: int, target: int) -> None: ...
    def cut_sequence(self, sequence: int, n_positions: int) -> None: ...
    def set_control_vector(self, data: npt.NDArray[np.float32]) -> None: ...
    def clear_control_vector(self) -> None: ...

def load_model(
    path: bytes,
    *,
    n_gpu_layers: int,
    main_gpu: int,
    split_mode: int,
    use_mmap: bool,
    tensor_split: Sequence[float],
    rpc: Sequence[str],
) -> Model: ...
def make_session(
    model: Model,
    *,
    n_ctx: int,
    n_batch: int,
    n_seq_max: int,
    n_threads: int,
    flash_attn: int,
    type_k: int,
    type_v: int,
    offload_kqv: bool,
    kv_unified: bool,
    hook: bool,
    always_copy: bool,
    in_graph: bool,
) -> Session: ...
def log_install(to_stderr: bool) -> None: ...
def bus_install() -> None: ...
def aborts_exit(with_code: bool) -> None: ...
def header(path: bytes) -> tuple[dict[str, bytes | float | list[float]], list[tuple[str, str]]]: ...
def tensors(path: bytes) -> list[tuple[bytes, str, int, int]]: ...
def weight_speeds(
    types: Sequence[str], *, n_in: int, n_out: int, n_tokens: int, n_threads: int, n_rounds: int
) -> list[tuple[str, float, str, list[float]]]: ...
def system_info() -> str: ...
def llama_version() -> str: ...
def devices() -> list[tuple[str, str, int, int]]: ...
def free_gpu_memory() -> list[int]: ...
def supports_rpc() -> bool: ...
def rpc_protocol() -> tuple[int, int]: ...
def holds_rpc_server(server: str) -> bool: ...
