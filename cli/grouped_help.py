"""Help in groups: which options of a command belong together, and what each group is for.

    @click.command(cls=Command)
    @vector_options
    def sweep(...): ...

A command takes its options from anywhere; here they find their group by name, so that every command groups alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import cloup

from steercpp.cli import output


@dataclass(frozen=True, slots=True)
class Subject:
    """A group of options.

    Attributes:
        title: its heading.
        help: what it is for, in one line.
        names: its options, by their parameters' names.
    """

    title: str
    help: str
    names: frozenset[str]


def _subject(title: str, help: str, names: str) -> Subject:
    return Subject(title, help, frozenset(names.split()))


SUBJECTS = (
    _subject(
        "Vector", "What steers: a control vector, or contrast pairs to make one from.",
        "vector vector_path vectors pairs pairs_path pairs_format method methods normalize activations positive_file "
        "negative_file personas persona_template chosen_template variant token orthogonal_to layer_convention "
        "model_hint sign subject from_format to_format",
    ),
    _subject(
        "Items", "What is measured: behavior, helpfulness, and the prompts of both.",
        "behavior behaviors tasks data limit shots ask n_items requests choices only category kind bias_type base "
        "model",
    ),
    _subject(
        "Strengths and layers", "How far and where to steer.",
        "strengths strength layers unit kl windows window quantile bake",
    ),
    _subject(
        "Recommendation", "What may be lost, and which sign is wanted.",
        "max_loss direction max_invalid weight recipe digits",
    ),
    _subject(
        "Time", "How much is measured.",
        "quick budget_s dry_run repeats shape quant task tokens_per_item answer_tokens n_own n_strengths n_directions "
        "instruction_tokens n_texts text_tokens first_layer finds counts price disk_mb_s seconds cpu_time calibration "
        "elsewhere",
    ),
    _subject(
        "Controls", "What the vector is compared with.",
        "n_random orthogonal prompt_baseline instruction opposite",
    ),
    _subject("Prompt", "What is continued.", "prompt text chat system named"),
    _subject(
        "Generated text", "Texts to judge or to look at, and how they are drawn.",
        "max_new_tokens max_tokens samples temperature top_k top_p min_p repeat_penalty frequency_penalty "
        "presence_penalty repeat_last_n logit_bias logprobs stop matcher shown n_shown code_template "
        "code_ways allow_code exact as_text",
    ),
    _subject("Ways to steer", "How the vector acts, and on which tokens.", "operator positions side gate gate_vector"),
    _subject("Chat template", "What the model's template receives.", "template template_kwargs date"),
    _subject(
        "Server", "Where it is served, to whom, and how much is taken at once.",
        "host port alias rows kept max_queue timeout max_body api_key api_key_file allow_uploads log_prompts",
    ),
    _subject(
        "Speed and memory", "How the model is computed.",
        "threads n_ctx n_batch flash_attn keep_mib as_alone use_mmap type_k type_v",
    ),
    _subject(
        "GPUs and other machines", "Where the model is computed.",
        "n_gpu_layers gpu_layers main_gpu split_mode tensor_split rpc offload_kqv workers dask models",
    ),
    _subject(
        "Output", "Where results go, and how they are shown.",
        "out form table force details plain as_json figure seed base_url cache folder split n_rows llama_bin "
        "is_printed",
    ),
)  # fmt: skip


def plain_option() -> click.Option:
    """The group's --plain, which is understood behind a command's name too."""

    def be_plain(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            output.be_plain(True)

    return click.Option(["--plain"], is_flag=True, hidden=True, expose_value=False, is_eager=True, callback=be_plain)


class Command(cloup.Command):
    """A command whose options are shown in groups."""

    def __init__(self, *args: Any, params: list[click.Parameter] | None = None, **settings: Any) -> None:
        super().__init__(*args, params=[*(params or []), plain_option()], **settings)
        options = [parameter for parameter in params or [] if isinstance(parameter, click.Option)]
        subject_of = {
            option.name: subject for subject in SUBJECTS for option in options if option.name in subject.names
        }
        self.option_groups = []
        for subject in SUBJECTS[:-1]:
            group = cloup.OptionGroup(subject.title, help=subject.help)
            group.options = [option for option in options if subject_of.get(option.name) is subject]
            if group.options:
                self.option_groups.append(group)
        self.ungrouped_options = [option for option in options if subject_of.get(option.name) in (None, SUBJECTS[-1])]

    def get_default_option_group(
        self, ctx: click.Context, is_the_only_visible_option_group: bool = False
    ) -> cloup.OptionGroup:
        """The last group: output, and --help."""
        if is_the_only_visible_option_group:
            return super().get_default_option_group(ctx, True)
        group = cloup.OptionGroup(SUBJECTS[-1].title, help=SUBJECTS[-1].help)
        group.options = self.get_ungrouped_options(ctx)
        return group
