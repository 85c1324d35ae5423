"""Atomic writes, JSON, hashes."""

import json
import os
import stat
from pathlib import Path

import pytest
from espalier.errors import FormatError
from espalier.files import atomic_path, cache_folder, content_hash, read_json, write_bytes, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_bytes(path, b"old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"ne")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_get_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_bytes(tmp_path / "ours", b"x")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_json_round_trip_and_refusal_of_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, 2.5, None]})
    assert read_json(tmp_path / "a.json", "a test") == {"b": [1, 2.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, 2.5, None]}


@pytest.mark.parametrize(
    "content", [b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 5000], ids=["cut", "binary", "deep", "long"]
)
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.json is not a plan: not valid JSON"):
        read_json(tmp_path / "a.json", "a plan")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"cannot read a plan from .*a\.json: No such file"):
        read_json(tmp_path / "a.json", "a plan")


def test_hash_tells_parts_and_borders_apart() -> None:
    hashes = {content_hash("ab", "c"), content_hash("a", "bc"), content_hash("abc"), content_hash("abc", "")}
    assert len(hashes) == 4
    assert content_hash("é") == content_hash("é".encode())


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("ESPALIER_CACHE")
    assert cache_folder().name == "espalier"
    assert os.fspath(cache_folder()) != os.fspath(tmp_path)
