"""One module per section of the report: results in, figure and table out; `Absent` where there is nothing."""
