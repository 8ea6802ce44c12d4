"""Requests that are only continued, to be looked at: a prompt without an answer. Read this to show texts of your own.

    {"id": "garden", "prompt": [{"role": "user", "content": "Describe a garden in the rain."}]}

A file holds one such object a line. Nothing is scored on them, so they need neither answers nor continuations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from steercpp.data.json_stream import refuse_long
from steercpp.data.prompts import Prompt, Template, parse_prompt, prompt_json
from steercpp.errors import PromptError, TaskError
from steercpp.inputs import read_input, reading, stem
from steercpp.provenance import json_sha256


@dataclass(frozen=True, slots=True)
class Request:
    """What a model is asked, and how the prompt is written (see `Engine.render`).

    Raises:
        TaskError: a template that does not exist.

    >>> Request("moon", "What is the moon?").template
    'auto'
    """

    id: str
    prompt: Prompt
    template: Template = "auto"
    place: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.template not in get_args(Template):
            raise TaskError(f"template {self.template!r} is unknown; use one of {', '.join(get_args(Template))}")

    @property
    def named(self) -> str:
        """What a message calls it: where it was read, and its id."""
        return f"{self.place}: {self.id}" if self.place else self.id


def read_requests(path: Path | str) -> tuple[Request, ...]:
    """Read a file of requests, JSON Lines; a request without an id is called by the file and its line.

    Raises:
        TaskError: the file cannot be read, holds none, or one of its lines is not a request.

    >>> _ = Path("requests.jsonl").write_text('{"id": "moon", "prompt": "What is the moon?"}')
    >>> read_requests("requests.jsonl")[0].id
    'moon'
    """
    with reading(path, TaskError, again="mend the file of requests"):
        path = Path(path)
        try:
            lines = read_input(path).decode("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise TaskError(f"{path}: cannot be read ({error}); check the path of the file of requests") from error
        requests = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                refuse_long(line)
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise TaskError('an object is expected, like {"prompt": "Describe a garden in the rain."}')
                requests.append(parse_request({"id": f"{stem(path)}-{number}", **record}, place=place))
            except (ValueError, PromptError, TaskError) as error:
                raise TaskError(f"{place}: {error}") from error
        if not requests:
            raise TaskError(f"{path}: holds no requests; give a prompt on each line")
        return tuple(requests)


def parse_request(record: Mapping[str, Any], *, place: str = "") -> Request:
    """A request from parsed JSON.

    Raises:
        PromptError: the prompt is none. TaskError: the id is no text, or a key is missing or unknown.
    """
    if unknown := sorted(set(record) - {"id", "prompt", "template"}):
        raise TaskError(f"the key {unknown[0]!r} is unknown; a request has id, prompt and template")
    if not isinstance(record.get("id"), str) or "prompt" not in record:
        raise TaskError("a request has an id, which is a text, and a prompt")
    return Request(record["id"], parse_prompt(record["prompt"]), record.get("template", "auto"), place)


def request_json(request: Request) -> dict[str, Any]:
    """What `parse_request` reads."""
    return {"id": request.id, "prompt": prompt_json(request.prompt), "template": request.template}


def requests_sha256(requests: Sequence[Request]) -> str:
    """Hash of all requests in their order."""
    return json_sha256([request_json(request) for request in requests])
