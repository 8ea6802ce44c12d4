"""What a sweep measured, read from its run directory; read this to fit, recommend or rescore without a model.

result = open_run(Path("runs/refusal"))
result.behavior.normalized.mean(axis=1)     # B at each strength
result.recommend(max_loss=0.1).strength
result.controls.prompt.behavior             # the same items under the prompt baseline
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from steercpp.aliases import Floats
from steercpp.choices import CodeWay
from steercpp.data.items import HARMFUL, AnswerItem, BehaviorItem, ChoiceItem, Item, Kind
from steercpp.errors import InputError, RunError
from steercpp.frames import FrameKind, frame
from steercpp.html import shown_by
from steercpp.judging.matchers import AUTO, Likelihood, Matcher, chosen_matcher
from steercpp.judging.texts import GeneratedText
from steercpp.runs.code import stored_code_scores
from steercpp.runs.database import AGAIN
from steercpp.runs.folder import STORE, VECTOR_FILE, read_swept_vector
from steercpp.runs.labels import MEASURED, Label
from steercpp.runs.manifest import Manifest, read_manifest
from steercpp.runs.preparation import Preparation, read_preparation
from steercpp.runs.scores import Controls, Scores, StrengthMeans, control_strength
from steercpp.runs.store import Store
from steercpp.runs.stored_scores import (
    answer_chains,
    complete_strengths,
    first_missing,
    missing_texts,
    stored_controls,
    stored_scores,
    telling_scores,
    whole_texts,
)
from steercpp.runs.text_notes import text_notes
from steercpp.statistics.code_scores import CodeScores
from steercpp.statistics.curves import Curves, Telling
from steercpp.statistics.fits import FitResult, fit_alignment, fit_helpfulness_forms, refused
from steercpp.statistics.likelihoods import Readings
from steercpp.statistics.losses import guessing, guessing_notes
from steercpp.statistics.names import today
from steercpp.statistics.number_scores import NumberScores, score_numbers
from steercpp.statistics.over_refusal import side_items
from steercpp.statistics.recommend import Recommendation, recommend
from steercpp.statistics.scores import (
    ChoiceScores,
    HelpfulScores,
    Measure,
    OwnScores,
    chance_level,
    measured,
)
from steercpp.statistics.text_scores import TextScores, score_texts
from steercpp.vectors.gguf import read_vector

BY_KIND = (
    "helpfulness is P(correct) over the vocabulary for choice items by letter; over the choices, counted from chance, "
    "for those by text"
)
OF_HARMFUL = (
    "the items have two sides, which a vector may move oppositely: the fit of alignment is of the harmful items"
)


class RunRecord(TypedDict):
    """What `SweepResult.to_json` gives: plain data, each part as its own `record` or the manifest has it."""

    run: str
    finished: bool
    model: dict[str, Any]
    items: dict[str, int]
    plan: dict[str, Any]
    tokens: dict[str, int] | None
    resume: dict[str, Any] | None
    gate_open: dict[str, int] | None
    vector: dict[str, Any]
    strengths: list[dict[str, Any]]
    fits: dict[str, list[dict[str, Any]]]
    recommendation: dict[str, Any] | None
    controls: dict[str, Any]
    notes: list[str]
    packing: NotRequired[dict[str, Any]]
    preparation: NotRequired[dict[str, Any]]


class SweepResult:
    """A run's measurements with what follows from them; every strength is here at which all items are measured.

    Attributes:
        folder, manifest: the run directory and what its manifest says.
        strengths: (n_s,) ascending.
        scores: all of them at `strengths`; behavior, choice, answer, text, own: those of one kind, None where the sweep
            has no such items; of own answers, those that choose.
        telling: testing own answers, at 0 and at the candidate; None where they are not measured.
        controls: what is measured of them so far, and why others are not.
        decoded_now: tokens decoded by the call that returned this; 0 where everything was read.

    >>> result.strengths.tolist()
    [-0.5, 0.0, 0.5, 1.0]
    >>> b = result.behavior.mean_normalized  # (n_s,) mean B at each strength
    >>> bool(b[-1] > b[0])
    True
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        strengths: Sequence[float],
        scores: Scores,
        controls: Controls,
        items: Mapping[str, tuple[Item, ...]],
        telling: OwnScores | None = None,
        decoded_now: int = 0,
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.strengths: Floats = np.array(strengths, np.float64)
        self.scores = scores
        self.behavior, self.choice = scores.behavior, scores.choice
        self.answer, self.text, self.own = scores.answer, scores.text, scores.own
        self.telling = telling
        self.controls = controls
        self.decoded_now = decoded_now
        self._items = items
        self._text_scores: dict[tuple[str, Matcher], TextScores | None] = {}
        self._readings: dict[str, Readings | None] = {}
        self._fits: Mapping[str, tuple[FitResult, ...]] | None = None
        self._recommended: dict[tuple[float, int], Recommendation] = {}

    def __repr__(self) -> str:
        """The run in one line: folder, grid, items, and the strength to use."""
        s, n_items = self.strengths, [f"{len(items)} {kind}" for kind, items in self._items.items()]
        found = self.recommend() if self.finished else None
        outcome = "unfinished" if not self.finished else "nothing recommended"
        if found is not None and found.candidate is not None:
            outcome = f"candidate {found.candidate:+.10g}" if found.strength is None else f"use {found.strength:+.10g}"
        return (
            f"SweepResult({str(self.folder)!r}: {len(s)} strengths {s.min():+.10g} to {s.max():+.10g}, "
            f"{', '.join(n_items)} items; {outcome})"
        )

    def _repr_html_(self) -> str:
        """The run in a notebook: the verdict, means at a few strengths, one figure."""
        return shown_by("SweepResult")(self)

    @property
    def finished(self) -> bool:
        """Whether all that was planned is measured."""
        return self.manifest.finished is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the scoring is not as usual, in sentences."""
        notes = [*self.manifest.notes, *(() if self.side_items is None else (OF_HARMFUL,))]
        if self.choice is not None and self.measure == "p_by_kind":
            notes.append(BY_KIND)
        if self.choice is not None:
            notes += guessing_notes(self.choice)
        return (*notes, *self.text_notes)

    @cached_property
    def text_notes(self) -> tuple[str, ...]:
        """What is to be said of the generated texts, and of the programs among them."""
        with Store.read(self.folder / STORE, settled=self.finished) as store:
            return text_notes(store)

    @cached_property
    def side_items(self) -> Mapping[str, npt.NDArray[np.intp]] | None:
        """Indices of the harmful and of the harmless behavior items; None unless they are of these two sides."""
        return side_items([item for item in self.items("behavior") if isinstance(item, BehaviorItem)])

    def items(self, kind: str) -> tuple[Item, ...]:
        """The items of one kind, in the order of their scores; none of a kind that the sweep lacks.

        >>> len(result.items("behavior")), result.items("code")
        (8, ())
        """
        return self._items.get(kind, ())

    def answer_chains(self, strength: float, *, label: str = Label.VECTOR) -> list[list[Floats]]:
        """For each answer item and each of its answers (n_tokens,) ln P(token | prompt and tokens before), in nats.

        Args:
            strength: one of `strengths`, or where the control was measured.
            label: "vector", or a control's.

        Raises:
            RunError: the store cannot be read.
        """
        with Store.read(self.folder / STORE, settled=self.finished) as store:
            return answer_chains(store, label, strength)

    def texts(
        self, strength: float, *, kind: str = Kind.BEHAVIOR, label: str = Label.VECTOR
    ) -> tuple[GeneratedText, ...]:
        """The texts generated at a strength, by item and sample; none where texts were not asked for.

        Args:
            strength: one of `strengths`; 0 for the prompt baseline.
            kind: "behavior" or "code".
            label: "vector", or "prompt" for the prompt baseline.

        Raises:
            RunError: the store cannot be read.

        >>> result.texts(0.5)  # none were generated
        ()
        """
        with Store.read(self.folder / STORE, settled=self.finished) as store:
            return tuple(text for text in store.texts(label, kind) if text.strength == strength)

    def text_scores(self, matcher: str | Matcher = AUTO, *, label: str = Label.VECTOR) -> TextScores | None:
        """Scores of the texts generated for the behavior items, as a matcher judges them.

        Args:
            matcher: one, or its name or file; "auto" for the one that knows the items' answers, see `matcher_for`.
            label: "vector", or "prompt" for the prompt baseline, at strength 0.

        Returns:
            None where there are no texts, or not yet those of all items.

        Raises:
            InputError: no such matcher. RunError: the store cannot be read.
        """
        items = self._behavior_items
        judge = self.matcher(matcher)
        if (label, judge) not in self._text_scores:
            texts = self.all_texts(label=label)
            self._text_scores[label, judge] = score_texts(texts, items, judge) if texts else None
        return self._text_scores[label, judge]

    said = text_scores  # its name in earlier versions

    @cached_property
    def _behavior_items(self) -> tuple[BehaviorItem, ...]:
        return tuple(item for item in self.items(Kind.BEHAVIOR) if isinstance(item, BehaviorItem))

    def all_texts(self, *, label: str = Label.VECTOR) -> tuple[GeneratedText, ...]:
        """The texts generated for the behavior items, by strength, item and sample; none where some are missing.

        Args:
            label: "vector", "prompt" for the prompt baseline, "words" or "opposite" for those asked for either side.

        Raises:
            RunError: the store cannot be read.
        """
        with Store.read(self.folder / STORE, settled=self.finished) as store:
            return whole_texts(
                store, label, Kind.BEHAVIOR, len(self._behavior_items), strengths=self._text_grid(label),
                is_growing=self._is_growing,
            )  # fmt: skip

    @property
    def _is_growing(self) -> bool:
        """Whether what was added to the run is not all measured yet."""
        return bool(self.manifest.additions) and not self.finished

    def _text_grid(self, label: str) -> tuple[float, ...]:
        """The strengths at which texts are generated under a label."""
        return self.manifest.plan.strengths if label == Label.VECTOR else (0.0,)

    def matcher(self, matcher: str | Matcher = AUTO) -> Matcher:
        """A matcher for the texts of this run: "likelihood" counts from what the unsteered ones have.

        Raises:
            InputError: no such matcher, or "likelihood" of texts that the model was not asked to read.
        """
        judge = chosen_matcher(matcher, self._behavior_items)
        if isinstance(judge, Likelihood) and judge.unsteered is None and (readings := self.readings()) is not None:
            return replace(judge, unsteered=readings.unsteered)
        return judge

    def readings(self, label: str = Label.VECTOR) -> Readings | None:
        """The texts of the behavior items as the unsteered model reads them, asked in words for either side.

        Args:
            label: as of `all_texts`.

        Returns:
            None where there are no texts, or not yet those of all items.

        Raises:
            InputError: the model was not asked to read them. RunError: the store cannot be read.
        """
        if label not in self._readings:
            texts = self.all_texts(label=label)
            self._readings[label] = Readings.of(texts, len(self._behavior_items)) if texts else None
        return self._readings[label]

    @cached_property
    def code(self) -> CodeScores | None:
        """How many programs passed at each strength; None where there are none, or not all were run yet."""
        return self.code_by("whole")

    def code_by(self, way: CodeWay) -> CodeScores | None:
        """The same for programs that were taken out of the answers another way, see judging/programs.py."""
        if not self.items(Kind.CODE):
            return None
        with Store.read(self.folder / STORE, settled=self.finished) as store:
            return stored_code_scores(store, self.strengths, way=way)

    @cached_property
    def numbers(self) -> NumberScores | None:
        """Generated texts of answer items with a number, by their last number; None without any, or not yet all."""
        items = [item for item in self.items(Kind.ANSWER) if isinstance(item, AnswerItem)]
        if not any(item.number for item in items):
            return None
        with Store.read(self.folder / STORE, settled=self.finished) as store:
            texts = whole_texts(
                store, Label.VECTOR, Kind.ANSWER, len(items), strengths=self._text_grid(Label.VECTOR),
                is_growing=self._is_growing,
            )  # fmt: skip
        return score_numbers(texts, items) if texts else None

    @property
    def vector_path(self) -> Path:
        """The control vector that was swept."""
        return self.folder / VECTOR_FILE

    @cached_property
    def preparation(self) -> Preparation | None:
        """What was found on the model before this run; None where all was given, or it is another run's."""
        found = read_preparation(self.folder)
        of_run = self.manifest.plan.strengths, self.manifest.vector.layers
        return found if found is not None and (found.strengths, found.layers) == of_run else None

    @cached_property
    def vector_quality(self) -> dict[str, Any] | None:
        """What the pairs tell of the vector that was swept: method, number of pairs and the figures of each layer.

        None where its file is not there, or tells nothing.
        """
        try:
            vector = read_vector(self.vector_path)
        except InputError:
            return None
        figures = vector.layer_figures
        if not figures:
            return None
        rows = [dict(zip(figures, row, strict=True)) for row in zip(*figures.values(), strict=True)]
        layers = [{"layer": il, **row} for il, row in zip(vector.layers, rows, strict=True)]
        return {"method": vector.metadata.get("method"), "n_pairs": vector.metadata.get("n_pairs"), "layers": layers}

    @cached_property
    def helpful(self) -> HelpfulScores | None:
        """What helpfulness is measured by: choice items, without any answers, without these code, or own answers."""
        if self.choice is not None or self.answer is not None:
            return self.choice or self.answer
        if self.items(Kind.CODE):
            return None if self.code is None else self.code.as_choice()
        return self.own if self.own is None or self.prompt_kl is None else replace(self.own, words=self.prompt_kl)

    @property
    def prompt_kl(self) -> float | None:
        """Mean KL per token by which the prompt baseline changes the own answers that choose; None if not measured."""
        prompt = self.controls.prompt
        return None if prompt is None or prompt.own is None else float(prompt.own.kl[0].mean())

    @property
    def wish_changes_answers(self) -> bool:
        """Whether the prompt baseline alone changes everyday answers by more than the budget of loss.

        That is then the wanted change and no harm, and the loss is of what steering changes beyond it.
        """
        words = self.prompt_kl
        return words is not None and 1.0 - float(np.exp(-words)) > self.manifest.plan.max_loss

    @property
    def loss_measure(self) -> Measure:
        """What the loss is counted in: `measure`, but "p_beyond" where the prompt baseline changes own answers."""
        return "p_beyond" if self.measure == "p_own" and self.wish_changes_answers else self.measure

    @property
    def measure(self) -> Measure:
        """Which of their numbers: of choices their `own_measure`, of answers the geometric mean P per token.

        Of own answers it is exp(-KL per token).
        """
        if isinstance(self.helpful, ChoiceScores):
            return self.helpful.own_measure
        if isinstance(self.helpful, OwnScores):
            return "p_own"
        return "p_token" if self.helpful is not None else "p_free"

    @property
    def helpful_values(self) -> Floats | None:
        """(n_s, n_items) of what the loss is counted in, between 0 and 1."""
        return None if self.helpful is None else measured(self.helpful, self.loss_measure)

    @property
    def n_choices(self) -> int | None:
        """How many choices every choice item has; None where they differ, or there are none."""
        numbers = {len(item.choices) for item in self.items(Kind.CHOICE) if isinstance(item, ChoiceItem)}
        return numbers.pop() if len(numbers) == 1 else None

    def rng(self) -> np.random.Generator:
        """A generator of the run's seed, new each time."""
        return np.random.default_rng(self.manifest.plan.seed)

    @cached_property
    def side_fits(self) -> Mapping[str, FitResult]:
        """The tanh over the B of the harmful and of the harmless items; empty where there are no such sides."""
        return fitted_by_side(self)

    def fit(self) -> Mapping[str, tuple[FitResult, ...]]:
        """The theory's curves fitted to the measured ones, best first.

        Returns:
            "alignment": tanh over normalized B, of the harmful items where there are two sides (see `side_items`);
            "helpfulness": the forms over `helpful_values`, by AICc; "helpfulness_restricted": over restricted P.

        >>> sorted(result.fit())
        ['alignment', 'helpfulness', 'helpfulness_restricted']
        """
        self._fits = self._fits or fitted(self)
        return self._fits

    def curves(self, *, invalid: Floats | None = None) -> Curves | None:
        """Alignment and helpfulness with what other directions do; None without both.

        Args:
            invalid: (n_s, n_items) share of each behavior item's generated texts that is broken.
        """
        if self.behavior is None or self.helpful is None:
            return None
        others, pending = self.controls.other_directions
        measure, telling = self.loss_measure, self.telling
        if telling is not None and self.prompt_kl is not None:
            telling = replace(telling, words=self.prompt_kl)
        return Curves.of(
            self.behavior, self.helpful, measure, invalid=invalid, others=others, pending=pending,
            kind="code" if self.choice is None and self.answer is None and self.items(Kind.CODE) else "",
            telling=None if telling is None else Telling(telling.strengths, measured(telling, measure)),
            n_compared=1 if self.preparation is None else max(len(self.preparation.windows), 1),
        )  # fmt: skip

    def recommend(self, *, max_loss: float | None = None, direction: int | None = None) -> Recommendation | None:
        """The strength to use under a loss budget; without arguments the plan's own.

        The loss is of `helpful_values`. None where there are no behavior items, or no others, to decide by.

        >>> result.recommend(max_loss=0.05).strength is None  # so few items prove nothing
        True
        """
        curves = self.curves()
        if curves is None:
            return None
        plan = self.manifest.plan
        budget = plan.max_loss if max_loss is None else max_loss
        sign: Literal[1, -1] = 1 if (direction or plan.direction) > 0 else -1
        if (budget, sign) not in self._recommended:
            self._recommended[budget, sign] = recommend(curves, direction=sign, max_loss=budget, rng=self.rng())
        return self._recommended[budget, sign]

    def control_strength(self) -> float | None:
        """Where random directions are compared with the vector (`control_strength` in scores.py); None if nowhere."""
        recommendation = self.recommend()
        return control_strength(
            self.strengths, self.behavior, self.helpful_values, direction=self.manifest.plan.direction,
            candidate=None if recommendation is None else recommendation.candidate,
        )  # fmt: skip

    def rows(self) -> tuple[StrengthMeans, ...]:
        """Means at each strength.

        >>> [row.strength for row in result.rows()]
        [-0.5, 0.0, 0.5, 1.0]
        """
        return self.scores.rows() or tuple(StrengthMeans(float(s)) for s in self.strengths)

    def to_frame(self, kind: FrameKind = "pandas") -> Any:
        """The measured means as a data frame, a row for each strength.

        Args:
            kind: "pandas" or "polars".

        Returns:
            a DataFrame of the columns of the CSV files: `strength`, in the plan's unit, and of each quantity that was
            measured the mean over items, its standard error `_se` and the ends `_low` and `_high` of its interval of
            95%: `alignment` from -1 to 1, `p_correct` from 0 to 1, `kl` in nats per token. With gain and loss come
            `gain`, `loss` and their bounds. docs/measures.md has all names with their units.

        Raises:
            InputError: another kind, or the package is not installed.

        >>> frame = result.to_frame()
        >>> frame["strength"].tolist()
        [-0.5, 0.0, 0.5, 1.0]
        >>> [name for name in frame.columns if name.startswith("alignment_raw")]
        ['alignment_raw', 'alignment_raw_se', 'alignment_raw_low', 'alignment_raw_high']
        """
        return frame(self.columns(), kind)

    def columns(self) -> dict[str, list[Any]]:
        """The columns of `to_frame` by name, a value for each strength."""
        columns = {"strength": self.strengths, **self.scores.columns(self.rng)}
        if (curves := self.curves()) is not None:
            gains = curves.columns(weight=1.0, rng=self.rng())
            columns |= {name: values for name, values in gains.items() if not name.startswith("utility")}
        return {name: values.tolist() for name, values in columns.items()}

    def to_json(self, *, max_loss: float | None = None, direction: int | None = None) -> RunRecord:
        """Everything that follows from the run, as plain data; NaN stands where a number would mean nothing.

        >>> record = result.to_json()
        >>> record["finished"], record["strengths"][0]["strength"]
        (True, -0.5)
        """
        recommendation, manifest = self.recommend(max_loss=max_loss, direction=direction), self.manifest.to_json()
        record: RunRecord = {
            "run": str(self.folder), "finished": self.finished,
            "model": manifest["model"],
            "items": manifest["items"],
            "plan": manifest["plan"],
            "tokens": manifest["tokens"],
            "resume": manifest["resume"],
            "gate_open": manifest["gate_open"],
            "vector": manifest["vector"] | {"file": str(self.vector_path), "quality": self.vector_quality},
            "strengths": [row.record() for row in self.rows()],
            "fits": {today(measure): [fit.record() for fit in fits] for measure, fits in self.fit().items()},
            "recommendation": None if recommendation is None else recommendation.record(),
            "controls": self.controls.record(), "notes": list(self.notes),
        }  # fmt: skip
        if "packing" in manifest:
            record["packing"] = manifest["packing"]
        if self.preparation is not None:
            record["preparation"] = self.preparation.record()
        return record


