"""Tables keep their numbers; undefined values are empty cells."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from qcanet_monai.errors import InputError
from qcanet_monai.io import read_csv, write_csv, write_json


def test_columns_are_written_with_six_digits_and_nan_as_nothing(tmp_path):
    columns = {
        "frame": [0, 1],
        "volume_um3": np.array([1234.56789, np.nan]),
        "name": ["a,b", 'c"d'],
        "none": [None, 1],
    }
    write_csv(tmp_path / "a.csv", columns)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines == ["frame,volume_um3,name,none", '0,1234.57,"a,b",', '1,,"c""d",1']


def test_rows_and_columns_make_the_same_table(tmp_path):
    write_csv(tmp_path / "a.csv", {"a": [1, 2], "b": [0.5, 1.5]})
    write_csv(tmp_path / "b.csv", [{"a": 1, "b": 0.5}, {"b": 1.5, "a": 2}])
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_table_reads_back_with_its_types(tmp_path):
    columns = {"n": [1, -2], "x": [0.25, np.nan], "s": ["µm", ""], "float": np.float32([1.5, 2.0])}
    write_csv(tmp_path / "a.csv", columns)
    back = read_csv(tmp_path / "a.csv")
    assert {name: column.dtype.kind for name, column in back.items()} == {
        "n": "i",
        "x": "f",
        "s": "U",
        "float": "f",
    }
    for name, column in columns.items():
        assert_array_equal(back[name], column)


@pytest.mark.parametrize(("table", "header"), [({"a": [], "b": []}, None), ([], ["a", "b"])])
def test_a_table_without_rows_keeps_its_header(tmp_path, table, header):
    write_csv(tmp_path / "a.csv", table, header=header)
    assert (tmp_path / "a.csv").read_text() == "a,b\n"
    assert list(read_csv(tmp_path / "a.csv")) == ["a", "b"]


@pytest.mark.parametrize(
    "table", [{"a": [1], "b": [1, 2]}, [{"a": 1}, {"b": 1}], [{"a": 1}, {"a": 1, "b": 2}]]
)
def test_ragged_tables_are_refused_and_nothing_is_written(tmp_path, table):
    with pytest.raises(ValueError, match="columns"):
        write_csv(tmp_path / "a.csv", table)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "expected distinct column names in line 1, got none"),
        (b"a,a\n1,2\n", "distinct column names"),
        (b"a,b\n1,2\n3\n", "row 3: expected 2 cells, got 1"),
        (b"\xff\xfe\x00", "expected a CSV table in UTF-8, got an error"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, said):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_csv(tmp_path / "a.csv")


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read: no such file"):
        read_csv(tmp_path / "a.csv")


def test_json_holds_plain_values_only(tmp_path):
    write_json(
        tmp_path / "a.json",
        {"a": np.float32(0.5), "b": [np.nan, np.int64(3)], "c": np.eye(2), "d": Path("x"), 1: "µ"},
    )
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": 0.5, "b": [None, 3], "c": [[1, 0], [0, 1]], "d": "x", "1": "µ"}
    assert "µ" in text


def test_json_refuses_what_it_cannot_say(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert list(tmp_path.iterdir()) == []
