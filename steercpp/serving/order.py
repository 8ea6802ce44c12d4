"""A request that is understood: prompts as tokens, steering as vectors, rows; read this for what is asked of the pool.

Making it takes templates, tokenizing and files, so it is done in the service's own thread.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from steercpp.engine.request import Generated, GenerationRequest
from steercpp.errors import SteerError
from steercpp.serving import answers
from steercpp.serving.answers import FINISHES, Envelope
from steercpp.serving.bodies import Asked
from steercpp.serving.conversation import Prepared
from steercpp.serving.failures import ApiError, api_error
from steercpp.serving.folder import UnknownVectorError
from steercpp.serving.service import Service
from steercpp.serving.spellings import Applied, applied, parse_model


@dataclass(frozen=True, slots=True)
class Order:
    """A request that is understood: what its rows are and how they are answered."""

    asked: Asked
    envelope: Envelope
    prompts: tuple[Prepared, ...]
    requests: tuple[GenerationRequest, ...]

    def prompt(self, row: int) -> Prepared:
        """The prompt of a row; rows of one prompt stand together."""
        return self.prompts[row // self.asked.n]

    @property
    def draws(self) -> bool:
        """Whether its texts have tokens; where not, the one that is drawn is dropped."""
        return self.asked.max_tokens != 0

    def ending(self, row: Generated) -> dict[str, Any]:
        """How the choice of a row that is done ends: why, and whether its gates were open where it has any."""
        gate = {} if row.gate_open is None else {"gate_open": row.gate_open}
        return {"finish_reason": FINISHES[row.finish] if self.draws else "length", **gate}

    def usage(self, rows: Sequence[Generated]) -> dict[str, Any]:
        """What all rows took; a prompt counts once, whatever is drawn after it."""
        return answers.usage(
            n_prompt=sum(len(prompt.tokens) for prompt in self.prompts),
            n_cached=sum(row.n_cached for row in rows[:: self.asked.n]),
            n_drawn=sum(len(row.tokens) + (row.end_token is not None) for row in rows) if self.draws else 0,
        )


def make_order(service: Service, asked: Asked, *, of_chat: bool) -> Order:
    """What is asked for, as tokens and steering.

    Raises:
        ApiError: a prompt, a vector, a bias or the model's name cannot be what it is.
    """
    acting = _steering(service, asked)
    conversation = service.conversation
    try:
        if of_chat:
            prompts: tuple[Prepared, ...] = (conversation.chat(asked.messages, asked.template_kwargs),)
        else:
            prompts = tuple(
                conversation.text(prompt) if isinstance(prompt, str) else conversation.tokens(prompt)
                for prompt in asked.prompts
            )
    except SteerError as error:
        raise api_error(error, param="messages" if of_chat else "prompt") from error
    try:
        asked.sampling.check_tokens(service.engine.n_vocab)
    except SteerError as error:
        raise api_error(error, param="logit_bias") from error
    n_vocab, n_cells = service.engine.n_vocab, service.scheduler.n_cells
    requests = tuple(
        GenerationRequest(
            prompt.tokens, tuple(one.steering for one in acting),
            replace(asked.sampling, seed=(asked.sampling.seed + i) % (2**32 - 1)),
            # without any token to draw, the first one is drawn and dropped
            max_tokens=n_cells - len(prompt.tokens) if asked.max_tokens is None else max(asked.max_tokens, 1),
            stop=asked.stop, logprobs=asked.logprobs, n_top=min(asked.n_top, n_vocab),
            prompt_logprobs=asked.echo and asked.logprobs,
        )
        for prompt in prompts
        for i in range(asked.n)
    )  # fmt: skip
    prefix = "chatcmpl" if of_chat else "cmpl"
    envelope = Envelope(
        f"{prefix}-{secrets.token_hex(12)}", int(time.time()), asked.model or service.name, of_chat,
        tuple(one.record() for one in acting),
    )  # fmt: skip
    return Order(asked, envelope, prompts, requests)


def _steering(service: Service, asked: Asked) -> tuple[Applied, ...]:
    """The vectors that a request names in its model or in its field `steering`."""
    try:
        by_model = parse_model(asked.model or service.name, service.name)
    except SteerError as error:
        raise api_error(error, param="model") from error
    if by_model is None:
        raise unknown_model(asked.model, service)
    if by_model and asked.wishes:
        raise ApiError(400, "`model` names vectors and so does `steering`; give one of them", "steering")
    try:
        return applied(by_model or asked.wishes or (), service.folder, service.engine)
    except UnknownVectorError as error:
        if by_model:
            raise ApiError(404, str(error), "model", "model_not_found") from error
        raise api_error(error, param="steering") from error
    except SteerError as error:
        raise api_error(error, param="model" if by_model else "steering") from error


def unknown_model(name: str, service: Service) -> ApiError:
    """The error of a model that is not served."""
    shown = repr(name[:80])
    return ApiError(404, f"there is no model {shown}; this server has {service.name!r}", "model", "model_not_found")
