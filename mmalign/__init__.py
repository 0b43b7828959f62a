"""mmalign: train encoders of any modalities into one shared space, and evaluate it.

The public API. Names are loaded on first use, so that `import mmalign` stays light.
"""

from typing import TYPE_CHECKING

from mmalign.version import __version__

if TYPE_CHECKING:
    from mmalign.api import Run, check, train
    from mmalign.bundles.bundle import load, save
    from mmalign.capabilities import TokenLabels
    from mmalign.classification import Classification, classify
    from mmalign.data.checking import CheckReport
    from mmalign.data.config import DataConfig
    from mmalign.data.dataset import Dataset
    from mmalign.data.sources.base import Record, Rejected, Source, SourceConfig
    from mmalign.data.split import Split
    from mmalign.embedding.embed_tower import embed
    from mmalign.embedding.loop import EmbeddedSplit
    from mmalign.embedding.stored_vectors import StoredVectors
    from mmalign.embedding.table import EmbeddingTable
    from mmalign.errors import BadSample, MissingFile, UserError
    from mmalign.evaluation.all_tasks import Evaluations, evaluate_all
    from mmalign.evaluation.comparison.compare import compare
    from mmalign.evaluation.comparison.result import Comparison
    from mmalign.evaluation.ranking.ranks import ranks
    from mmalign.evaluation.ranking.relevance import RelevanceMatrix
    from mmalign.evaluation.report.result import EvalResult
    from mmalign.evaluation.run_task import evaluate
    from mmalign.evaluation.settings import EvalSettings
    from mmalign.evaluation.tasks.few_shot import FewShot
    from mmalign.evaluation.tasks.geometry import Geometry
    from mmalign.evaluation.tasks.grounding import Grounding
    from mmalign.evaluation.tasks.linear_probe import LinearProbe
    from mmalign.evaluation.tasks.retrieval import Retrieval, retrieval_scores
    from mmalign.evaluation.tasks.robustness import Robustness
    from mmalign.evaluation.tasks.zero_shot_classification import ZeroShotClassification
    from mmalign.evaluation.tasks.zero_shot_multilabel import ZeroShotMultiLabel
    from mmalign.evaluation.tasks.zero_shot_regression import ZeroShotRegression
    from mmalign.explanation import Explanation, explain
    from mmalign.exploring.explore import explore
    from mmalign.exploring.server import Explorer
    from mmalign.exporting.bundle_export import ExportReport, export
    from mmalign.mining.mine import mine
    from mmalign.mining.result import MinedNegatives
    from mmalign.modality import Encoder, Modality, Transform
    from mmalign.model import Aligner
    from mmalign.objectives import functional
    from mmalign.objectives.global_batch import GlobalBatch
    from mmalign.objectives.objective import Objective
    from mmalign.objectives.pairs.gradient_norms import GradientNorms
    from mmalign.objectives.pairs.pair_config import PairConfig
    from mmalign.objectives.pairs.pair_sum import PairSum
    from mmalign.plugin import load_plugin
    from mmalign.registry import register
    from mmalign.reporting.report import report
    from mmalign.searching.approximate import IndexReport, build_index
    from mmalign.searching.nearest import search
    from mmalign.searching.result import SearchResult
    from mmalign.towers import TowerConfig, fit_transforms, modality_of
    from mmalign.training.checkpoints.checkpoint_bundle import bundle_from_checkpoint
    from mmalign.training.starting.cca.cca import canonical_maps
    from mmalign.training.starting.whitening import whitening_map
    from mmalign.tuning.fit_variance import VarianceFit, fit_variance
    from mmalign.tuning.tune import Tuned, tune
    from mmalign.types import Batch, Embedding, Features, LossOutput, Tokens

