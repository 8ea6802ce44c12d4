"""Names of columns in words, for a page that people read; CSV and JSON keep the names.

heading("alignment_raw")       "P+ − P−"
heading("alignment_raw_se")    "P+ − P−, s.e."
heading("lost_to_wrong")       "lost to another choice"
"""

from __future__ import annotations

from collections.abc import Mapping

WORDS: Mapping[str, str] = {
    # what is measured
    "alignment": "B", "alignment_raw": "P+ − P−", "mass": "mass, P+ + P−",
    "alignment_harmful": "B, harmful", "alignment_harmless": "B, harmless",
    "p_correct": "P(correct)", "p_correct_restricted": "P(correct) over the choices",
    "p_correct_restricted_norm": "P(correct) over the choices, length-normalized",
    "accuracy": "accuracy (share right)", "accuracy_norm": "accuracy, length-normalized (acc_norm)",
    "p_token": "P of the answer, per token", "nats": "ln P of the answer (nats)",
    "p_own": "own answers, exp(-KL per token)", "p_own_telling": "testing own answers, exp(-KL per token)",
    "kl": "KL of own answers (nats per token)", "kl_twin": "ln p0 - ln ps of own answers (nats per token)",
    "perplexity": "perplexity", "helpfulness": "helpfulness (what the loss is of)",
    "gain": "gain in B (only while half of the mass is left)", "loss": "loss (share of helpfulness)",
    "utility": "gain in B + w · change of P",
    "aligned_ratio": "growth of P+ (ratio)", "mass_ratio": "mass that is left (ratio)",
    "over_random": "gain in B over random directions", "slope_at_0": "slope of B at 0",
    "prompt_gain": "gain in B of the prompt baseline", "prompt_loss": "loss of the prompt baseline (share)",
    "random_gain": "gain in B of random directions", "random_gain_most": "the largest gain in B of random directions",
    # generated texts and programs
    "alignment_texts": "B of the texts", "aligned_share": "aligned (share)", "invalid_share": "invalid (share)",
    "neither_share": "neither (share)", "broken_share": "broken (share)", "repetition": "repeating (share)",
    "thinking_share": "with thoughts (share)", "unfinished_share": "ended inside thoughts (share)",
    "perplexity_texts": "perplexity of the texts",
    "texts_aligned": "texts aligned", "texts_misaligned": "texts misaligned", "texts_invalid": "texts invalid",
    "texts_neither": "texts neither", "texts_broken": "texts broken",
    "alignment_likelihood": "B of the texts by likelihood", "saturated": "texts with |B| above 0.99 (share)",
    "llr_per_token": "log-likelihood ratio of the texts (nats per token)", "text_loss": "loss of the texts (share)",
    "right_number": "texts with the right number (share)", "without_number": "texts without a number (share)",
    # questions on bias
    "bias_ambiguous": "bias score, ambiguous", "bias_disambiguated": "bias score, disambiguated",
    "accuracy_ambiguous": "accuracy, ambiguous", "accuracy_disambiguated": "accuracy, disambiguated",
    "named_ambiguous": "person named, ambiguous (share)",
    "named_disambiguated": "person named, disambiguated (share)",
    # pairs of texts
    "stereotyped_likelier": "stereotyped text likelier (share)",
    "nats_apart": "ln P of the stereotyped text less the other's (nats)",
    # single items
    "id": "item", "slope": "slope of ½ ln(P+/P−)",
    # what became of choice items
    "right": "right", "wrong": "another choice", "format": "no choice named", "right_before": "right at 0",
    "kept": "of these still right", "lost_to_wrong": "lost to another choice",
    "lost_to_format": "lost to no choice named", "gained": "right here alone",
    # requests of two sides, couples
    "over_refusal": "over-refusal (share)", "compliance": "compliance (share)",
    "over_refusal_texts": "over-refusal in the texts (share)", "compliance_texts": "compliance in the texts (share)",
    "pearson": "correlation", "spearman": "rank correlation",
}  # fmt: skip
ENDS: Mapping[str, str] = {
    "_se": ", s.e.", "_low": ", low end", "_high": ", high end", "_at_0": " at 0", "_at_strength": " at the strength",
}  # fmt: skip
MEASURES: Mapping[str, str] = {  # what fits are of
    "alignment": "alignment, B",
    "helpfulness": "helpfulness",
    "helpfulness_restricted": "helpfulness over the choices",
    "p_correct_restricted": "helpfulness over the choices",
}
PARAMETERS: Mapping[str, str] = {"delta_lambda": "Δλ", "b": "b = λσβ"}


def heading(name: str) -> str:
    """A column's name in words; of one that is not known without underscores."""
    if name in WORDS:
        return WORDS[name]
    if name.startswith("pass_at_"):
        k, *rest = name.removeprefix("pass_at_").split("_")
        ends = [ENDS.get(f"_{word}", f", {word}") for word in rest]
        return f"pass@{k}{''.join(ends)}"
    for end, words in ENDS.items():
        if name.endswith(end):
            return f"{heading(name.removesuffix(end))}{words}"
    return name.replace("_", " ")
