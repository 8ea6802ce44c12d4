"""The names that options and parameters can be given, each set a type and a tuple of its values; read this to add one.

A leaf without numpy, so that the command line shows its choices before it imports anything that computes.
"""

from typing import Literal, TypeAlias, get_args

# How a vector acts.
Operator: TypeAlias = Literal["add", "add-keep-norm", "ablate", "clamp", "cap", "rotate"]
Positions: TypeAlias = Literal["all", "prompt", "generated", "last"]
Side: TypeAlias = Literal["both", "positive", "negative"]
Unit: TypeAlias = Literal["length", "norm", "kl"]
Sign: TypeAlias = Literal["+", "-"]
OPERATORS: tuple[Operator, ...] = get_args(Operator)  # in the order of native/operators.h
POSITIONS: tuple[Positions, ...] = get_args(Positions)
SIDE_NAMES: tuple[Side, ...] = get_args(Side)
UNITS: tuple[Unit, ...] = get_args(Unit)
SIGNS: tuple[Sign, ...] = get_args(Sign)
Shell: TypeAlias = Literal["bash", "zsh", "fish"]  # whose completion can be installed
SHELLS: tuple[Shell, ...] = get_args(Shell)

# How a vector is extracted, and the files it comes from and goes to.
MethodName: TypeAlias = Literal["mean", "pca", "pca-centered", "pca-pairs", "logistic", "lda", "random"]
TokenWord: TypeAlias = Literal["last", "mean", "answer"]
PairFormat: TypeAlias = Literal["auto", "jsonl", "caa", "repeng"]
VectorFormat: TypeAlias = Literal["gguf", "npz", "safetensors"]
LayerConvention: TypeAlias = Literal["applied", "cvector-generator"]
Normalize: TypeAlias = Literal["unit", "keep", "first"]
METHOD_NAMES: tuple[MethodName, ...] = get_args(MethodName)
TOKEN_WORDS: tuple[TokenWord, ...] = get_args(TokenWord)
PAIR_FORMATS: tuple[PairFormat, ...] = get_args(PairFormat)
VECTOR_FORMATS: tuple[VectorFormat, ...] = get_args(VectorFormat)
LAYER_CONVENTIONS: tuple[LayerConvention, ...] = get_args(LayerConvention)
NORMALIZATIONS: tuple[Normalize, ...] = get_args(Normalize)

# How a model is run.
FlashAttention: TypeAlias = Literal["off", "on", "auto"]
SplitMode: TypeAlias = Literal["none", "layer", "row"]
SteerWay: TypeAlias = Literal["auto", "callback", "graph"]
CacheType: TypeAlias = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]
FLASH_ATTENTION_NAMES: tuple[FlashAttention, ...] = get_args(FlashAttention)
STEER_WAYS: tuple[SteerWay, ...] = get_args(SteerWay)
SPLIT_MODES: tuple[SplitMode, ...] = get_args(SplitMode)  # in the order of enum llama_split_mode
CACHE_TYPES: tuple[CacheType, ...] = get_args(CacheType)

# How texts and programs are judged: "auto" is the matcher that fits the items; others have names of the study's, too.
MatcherName: TypeAlias = Literal["openings", "refusal", "agreement", "likelihood"]
CodeWay: TypeAlias = Literal["whole", "wolf2024"]
MATCHER_NAMES: tuple[MatcherName, ...] = get_args(MatcherName)
CODE_WAYS: tuple[CodeWay, ...] = get_args(CodeWay)

# What a report's page is written as.
PageForm: TypeAlias = Literal["html", "md", "pdf"]
PAGE_FORMS: tuple[PageForm, ...] = get_args(PageForm)
TableName: TypeAlias = Literal["items", "strengths", "texts"]  # that a run is exported as
TABLES: tuple[TableName, ...] = get_args(TableName)

# Experiments.
ConstantsRecipe: TypeAlias = Literal["steercpp", "wolf2024"]
SynthesisVariant: TypeAlias = Literal["paper", "may"]
CONSTANTS_RECIPES: tuple[ConstantsRecipe, ...] = get_args(ConstantsRecipe)
SYNTHESIS_VARIANTS: tuple[SynthesisVariant, ...] = get_args(SynthesisVariant)

# What is timed, on which models.
ComparisonName: TypeAlias = Literal[
    "hook-prefill", "hook-decode", "device", "sweep", "sweep-15m", "deep", "head", "perplexity", "generation",
    "prompts", "completion", "llama-bench", "extraction", "memory", "weights",
]  # fmt: skip
ModelShape: TypeAlias = Literal["15m", "135m", "1.1b", "7b", "13b", "70b"]
Quant: TypeAlias = Literal["f16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k"]
COMPARISONS: tuple[ComparisonName, ...] = get_args(ComparisonName)
MODEL_SHAPES: tuple[ModelShape, ...] = get_args(ModelShape)
QUANTS: tuple[Quant, ...] = get_args(Quant)
