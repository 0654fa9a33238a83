"""The HTML report: one file, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from hscc.pipeline.names import network_label
from hscc.pipeline.report.html.sections.ablation_section import ablation_section
from hscc.pipeline.report.html.sections.baselines_section import rivals_section
from hscc.pipeline.report.html.sections.calibration_section import calibration_section
from hscc.pipeline.report.html.sections.classes_section import classes_section
from hscc.pipeline.report.html.sections.data_section import data_section
from hscc.pipeline.report.html.sections.insight_section import insight_section
from hscc.pipeline.report.html.sections.pareto_section import pareto_section
from hscc.pipeline.report.html.sections.protocols_section import protocols_section
from hscc.pipeline.report.html.sections.provenance_section import Origin, provenance_section
from hscc.pipeline.report.html.sections.results_section import results_section
from hscc.pipeline.report.html.sections.section import Absent, Section
from hscc.pipeline.report.html.sections.tradeoff_section import tradeoff_section
from hscc.pipeline.report.html.sections.training_section import training_section
from hscc.pipeline.report.html.svg import standalone
from hscc.pipeline.report.html.verdict import title, verdict
from hscc.pipeline.statistics.results import Row, batches, covers_zero, dense_row, recommended, row_name, signed

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Material:
    """All that the report is made of.

    Attributes
    ----------
    document : mapping
        Content of ``results.json``.
    predictions : pandas.DataFrame
        Of `hscc.pipeline.statistics.predictions.read_predictions`.
    pictures : Path
        Folder of the pictures that `insight` names.
    histories : mapping of str to pandas.DataFrame
        Training curves by protocol.
    findings : sequence of mapping
        What the checks found in the data.
    tradeoff, insight : mapping or None
        Content of ``tradeoff.json`` and ``insight.json``.
    registered : str or None
        Name of the network that the registry's policy took.
    protocols : mapping of str to mapping
        Of `hscc.pipeline.statistics.robustness.read_protocols`; the document alone where empty.
    origin : Origin
        Hashes of outputs, ids of runs.
    """

    document: Mapping[str, Any]
    predictions: pd.DataFrame
    pictures: Path
    histories: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    findings: Sequence[Mapping[str, Any]] = ()
    tradeoff: Mapping[str, Any] | None = None
    insight: Mapping[str, Any] | None = None
    registered: str | None = None
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)

    @property
    def chosen(self) -> Row:
        """The network that the page speaks about: the registered one, or the one that validation prefers."""
        rows = self.document["rows"]
        taken = [row for row in rows if row_name(row) == self.registered]
        return taken[0] if taken else recommended(rows, self.document["protocol"])


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
    document = material.document
    chosen = material.chosen
    parts = _parts(material)
    sections = [part for part in parts if isinstance(part, Section)]
    environment = _environment()
    html = environment.get_template("page.html.jinja").render(
        document=document,
        title=title(chosen),
        verdict=[_unbroken(sentence) for sentence in verdict(document, chosen)],
        chosen=chosen,
        registered=row_name(chosen) == material.registered,
        dense=dense_row(document["rows"], document["protocol"]),
        batches=[batch for batch in batches(document["rows"]) if chosen.get(f"speedup_b{batch}") is not None],
        sections=sections,
        absent=[part for part in parts if isinstance(part, Absent)],
    )
    colours = environment.get_template("colours.css.jinja").render()
    drawings = [drawing for section in sections for drawing in section.drawings]
    return Report(html, {drawing.name: standalone(drawing, colours) for drawing in drawings})


def _parts(material: Material) -> list[Section | Absent]:
    """All sections in the order of the page."""
    document, chosen = material.document, material.chosen
    return [
        data_section(material.findings),
        results_section(document, chosen),
        pareto_section(document),
        rivals_section(document),
        ablation_section(document),
        tradeoff_section(material.tradeoff),
        classes_section(document, chosen, material.predictions),
        calibration_section(document, chosen, material.predictions),
        insight_section(material.insight, material.pictures),
        protocols_section(material.protocols or {document["protocol"]: document}),
        training_section(material.histories),
        provenance_section(document, material.origin),
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
        "signed": signed,
        "covers_zero": covers_zero,
    }
    return environment


def _unbroken(text: str) -> str:
    """Keep figures, their errors and their units on one line."""
    return text.replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%").replace(" points", "\u00a0points")
