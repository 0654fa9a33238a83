"""Run checks through Great Expectations and publish its result and Data Docs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.expectations.metadata_types import FailureSeverity

from hscc.pipeline.validation.suite import Check

_RESULT_FORMAT = {
    "result_format": "COMPLETE",
    "unexpected_index_column_names": ["path"],
    "return_unexpected_index_query": False,
}
# The pages would fetch their logo from the vendor's server; they come with a copy of it.
_REMOTE_LOGO = re.compile(r"https://great-expectations-web-assets\.[^\"')]*")
_LOGO = "static/images/logo-long.png"


@dataclass(frozen=True)
class Outcome:
    """The result of one check.

    Attributes
    ----------
    check : Check
        What was checked.
    passed : bool
        Whether every row met it.
    paths : tuple of str
        Rows that did not, in the table's order.
    """

    check: Check
    passed: bool
    paths: tuple[str, ...]


class Validation:
    """One validation: several tables checked, one result, one site of Data Docs.

    Great Expectations' own verdict counts a failed warning as a failure, so errors are recognised by the
    highest severity that failed.

    Parameters
    ----------
    folder : Path
        Where `publish` writes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._context = gx.get_context(mode="ephemeral", project_config=_config(folder / "data_docs"))
        self._source = self._context.data_sources.add_pandas("manifest")
        self._run = RunIdentifier(run_name="validate")
        self._results: dict[str, Any] = {}

    @property
    def failed(self) -> bool:
        """Whether any check of severity error has failed so far."""
        return any(result.get_max_severity_failure() == FailureSeverity.CRITICAL for result in self._results.values())

    def check(self, name: str, table: pd.DataFrame, checks: Sequence[Check]) -> list[Outcome]:
        """Check one table.

        Parameters
        ----------
        name : str
            Of the table, in the result and the Data Docs.
        table : pandas.DataFrame
            With a column ``path`` that names its rows.
        checks : sequence of Check
            What to expect of it.

        Returns
        -------
        list of Outcome
            In the order of the checks.
        """
        batch = self._source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        suite = gx.ExpectationSuite(name=name, expectations=[check.expectation for check in checks])
        definition = gx.ValidationDefinition(name=name, data=batch, suite=self._context.suites.add(suite))
        result = self._context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": table}, result_format=_RESULT_FORMAT, run_id=self._run
        )
        self._results[name] = result
        found = {_check_id(one): one for one in result.results}
        return [_outcome(check, found[check.id]) for check in checks]

    def publish(self) -> None:
        """Write ``expectations.json`` and ``data_docs/index.html`` with its pages."""
        self._folder.mkdir(parents=True, exist_ok=True)
        results = {name: result.to_json_dict() for name, result in self._results.items()}
        text = json.dumps(results, indent=1, default=_plain)
        (self._folder / "expectations.json").write_text(text + "\n", encoding="utf-8")
        self._context.build_data_docs()
        docs = self._folder / "data_docs"
        for page in (*docs.rglob("*.html"), *docs.rglob("*.css")):
            up = "../" * len(page.relative_to(docs).parent.parts)
            text = page.read_text(encoding="utf-8")
            page.write_text(_REMOTE_LOGO.sub(up + _LOGO, text), encoding="utf-8")


def _config(docs: Path) -> DataContextConfig:
    site = {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
    return DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        data_docs_sites={"data_docs": site},
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )


def _check_id(result: Any) -> str:
    return str(result.expectation_config.meta["check"])


def _outcome(check: Check, result: Any) -> Outcome:
    if "unexpected_count" not in result.result:
        raise RuntimeError(f"the check {check.id} could not be computed: {result.exception_info}")
    rows = result.result.get("unexpected_index_list") or []
    return Outcome(check, bool(result.success), tuple(str(row["path"]) for row in rows))


def _plain(value: Any) -> Any:
    """Turn a numpy scalar, as index lists hold them, into a Python number."""
    return value.item()
