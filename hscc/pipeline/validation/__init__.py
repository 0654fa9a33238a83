"""Is the data set fit for use? Great Expectations on the manifest, and what it found in a doctor's words."""

from __future__ import annotations

from hscc.pipeline import telemetry

telemetry.switch_off()  # before any module here imports great_expectations