_HOMES = {
    "Run": "api",
    "check": "api",
    "train": "api",
    "load": "bundles.bundle",
    "save": "bundles.bundle",
    "Classification": "classification",
    "classify": "classification",
    "CheckReport": "data.checking",
    "DataConfig": "data.config",
    "Dataset": "data.dataset",
    "Split": "data.split",
    "Record": "data.sources.base",
    "Rejected": "data.sources.base",
    "Source": "data.sources.base",
    "SourceConfig": "data.sources.base",
    "EmbeddingTable": "embedding.table",
    "embed": "embedding.embed_tower",
    "StoredVectors": "embedding.stored_vectors",
    "IndexReport": "searching.approximate",
    "build_index": "searching.approximate",
    "BadSample": "errors",
    "MissingFile": "errors",
    "UserError": "errors",
    "Evaluations": "evaluation.all_tasks",
    "evaluate_all": "evaluation.all_tasks",
    "Comparison": "evaluation.comparison.result",
    "compare": "evaluation.comparison.compare",
    "EvalResult": "evaluation.report.result",
    "evaluate": "evaluation.run_task",
    "EvalSettings": "evaluation.settings",
    "Retrieval": "evaluation.tasks.retrieval",
    "Robustness": "evaluation.tasks.robustness",
    "ZeroShotClassification": "evaluation.tasks.zero_shot_classification",
    "ZeroShotMultiLabel": "evaluation.tasks.zero_shot_multilabel",
    "ZeroShotRegression": "evaluation.tasks.zero_shot_regression",
    "FewShot": "evaluation.tasks.few_shot",
    "Geometry": "evaluation.tasks.geometry",
    "Grounding": "evaluation.tasks.grounding",
    "LinearProbe": "evaluation.tasks.linear_probe",
    "Explanation": "explanation",
    "Explorer": "exploring.server",
    "explore": "exploring.explore",
    "ExportReport": "exporting.bundle_export",
    "export": "exporting.bundle_export",
    "explain": "explanation",
    "MinedNegatives": "mining.result",
    "Tuned": "tuning.tune",
    "tune": "tuning.tune",
    "VarianceFit": "tuning.fit_variance",
    "fit_variance": "tuning.fit_variance",
    "mine": "mining.mine",
    "Encoder": "modality",
    "Modality": "modality",
    "TokenLabels": "capabilities",
    "Transform": "modality",
    "Aligner": "model",
    "functional": "objectives",
    "GlobalBatch": "objectives.global_batch",
    "Objective": "objectives.objective",
    "PairConfig": "objectives.pairs.pair_config",
    "load_plugin": "plugin",
    "register": "registry",
    "report": "reporting.report",
    "search": "searching.nearest",
    "SearchResult": "searching.result",
    "TowerConfig": "towers",
    "fit_transforms": "towers",
    "modality_of": "towers",
    "EmbeddedSplit": "embedding.loop",
    "RelevanceMatrix": "evaluation.ranking.relevance",
    "ranks": "evaluation.ranking.ranks",
    "GradientNorms": "objectives.pairs.gradient_norms",
    "canonical_maps": "training.starting.cca.cca",
    "whitening_map": "training.starting.whitening",
    "bundle_from_checkpoint": "training.checkpoints.checkpoint_bundle",
    "retrieval_scores": "evaluation.tasks.retrieval",
    "PairSum": "objectives.pairs.pair_sum",
    "Batch": "types",
    "Embedding": "types",
    "Features": "types",
    "LossOutput": "types",
    "Tokens": "types",
}

__all__ = [
    "Aligner",
    "BadSample",
    "Batch",
    "CheckReport",
    "Classification",
    "Comparison",
    "DataConfig",
    "Dataset",
    "EmbeddedSplit",
    "Embedding",
    "EmbeddingTable",
    "Encoder",
    "EvalResult",
    "EvalSettings",
    "Evaluations",
    "Explanation",
    "Explorer",
    "ExportReport",
    "Features",
    "FewShot",
    "Geometry",
    "GlobalBatch",
    "GradientNorms",
    "Grounding",
    "IndexReport",
    "LinearProbe",
    "LossOutput",
    "MinedNegatives",
    "MissingFile",
    "Modality",
    "Objective",
    "PairConfig",
    "PairSum",
    "Record",
    "Rejected",
    "RelevanceMatrix",
    "Retrieval",
    "Robustness",
    "Run",
    "SearchResult",
    "Source",
    "SourceConfig",
    "Split",
    "StoredVectors",
    "TokenLabels",
    "Tokens",
    "TowerConfig",
    "Transform",
    "Tuned",
    "UserError",
    "VarianceFit",
    "ZeroShotClassification",
    "ZeroShotMultiLabel",
    "ZeroShotRegression",
    "__version__",
    "build_index",
    "bundle_from_checkpoint",
    "canonical_maps",
    "check",
    "classify",
    "compare",
    "embed",
    "evaluate",
    "evaluate_all",
    "explain",
    "explore",
    "export",
    "fit_transforms",
    "fit_variance",
    "functional",
    "load",
    "load_plugin",
    "mine",
    "modality_of",
    "ranks",
    "register",
    "report",
    "retrieval_scores",
    "save",
    "search",
    "train",
    "tune",
    "whitening_map",
]


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mmalign' has no attribute {name!r}")
    import importlib

    home = importlib.import_module(f"mmalign.{_HOMES[name]}")
    return importlib.import_module(f"mmalign.objectives.{name}") if name == "functional" else getattr(home, name)


def __dir__() -> list[str]:
    return __all__
