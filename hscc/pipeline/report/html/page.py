"""The HTML report: one file, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from hscc.pipeline.data.report import Finding
from hscc.pipeline.data_spec import Texts
from hscc.pipeline.insight.schema import Insight
from hscc.pipeline.names import network_label
from hscc.pipeline.report.html.section import Absent, Section
from hscc.pipeline.report.html.sections.ablation_section import ablation_section
from hscc.pipeline.report.html.sections.calibration_section import calibration_section
from hscc.pipeline.report.html.sections.classes_section import classes_section
from hscc.pipeline.report.html.sections.comparisons_section import comparisons_section
from hscc.pipeline.report.html.sections.data_section import data_section
from hscc.pipeline.report.html.sections.insight_section import insight_section
from hscc.pipeline.report.html.sections.pareto_section import pareto_section
from hscc.pipeline.report.html.sections.protocols_section import protocols_section
from hscc.pipeline.report.html.sections.provenance_section import Origin, provenance_section
from hscc.pipeline.report.html.sections.results_section import results_section
from hscc.pipeline.report.html.sections.tradeoff_section import tradeoff_section
from hscc.pipeline.report.html.sections.training_section import training_section
from hscc.pipeline.report.html.svg import standalone
from hscc.pipeline.report.sentences import title, verdict
from hscc.pipeline.report.wording import RUNTIME_NAMES
from hscc.pipeline.score_names import score_label, score_title
from hscc.pipeline.statistics.results import signed
from hscc.pipeline.statistics.schema import Results
from hscc.pipeline.statistics.structure_schema import StructureGrid

_TEMPLATES = Path(__file__).parent / "templates"
_TILES = 2  # batch sizes at the top of the page


@dataclass(frozen=True)
class Material:
    """All that the report is made of.

    Attributes
    ----------
    protocols : mapping of str to Results
        Of `hscc.pipeline.statistics.robustness.read_protocols`: the page speaks of the first.
    predictions : pandas.DataFrame
        Of `hscc.pipeline.statistics.predictions.read_predictions`.
    texts : Texts
        How to speak of the data.
    pictures : Path
        Folder of the pictures that `insight` names.
    histories : mapping of str to pandas.DataFrame
        Training curves by protocol.
    findings : sequence of Finding
        What the checks found in the data.
    tradeoff, insight : StructureGrid, Insight or None
        None where the stage was not run.
    registered : str or None
        Name of the network that was registered.
    origin : Origin
        Hashes of outputs, ids of runs.
    """

    protocols: Mapping[str, Results]
    predictions: pd.DataFrame
    texts: Texts
    pictures: Path
    histories: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    tradeoff: StructureGrid | None = None
    insight: Insight | None = None
    registered: str | None = None
    origin: Origin = field(default_factory=Origin)

    @property
    def results(self) -> Results:
        """Results of the page's own protocol."""
        return next(iter(self.protocols.values()))


@dataclass(frozen=True)
class Report:
    """The page, and its figures as files of their own by name."""

    html: str
    figures: Mapping[str, str]


def render(material: Material) -> Report:
    """Write the report.

    Parameters
    ----------
    material : Material
        What it is made of; optional parts that are not there are left out, and the page says so.

    Returns
    -------
    Report
        A whole HTML document that loads nothing, and each figure as SVG.

    Raises
    ------
    ArtifactError
        If the predictions lack a network, or a picture is missing.
    """
    results = material.results
    chosen = results.chosen()
    parts = _parts(material)
    sections = [part for part in parts if isinstance(part, Section)]
    environment = _environment()
    html = environment.get_template("page.html.jinja").render(
        results=results,
        texts=material.texts,
        runtime=RUNTIME_NAMES.get(results.runtime, results.runtime),
        title=title(chosen),
        verdict=[_unbroken(sentence) for sentence in verdict(results)],
        chosen=chosen,
        shortfalls=" and ".join(results.shortfalls(chosen)),
        registered=material.registered,
        dense=results.dense(),
        batches=[batch for batch in results.batches() if chosen.timing(batch)][:_TILES],
        sections=sections,
        absent=[part for part in parts if isinstance(part, Absent)],
    )
    colours = environment.get_template("colours.css.jinja").render()
    drawings = [drawing for section in sections for drawing in section.drawings]
    return Report(html, {drawing.name: standalone(drawing, colours) for drawing in drawings})


def _parts(material: Material) -> list[Section | Absent]:
    """All sections in the order of the page."""
    results = material.results
    return [
        data_section(material.findings),
        results_section(results),
        pareto_section(results),
        comparisons_section(results),
        ablation_section(results),
        tradeoff_section(material.tradeoff),
        classes_section(results, material.predictions, material.texts),
        calibration_section(results, material.predictions),
        insight_section(material.insight, material.pictures, material.texts),
        protocols_section(material.protocols),
        training_section(material.histories, results.score),
        provenance_section(results, material.origin),
    ]


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= {
        "inline": lambda drawing: Markup(drawing.svg),
        "network_label": network_label,
        "score_label": score_label,
        "score_title": score_title,
        "signed": signed,
    }
    return environment


def _unbroken(text: str) -> str:
    """Keep figures, their errors and their units on one line."""
    return text.replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%").replace(" points", "\u00a0points")
