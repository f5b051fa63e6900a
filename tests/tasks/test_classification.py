import dataclasses
import math

import numpy as np
import pytest

from vimdeploy import imagenet
from vimdeploy.errors import ConfigError, ImageError
from vimdeploy.model_info import ModelInfo, TensorSpec
from vimdeploy.models.deit.config import DeiTConfig
from vimdeploy.models.heads.classification import Classifier
from vimdeploy.models.vim.network import Vim
from vimdeploy.tasks.base import MAX_CHANGES, Change, Measure, Proportion
from vimdeploy.tasks.classification import Classes, Classification

TASK = Classification()
LABELS = ("ant", "bee", "cat")


def info(classes=3, labels=LABELS):
    return ModelInfo(
        "mine",
        (TensorSpec("images", ("batch", 3, 8, 8)),),
        (TensorSpec("logits", ("batch", classes)),),
        task="classification",
        config={"dim": 16},
        labels=labels,
    )


def answers(logits, labels=LABELS):
    return TASK.answers({"logits": np.asarray(logits, np.float32)}, info(labels=labels))


class TestAnswers:
    def test_one_per_image(self):
        first, second = answers([[1, 3, 2], [9, 0, 5]])
        assert first.order.tolist() == [1, 2, 0]
        assert second.order.tolist() == [0, 2, 1]

    def test_probabilities_are_the_softmax(self):
        (answer,) = answers([[0.0, math.log(2), math.log(5)]])
        found = [(p.index, p.label, pytest.approx(p.probability)) for p in answer.predictions]
        assert found == [(2, "cat", 5 / 8), (1, "bee", 2 / 8), (0, "ant", 1 / 8)]

    def test_large_logits_do_not_overflow(self):
        (answer,) = answers([[1000.0, 0.0, -1000.0]])
        assert [p.probability for p in answer.predictions] == [1.0, 0.0, 0.0]

    def test_the_lower_number_comes_first_if_two_are_equal(self):
        assert answers([[1, 1, 1]])[0].order.tolist() == [0, 1, 2]

    def test_so_many_classes_as_are_asked_for(self):
        answer = Classes(np.arange(8, dtype=np.float32), ())
        assert [p.index for p in answer.predictions] == [7, 6, 5, 4, 3]
        assert [p.index for p in dataclasses.replace(answer, top=2).predictions] == [7, 6]
        assert len(dataclasses.replace(answer, top=99).predictions) == 8

    def test_a_class_that_nobody_named_has_its_number(self):
        assert answers([[0, 0, 5]], labels=())[0].predictions[0].label == "class 2"

    def test_as_a_table_and_as_text(self):
        (answer,) = answers([[0.0, math.log(2), math.log(5)]])
        assert answer.columns == ("probability", "class")
        assert answer.rows() == [(" 62.50%", "cat"), (" 25.00%", "bee"), (" 12.50%", "ant")]
        assert repr(answer) == " 62.50%  cat\n 25.00%  bee\n 12.50%  ant"

    def test_as_json(self):
        (answer,) = answers([[0.0, 0.0, 100.0]])
        assert answer.document()["top"][0] == {"index": 2, "label": "cat", "probability": 1.0}
        assert [entry["label"] for entry in answer.document()["top"]] == ["cat", "ant", "bee"]

    @pytest.mark.parametrize("count", [0, -1, 2.5])
    def test_no_classes_are_no_answer(self, count):
        with pytest.raises(ConfigError, match=f"Wanted at least 1 class to show, found {count}"):
            answers([[0, 0, 1]])[0].first(count)

    def test_values_that_are_not_finite_are_told(self):
        wrong, right = answers([[0, math.nan, math.inf], [0, 1, 2]])
        assert wrong.not_finite == "2 of 3 values of logits are NaN or infinite"
        assert right.not_finite == ""

    def test_labels_that_are_numbers_are_text(self):
        assert [p.label for p in answers([[0, 1, 5]], labels=(7, 8, 9))[0].predictions] == ["9", "8", "7"]

    def test_it_is_no_picture(self):
        assert answers([[0, 0, 1]])[0].picture(None) is None

    @pytest.mark.parametrize(("logits", "margin"), [([1, 3, 2.5], 0.5), ([2, 2, 0], 0), ([7], math.inf)], ids=str)
    def test_the_margin_is_first_minus_second(self, logits, margin):
        assert Classes(np.array(logits, np.float32), ()).margin == margin

    def test_the_margin_of_nan_is_nan(self):
        assert math.isnan(Classes(np.full(3, np.nan, np.float32), ()).margin)


