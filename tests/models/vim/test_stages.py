from vimdeploy.models.stages import stages_of


def test_all_are_there_in_the_order_of_the_network(tiny):
    names = [stage.name for stage in stages_of(tiny.config)]
    assert names[:3] == ["patch_embed", "pos_embed", "layers.0.norm"]
    assert names[2:9] == [
        "layers.0.norm",
        "layers.0.mixer.in_proj",
        "layers.0.mixer.conv1d",
        "layers.0.mixer.x_proj",
        "layers.0.mixer.scan",
        "layers.0.mixer.out_proj",
        "layers.0",
    ]
    assert names[-3:] == ["layers.1", "norm_f", "head"]
    assert len(names) == len(set(names)) == 2 + 7 * 2 + 2


def test_titles_are_for_people(tiny):
    titles = [stage.title for stage in stages_of(tiny.config)]
    assert titles[:4] == ["patch_embed", "pos_embed", "Block 0, norm", "Block 0, in_proj"]
    assert titles[-3:] == ["Block 1, residual", "norm_f", "head"]


def test_terms_are_what_a_value_sums_up(tiny):
    terms = {stage.name: stage.terms for stage in stages_of(tiny.config)}
    assert terms["patch_embed"] == 3 * 8 * 8
    assert (terms["layers.1.mixer.in_proj"], terms["layers.1.mixer.out_proj"]) == (16, 32)
    assert (terms["layers.1.mixer.scan"], terms["layers.1"]) == (17, 2)
