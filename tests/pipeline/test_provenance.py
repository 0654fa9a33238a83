from __future__ import annotations

import platform
from pathlib import Path

from hscc.files import file_sha256
from hscc.pipeline.provenance import machine, processor_name, versions


def test_processor_is_read_from_the_table(tmp_path: Path) -> None:
    table = tmp_path / "cpuinfo"
    table.write_text("processor\t: 0\nmodel name\t: A Processor: fast\nmodel name\t: another\n")
    assert processor_name(table) == "A Processor: fast"
    assert processor_name(tmp_path / "absent") == ""


def test_machine_names_no_host_or_user() -> None:
    assert set(machine()) == {"processor", "cores", "system"}
    assert platform.node() not in " ".join(machine().values())


def test_versions_name_the_runtime() -> None:
    assert versions()["python"] == platform.python_version()
    assert versions()["onnxruntime"].count(".") == 2


def test_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert file_sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