class TestOutputs:
    def test_logits(self, tiny):
        assert TASK.outputs(tiny.config, (4, 4), (), {}) == (TensorSpec("logits", ("batch", 5)),)

    def test_no_blocks(self, tiny):
        with pytest.raises(ConfigError, match="blocks are for the task features"):
            TASK.outputs(tiny.config, (4, 4), (1,), {})

    def test_the_head_is_a_classifier(self, tiny, tiny_info):
        backbone = Vim(tiny.config)
        network = TASK.head(backbone, tiny_info)
        assert isinstance(network, Classifier)
        assert network.backbone is backbone

    def test_the_head_is_a_stage(self):
        (stage,) = TASK.stages(info())
        assert (stage.name, stage.title, stage.value, stage.module, stage.terms) == (
            "head",
            "head",
            "logits",
            "head",
            16,
        )
        assert [weight.source for weight in stage.weights] == ["head.weight", "head.bias"]

    def test_of_any_architecture(self):
        assert TASK.outputs(DeiTConfig(24, 3, num_classes=7), (14, 14), (), {})[0].dims == ("batch", 7)


def one_logit(logits, labels=("cat",)):
    return TASK.answers({"logits": np.asarray(logits, np.float32)}, info(1, labels))


class TestOneLogit:
    """A model of one logit was trained with a sigmoid: it answers its class or the absence of it."""

    @pytest.mark.parametrize("logit", [-100.0, -2.0, 0.0, 0.5, 100.0])
    def test_its_probability_is_the_sigmoid(self, logit):
        (answer,) = one_logit([[logit]])
        found = {p.label: p.probability for p in answer.predictions}
        assert found == {
            "cat": pytest.approx(1 / (1 + math.exp(-logit))),
            "not cat": pytest.approx(1 / (1 + math.exp(logit))),
        }

    def test_the_more_probable_comes_first(self):
        yes, no, even = one_logit([[1.0], [-1.0], [0.0]], labels=())
        assert [answer.predictions[0].label for answer in (yes, no, even)] == ["class 0", "not class 0", "class 0"]
        assert (yes.margin, no.margin, even.margin) == (1, 1, 0)

    def test_as_a_table(self):
        assert one_logit([[math.log(3)]])[0].rows() == [(" 75.00%", "cat"), (" 25.00%", "not cat")]

    def test_that_is_no_number(self):
        assert one_logit([[math.nan]])[0].not_finite == "1 of 2 values of logits are NaN or infinite"

    def test_another_answer_counts(self):
        comparison = TASK.comparison(info(1, ("cat",)), np.array([0, 1, 1, 0]))
        comparison.add(one_logit([[1.0], [-1.0], [-1.0], [1.0]]), one_logit([[2.0], [-1.0], [1.0], [-1.0]]))
        result = comparison.result()
        assert result.measures == (
            Measure("same top-1", Proportion(2, 4)),
            Measure("top-1 correct", Proportion(2, 4), Proportion(4, 4)),
        )
        assert [(c.reference, c.candidate, c.truth) for c in result.changes] == [
            ("not cat", "cat", "not cat"),
            ("cat", "not cat", "cat"),
        ]
        assert comparison.points_lost() == 50

    def test_the_sub_folder_of_its_class_and_others(self):
        number_of = TASK.class_names(info(1, ("cat",)), ["bee", "cat", "dog"])
        assert [number_of(name) for name in ("cat", "bee", "dog")] == [0, 1, 1]

    def test_without_the_sub_folder_of_its_class(self):
        with pytest.raises(ImageError, match=r"Wanted a sub-folder 'cat', .*; found Cat, dog"):
            TASK.class_names(info(1, ("cat",)), ["Cat", "dog"])

    def test_without_a_name(self):
        with pytest.raises(ImageError, match=r"one logit and does not name its class, .* export it with --labels FILE"):
            TASK.class_names(info(1, ()), ["cat", "dog"])