def open_run(folder: Path | str, *, strengths: Sequence[float] | None = None, decoded_now: int = 0) -> SweepResult:
    """Read a run directory, finished or not.

    Args:
        folder: the directory.
        strengths: only these; by default all that are finished.
        decoded_now: see `SweepResult`.

    Raises:
        RunError: it is none, it is damaged, no strength is finished in it, or it says that it is finished but lacks
            measurements or its vector.

    >>> open_run("run").strengths.tolist()
    [-0.5, 0.0, 0.5, 1.0]
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    finished = manifest.finished is not None
    if finished:
        read_swept_vector(folder, manifest)
    with Store.read(folder / STORE, settled=finished) as store:
        if store.plan_sha256 != manifest.first_plan_sha256:
            raise RunError(f"{folder}: {STORE} belongs to another plan than the manifest; {AGAIN}")
        if finished and (lacking := first_missing(store, manifest)):
            raise RunError(f"{folder / STORE}: lacks {lacking}, though the run is marked as finished; {AGAIN}")
        if finished and manifest.rows_sha256 not in (None, store.rows_sha256()):
            raise RunError(f"{folder / STORE}: its rows are not those that were measured, though it is intact; {AGAIN}")
        kinds = [kind for kind in manifest.items if kind in MEASURED]
        wanted = manifest.plan.strengths if strengths is None else strengths
        whole = [complete_strengths(store, Label.VECTOR, kind) for kind in kinds]
        measured = [s for s in wanted if all(s in of_kind for of_kind in whole)]
        if not kinds and missing_texts(store, manifest):
            measured = []
        if not measured or not all(0.0 in of_kind for of_kind in whole):
            raise RunError(f"{folder}: no strength is finished yet; run the same sweep again to go on")
        return SweepResult(
            folder, manifest, strengths=measured, scores=stored_scores(store, Label.VECTOR, kinds, measured),
            controls=stored_controls(store, manifest), items={kind: store.items(kind) for kind in manifest.items},
            telling=telling_scores(store), decoded_now=decoded_now,
        )  # fmt: skip


def fitted(result: SweepResult) -> Mapping[str, tuple[FitResult, ...]]:
    """The fits of each measure, best first; see `SweepResult.fit`."""
    fits: dict[str, tuple[FitResult, ...]] = {}
    strengths, helpful, choice = result.strengths, result.helpful, result.choice
    if result.behavior is not None:
        of_harmful = result.side_fits.get(HARMFUL)
        fits["alignment"] = (of_harmful or fit_alignment(strengths, result.behavior.normalized, rng=result.rng()),)
    measures: dict[str, tuple[HelpfulScores, Measure]] = {}
    if choice is not None:
        measures["helpfulness_restricted"] = choice, "p_restricted"
    if helpful is not None:
        measures["helpfulness"] = helpful, result.measure
    for name, (scores, measure) in measures.items():
        chance = float(chance_level(scores, measure).mean())
        of_name = fit_helpfulness_forms(
            strengths, measured(scores, measure), restricted=chance > 0, own=measure == "p_own",
            n_choices=1 / chance if chance else 4, rng=result.rng(),
        )  # fmt: skip
        reason = guessing(scores)
        fits[name] = tuple(refused(fit, reason) if reason and fit.valid else fit for fit in of_name)
    return fits


def fitted_by_side(result: SweepResult) -> Mapping[str, FitResult]:
    """The tanh over the B of the harmful and of the harmless items; empty where there are no such sides."""
    if result.behavior is None or result.side_items is None:
        return {}
    b, rows = result.behavior.normalized, result.side_items.items()
    return {name: fit_alignment(result.strengths, b[:, places], rng=result.rng()) for name, places in rows}
