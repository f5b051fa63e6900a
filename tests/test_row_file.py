"""Files of answers that grow: whatever a killed process has left, each picture is there once at the end."""

import csv
import json

import pytest

from vimdeploy.errors import OutputError
from vimdeploy.row_file import Names, RowFile

FIELDS = ("index", "label")
NAMES = ["a.png", 'comma, "quote".png', "line\nbreak.png", "\udcff.png", "猫.png", ""]


def document(*labels):
    return {"top": [{"index": number, "label": label, "more": 1} for number, label in enumerate(labels)]}


def write(path, names, resume=False, labels=("cat", "dog")):
    """Rows of all pictures that are not there yet."""
    with RowFile(path, FIELDS, "top", resume) as file:
        for name in names:
            if name not in file.done:
                file.add(name, document(*labels))
    return file.done


def images(path):
    """The name in each line."""
    if path.suffix == ".jsonl":
        return [json.loads(line)["image"] for line in path.read_text().splitlines()]
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return [row["image"] for row in csv.DictReader(file)]


class TestContents:
    def test_csv_has_a_line_for_each_item(self, tmp_path):
        with RowFile(tmp_path / "a.csv", FIELDS, "top") as file:
            file.add("a.png", document("cat", "dog"))
            file.add("b.png", None, "It is gone.")
            file.add("c.png", document())
        assert (tmp_path / "a.csv").read_text() == (
            "image,index,label,error\na.png,0,cat,\na.png,1,dog,\nb.png,,,It is gone.\nc.png,,,\n"
        )

    def test_csv_of_a_document_without_a_list(self, tmp_path):
        with RowFile(tmp_path / "a.CSV", ("shape", "pooled")) as file:
            file.add("a.png", {"pooled": [0.5, 1.0], "shape": {"map": [1, 2]}})
        assert (tmp_path / "a.CSV").read_text() == (
            'image,shape,pooled,error\na.png,"{""map"": [1, 2]}","[0.5, 1.0]",\n'
        )

    def test_json_lines_have_the_documents(self, tmp_path):
        with RowFile(tmp_path / "a.jsonl", FIELDS, "top") as file:
            file.add("猫.png", document("cat"))
            file.add("b.png", None, "It is gone.")
        assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == [
            {"image": "猫.png"} | document("cat"),
            {"image": "b.png", "error": "It is gone."},
        ]
        assert "猫.png" in (tmp_path / "a.jsonl").read_text()

    def test_rows_are_there_at_once(self, tmp_path):
        with RowFile(tmp_path / "a.jsonl", FIELDS) as file:
            file.add("a.png", document("cat"))
            assert images(tmp_path / "a.jsonl") == ["a.png"]

    def test_a_run_without_a_row_leaves_no_file(self, tmp_path):
        assert (len(write(tmp_path / "a.csv", [])), list(tmp_path.iterdir())) == (0, [])


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
class TestResume:
    def test_wherever_it_was_cut(self, tmp_path, suffix):
        path = tmp_path / f"a.{suffix}"
        write(path, NAMES)
        whole = path.read_bytes()
        for end in range(0, len(whole), 3):
            path.write_bytes(whole[:end])
            write(path, NAMES, resume=True)
            assert path.read_bytes() == whole

    def test_begins_if_there_is_nothing(self, tmp_path, suffix):
        write(tmp_path / f"a.{suffix}", NAMES, resume=True)
        assert list(dict.fromkeys(images(tmp_path / f"a.{suffix}"))) == NAMES

    def test_keeps_what_is_there_if_nothing_comes(self, tmp_path, suffix):
        path = tmp_path / f"a.{suffix}"
        write(path, NAMES, labels=["cat"])
        before = images(path)
        write(path, NAMES, resume=True, labels=["cat"])
        assert images(path) == before

    def test_another_file_is_left_alone(self, tmp_path, suffix):
        path = tmp_path / f"a.{suffix}"
        path.write_text("something,else\n1,2\n")
        with pytest.raises(OutputError, match="is no file of answers that this run can go on with"):
            write(path, NAMES, resume=True)
        assert path.read_text() == "something,else\n1,2\n"

    def test_a_file_that_is_there_is_not_written_over(self, tmp_path, suffix):
        write(tmp_path / f"a.{suffix}", NAMES)
        with pytest.raises(OutputError, match="is there already: go on with it by --resume, or choose another name"):
            write(tmp_path / f"a.{suffix}", NAMES)

    def test_two_writers_at_once(self, tmp_path, suffix):
        with (
            RowFile(tmp_path / f"a.{suffix}", FIELDS),
            pytest.raises(OutputError, match="is being written by another process"),
        ):
            RowFile(tmp_path / f"a.{suffix}", FIELDS, resume=True)


def test_columns_of_another_task(tmp_path):
    write(tmp_path / "a.csv", NAMES)
    with pytest.raises(OutputError, match="its columns are image, index, label, error; wanted image, share, error"):
        RowFile(tmp_path / "a.csv", ["share"], resume=True)


@pytest.mark.parametrize("line", ["[]", "{}", '{"image": 1}', "1", "nonsense"])
def test_lines_that_are_no_answers(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(f"{line}\n")
    with pytest.raises(OutputError, match="is no file of answers"):
        RowFile(tmp_path / "a.jsonl", FIELDS, resume=True)


def test_a_full_disk(tmp_path, monkeypatch):
    with RowFile(tmp_path / "a.csv", FIELDS) as file:
        monkeypatch.setattr(file, "_file", Full())
        with pytest.raises(OutputError, match=r"a\.csv cannot be written: No space left on device; --resume goes on"):
            file.add("a.png", document("cat"))


class Full:
    def write(self, data):
        raise OSError(28, "No space left on device")

    def close(self):
        pass


def test_names_are_known_again():
    names = Names(f"{number}.png" for number in range(1000))
    assert len(names) == 1000
    assert all(f"{number}.png" in names for number in range(1000))
    assert not any(f"{number}.jpg" in names for number in range(1000))
    assert "" not in Names()
