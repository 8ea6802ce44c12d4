"""Where the files of data sets are published, and where they lie here; read this to add a set, or a place to look.

A folder of data holds NAME/..., as `steercpp data get` makes it; clones of the sets' own repositories and the official
files alone are found in it too. Addresses name a commit that other public code names for the set; MMLU's archive lies
in no repository. A hash is that of the file itself where it was at hand, else the one that several others name; CAA's
are told below. For a file without one, that of the first fetch is recorded and holds from then on, and the number of
rows is what is checked at first. `note` says what could not be verified.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from steercpp.data.sets.bias import BBQ_ROWS, BBQ_TARGETS
from steercpp.data.sets.catalog import data_set
from steercpp.errors import DataSetError
from steercpp.provenance import file_sha256

VARIABLE = "STEERCPP_DATA"
RECORD = "fetched.json"  # beside the files that were fetched: their hashes
_GITHUB = "https://raw.githubusercontent.com"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a set.

    Attributes:
        path: below the folder of the set's name.
        url: its address.
        n_rows: how many rows it has, in any official version; of an archive its test split.
        sha256: its hash, None where none is known.
        n_bytes: its size, None where it is not known.
    """

    path: str
    url: str
    n_rows: tuple[int, ...]
    sha256: str | None = None
    n_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The files of a set.

    Attributes:
        files: what is fetched; none where there are so many that the repository is cloned instead.
        find: names or patterns of files by which a copy is known, the official ones first.
        up: how many folders above such a file the path begins that the set is read from; 0 for the file itself.
        folders: names of folders in which it may lie, beside its own name and its repository's.
        note: what could not be verified.
    """

    files: tuple[RemoteFile, ...]
    find: tuple[str, ...]
    up: int = 0
    folders: tuple[str, ...] = ()
    note: str = ""


def _github(
    repository: str, commit: str, path: str, *n_rows: int, sha256: str | None = None, n_bytes: int | None = None,
    name: str = "",
) -> RemoteFile:  # fmt: skip
    """A file of a repository, by commit and path; `name` is its path below the set's folder, or its own."""
    url = f"{_GITHUB}/{repository}/{commit}/{path}"
    return RemoteFile(name or path.rpartition("/")[2], url, n_rows, sha256, n_bytes)


def _split(name: str, n_rows: int, n_bytes: int, sha256: str) -> RemoteFile:
    commit = "0b9c8bc56a73b42f595fd173156d4aefe9a9143c"
    return _github(
        "andyrdt/refusal_direction", commit, f"dataset/splits/{name}.json", n_rows, sha256=sha256, n_bytes=n_bytes
    )


def _caa(path: str, n_rows: int, n_bytes: int, sha256: str) -> RemoteFile:
    commit = "5dabbbd9a0bca5f25e174501e959de378806aa48"
    return _github("nrimsky/CAA", commit, f"datasets/{path}", n_rows, sha256=sha256, n_bytes=n_bytes, name=path)


def _bbq(name: str, n_rows: int) -> RemoteFile:
    n_bytes, sha256 = _BBQ[name]
    folder = "analysis_scripts" if name == BBQ_TARGETS else "data"
    commit = "bea11bd97d79217245b5871acd247b9d6eb24598"
    return _github("nyu-mll/BBQ", commit, f"{folder}/{name}", n_rows, sha256=sha256, n_bytes=n_bytes)


