"""Builds the engine's C++ library, or leaves it out where there is no compiler; all else is in pyproject.toml."""

import os
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = "hscc/engine/native"


class BuildSideBySide(build_ext):
    """Compile the sources of an extension on all cores; setuptools itself compiles one after another."""

    def build_extension(self, ext: Extension) -> None:
        """Compile, then link."""
        compile_some = self.compiler.compile

        def compile_all(sources: list[str], **options: Any) -> list[str]:
            first = compile_some(sources[:1], **options)  # makes the folders
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                others = pool.map(lambda source: compile_some([source], **options), sources[1:])
                return [*first, *(made for objects in others for made in objects)]

        self.compiler.compile = compile_all
        super().build_extension(ext)


setup(
    cmdclass={"build_ext": BuildSideBySide},
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
