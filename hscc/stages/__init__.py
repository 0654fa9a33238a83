"""One thin module a DVC stage: parameters and files in, files out."""
