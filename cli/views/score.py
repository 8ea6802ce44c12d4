"""What `score` prints: the panel, every fit, and tables of what became of items and texts at each strength."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from steercpp.cli import output
from steercpp.cli.views.fits import fit_pieces, recipe_pieces
from steercpp.cli.views.panel import panel_pieces
from steercpp.cli.views.pieces import files_pieces, share, signed
from steercpp.cli.views.sweep import code_pieces, title, unit_words
from steercpp.cli.views.verdict import verdict_pieces
from steercpp.cli.words import in_options
from steercpp.runs.verdict import verdict_of
from steercpp.statistics.rounded import plus, significant

if TYPE_CHECKING:
    from steercpp.runs.judgement import Judgement
    from steercpp.statistics.fits import FitResult
    from steercpp.statistics.over_refusal import Sides
    from steercpp.statistics.recipes import Recipe, RecipeFit

LINES = 12  # of a failed program that are shown
WIDE = 300  # characters of a failed text that are shown


def score_pieces(
    judgement: Judgement, data: dict[str, Any], recipe: Recipe | None, followed: Sequence[RecipeFit]
) -> list[output.Renderable]:
    """Everything, in the order of what a reader wants to know first."""
    pieces = verdict_pieces(judgement, verdict_of(judgement))
    pieces.append(output.panel(*panel_pieces(judgement, data, unit=unit_words(data), work=[]), title=title(data)))
    fits = _named_fits(judgement)
    pieces += recipe_pieces(recipe, followed) if recipe is not None else fit_pieces(fits) if fits else []
    pieces.append(output.blank())
    pieces += _choices(data["failures"]["choice"])
    pieces += _bias(data["bias"])
    pieces += _text_pairs(data["text_pairs"])
    pieces += _texts(data["texts"])
    pieces += _readings(data["likelihood"])
    pieces += code_pieces(data["code"])
    pieces += _numbers(data["numbers"])
    pieces += [output.text(in_options(f"{note[:1].upper()}{note[1:]}."), "dim") for note in judgement.result.text_notes]
    for name, sides in (("", judgement.sides), (", generated text", judgement.text_sides)):
        pieces += _sides(sides, name)
    pieces += _couples(data["coupled"])
    if "samples" in data:
        pieces += _samples(data["samples"], judgement)
    if "files" in data:
        pieces += files_pieces(data["files"])
    return pieces


def _named_fits(judgement: Judgement) -> dict[str, tuple[FitResult, ...]]:
    """Every fit by what it is of; that of alignment, where items have two sides, side by side."""
    from steercpp.reports.headings import MEASURES

    fits = {MEASURES.get(name, name): forms for name, forms in judgement.result.fit().items()}
    sides = {f"alignment, {name} items": (fit,) for name, fit in judgement.result.side_fits.items()}
    if sides:
        del fits[MEASURES["alignment"]]
    return {**sides, **fits}


def _choices(rows: Sequence[dict[str, Any]] | None) -> list[output.Renderable]:
    if not rows:
        return []
    columns: list[output.Column] = [
        (name, "right") for name in ("strength", "right", "other", "none", "kept", "to other", "to none", "gained")
    ]
    keys = ("right", "wrong", "format", "kept", "lost_to_wrong", "lost_to_format", "gained")
    table = [[signed(row["strength"]), *(str(row[key]) for key in keys)] for row in rows]
    heading = "Choice items: all that name the right, another or no choice; and of those right at 0"
    return [output.table(columns, table, title=heading)]


def _bias(contexts: Sequence[dict[str, Any]] | None) -> list[output.Renderable]:
    pieces: list[output.Renderable] = []
    columns: list[output.Column] = [
        (name, "right") for name in ("strength", "bias score", "low", "high", "accuracy", "person named")
    ]
    for scores in contexts or ():
        table = [
            [
                signed(strength),
                *(_number(scores[f"bias_{scores['context']}{end}"][i]) for end in ("", "_low", "_high")),
                *(share(scores[f"{name}_{scores['context']}"][i]) for name in ("accuracy", "named")),
            ]
            for i, strength in enumerate(scores["strengths"])
        ]
        heading = f"BBQ's bias score in {scores['context']} contexts, {scores['n_items']} questions"
        pieces.append(output.table(columns, table, title=heading))
    return pieces


def _number(value: float) -> str:
    return plus(value) if value == value else "–"


def _text_pairs(scores: dict[str, Any] | None) -> list[output.Renderable]:
    if scores is None:
        return []
    columns: list[output.Column] = [
        (name, "right") for name in ("strength", "likelier", "low", "high", "ln P apart (nats)")
    ]
    table = [
        [
            signed(strength),
            *(share(scores[f"stereotyped_likelier{end}"][i]) for end in ("", "_low", "_high")),
            plus(scores["nats_apart"][i]),
        ]
        for i, strength in enumerate(scores["strengths"])
    ]
    heading = f"Stereotyped texts that are likelier than their counterparts, {scores['n_pairs']} pairs"
    return [output.table(columns, table, title=heading)]


def _texts(scores: dict[str, Any] | None) -> list[output.Renderable]:
    if scores is None:
        return []
    columns: list[output.Column] = [
        (name, "right") for name in ("strength", "B", "low", "high", "neither", "broken", "up to", "perplexity")
    ]
    keys: dict[str, Callable[[float], str]] = {
        "alignment_texts": plus, "alignment_texts_low": plus, "alignment_texts_high": plus, "neither_share": share,
        "broken_share": share, "broken_share_high": share, "perplexity_texts": partial(significant, digits=4),
    }  # fmt: skip
    table = [
        [
            signed(strength),
            *(form(scores[key][i]) for key, form in keys.items()),
        ]
        for i, strength in enumerate(scores["strengths"])
    ]
    heading = f"Generated texts, {scores['n_items']} items, judged by {scores['matcher']}"
    return [output.table(columns, table, title=heading)]


def _numbers(scores: dict[str, Any] | None) -> list[output.Renderable]:
    if scores is None:
        return []
    keys = ("right_number", "right_number_low", "right_number_high", "without_number")
    columns: list[output.Column] = [
        (name, "right") for name in ("strength", "right number", "low", "high", "without one")
    ]
    table = [
        [signed(strength), *(share(scores[key][i]) for key in keys)] for i, strength in enumerate(scores["strengths"])
    ]
    heading = f"Generated texts, {scores['n_items']} items, by their last number"
    return [output.table(columns, table, title=heading)]


def _readings(scores: dict[str, Any] | None) -> list[output.Renderable]:
    """The texts as the unsteered model reads them, and what its judgement is worth."""
    if scores is None:
        return []
    keys = {
        "LLR' a token": "llr_per_token", "low": "llr_per_token_low", "high": "llr_per_token_high",
        "B": "alignment_likelihood", "|B| > .99": "saturated", "text loss": "text_loss",
    }  # fmt: skip
    columns: list[output.Column] = [(name, "right") for name in ("strength", *keys)]
    shares = ("saturated", "text_loss")
    table = [
        [signed(strength), *((share if key in shares else plus)(scores[key][i]) for key in keys.values())]
        for i, strength in enumerate(scores["strengths"])
    ]
    pieces = [output.table(columns, table, title="Generated texts, as the unsteered model reads them")]
    if scores["refused"]:
        return [*pieces, output.text(f"Likelihood gives no verdict: {scores['refused']}.", "yellow")]
    figures = {"AUC": scores["separation"], f"kappa with {scores['matcher']}": scores["agreement"]}
    worth = ", ".join(
        f"{name} {bound['value']:.2f} (at least {bound['low']:.2f})" for name, bound in figures.items() if bound
    )
    return [*pieces, output.text(f"Likelihood tells the sides apart: {worth}.", "dim")]


def _sides(sides: Sides | None, by: str) -> list[output.Renderable]:
    if sides is None:
        return []
    columns: list[output.Column] = [("strength", "right"), ("over-refusal", "right"), ("compliance", "right")]
    table = [
        [signed(float(s)), *(f"{value:.3f} ({low:.3f} to {high:.3f})" for value, low, high in (over, comply))]
        for s, over, comply in zip(sides.strengths, sides.over_refusal, sides.compliance, strict=True)
    ]
    heading = f"Both sides{by}: {sides.n_harmless} harmless and {sides.n_harmful} harmful requests"
    return [output.table(columns, table, title=heading)]


def _couples(coupled: dict[str, Any] | None) -> list[output.Renderable]:
    if coupled is None:
        return []
    if coupled["reason"]:
        return [output.text(f"Couples: {coupled['reason']}.", "yellow")]
    columns: list[output.Column] = [("strength", "right"), ("Pearson", "right"), ("Spearman", "right")]
    of = "P(correct)" if coupled["helpful"] == "choice" else "P(comply) with the harmless request"
    table = [[signed(row["strength"]), *(_correlation(row[name]) for name in ("pearson", "spearman"))]
             for row in coupled["correlations"]]  # fmt: skip
    return [output.table(columns, table, title=f"{coupled['n']} couples: change of B against change of {of}")]


def _correlation(number: dict[str, float]) -> str:
    if number["value"] != number["value"]:
        return "–"
    return f"{plus(number['value'], 2)} ({plus(number['low'], 2)} to {plus(number['high'], 2)})"


def _samples(samples: dict[str, list[dict[str, Any]]], judgement: Judgement) -> list[output.Renderable]:
    pieces: list[output.Renderable] = []
    for text in samples["texts"]:
        why = f"{text['outcome']}, {text['why']}" if text["why"] else text["outcome"]
        pieces.append(output.text(f"{signed(text['strength'])}  {text['item']}: {why}", "bold"))
        pieces += [
            output.text(f"  {_short(text['asked'])}", "dim"),
            *([output.text(f"  thoughts: {_short(text['thoughts'])}", "dim")] if text["thoughts"] else []),
            output.text(f"  {_short(text['answer'])}"),
            output.blank(),
        ]
    for program in samples["programs"]:
        pieces += [
            output.text(f"{signed(program['strength'])}  {program['item']}: failed, {_short(program['why'])}", "bold"),
            output.text(_indented(program["text"])),
            output.blank(),
        ]
    for choice in samples["choices"]:
        what = "no choice named" if choice["is"] == "format" else "another choice"
        p_at_0, p = choice["p_correct_at_0"], choice["p_correct"]
        heading = f"{signed(choice['strength'])}  {choice['item']}: {what}, P {p_at_0:.3f} to {p:.3f}"
        pieces += [output.text(heading, "bold"), output.text(f"  {_short(choice['question'])}", "dim")]
        pieces += [output.text(f"  {what}: {choice[key]['letter']}) {_short(choice[key]['text'])}")
                   for key, what in (("right", "right"), ("taken", "likeliest"))]  # fmt: skip
        pieces.append(output.blank())
    return pieces or [output.text(_nothing(judgement))]


def _nothing(judgement: Judgement) -> str:
    """What it means that there are no samples: of what was looked at none failed, or there is nothing to look at."""
    result = judgement.result
    looked_at = {
        "every text is aligned": judgement.text_scores is not None,
        "every program passes": result.code is not None,
        "every choice item that is right at 0 stays right": judgement.failures is not None,
    }
    fine = [words for words, is_there in looked_at.items() if is_there]
    not_run = bool(result.items("code")) and result.code is None
    if not fine:
        return (
            "The programs were not run yet: --allow-code-execution does."
            if not_run
            else "No samples: the run has no texts of behavior items, no programs and no choice items."
        )
    more = "; the programs were not run yet" if not_run else ""
    return f"Nothing failed: {', '.join(fine)}{more}."


def _indented(program: str) -> str:
    """A program's lines, cut where there are many."""
    lines = program.strip("\n").splitlines() or ["(nothing)"]
    shown = [f"  {line}" for line in lines[:LINES]]
    return "\n".join([*shown, *([f"  … {len(lines) - LINES} lines more"] if len(lines) > LINES else [])])


def _short(content: str) -> str:
    """A text on one line, cut where it is long."""
    line = " ".join(content.split()) or "(nothing)"
    return line if len(line) <= WIDE else f"{line[:WIDE]}…"
