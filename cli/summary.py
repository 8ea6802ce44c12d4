"""What a person sees of a sweep: the table of strengths and the closing panel; shared by `sweep` and `report`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from steercpp.cli import output

if TYPE_CHECKING:
    from steercpp.sweep_result import Row, SweepResult

Line: TypeAlias = "list[output.Cell]"
Fact: TypeAlias = "tuple[str, output.Cell]"
CONSTANTS = (("alignment", "Delta*lambda", "delta_lambda"), ("helpfulness", "lambda*sigma*beta", "b"))
PLAIN = {"operator": "add", "positions": "all", "side": "both"}
WORDS = {
    "prompt": "the prompt's tokens", "generated": "what follows the prompt", "last": "the prompt's last token",
    "positive": "tokens of positive projection", "negative": "tokens of negative projection",
}  # fmt: skip
NAMES = {"quadratic": "quadratic", "gaussian": "Gaussian", "gaussian-free-centre": "shifted Gaussian"}


def strength_table(rows: Sequence[Row], *, recommended: float | None = None) -> output.Renderable:
    """A line for each strength, with a picture of B and of P(correct); within 80 columns."""
    columns: list[output.Column] = [("strength", "right")]
    if rows[0].b is not None:
        columns += [("-1      B      +1", "left"), ("B", "right"), ("mass", "right")]
    if rows[0].p_free is not None:
        columns += [("P(correct)", "left"), ("free", "right"), ("choices", "right")]
    return output.table(columns, [_line(row, row.strength == recommended) for row in rows])


def _line(row: Row, recommended: bool) -> Line:
    style = "bold green" if recommended else ""
    line: Line = [output.text(_signed(row.strength), style)]
    if row.b is not None and row.mass is not None:
        line += [output.text(_dot(row.b), "cyan"), output.text(f"{row.b:+.3f}", style), f"{row.mass:.2f}"]
    if row.p_free is not None and row.p_restricted is not None:
        line += [output.text(_bar(row.p_free), "yellow"), output.text(f"{row.p_free:.3f}", style)]
        line += [f"{row.p_restricted:.3f}"]
    return line


def _signed(strength: float) -> str:
    return f"{strength:+.10g}" if strength else "0"


def _dot(b: float, half: int = 8) -> str:
    """A place on a line from -1 to +1."""
    line = ["·"] * (2 * half + 1)
    line[half] = "│"
    line[half + round(max(-1.0, min(1.0, b)) * half)] = "●"
    return "".join(line)


def _bar(p: float, width: int = 10) -> str:
    """A bar from 0 to 1, in eighths of a character."""
    eighths = int(max(0.0, min(1.0, p)) * width * 8 + 0.5)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def closing(result: SweepResult, data: dict[str, Any], files: Sequence[Path]) -> list[output.Renderable]:
    """The table, the panel with what to know, the files and the command lines to copy."""
    strength = (data["recommendation"] or {}).get("strength")
    pieces: list[output.Renderable] = [strength_table(result.rows(), recommended=strength)]
    pieces.append(output.panel(*_panel(result, data), title=_title(data)))
    pieces += _files(result, files)
    plan = result.manifest["plan"]
    if plan["gate"] or any(plan[key] != usual for key, usual in PLAIN.items()):
        pieces += _only_here(result, 1.0 if strength is None else strength)
    elif strength is not None:
        pieces += _commands(result, strength)
    return pieces


def _title(data: dict[str, Any]) -> str:
    layers = data["vector"]["layers"]
    joined = len(layers) > 1 and layers == list(range(layers[0], layers[-1] + 1))
    shown = f"{layers[0]}-{layers[-1]}" if joined else ", ".join(map(str, layers))
    return f"{data['model']['file']}, steered at layer{'s' if len(layers) > 1 else ''} {shown}"


def _panel(result: SweepResult, data: dict[str, Any]) -> list[output.Renderable]:
    found = data["recommendation"]
    strength = None if found is None else found["strength"]
    pieces: list[output.Renderable] = []
    if not data["finished"]:
        pieces += [output.text("unfinished: run the same sweep again to go on", "yellow"), output.blank()]
    if found is None:
        pieces.append(output.text("No recommended strength: it takes behavior items and choice items."))
    elif strength is None:
        pieces.append(output.text(f"No recommended strength: {found['reason']}.", "yellow"))
    else:
        pieces.append(output.text(f"Recommended strength {_signed(strength)}{_unit(data)}", "bold green"))
    facts: list[Fact] = [("", ""), *_means(result, strength), ("", "")]
    if found is not None and strength is not None:
        facts += [
            ("gain", f"{found['gain']:+.3f} in P+ − P−, at least {found['gain_low']:+.3f}"),
            ("loss", f"{_share(found['loss'])} of P(correct), at most {_share(found['loss_high'])}"),
        ]
    facts += [*_controls(data["controls"], strength), *_constants(data["fits"])]
    manner, work = _manner(data), _work(data)
    pieces.append(output.facts([*manner, *facts, *([("", ""), *work] if work else [])]))
    if found is not None and strength is not None:
        pieces += [output.blank(), *_footnotes(found)]
    return pieces


def _manner(data: dict[str, Any]) -> list[Fact]:
    """How the vector acted, where that is not llama.cpp's own way: added at all tokens."""
    plan = data["plan"]
    facts: list[Fact] = [(key, WORDS.get(plan[key], plan[key])) for key, usual in PLAIN.items() if plan[key] != usual]
    if plan["gate"]:
        il, *below, threshold, _ = plan["gate"].split(":")
        which = f"projection {'below' if below else 'above'} {float(threshold):g} at layer {il}"
        counts = data["gate_open"] or {}
        opened = " and ".join(f"{n} of {data['items'][kind]} {kind} items" for kind, n in counts.items())
        facts.append(("gate", f"{which}; open for {opened}" if opened else which))
    return [("", ""), *facts] if facts else []


