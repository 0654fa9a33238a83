"""Builds the engine's C++ library, or leaves it out where there is no compiler; all else is in pyproject.toml."""

from glob import glob

from setuptools import Extension, setup

NATIVE = "hscc/engine/native"

setup(
    ext_modules=[
        Extension(
            "hscc.engine._native",
            sources=sorted(glob(f"{NATIVE}/src/*.cpp")),
            depends=sorted([*glob(f"{NATIVE}/src/*.h"), *glob(f"{NATIVE}/src/*.inc"), *glob(f"{NATIVE}/include/*.h")]),
            include_dirs=[f"{NATIVE}/include"],
            extra_compile_args=["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-pthread"],
            extra_link_args=["-pthread"],
            language="c++",
            # Python calls it through ctypes, so one file serves all versions.
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
