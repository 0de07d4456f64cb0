"""What `lint` finds in configurations as people have them (real_confs.toml): every finding, and no other."""

import tomllib
from pathlib import Path

import pytest

from upswitch.lint.lint import lint_file
from upswitch.nginx.dump import DumpError

CONFS = tomllib.loads(Path(__file__).with_name("real_confs.toml").read_text())["conf"]


@pytest.mark.parametrize("conf", CONFS, ids=lambda conf: conf["name"])
def test_a_configuration_that_people_have_is_judged_rightly(conf, tmp_path):
    path = tmp_path / "nginx.conf"
    path.write_bytes(conf["text"].lstrip("\n").encode())
    if "refused" in conf:
        with pytest.raises(DumpError) as refused:
            lint_file(f"{path}")
        assert conf["refused"] in str(refused.value)
        return
    assert sorted({each.code for each in lint_file(f"{path}")}) == conf["codes"]


def test_a_brace_may_be_a_value_where_words_are_free(tmp_path):
    path = tmp_path / "map.conf"
    path.write_text('map $a $b { "{" 1; }\n')
    assert lint_file(f"{path}") == ()
