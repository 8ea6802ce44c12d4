"""The layering: a module imports only from layers below its own, and only some modules import some packages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {
    1: "errors",
    2: "prompts chat_template special_tokens templates "
    "pairs pair_formats json_items control_vector pair_rows probes directions quality tasks scoring "
    "sequence_scores controls "
    "forms refit validity intervals theory recipes slopes failures sides coupling optimum evidence recommend "
    "share_bounds curves batch packing prefix_tree steering "
    "steered_rows reference sampling text_stream strengths device_options timing bench_result bench_tasks "
    "algebra conversion crossing layer_windows "
    "bounds norm_lines noise separation predicted constants constants_words "
    "said_texts repetition matchers matcher_files phrase_rules phrase_lists wolf_matchers said_scores said_samples "
    "task_items set_requests set_items study_preset "
    "data_rows safety_sets knowledge_sets stereoset humaneval code_answers code_scores code_prompts caa_sets",
    3: "engine loaded_model passes session generation "
    "vocabulary model_file machine gguf_file gguf_vector vector_notes activations activations_file stored_activations "
    "capture store store_file store_texts loose_vector "
    "preset_files datasets set_files set_material material fetching "
    "run_folder default_model builtin_sets provenance self_test accelerators rpc bench_models "
    "memory_process whole_file array_files vector_file token_kl applying calibration_texts prompt_view "
    "sandbox sandbox_launch sandbox_child output_head constants_file",
    4: "calibration units saying sweep_texts choice_samples "
    "code_verdicts code_runs code_report code_figure synthesis cross_result cross_effects cross_figure "
    "extraction work task_work opening_space measure sweep_plan sweeping sweep_run sweep_scores "
    "sweep_result sweep_fits judgement report_tables report_page tradeoff_figure label_places item_figures "
    "figures picture_file quality_figure report "
    "doctor study_folder study_material study_models study_outcome study_preview studying bench "
    "bench_setting bench_hook bench_sweeps bench_generation bench_peers bench_memory "
    "bench_tools bench_cvector bench_extraction bench_whole extraction_process combining cosine_figure "
    "measuring_constants constants_figure "
    "scanning scan_result scan_figure scan_files transferring transfer_result transfer_figure "
    "vector_findings vector_model_check vector_pair_check vector_doctor vector_repair",
}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names.split()}
MODULES = sorted(path for path in (ROOT / "steercpp").glob("*.py") if path.stem != "__init__")


def imported(path: Path) -> set[str]:
    """Full names of all that a file imports, wherever in the file it does."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            pytest.fail(f"{path.name}: relative imports hide the layer; write steercpp.{node.module}")
    return names


def siblings(path: Path) -> set[str]:
    """Modules of steercpp that a file imports."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("steercpp.")}


def test_every_module_has_a_layer() -> None:
    assert {path.stem for path in MODULES} == set(LAYER_OF)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_go_down(path: Path) -> None:
    own = LAYER_OF[path.stem]
    for name in siblings(path) - {"_native", "models"}:
        assert name in LAYER_OF, f"{path.stem} imports steercpp.{name}, which has no layer"
        # Modules of one layer may help each other, save where Python itself would run in a circle.
        assert LAYER_OF[name] <= own, f"{path.stem} (layer {own}) imports {name} (layer {LAYER_OF[name]})"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_library_does_not_talk(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported(path)}
    assert not roots & {"click", "rich"}, f"{path.stem} imports {roots & {'click', 'rich'}}"


def test_only_the_engine_imports_the_native_module() -> None:
    users = {path.stem for path in MODULES if "_native" in siblings(path)}
    assert "session" in users
    assert users <= {"loaded_model", "session", "vocabulary"}, users


def test_only_output_knows_rich() -> None:
    users = {path.stem for path in (ROOT / "cli").glob("*.py") if any(n.startswith("rich") for n in imported(path))}
    assert users == {"output"}