class TestCheck:
    @pytest.mark.parametrize("labels", [(), LABELS])
    def test_a_label_per_class_or_none(self, labels):
        TASK.check(info(labels=labels))

    @pytest.mark.parametrize("labels", [("a", "b"), ("a", "b", "c", "d")])
    def test_other_labels(self, labels):
        with pytest.raises(ConfigError, match=f"Wanted 3 labels, one per class; found {len(labels)}"):
            TASK.check(info(labels=labels))


class TestClassNames:
    def test_a_class_has_its_place_among_the_labels(self):
        number_of = TASK.class_names(info(), ["ant", "cat"])
        assert [number_of(name) for name in ("cat", "ant", "cat")] == [2, 0, 2]

    def test_without_labels_the_sorted_sub_folders_are_the_classes(self):
        number_of = TASK.class_names(info(labels=()), ["x", "y", "z"])
        assert [number_of(name) for name in "zxy"] == [2, 0, 1]

    def test_labels_that_are_numbers(self):
        number_of = TASK.class_names(info(labels=(5, 0, 2)), ["0", "5"])
        assert [number_of(name) for name in ("0", "5")] == [1, 0]
        with pytest.raises(ImageError, match=r"\(5, 0, 2 \.\.\.\), found '1', which is none of them"):
            TASK.class_names(info(labels=(5, 0, 2)), ["0", "1"])

    def test_a_class_may_be_told_by_its_number(self):
        number_of = TASK.class_names(info(), ["1", "cat"])
        assert [number_of(name) for name in ("cat", "1")] == [2, 1]

    @pytest.mark.parametrize("name", ["3", "-1", "01", "1.0"])
    def test_a_number_that_is_no_class(self, name):
        with pytest.raises(ImageError, match=f"found '{name}', which is none of them"):
            TASK.class_names(info(), [name])

    def test_two_classes_of_one_name(self):
        cranes = info(labels=("crane", "cat", "crane"))
        with pytest.raises(ImageError, match=r"more than one class of the name 'crane': 0, 2\. Name their sub-folders"):
            TASK.class_names(cranes, ["cat", "crane"])
        number_of = TASK.class_names(cranes, ["0", "2", "cat"])
        assert [number_of(name) for name in ("0", "2", "cat")] == [0, 2, 1]

    def test_folders_of_imagenet_have_the_numbers_of_synsets(self):
        number_of = TASK.class_names(info(1000, imagenet.names()), ["n01443537", "tench", "999"])
        assert [number_of(name) for name in ("tench", "n01443537", "999")] == [0, 1, 999]
        with pytest.raises(ImageError, match="found 'n01443537', which is none of them"):
            TASK.class_names(info(), ["n01443537"])

    def test_without_labels_numbers_whose_order_is_not_sure(self):
        found = sorted(str(number) for number in range(11))
        with pytest.raises(ImageError, match=r"as text \(0, 1, 10 \.\.\.\) and in another one as numbers"):
            TASK.class_names(info(11, ()), found)
        number_of = TASK.class_names(info(11, ()), [f"{number:02}" for number in range(11)])
        assert number_of("10") == 10

    def test_a_sub_folder_that_is_no_class(self):
        with pytest.raises(ImageError, match=r"\(ant, bee, cat \.\.\.\), found 'wasp', which is none of them"):
            TASK.class_names(info(), ["bee", "wasp"])

    @pytest.mark.parametrize("found", [["x", "y"], ["w", "x", "y", "z"]], ids=len)
    def test_without_labels_a_class_must_not_be_missing(self, found):
        with pytest.raises(ImageError, match=f"Wanted 3 sub-folders, .* found {len(found)}. Export it with --labels"):
            TASK.class_names(info(labels=()), found)