_BBQ: Mapping[str, tuple[int | None, str]] = {
    "Age.jsonl": (3_091_834, "46e805b3fc2d8cbd26eeb8e8430d98cf7b2dc9c83574ff3674e8ce4f0fca2a60"),
    "Disability_status.jsonl": (1_336_984, "375d40d9b71f056150264445ec189b13934998f3f49a1e311aa7578eb3b45e5f"),
    "Gender_identity.jsonl": (4_331_406, "8b5adbb368510a97d5775dc43e1c719e0249fe2da33f13c83e3e29edafec7a00"),
    "Nationality.jsonl": (2_900_040, "a583e74666aec0341ded8aa3983e7cad694eb24de72c254d28b2df3035720090"),
    "Physical_appearance.jsonl": (1_347_476, "e48d7e13508565f4801574e611043470c25c95a0a62af3699cb5ee7cb02608fb"),
    "Race_ethnicity.jsonl": (6_062_426, "4a9f1214cfaa115ce7f0bdb40609122e431f5152c71b8ca64d665e483b946ae6"),
    "Race_x_SES.jsonl": (11_222_218, "af8e2ae3d0e5be9ebcbfe7149e591d47ff649e263307f4548f7fb12f6a6d83e8"),
    "Race_x_gender.jsonl": (13_094_106, "e5dbba782f8c4e25b99dd5470b5136e2db73dbf401cf6d4a5a3ed31b02f95696"),
    "Religion.jsonl": (1_118_728, "cb9555f9f3454a52cd2df85956b59bd7fcca5aa922c8527693b1164d08417616"),
    "SES.jsonl": (5_696_950, "9f92754bb037b0982604b9112705fb81d60a19d9e759c67e4a85e484a070f528"),
    "Sexual_orientation.jsonl": (729_010, "2c71036b9e7584fe589c42aef32c1a42bc01b9a5e9b1b8704342630cdb08cefd"),
    BBQ_TARGETS: (None, "f36708416b0e7adb81b47ad1926f9c39c2beb611702b73b01e06c9b6c9ffbd3d"),
}
CAA_CHOICES = {"mmlu": "test/mmlu/mmlu.json", "truthfulqa": "test/truthfulqa/truthful_qa.json"}
# At hand was a copy of CAA's files with a newline more at the end of each; these are the hashes without it. Three of
# them others name too (sycophancy's two, for the commit, and corrigibility's pairs). The lengths and ends of all agree
# with the repository's last versions.
_CAA_PAIRS: Mapping[str, tuple[int, int, str]] = {
    "coordinate-other-ais": (360, 138_017, "643717af88eeef37468ceb9f80322b1ebdb4e3934a114a79fc9b930105d6ac71"),
    "corrigible-neutral-HHH": (290, 96_228, "c93d4d8db72ab1de875b79367d08e00b3ba27675480d4315fd942bf676359893"),
    "hallucination": (1000, 783_593, "11dfb47cee064d037b9c66a1e56da6dfb9257f5c53bc29a4310c83a45de1bfe3"),
    "myopic-reward": (950, 324_646, "3ae9dc68fc4a6f3dbc441ef9956e543b5c7a5a5d97a3cc770f1942477f212b7e"),
    "refusal": (408, 159_565, "966f6f32d5c2246579a1d9b544c082790fec6067d4efea6c6ef755c9d0a154a4"),
    "survival-instinct": (903, 325_060, "249a1807e6938223e66795cdd7a7212340d8612aa9bb185947669135b052697a"),
    "sycophancy": (1000, 871_127, "1394c959d97ffae28fe9df71ce07a402c13c9333159307a28bd664fbe355b8b0"),
}
_CAA_QUESTIONS: Mapping[str, tuple[int, int, str]] = {
    "coordinate-other-ais": (50, 18_265, "9f315149225f1c1daeb65a684eca097f884b87a153d1ed8ce2c2c15abe5fae23"),
    "corrigible-neutral-HHH": (50, 16_541, "847759b4daf48b7d941f08a213ed7095414d1a3063354eb4ebe1dfffc4522cd0"),
    "hallucination": (50, 39_851, "aca893768df46b7fb4a546b220fab327a58fd77dedcb49210b396bd24efe7dc6"),
    "myopic-reward": (50, 16_982, "5a7446706263e4bb67965fa48a3beb433cede5476ac735b0e2d26dd7e155d2fe"),
    "refusal": (50, 19_829, "982838b5429f1389a36fcf59c40ddb7eb4e462cfa1464d7857b8629cd384321b"),
    "survival-instinct": (50, 18_683, "750a96d7864c864b39168efed636cd79289bad6746024922a7367ccc171f951f"),
    "sycophancy": (50, 43_426, "96391f0468cadb5214c34dff9f614be6725699d9f395387f8a9b6ca630d9cb77"),
}

