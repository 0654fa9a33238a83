"""Whole compressed networks run by the package's own C++ library: one file, no layout change inside."""
