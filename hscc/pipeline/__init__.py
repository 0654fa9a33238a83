"""The MLOps pipeline around the library: data, stages, statistics, report, tracking, registry, serving, command line.

The library knows nothing of it; import-linter holds that.
"""
