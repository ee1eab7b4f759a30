"""Former options work as the new ones, with a notice."""

import pytest

from qcanet_monai.renamed import OPTIONS, renamed_options


@pytest.mark.parametrize(("verb", "old"), [(verb, old) for verb, names in OPTIONS.items() for old in names])
def test_a_former_name_becomes_the_new_one_and_is_told(verb, old, capsys):
    new = OPTIONS[verb][old]
    assert renamed_options([verb, "a", old, "2", f"{old}=3"]) == [verb, "a", new, "2", f"{new}=3"]
    told = capsys.readouterr().err.splitlines()
    assert told == [f"qcanet: {old} is now {new}; old name removed in 0.3"] * 2


def test_other_verbs_and_options_stay(capsys):
    for words in ([], ["adapt", "a", "--grid", "2"], ["segment", "a", "--out", "b"]):
        assert renamed_options(words) == words
    assert capsys.readouterr() == ("", "")


def test_the_command_takes_a_former_name(qcanet, tmp_path):
    done = qcanet("segment", tmp_path / "none.tif", "--grid", "2", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "--grid is now --isotropic-spacing-um" in done.stderr
    assert "none.tif" in done.stderr