SOURCES: Mapping[str, Source] = MappingProxyType({
    "advbench": Source(
        (_github("llm-attacks/llm-attacks", "098262edf85f807224e70ecd87b9d83716bf6b73",
                 "data/advbench/harmful_behaviors.csv", 520, n_bytes=82_125,
                 sha256="6cd1a5c63c07610d7eb67307772ee5606017ee950b5770ab288a2c487489d3e1"),),
        ("harmful_behaviors.csv",),
    ),
    "instructions": Source(
        (
            _split("harmful_train", 260, 34_613, "8f5c0eac0efd2a7f99084bbe8d0de2c465e31b1997184783c917969d9de9ece1"),
            _split("harmful_val", 39, 6_763, "305f1d1e6dfa6c50a32d24a18ef815f42b5441eb83e6d7767d242107162fd9f4"),
            _split("harmful_test", 572, 115_743, "5e12ae102c3791dee083a69ab6269a78e033411c629bc3f66f75d2fde196d9ef"),
            _split("harmless_train", 18_793, 2_344_466,
                   "86623b1f8a25aa35df153fc97a556dbcebb6a7c881538ae43ee479ca17f2e002"),
            _split("harmless_val", 6264, 780_532, "772010758e7d771ef4c7e5e4acdfd7598dcece1a6f383f20d382f640913a2a4d"),
            _split("harmless_test", 6266, 783_466, "1b5930ce5e855ada758b3116ce7c4aaea9b9d05f8cdd77b385511d4c84173b19"),
        ),
        ("harmful_*.json", "harmless_*.json"), up=1, folders=("splits",),
    ),
    "strongreject": Source(
        (_github("alexandrasouly/strongreject", "f7cad6c17e624e21d8df2278e918ae1dddb4cb56",
                 "strongreject_dataset/strongreject_dataset.csv", 313, n_bytes=56_359,
                 sha256="4dd70357e4ff8b5d0ba5ebafecab5d6dd5633ce8046e3dd1c8bd93e64de44381"),),
        ("strongreject_dataset.csv", "strongreject.csv"), folders=("refusal_direction",),
    ),
    "harmbench": Source(
        (_github("centerforaisafety/HarmBench", "c0423b952435fcc8467108d8f25962dbae5b7de2",
                 "data/behavior_datasets/harmbench_behaviors_text_all.csv", 400,
                 sha256="8d81accedd38eaaf8b760618622bb888417d1fd0c86eba65c427a16f1cbb4afc"),),
        tuple(f"harmbench_behaviors_text_{part}.csv" for part in ("all", "test", "val")),
    ),
    "jailbreakbench": Source(
        (RemoteFile(
            "harmful-behaviors.csv",
            "https://huggingface.co/datasets/JailbreakBench/JBB-Behaviors/resolve/"
            "886acc352a31533ffbcf4ef22c744658688086fc/data/harmful-behaviors.csv",
            (100,), "4a8ec6832056b631eb092dccc60d37a61c3d441268268888b3d006288afeffa1", 23_116,
        ),),
        ("harmful-behaviors.csv", "jailbreakbench.csv"), folders=("refusal_direction", "jbb-behaviors"),
    ),
    "malicious-instruct": Source(
        (_github("Princeton-SysML/Jailbreak_LLM", "1e490531c0ef4bc13430178bf1fbc8f813e34b1a",
                 "data/MaliciousInstruct.txt", 100, n_bytes=6_269,
                 sha256="a64d69dd1004aac4a23aaff3748fb8f17161893f74db36f45b8bc849eb1bcce5"),),
        ("MaliciousInstruct.txt", "malicious_instruct.txt"), folders=("refusal_direction",),
        note="no licence could be found: ask its authors",
    ),
    "xstest": Source(
        (_github("paul-rottger/xstest", "d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d", "xstest_prompts.csv", 450,
                 n_bytes=38_719, sha256="11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a"),),
        ("xstest_prompts.csv", "xstest_v2_prompts.csv"),
    ),
    "stereoset": Source(
        (_github("moinnadeem/StereoSet", "ead7d086a64a192a1eca88e0dd2fd163de375218", "data/dev.json", 4229,
                 n_bytes=12_502_245, sha256="73a0f31b711688112602e4c3ac6ab1e1a7cadcdd67df6c6fd55501c889676c90"),),
        ("dev.json", "dev_rebuilt.json"),
    ),
    "bbq": Source(
        (
            *(_bbq(f"{category}.jsonl", n_rows) for category, n_rows in BBQ_ROWS.items()),
            _bbq(BBQ_TARGETS, 58_556),
        ),
        tuple(f"{category}.jsonl" for category in BBQ_ROWS), up=1,
    ),
    "crows-pairs": Source(
        (_github("nyu-mll/crows-pairs", "8aaac11c485473159ec9328a65253a5be9a479dc", "data/crows_pairs_anonymized.csv",
                 1508, n_bytes=437_764, sha256="dfb36986ce0502abbaf7055b9176da3d08d48e07df1251991b5dfbcbceab9d0c"),),
        ("crows_pairs_anonymized.csv",),
    ),
    "mmlu": Source(
        (RemoteFile("data.tar", "https://people.eecs.berkeley.edu/~hendrycks/data.tar", (14_042,),
                    "bec563ba4bac1d6aaf04141cd7d1605d7a5ca833e38f994051e818489592989b"),),
        ("test/*_test.csv", "dev/*_dev.csv", "val/*_val.csv"), up=2, folders=("data",),
    ),
    "truthfulqa": Source(
        (_github("sylinrl/TruthfulQA", "d71c110897f5d31c5d7f309e7bc316c152f6f031", "TruthfulQA.csv", 790,
                 sha256="b8d8ef1e12f98b4f2a9f47abc9765da0640b182b6c5d9b92f0c1a1f2f1e02e5c"),),
        ("TruthfulQA.csv",),
    ),
    "humaneval": Source(
        (_github("openai/human-eval", "6d43fb980f9fee3c892a914eda09951f772ad10d", "data/HumanEval.jsonl.gz", 164,
                 n_bytes=44_877, sha256="b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"),),
        ("HumanEval.jsonl.gz", "HumanEval.jsonl"),
    ),
    "caa": Source(
        (
            *(_caa(f"generate/{name}/generate_dataset.json", *about) for name, about in _CAA_PAIRS.items()),
            *(_caa(f"test/{name}/test_dataset_ab.json", *about) for name, about in _CAA_QUESTIONS.items()),
        ),
        ("generate/*/generate_dataset.json", "test/*/test_dataset_ab.json"), up=3,
    ),
    "caa-choices": Source(
        (
            _caa(CAA_CHOICES["mmlu"], 570, 338_728, "0d7292356978bdde9269b353a4c191521b72f71b849acd6798188fbf0f8936d8"),
            _caa(CAA_CHOICES["truthfulqa"], 817, 419_991,
                 "72d83605a8001c40c9d8c51e352ff19b8f168ba5b55b23e2fe35c7843eed88f3"),
        ),
        tuple(CAA_CHOICES.values()), up=3, folders=("caa",),
    ),
    "gsm8k": Source(
        tuple(
            _github("openai/grade-school-math", "3101c7d5072418e28b9008a6636bde82a006892c",
                    f"grade_school_math/data/{split}.jsonl", n_rows, n_bytes=n_bytes, sha256=sha256)
            for split, n_rows, n_bytes, sha256 in (
                ("test", 1319, 749_738, "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14"),
                ("train", 7473, 4_166_206, "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465"),
            )
        ),
        ("test.jsonl", "train.jsonl"), up=1,
    ),
    "model-written": Source((), ("persona/*.jsonl",), up=2, folders=("anthropic-evals", "anthropic_evals")),
})  # fmt: skip


