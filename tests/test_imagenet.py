from vimdeploy import imagenet


def test_the_classes_are_in_the_order_of_their_synsets():
    synsets = list(imagenet.synsets())
    assert len(synsets) == 1000
    assert synsets == sorted(synsets)
    assert all(len(number) == 9 and number[0] == "n" and number[1:].isdecimal() for number in synsets)


def test_places_that_everybody_knows():
    names = imagenet.names()
    wanted = {0: "tench", 2: "great white shark", 207: "golden retriever", 281: "tabby", 508: "computer keyboard"}
    assert {number: names[number] for number in wanted} == wanted
    assert names[999] == "toilet tissue"


def test_no_two_names_are_equal():
    names = {name.lower() for name in imagenet.names()}
    assert len(names) == 1000
    assert {"crane (wading bird)", "crane (lifting device)", "maillot (tank suit)"} <= names