def compared(reference, candidate, right=None, names=(), classes=3):
    """The comparison of so many answers, given as logits, batch by batch."""
    labels = LABELS if classes == 3 else ()
    right = None if right is None else np.array(right)
    comparison = TASK.comparison(info(classes, labels), right, names)
    for start in range(0, len(reference), 2):
        sides = [side[start : start + 2] for side in (reference, candidate)]
        comparison.add(*(answers(side, labels) for side in sides))
    return comparison


ANT, BEE, CAT = np.eye(3)


class TestComparison:
    def test_counts_equal_answers(self):
        result = compared([ANT, BEE, CAT], [ANT, BEE, BEE]).result()
        assert result.measures == (Measure("same top-1", Proportion(2, 3)),)
        assert result.changed == 1

    def test_counts_right_answers(self):
        result = compared([ANT, BEE, CAT], [ANT, BEE, BEE], right=[0, 2, 2]).result()
        assert result.measures[1:] == (Measure("top-1 correct", Proportion(1, 3), Proportion(2, 3)),)

    def test_a_change_is_told_with_its_margins(self):
        names = ["a.png", "b.png", "c.png"]
        result = compared([ANT, BEE, 3 * CAT], [ANT, BEE, BEE], right=[0, 2, 2], names=names).result()
        assert result.changes == (Change("c.png", "cat", "bee", "cat", (3.0, 1.0)),)
        assert result.margin == "top logit minus second"

    def test_a_change_of_an_image_without_name_and_truth(self):
        (change,) = compared([ANT, BEE], [ANT, CAT]).result().changes
        assert (change.image, change.truth) == ("input 1", "")

    def test_many_changes_are_counted_and_the_first_are_kept(self):
        result = compared([ANT] * (MAX_CHANGES + 7), [BEE] * (MAX_CHANGES + 7)).result()
        assert (len(result.changes), result.changed) == (MAX_CHANGES, MAX_CHANGES + 7)

    def test_the_five_most_probable_of_more_than_five_classes(self):
        """The order among the five does not matter, another one among them does."""
        logits = np.arange(7.0)
        reordered, exchanged = logits[[0, 1, 2, 3, 4, 6, 5]], logits[[0, 2, 1, 3, 4, 5, 6]]
        result = compared([logits] * 3, [logits, reordered, exchanged], right=[6, 5, 1], classes=7).result()
        assert result.measures == (
            Measure("same top-1", Proportion(2, 3)),
            Measure("same top-5, in any order", Proportion(2, 3)),
            Measure("top-1 correct", Proportion(2, 3), Proportion(1, 3)),
            Measure("top-5 correct", Proportion(3, 3), Proportion(2, 3)),
        )

    def test_before_the_first_image(self):
        comparison = TASK.comparison(info(), np.array([1]))
        assert comparison.points_lost() == 0
        assert all(measure.candidate == Proportion(0, 0) for measure in comparison.result().measures)

    def test_more_candidates_than_references(self):
        with pytest.raises(ValueError):
            TASK.comparison(info()).add(answers([ANT]), answers([ANT, BEE]))


class TestPointsLost:
    def test_equal_answers_if_nobody_knows_the_right_ones(self):
        assert compared([ANT, BEE, CAT, ANT], [ANT, BEE, CAT, BEE]).points_lost() == 25

    @pytest.mark.parametrize(("right", "lost"), [([0, 1, 2, 0], 25), ([0, 1, 2, 1], -25), ([0, 1, 2, 2], 0)])
    def test_accuracy_if_they_are_known(self, right, lost):
        assert compared([ANT, BEE, CAT, ANT], [ANT, BEE, CAT, BEE], right).points_lost() == lost