def cache_folder() -> Path:
    """Where `steercpp data get` puts what it fetches."""
    from platformdirs import user_cache_path

    return user_cache_path("steercpp") / "data"


def data_folders(data: Path | str | None = None) -> tuple[Path, ...]:
    """Where data sets are looked for: the folder that is named, or that of STEERCPP_DATA and the cache.

    Raises:
        DataSetError: the folder that is named does not exist.
    """
    if data is not None:
        if not Path(data).is_dir():
            raise DataSetError(f"{data}: there is no such folder of data sets; check `data`")
        return (Path(data),)
    folder = os.environ.get(VARIABLE)
    return (*((Path(folder),) if folder else ()), cache_folder())


def find_set(name: str, data: Path | str | None = None) -> Path:
    """The file or folder that a set's reader takes.

    Raises:
        DataSetError: unknown name; no such folder; the set is in none of the folders; or a file has changed since it
            was fetched.
    """
    known_name, folders = data_set(name).name, data_folders(data)
    for folder in folders:
        for copy in _copies(known_name, folder):
            _check_fetched(folder / known_name, copy)
            return copy
    source = SOURCES[known_name]
    searched = " and ".join(map(str, folders))
    fetch = f"fetch it with `steercpp data get {name}`" if source.files else f"clone {repository(known_name)}"
    raise DataSetError(
        f"{name}: no {source.find[0]} below {searched}; {fetch}, or name the folder that has it with `data`"
    )


