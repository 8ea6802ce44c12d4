"""What clients of OpenAI's API send, read field by field; read this for what is taken, tolerated and refused.

A field that is not understood and would change the text is refused by its name. What only labels a request, or is set
to what happens anyway, is tolerated, as clients send such fields unasked. null is as if a field were not there.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NoReturn

from steercpp.data.prompts import Message
from steercpp.encoding import one_line
from steercpp.engine.sampling import Sampling
from steercpp.errors import InputError, SteerError
from steercpp.serving.failures import ApiError, api_error
from steercpp.serving.spellings import Wish, parse_steering

MOST_STOPS, LONGEST_STOP = 16, 256  # each token is compared with all of them, while all rows wait
MOST_TOP_LOGPROBS = 20
MOST_CHOICES = 128
MOST_PROMPTS = 2048
MOST_MESSAGES = 10_000
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_SEEDS = 2**32 - 1

# Fields of others that would change the text, each with the values that change nothing.
_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],), "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},), "audio": (), "modalities": (["text"],), "prediction": (),
    "web_search_options": (), "suffix": ("",), "grammar": ("",), "json_schema": ({},),
    "guided_json": (), "guided_regex": (), "guided_choice": (), "guided_grammar": (), "structured_outputs": (),
    "typical_p": (1, 1.0), "mirostat": (0,), "dry_multiplier": (0, 0.0), "xtc_probability": (0, 0.0),
    "dynatemp_range": (0, 0.0), "top_n_sigma": (-1, 0, -1.0, 0.0), "n_probs": (0,), "ignore_eos": (False,),
    "min_tokens": (0,), "prompt_logprobs": (0, False), "lora": ([],), "use_beam_search": (False,),
    "length_penalty": (1, 1.0), "stop_token_ids": ([],), "bad_words": ([],), "continue_final_message": (False, True),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for texts.

    Attributes:
        model: as it is named; "" where it is not.
        wishes: what its field `steering` asks for; None where it has none.
        sampling: of its first text; the n-th has the seed n higher.
        n: texts of each prompt.
        max_tokens: of each text; None for as many as fit.
        stop: texts that end it.
        stream, include_usage: whether the answer comes in pieces, and with what it took.
        logprobs, n_top: whether the log-probabilities of tokens are wanted, and how many alternatives to each.
        messages, template_kwargs: of a chat.
        prompts: of a completion: texts or tokens.
        echo: whether the prompt is part of the text.
    """

    model: str
    wishes: tuple[Wish, ...] | None
    sampling: Sampling
    n: int = 1
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    logprobs: bool = False
    n_top: int = 0
    messages: tuple[Message, ...] = ()
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    prompts: tuple[str | tuple[int, ...], ...] = ()
    echo: bool = False


