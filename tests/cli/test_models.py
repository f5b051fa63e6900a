import json

from vimdeploy.models import VARIANTS


class TestModels:
    def test_a_row_a_variant(self, invoke):
        _, *rows = invoke("models").stdout.splitlines()
        assert [row.split()[0] for row in rows] == [v.short_name for v in VARIANTS.values()]

    def test_numbers_of_tiny(self, invoke):
        _, first, *_ = invoke("models").stdout.splitlines()
        assert first.split()[1:] == [
            *("7,148,008", "197", "224x224", "76.1"),
            "hf://hustvl/Vim-tiny-midclstok/vim_t_midclstok_76p1acc.pth",
        ]

    def test_json(self, invoke):
        document = json.loads(invoke("models", "--json").stdout)
        assert [(m["name"], m["short_name"], m["parameters"], m["tokens"]) for m in document] == [
            (v.name, v.short_name, v.config.parameters, v.config.tokens) for v in VARIANTS.values()
        ]