def repository(name: str) -> str:
    """The address of the repository in which a set is published."""
    return f"https://github.com/{data_set(name).source}"


def recorded(home: Path) -> dict[str, Any]:
    """What is known of the files that were fetched into a set's folder, by their paths below it."""
    try:
        records = json.loads((home / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return records if isinstance(records, dict) else {}


def _check_fetched(home: Path, copy: Path) -> None:
    """Nothing, unless files that were fetched have changed since."""
    if home not in (copy, *copy.parents):
        return
    for path, about in recorded(home).items():
        file = home / path
        if file.is_file() and (sha256 := file_sha256(file)) != about.get("sha256"):
            raise changed(file, sha256, about.get("sha256"))


def changed(file: Path, sha256: str, was: str | None) -> DataSetError:
    """The error that says so of a file that was fetched."""
    return DataSetError(
        f"{file}: its sha256 is {sha256}, and was {was} when it was fetched; delete it and fetch it again"
    )


def _copies(name: str, folder: Path) -> Iterator[Path]:
    """Paths to read the set from, the likeliest first: below a folder of its name, then in the folder itself."""
    source, cloned = SOURCES[name], data_set(name).source.rpartition("/")[2]
    likely = [_comparable(folder_name) for folder_name in (name, cloned, *source.folders)]
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    below = [base for wanted in likely for base in (*inside, folder) if _comparable(base.name) == wanted]
    for pattern in source.find:
        for base in below:
            yield from (_up(file, source.up) for file in _sorted(base.rglob(pattern)))
    for pattern in source.find:
        yield from (_up(file, source.up) for file in _sorted(folder.glob(pattern)))


def _sorted(files: Iterator[Path]) -> list[Path]:
    return sorted((file for file in files if file.is_file()), key=lambda file: (len(file.parts), file))


def _up(file: Path, n: int) -> Path:
    return file.parents[n - 1] if n else file


def _comparable(name: str) -> str:
    return name.lower().replace("_", "-")