def _work(data: dict[str, Any]) -> list[Fact]:
    """Whether steered passes started above the layers below, and what was saved."""
    resume, tokens = data["resume"], data["tokens"]
    if not resume or not tokens:
        return []
    where = f"resumed above layer {resume['first_layer'] - 1}"
    how = where if resume["resumed"] else f"in full ({resume['reason']})"
    if resume["resumed"] and resume["n_in_full"]:
        how = f"{resume['n_resumed']} {where}, {resume['n_in_full']} in full ({resume['reason']})"
    share = tokens["token_layers"] / tokens["token_layers_plain"]
    return [("steered passes", f"{how}: {share:.2f} of the token-layers of a plain loop")]


def _unit(data: dict[str, Any]) -> str:
    """What strength 1 is: a share of the residual norm, a push, a length, or for other vectors the vector itself."""
    operator, plan = data["plan"]["operator"], data["plan"]
    if operator == "rotate":
        return " radians at each layer"
    if operator == "ablate":
        return " of the projection at each layer"
    if plan["unit"] == "norm":
        return " of the residual norm at each layer"
    if plan["unit"] == "kl":
        return f", in pushes that have {plan['kl']:g} nats of KL each"
    is_unit = all(abs(norm - 1) < 1e-3 for norm in data["vector"]["norms"])
    return f" {'long' if is_unit else 'times the vector'} at each layer"


def _means(result: SweepResult, strength: float | None) -> list[Fact]:
    """Means over all items at 0 and at the recommended strength."""
    places = [row for row in result.rows() if row.strength in (0.0, strength)]
    places.sort(key=lambda row: row.strength != 0)
    facts: list[Fact] = [("", output.text("".join(f"{f'at {_signed(row.strength)}':>10}" for row in places), "dim"))]
    for name, key, form in (("B", "b", "+.3f"), ("P+ − P−", "b_raw", "+.3f"), ("P(correct)", "p_free", ".3f")):
        values = [getattr(row, key) for row in places]
        if values[0] is not None:
            facts.append((name, "".join(f"{format(value, form):>10}" for value in values)))
    return facts


def _share(value: float) -> str:
    """A share in percent; what rounds to nothing has no sign."""
    return f"{round(value, 3) + 0.0:.1%}"


