"""The data sets by name: what each is, which file it is read from, and by which function.

Each reader takes the path of an official file, as its authors publish it, and gives frozen dataclasses that have
every official field unchanged, plus `place`, the path:line of the row. Readers with parts take more:
`read_mmlu(path, subject=..., split=...)`, `read_stereoset(path, bias_type=..., task=...)`,
`read_instructions(path, side=..., split=...)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from steercpp.data.sets.bias import read_bbq, read_crows_pairs
from steercpp.data.sets.knowledge import (
    read_caa,
    read_caa_choices,
    read_gsm8k,
    read_humaneval,
    read_mmlu,
    read_model_written,
    read_truthfulqa,
)
from steercpp.data.sets.records import known
from steercpp.data.sets.safety import (
    read_advbench,
    read_harmbench,
    read_instructions,
    read_jailbreakbench,
    read_malicious_instruct,
    read_stereoset,
    read_strongreject,
    read_xstest,
)
from steercpp.errors import DataSetError


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set.

    Attributes:
        name: what commands call it.
        about: what it holds, in a few words.
        path: what to give: the official file, or the folder of files.
        licence: its authors', by SPDX's short names, or that it is not known.
        source: where it is published, on github.com.
        read: reads it from such a path; raises DataSetError.
        parts: what `read` takes besides, to choose a part.
        group: the field by which rows are counted, or "".
    """

    name: str
    about: str
    path: str
    licence: str
    source: str
    read: Callable[..., tuple[Any, ...]]
    parts: tuple[str, ...] = ()
    group: str = ""

    def rows(self, path: Path | str, *, parts: Mapping[str, str] = MappingProxyType({})) -> tuple[Any, ...]:
        """Rows of the set, or of the part that is asked for by name.

        Raises:
            DataSetError: what `read` raises, or a part that this set does not have.
        """
        for name in parts:
            if name not in self.parts:
                offer = f"it is chosen from by {' and '.join(self.parts)}" if self.parts else "it is read whole"
                raise DataSetError(f"{path}: {self.name} has no part {name!r}; {offer}")
        return self.read(path, **parts)

    def counts(self, rows: Iterable[Any]) -> dict[str, int]:
        """How many rows there are of each kind, most first; empty where the set has no kinds."""
        counts = Counter(getattr(row, self.group) for row in rows) if self.group else Counter[Any]()
        return {str(kind): count for kind, count in counts.most_common() if kind is not None}


_ALL = (
    DataSet("advbench", "harmful requests and how a complying answer begins", "harmful_behaviors.csv",
            "MIT", "llm-attacks/llm-attacks", read_advbench),
    DataSet("instructions", "harmful and harmless requests", "{harmful,harmless}_{train,val,test}.json or their folder",
            "Apache-2.0, harmless CC-BY-NC-4.0", "andyrdt/refusal_direction", read_instructions,
            ("side", "split"), "category"),
    DataSet("strongreject", "forbidden requests by category", "strongreject_dataset.csv",
            "MIT", "alexandrasouly/strongreject", read_strongreject, group="category"),
    DataSet("harmbench", "harmful behaviors, some of them with a context",
            "harmbench_behaviors_text_{all,val,test}.csv", "MIT", "centerforaisafety/HarmBench", read_harmbench,
            ("kind",), "semantic_category"),
    DataSet("jailbreakbench", "harmful behaviors by category", "harmful-behaviors.csv",
            "MIT", "JailbreakBench/jailbreakbench", read_jailbreakbench, group="category"),
    DataSet("malicious-instruct", "malicious questions", "MaliciousInstruct.txt",
            "licence not known", "Princeton-SysML/Jailbreak_LLM", read_malicious_instruct),
    DataSet("xstest", "safe requests that sound unsafe, and unsafe contrasts", "xstest_prompts.csv",
            "CC-BY-4.0", "paul-rottger/exaggerated-safety", read_xstest, group="label"),
    DataSet("stereoset", "stereotypes, their opposites and unrelated sentences", "dev.json",
            "CC-BY-SA-4.0", "moinnadeem/StereoSet", read_stereoset, ("bias_type", "task"), "bias_type"),
    DataSet("bbq", "questions on two persons, with and without a context that tells the answer",
            "{category}.jsonl or their folder", "CC-BY-4.0", "nyu-mll/BBQ", read_bbq, ("category",)),
    DataSet("crows-pairs", "pairs of sentences, one of them more stereotyped", "crows_pairs_anonymized.csv",
            "CC-BY-SA-4.0", "nyu-mll/crows-pairs", read_crows_pairs, ("bias_type",), "bias_type"),
    DataSet("mmlu", "four-choice questions on 57 subjects", "{subject}_{split}.csv or the folder of dev/ and test/",
            "MIT", "hendrycks/test", read_mmlu, ("subject", "split"), "subject"),
    DataSet("truthfulqa", "questions that many people answer wrongly", "TruthfulQA.csv",
            "Apache-2.0", "sylinrl/TruthfulQA", read_truthfulqa, group="category"),
    DataSet("humaneval", "Python functions to complete, with tests", "HumanEval.jsonl.gz",
            "MIT", "openai/human-eval", read_humaneval),
    DataSet("caa", "questions on behaviors with two answers, or to be answered freely",
            "generate_dataset.json or test_dataset_{ab,open_ended}.json", "MIT", "nrimsky/CAA", read_caa),
    DataSet("caa-choices", "MMLU and TruthfulQA with two answers, as CAA asks them", "mmlu.json or truthful_qa.json",
            "MIT", "nrimsky/CAA", read_caa_choices, group="category"),
    DataSet("gsm8k", "problems in words that come to a number, with solutions in steps",
            "{train,test}.jsonl or their folder", "MIT", "openai/grade-school-math", read_gsm8k, ("split",)),
    DataSet("model-written", "questions on personas and risks that a model wrote, with both answers",
            "persona/*.jsonl, advanced-ai-risk/*/*.jsonl or sycophancy/*.jsonl", "CC-BY-4.0", "anthropics/evals",
            read_model_written),
)  # fmt: skip
DATA_SETS: Mapping[str, DataSet] = MappingProxyType({data_set.name: data_set for data_set in _ALL})


def data_set(name: str) -> DataSet:
    """The data set of this name.

    Raises:
        DataSetError: there is none; the message offers near ones.
    """
    return DATA_SETS[known(name, DATA_SETS, "data set")]
