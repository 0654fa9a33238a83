"""One module a section of the report: documents in, what its template shows out; None where there is nothing."""