def parse_json(data: bytes) -> Mapping[str, Any]:
    """The object in a body.

    Raises:
        ApiError: it is none.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no number of JSON")

    try:
        value = json.loads(data, parse_constant=refuse)
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply", code="invalid_json") from None
    except UnicodeDecodeError:
        raise ApiError(400, "the body is not UTF-8", code="invalid_json") from None
    except json.JSONDecodeError as error:
        where = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise ApiError(400, f"the body is not JSON: {where}", code="invalid_json") from None
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {str(error)[:100]}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise ApiError(400, f"the body is {_kind(value)}; send an object", code="invalid_json")
    return value


def parse_chat(body: Mapping[str, Any]) -> Asked:
    """A body of /v1/chat/completions.

    Raises:
        ApiError: what is wrong with which field.
    """
    fields = Fields(body)
    fields.refuse()
    logprobs = fields.flag("logprobs")
    n_top = fields.whole("top_logprobs", 0, 0, MOST_TOP_LOGPROBS)
    if n_top and not logprobs:
        raise ApiError(400, "`top_logprobs` needs `logprobs` to be true", "top_logprobs")
    limits = [fields.whole_or_none(name, 0) for name in ("max_completion_tokens", "max_tokens")]
    variables = fields.mapping("chat_template_kwargs")
    effort = fields.text("reasoning_effort", "")
    kwargs = {**({"reasoning_effort": effort} if effort else {}), **variables}
    return Asked(
        **_common(fields), logprobs=logprobs, n_top=n_top, messages=_messages(fields), template_kwargs=kwargs,
        max_tokens=next((limit for limit in limits if limit is not None), None),
    )  # fmt: skip


def parse_completion(body: Mapping[str, Any]) -> Asked:
    """A body of /v1/completions.

    Raises:
        ApiError: what is wrong with which field.
    """
    fields = Fields(body)
    fields.refuse()
    common = _common(fields)
    if fields.whole("best_of", common["n"], 1, MOST_CHOICES) != common["n"]:
        raise ApiError(400, "`best_of` is not `n`: of texts that are drawn, all are given", "best_of")
    if isinstance(body.get("logprobs"), bool):
        raise ApiError(400, "`logprobs` is a number here: how many of the most likely tokens are told", "logprobs")
    n_top = fields.whole_or_none("logprobs", 0, MOST_TOP_LOGPROBS)
    echo = fields.flag("echo")
    if echo and common["stream"] and n_top is not None:
        raise ApiError(400, "`logprobs` of an echoed prompt are not streamed; leave `stream` or `echo` out", "stream")
    return Asked(
        **common, logprobs=n_top is not None, n_top=n_top or 0, prompts=_prompts(fields), echo=echo,
        max_tokens=fields.whole("max_tokens", 16, 0, 2**31),
    )  # fmt: skip


class Fields:
    """The fields of a body, each read as what it must be.

    Args:
        body: the object.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = body

    def refuse(self) -> None:
        """Refuse fields that would change the text and are not known, and what seems to be `steering` misspelled.

        Raises:
            ApiError: which.
        """
        for name, value in self._body.items():
            if value is None or name == "steering":
                continue
            if name in _REFUSED:
                if not any(type(value) is type(idle) and value == idle for idle in _REFUSED[name]):
                    raise ApiError(400, f"`{name}` is not supported by this server; leave it out", name, "unsupported")
            elif near := get_close_matches(name, ["steering"], n=1, cutoff=0.85):
                raise ApiError(400, f"there is no field {one_line(name)!r}; `{near[0]}` is meant, it seems", "steering")

    def get(self, name: str) -> Any:
        """Its value; None where there is none."""
        return self._body.get(name)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._body.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return bool(value)

    def text(self, name: str, usual: str) -> str:
        """A text."""
        value = self._body.get(name)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, "a text")
        return usual if value is None else value

    def mapping(self, name: str) -> Mapping[str, Any]:
        """An object; {} where there is none."""
        value = self._body.get(name)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return value or {}

    def whole(self, name: str, usual: int, least: int, most: int) -> int:
        """A whole number within bounds."""
        value = self.whole_or_none(name, least, most)
        return usual if value is None else value

    def whole_or_none(self, name: str, least: int, most: int = 2**31) -> int | None:
        """The same; None where there is none."""
        value = self._body.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():  # as some clients write it
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._wrong(name, f"a whole number from {least} to {most}")
        return value

    def number(self, name: str, usual: float) -> float:
        """A number that is finite."""
        value = self._body.get(name)
        if value is None:
            return usual
        try:
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise self._wrong(name, "a number")
        except OverflowError:
            raise self._wrong(name, "a smaller number") from None
        return float(value)

    def _wrong(self, name: str, wanted: str) -> ApiError:
        value = self._body[name]
        shown = one_line(json.dumps(value))[:40] if isinstance(value, bool | float | str) else _kind(value)
        if isinstance(value, int) and not isinstance(value, bool):
            shown = str(value) if abs(value) < 10**12 else "a huge number"
        return ApiError(400, f"`{name}` is {shown}; give {wanted}", name)


def _common(fields: Fields) -> dict[str, Any]:
    """What chats and completions have in common."""
    options, stream = fields.mapping("stream_options"), fields.flag("stream")
    if options and not stream:
        raise ApiError(400, "`stream_options` is for `stream`; leave it out, or set that to true", "stream_options")
    return {
        "model": fields.text("model", ""),
        "wishes": parse_wishes(fields.get("steering")) if fields.get("steering") is not None else None,
        "sampling": _sampling(fields),
        "n": fields.whole("n", 1, 1, MOST_CHOICES),
        "stop": _stops(fields.get("stop")),
        "stream": stream,
        "include_usage": Fields(options).flag("include_usage"),
    }


def parse_wishes(value: object) -> tuple[Wish, ...]:
    """What a field `steering` asks for.

    Raises:
        ApiError: it is none of the spellings.
    """
    try:
        return parse_steering(value)
    except SteerError as error:
        raise api_error(error, param="steering") from None


def _sampling(fields: Fields) -> Sampling:
    seed = fields.get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not -(2**63) <= seed < 2**64):
        raise ApiError(400, "`seed` is no whole number of 64 bits", "seed")
    top_k = fields.whole("top_k", 0, -1, 2**31 - 1)
    names = ("repeat_penalty", "repetition_penalty")
    repeat_penalty = next((fields.number(name, 1.0) for name in names if fields.get(name) is not None), 1.0)
    numbers = {
        name: fields.number(name, usual)
        for name, usual in (
            ("temperature", 1.0), ("top_p", 1.0), ("min_p", 0.0), ("frequency_penalty", 0.0), ("presence_penalty", 0.0)
        )
    }  # fmt: skip
    repeat_last_n = fields.whole("repeat_last_n", 64, 0, 2**20)
    biases = _biases(fields.get("logit_bias"))
    try:
        return Sampling(
            top_k=max(top_k, 0), seed=secrets.randbelow(_SEEDS) if seed in (None, -1) else seed % _SEEDS,
            repeat_penalty=repeat_penalty, repeat_last_n=repeat_last_n, logit_bias=biases, **numbers,
        )  # fmt: skip
    except InputError as error:
        message = str(error)
        named = next((name for name in (*numbers, "repeat_penalty", "logit_bias") if name in message), "")
        raise ApiError(400, message, named) from None