def _controls(controls: dict[str, Any], recommended: float | None) -> list[Fact]:
    facts: list[Fact] = [(name, output.text(f"not measured: {why}", "yellow")) for name, why in _missing(controls)]
    if controls["b"] is None:
        return facts
    where = "" if controls["strength"] == recommended else f", at {_signed(controls['strength'])}"
    lines: list[Fact] = []
    for name, key in (("B", "b"), ("P+ − P−", "b_raw")):
        size = controls[key]
        told = f"|change of {name}| median {size['median']:.3f}, maximum {size['maximum']:.3f}{where}"
        lines.append(("" if lines else f"{controls['n']} random directions", told))
    return lines + facts


def _missing(controls: dict[str, Any]) -> list[tuple[str, str]]:
    """The controls that are not there, each with the reason."""
    names = {"random": "random directions", "orthogonal": "orthogonal direction", "prompt": "prompt baseline"}
    return [(names[name], why) for name, why in controls["off"].items()]


def _constants(fits: dict[str, Any]) -> list[Fact]:
    """The theory's constants, each from the best fit of its measure."""
    facts: list[Fact] = []
    for measure, name, key in CONSTANTS:
        if measure not in fits:
            continue
        fit = fits[measure][0]
        if not fit["valid"]:
            facts.append((name, output.text(f"no valid fit: {fit['reason']}", "yellow")))
            continue
        value = fit["params"][key]
        interval = f"{value['value']:#.3g} ({value['low']:#.3g} to {value['high']:#.3g})"
        facts.append((name, f"{interval}, {NAMES.get(fit['form'], fit['form'])}, R² {fit['r2']:.3f}"))
    return facts


def _footnotes(found: dict[str, Any]) -> list[output.Renderable]:
    half, budget = found["reported_on"], f"{found['max_loss']:.0%}"
    counts = f"{half['n_behavior']} behavior and {half['n_choice']} choice items"
    told = (
        f"Means are of all items. Gain and loss are of {counts} without part in the choice, with "
        f"{found['confidence']:.0%} bounds; budget {budget}."
    )
    notes: list[output.Renderable] = [output.text(told, "dim")]
    if not found["confirmed"]:
        notes.append(output.text("They do not confirm it: with more items the answer may differ.", "yellow"))
    return notes


def _files(result: SweepResult, files: Sequence[Path]) -> list[output.Renderable]:
    grouped: dict[str, list[str]] = {}
    for path in [result.vector_path, *files]:
        grouped.setdefault(f"{relative(path.parent)}/{path.stem}", []).append(path.suffix)
    lines = [output.verbatim(f"  {stem}{' '.join(suffixes)}") for stem, suffixes in grouped.items()]
    return [output.text("Files", "dim"), *lines]


def _commands(result: SweepResult, strength: float) -> list[output.Renderable]:
    """llama.cpp's own command lines; it takes colons and commas in the path for separators."""
    vector = relative(result.vector_path)
    if ":" in vector or "," in vector:
        return [output.text("llama.cpp loads no vector from a path with ':' or ','; copy it elsewhere.", "yellow")]
    if 0 in result.manifest["vector"]["layers"]:
        return [output.text("llama.cpp cannot steer layer 0, so it cannot do the same.", "yellow")]
    model = shlex.quote(relative(Path(result.manifest["model"]["path"])))
    scaled = f"--control-vector-scaled {shlex.quote(f'{vector}:{strength:.10g}')}"
    return [
        output.text("The same with llama.cpp", "dim"),
        output.verbatim(f"  llama-server -m {model} {scaled}"),
        output.verbatim(f"  llama-cli -m {model} {scaled}"),
    ]


def _only_here(result: SweepResult, strength: float) -> list[output.Renderable]:
    """The command of ours that acts as the sweep did, where llama.cpp has none."""
    model, vector = (
        shlex.quote(relative(path)) for path in (Path(result.manifest["model"]["path"]), result.vector_path)
    )
    gate = result.manifest["plan"]["gate"].rpartition(":")[0]
    line = f"  steercpp generate {model} --vector {vector}" + (f" --gate {gate}" if gate else "")
    return [
        output.text("llama.cpp only adds vectors, at every token, so it cannot do the same; this can:", "yellow"),
        output.verbatim(f"{line} -p TEXT --strengths=0,{strength:.10g}"),
    ]


def relative(path: Path) -> str:
    """A path from the working directory where that is shorter."""
    try:
        short = os.path.relpath(path)
    except ValueError:  # another drive
        return str(path)
    return short if len(short) < len(str(path)) else str(path)
