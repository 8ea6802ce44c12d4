"""Every error that steercpp raises on purpose; read this when you want to catch one.

SteerError
├── InputError                 a value, line or file given by the caller
│   ├── ShapeError             an array of the wrong shape
│   ├── DegenerateError        data from which nothing can be computed
│   ├── StrengthError          a strength that is not a finite number
│   ├── LayerError             a layer outside the model or the vector
│   ├── PromptError            a prompt that cannot be rendered
│   │   └── VocabularyError     characters that the model's vocabulary lacks
│   ├── PairsError             a contrast-pair file
│   ├── TaskError              a task file
│   ├── DataSetError           a file of a published data set
│   ├── CurveError             a CSV curve
│   ├── PresetError            a study's preset
│   ├── ActivationsFileError   a file of activations
│   └── VectorFileError        a control-vector file
├── ModelError                 the model file or what it can do
│   └── UnsteerableError       its graph has no node to steer
├── EngineError                a decode
│   ├── ContextOverflowError   more tokens than the context holds
│   └── NonFiniteError         the model's output is no longer a number
├── CalibrationError           no strength has the effect asked for
├── WorkerError                a process that measures for another one cannot
├── SandboxError               generated code was not run
├── ServiceError               a request that a server does not finish
│   ├── BusyError              it has as much work as it takes
│   ├── ClosingError           it is being ended
│   └── OutOfTimeError         the request took too long
└── RunError                   a run directory: corrupt, finished, of another plan
"""

from __future__ import annotations

from typing import Any


class SteerError(Exception):
    """Base of all errors whose message is one sentence for the user: what, where, next step.

    >>> try:
    ...     read_pairs("missing.jsonl")
    ... except SteerError as error:
    ...     print(type(error).__name__, error)
    PairsError missing.jsonl: cannot be read: No such file or directory; check the path
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, as between processes, with all its attributes, whatever its constructor asks for."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[SteerError], args: tuple[Any, ...], attributes: dict[str, Any]) -> SteerError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class InputError(SteerError):
    """Something the caller gave cannot be used."""


class ShapeError(InputError):
    """An array does not have the documented shape."""


class DegenerateError(InputError):
    """The data hold no information of the kind asked for."""


class StrengthError(InputError):
    """A strength is NaN or infinite, or a grid of strengths is malformed."""


class LayerError(InputError):
    """A layer does not exist or cannot be steered."""


class PromptError(InputError):
    """A prompt is malformed or needs a chat template that the model lacks."""


class VocabularyError(PromptError):
    """A text has characters that the model's vocabulary lacks, so that the model would not get them."""


class PairsError(InputError):
    """A contrast-pair file is malformed; the message starts with path:line."""


class TaskError(InputError):
    """A task file is malformed; the message starts with path:line."""


class DataSetError(InputError):
    """A file of a published data set is malformed, or a part that it lacks was asked for; path:line comes first."""


class CurveError(InputError):
    """A CSV of measured points is malformed; the message starts with path:line."""


class PresetError(InputError):
    """A preset of a study is malformed or unknown; the message starts with its place."""


class ActivationsFileError(InputError):
    """A file of activations is damaged or not the one that is needed; the message starts with the path."""


class VectorFileError(InputError):
    """A control-vector file breaks the rules; the message starts with the path."""


class ModelError(SteerError):
    """The model file cannot be loaded or used."""


class UnsteerableError(ModelError):
    """The compute graph has no residual-stream node at a layer that was asked for."""


class EngineError(SteerError):
    """A decode failed."""


class ContextOverflowError(EngineError):
    """A prompt and its continuation need more positions than the context has."""


class NonFiniteError(EngineError):
    """The steered model produced NaN or infinite logits."""


class CalibrationError(SteerError):
    """No strength has the effect asked for; `strength` and `kl` (nats) are where it came closest."""

    def __init__(self, message: str, *, strength: float, kl: float) -> None:
        super().__init__(message)
        self.strength = strength
        self.kl = kl


class WorkerError(SteerError):
    """A worker cannot do what it is sent: another version, no such model, or it ends; the message names it."""


class SandboxError(SteerError):
    """Generated code was not run: not allowed, or nothing here can wall it in; the message says what to install."""


class ServiceError(SteerError):
    """A server does not finish a request; the request may be right."""


class BusyError(ServiceError):
    """A server has as much work as it takes; the same request may be made later."""


class ClosingError(ServiceError):
    """A server is being ended, or its model can no longer be used."""


class OutOfTimeError(ServiceError):
    """A request was not done in the time that it has."""


class RunError(SteerError):
    """A run directory cannot be used as asked."""