def _biases(value: object) -> tuple[tuple[int, float], ...]:
    """Biases of tokens: an object of OpenAI's, or llama-server's list of pairs; false bans a token."""
    if value is None:
        return ()
    pairs = list(value.items()) if isinstance(value, dict) else value
    wrong = ApiError(400, '`logit_bias` takes tokens with numbers, such as {"15043": -100}', "logit_bias")
    if not isinstance(pairs, list):
        raise wrong
    biases = []
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise wrong
        token, bias = pair
        if isinstance(token, str) and token.isascii() and token.isdigit() and len(token) < 10:
            token = int(token)
        if type(token) is not int:
            raise wrong
        if bias is False:
            bias = -math.inf
        elif isinstance(bias, bool) or not isinstance(bias, int | float) or abs(bias) > 1e6:
            raise wrong
        biases.append((token, float(bias)))
    return tuple(biases)


def _stops(value: object) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise ApiError(400, "`stop` is neither a text nor a list of texts", "stop")
    if len(stops) > MOST_STOPS:
        raise ApiError(400, f"`stop` has {len(stops)} texts; give at most {MOST_STOPS}", "stop")
    if any(len(stop) > LONGEST_STOP for stop in stops):
        raise ApiError(400, f"a text of `stop` is longer than {LONGEST_STOP} characters", "stop")
    return tuple(stop for stop in stops if stop)


def _messages(fields: Fields) -> tuple[Message, ...]:
    value = fields.get("messages")
    if not isinstance(value, list) or not value:
        raise ApiError(400, "`messages` is missing; give a list with one message at least", "messages")
    if len(value) > MOST_MESSAGES:
        raise ApiError(400, f"`messages` has {len(value)}; give at most {MOST_MESSAGES}", "messages")
    return tuple(_message(entry, f"messages[{place}]") for place, entry in enumerate(value))


def _message(entry: object, where: str) -> Message:
    if not isinstance(entry, dict):
        raise ApiError(400, f"`{where}` is {_kind(entry)}; give an object with `role` and `content`", where)
    role = entry.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        known = ", ".join(_ROLES)
        shown = one_line(role)[:40] if isinstance(role, str) else _kind(role)
        raise ApiError(400, f"`{where}.role` is {shown!r}; give one of {known}", f"{where}.role")
    for name in ("tool_calls", "function_call", "audio"):
        if entry.get(name):
            raise ApiError(400, f"`{where}.{name}` is not supported by this server", f"{where}.{name}", "unsupported")
    return Message(_ROLES[role], _content(entry.get("content"), f"{where}.content"))


def _content(value: object, where: str) -> str:
    """A message's text, or the texts of its parts."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise ApiError(400, f"`{where}` is {_kind(value)}; give a text", where)
    texts = []
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("text") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(text, str):
            shown = one_line(kind)[:40] if isinstance(kind, str) else _kind(part)
            raise ApiError(400, f"`{where}` has a part of type {shown!r}; only text is supported", where, "unsupported")
        texts.append(text)
    return "\n".join(texts)


def _prompts(fields: Fields) -> tuple[str | tuple[int, ...], ...]:
    """A text, texts, tokens, or lists of tokens."""
    value = fields.get("prompt")
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise ApiError(400, "`prompt` is missing; give a text, tokens, or a list of either", "prompt")
    if all(type(token) is int for token in value):
        return (tuple(value),)
    if len(value) > MOST_PROMPTS:
        raise ApiError(400, f"`prompt` has {len(value)} prompts; give at most {MOST_PROMPTS}", "prompt")
    prompts: list[str | tuple[int, ...]] = []
    for entry in value:
        if isinstance(entry, list) and entry and all(type(token) is int for token in entry):
            prompts.append(tuple(entry))
        elif isinstance(entry, str):
            prompts.append(entry)
        else:
            raise ApiError(400, "`prompt` is a list of neither texts nor tokens", "prompt")
    return tuple(prompts)


def _kind(value: object) -> str:
    """What a value of JSON is, in words."""
    names: Sequence[tuple[type, str]] = (
        (bool, "true or false"), (str, "a text"), (int, "a number"), (float, "a number"), (list, "a list"),
        (dict, "an object"),
    )  # fmt: skip
    if value is None:
        return "missing"
    if value in ([], {}, ""):
        return "empty"
    return next((name for kind, name in names if isinstance(value, kind)), "something else")
