r"""How a question lists its choices; read this for what is asked where a vocabulary lacks the usual signs.

CHOICE_FORM.asked("Which?", ("oak", "fir")) == "Which?\nA) oak.\nB) fir.\nThe answer is"
choice_form(vocabulary.writes, n_choices=2)  # in a vocabulary without line breaks: "Which? A) oak. B) fir. The ..."
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class ChoiceForm:
    """The signs around choices; by default those of Wolf et al. 2024.

    Attributes:
        letters: one for each choice, in order.
        label: behind a letter.
        end: behind a choice.
        line: between lines.
        closing: what the letter of the right choice is to follow, after a space.
    """

    letters: str = LETTERS
    label: str = ")"
    end: str = "."
    line: str = "\n"
    closing: str = "The answer is"

    def asked(self, question: str, choices: Sequence[str]) -> str:
        """A question with its choices, up to where the letter stands."""
        return f"{question}{self.line}{self.listed(choices)}{self.closing}".rstrip(" ")

    def listed(self, choices: Iterable[str]) -> str:
        """Choices behind their letters, a line each."""
        return "".join(
            f"{self.letters[i]}{self.label} {choice}{self.end}{self.line}" for i, choice in enumerate(choices)
        )


CHOICE_FORM = ChoiceForm()

# what may stand in place of each sign, the best first; "" where none is left
_OTHERS = {
    "letters": (LETTERS, LETTERS.lower()),
    "label": (")", ":", ".", ""),
    "end": (".", ";", ",", ""),
    "line": ("\n", " "),
    "closing": ("The answer is", "the answer is", "Answer", "answer", ""),
}


def choice_form(writes: Callable[[str], bool], *, n_choices: int) -> ChoiceForm:
    """The usual form, or the nearest one that a vocabulary can write.

    Args:
        writes: whether the vocabulary has all characters of a text.
        n_choices: of the item that has most of them.
    """

    def is_written(name: str, text: str) -> bool:
        texts = [f" {letter}" for letter in text[:n_choices]] if name == "letters" else [text]
        return all(map(writes, texts))

    def best(name: str) -> str:
        return next((text for text in _OTHERS[name] if is_written(name, text)), _OTHERS[name][0])

    return ChoiceForm(**{sign.name: best(sign.name) for sign in fields(ChoiceForm)})
