"""The forms that benchmarks/forms.py measures compute the same."""

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.loading import script

from vimdeploy.libraries import library_path

forms = script("benchmarks/forms.py")
pytestmark = pytest.mark.skipif(library_path() is None, reason="the compiled operators are not installed")

SMALL = {
    "the gate": (forms.GATE_FORMS, forms.GATE_INPUTS, {"L": 9, "E": 6, "N": 3, "R": 2, "XZ": 12, "DT_BC": 8}),
    "the low rank": (forms.RANK_FORMS, forms.RANK_INPUTS, {"G": 4, "L": 9, "E": 6, "N": 1, "R": 2}),
}


@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL.keys())
def test_all_forms_agree(case):
    texts, inputs, sizes = case
    values = forms.random_inputs(inputs, sizes)
    results = [
        forms.session_of(forms.model_of(text, inputs, sizes), threads=1).run(None, values)[0] for text in texts.values()
    ]
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-4, atol=1e-5)


def test_prints_a_line_for_each_form(monkeypatch):
    monkeypatch.setattr(forms, "CASES", tuple(SMALL.values()))
    printed = CliRunner().invoke(forms.main, ["--rounds", "1"], catch_exceptions=False).output
    assert all(name in printed for texts, _, _ in SMALL.values() for name in texts)
