import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from vimdeploy.errors import ImageError
from vimdeploy.preprocess import image_of, open_image, tensor_from_image
from vimdeploy.recipe import Recipe

PLAIN = Recipe(crop=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
"""Nothing but pixels in [0, 1]."""

GREY = Recipe(crop=1.0, mean=(0.0,), std=(1.0,))


def numbered(height, width):
    """A grey picture whose pixels count from 0."""
    return np.arange(height * width, dtype=np.uint8).reshape(height, width)


def pixels(image, size, recipe=GREY):
    """The result as 8-bit pixels (H, W) or (H, W, 3)."""
    tensor = tensor_from_image(image, size, recipe) * 255
    assert np.allclose(tensor, tensor.round(), atol=1e-3)
    return tensor.round().astype(int).transpose(1, 2, 0).squeeze(-1 if len(recipe.mean) == 1 else ())


class TestValues:
    def test_of_the_released_recipe_by_hand(self):
        tensor = tensor_from_image(Image.new("RGB", (256, 256), (255, 128, 0)), (224, 224), Recipe())
        wanted = [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (0 - 0.406) / 0.225]
        np.testing.assert_allclose(tensor[:, 100, 100], wanted, rtol=1e-6)

    def test_channels_come_first_and_are_float32(self):
        tensor = tensor_from_image(Image.new("RGB", (30, 50)), (8, 16), Recipe())
        assert (tensor.shape, tensor.dtype, tensor.flags.c_contiguous) == ((3, 8, 16), np.float32, True)

    def test_a_colour_picture_becomes_grey_for_a_grey_model(self):
        red = Image.new("RGB", (4, 4), (255, 0, 0))
        assert (pixels(red, (4, 4)) == 76).all()  # 0.299 * 255


class TestGeometry:
    def test_the_size_itself_is_taken_as_it_is(self):
        values = numbered(4, 6)
        np.testing.assert_array_equal(pixels(Image.fromarray(values), (4, 6)), values)

    def test_the_centre_is_kept(self):
        """8 / 0.5 = 16, the picture's short side, so nothing is resized: rows 4 to 12, columns 2 more than that."""
        values = np.arange(16 * 20, dtype=np.uint16).reshape(16, 20) % 251
        crop = pixels(Image.fromarray(values.astype(np.uint8)), (8, 8), Recipe(crop=0.5, mean=(0.0,), std=(1.0,)))
        np.testing.assert_array_equal(crop, values[4:12, 6:14])

    def test_an_odd_rest_is_split_as_in_the_evaluation(self):
        """5 - 2 = 3 pixels to spare: round(1.5) = 2 on the left."""
        np.testing.assert_array_equal(pixels(Image.fromarray(numbered(2, 5)), (2, 2)), numbered(2, 5)[:, 2:4])

    @pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40)])
    def test_the_short_side_is_resized_whichever_it_is(self, height, width):
        """To 20 = 10 / 0.5; the long side to 30, of which the middle 10 are kept."""
        recipe = Recipe(crop=0.5, interpolation="nearest", mean=(0.0,), std=(1.0,))
        values = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
        top, left = (height // 2 - 10) // 2, (width // 2 - 10) // 2
        found = pixels(Image.fromarray(values), (10, 10), recipe)
        np.testing.assert_array_equal(found, values[1::2, 1::2][top : top + 10, left : left + 10])

    def test_the_long_side_is_rounded_down_as_in_the_evaluation(self):
        """427 rows become 256, so 640 columns become 383.7: 383, and the crop begins at round(159 / 2) = 80."""
        picture = Image.fromarray(np.tile(np.arange(640) % 256, (427, 1)).astype(np.uint8))
        wanted = np.asarray(picture.resize((383, 256), Image.Resampling.BICUBIC))[16:240, 80:304]
        np.testing.assert_array_equal(pixels(picture, (224, 224), Recipe(mean=(0.0,), std=(1.0,))), wanted)

    def test_an_input_that_is_not_square_is_covered_whole(self):
        """A 10 x 10 picture for 4 x 8: to 8 x 8, of which the rows 2 to 6 are kept."""
        columns = np.repeat(np.array([[0, 255]], dtype=np.uint8), 5, axis=1).repeat(10, axis=0)
        found = pixels(Image.fromarray(columns), (4, 8), Recipe(1.0, "nearest", (0.0,), (1.0,)))
        np.testing.assert_array_equal(found, np.repeat([[0] * 4 + [255] * 4], 4, axis=0))

    def test_a_small_picture_is_enlarged(self):
        assert tensor_from_image(Image.new("RGB", (3, 2)), (32, 32), Recipe()).shape == (3, 32, 32)

    def test_a_picture_of_one_pixel_height(self):
        assert tensor_from_image(Image.new("RGB", (500, 1)), (32, 32), Recipe()).shape == (3, 32, 32)

    def test_the_whole_picture_is_resized_without_a_crop(self):
        """The recipe's crop and the picture's proportions do not matter."""
        values = np.repeat(numbered(4, 6), 2, axis=1)  # 4 x 12
        recipe = Recipe(0.5, "nearest", (0.0,), (1.0,))
        found = tensor_from_image(Image.fromarray(values), (4, 6), recipe, whole=True) * 255
        np.testing.assert_allclose(found[0], numbered(4, 6), atol=1e-3)

    def test_a_whole_picture_of_the_size_itself_is_taken_as_it_is(self):
        values = numbered(4, 6)
        found = tensor_from_image(Image.fromarray(values), (4, 6), GREY, whole=True) * 255
        np.testing.assert_allclose(found[0], values, atol=1e-3)

    def test_bicubic_is_pillows(self, picture):
        image = open_image(picture)  # 60 x 40
        wanted = np.asarray(image.resize((48, 32), Image.Resampling.BICUBIC))[:, 8:40]
        np.testing.assert_array_equal(pixels(image, (32, 32), PLAIN), wanted)

    def test_an_exif_orientation_is_not_applied(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by a quarter
        Image.fromarray(numbered(4, 4)).save(tmp_path / "turned.png", exif=exif)
        np.testing.assert_array_equal(pixels(open_image(tmp_path / "turned.png"), (4, 4)), numbered(4, 4))


class TestModes:
    """Every kind of picture comes out as its colours, here of a 4 x 4 picture of one colour."""

    def colour(self, image, tmp_path, name):
        image.save(tmp_path / name)
        values = pixels(open_image(tmp_path / name), (4, 4), PLAIN)
        assert (values == values[0, 0]).all()
        return tuple(int(value) for value in values[0, 0])

    def test_rgb(self, tmp_path):
        assert self.colour(Image.new("RGB", (4, 4), (10, 20, 30)), tmp_path, "rgb.png") == (10, 20, 30)

    def test_grey(self, tmp_path):
        assert self.colour(Image.new("L", (4, 4), 77), tmp_path, "grey.png") == (77, 77, 77)

    def test_one_bit(self, tmp_path):
        assert self.colour(Image.new("1", (4, 4), 1), tmp_path, "bit.png") == (255, 255, 255)

    def test_palette(self, tmp_path):
        image = Image.new("RGB", (4, 4), (10, 20, 30)).convert("P", palette=Image.Palette.ADAPTIVE)
        assert self.colour(image, tmp_path, "palette.gif") == (10, 20, 30)

    def test_transparency_is_dropped(self, tmp_path):
        assert self.colour(Image.new("RGBA", (4, 4), (10, 20, 30, 0)), tmp_path, "rgba.png") == (10, 20, 30)

    def test_grey_with_transparency(self, tmp_path):
        assert self.colour(Image.new("LA", (4, 4), (77, 0)), tmp_path, "la.png") == (77, 77, 77)

    def test_cmyk_jpeg(self, tmp_path):
        image = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
        red, green, blue = self.colour(image, tmp_path, "cmyk.jpg")
        assert (red > 250, green < 5, blue < 5) == (True, True, True)

    @pytest.mark.parametrize(("value", "eight_bit"), [(0, 0), (0x80FF, 0x80), (0xFFFF, 255)])
    def test_sixteen_bit_grey(self, tmp_path, value, eight_bit):
        image = Image.fromarray(np.full((4, 4), value, dtype=np.uint16))
        assert self.colour(image, tmp_path, "deep.png") == (eight_bit,) * 3

    def test_sixteen_bit_grey_tiff(self, tmp_path):
        image = Image.fromarray(np.full((4, 4), 0x80FF, dtype=np.uint16))
        assert self.colour(image, tmp_path, "deep.tif") == (0x80,) * 3

    def test_sixteen_bit_colour(self, tmp_path):
        path = tmp_path / "deep.png"
        path.write_bytes(sixteen_bit_png(4, 4, (0x0A00, 0x1400, 0x1EFF)))
        values = pixels(open_image(path), (4, 4), PLAIN)
        assert (values == (10, 20, 30)).all()


def sixteen_bit_png(height, width, colour):
    """Pillow reads 16-bit RGB and cannot write it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = (b"\0" + struct.pack(">3H", *colour) * width) * height
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


class TestUnreadable:
    def test_a_missing_picture(self):
        with pytest.raises(ImageError, match=r"The picture none\.png cannot be read: No such file"):
            open_image("none.png")

    def test_a_folder(self, tmp_path):
        with pytest.raises(ImageError, match="cannot be read: Is a directory"):
            open_image(tmp_path)

    @pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.7\n"], ids=repr)
    def test_no_picture(self, tmp_path, data):
        path = tmp_path / "picture.png"
        path.write_bytes(data)
        with pytest.raises(ImageError, match=r"picture\.png is not a picture that Pillow can read"):
            open_image(path)

    @pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "bmp", "webp"])
    @pytest.mark.parametrize("part", [0.2, 0.6, 0.9])
    def test_a_truncated_picture(self, tmp_path, picture, suffix, part):
        path = tmp_path / f"cut.{suffix}"
        open_image(picture).save(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(ImageError, match="cut"):
            open_image(path)

    def test_an_absurdly_large_picture(self, picture, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        with pytest.raises(ImageError, match=r"was not opened: .*decompression bomb"):
            open_image(picture)


class TestImageOf:
    """Everything that a picture may be given as."""

    @pytest.fixture
    def colours(self):
        return np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)

    def test_a_path(self, picture):
        for path in (picture, str(picture)):
            assert image_of(path).tobytes() == open_image(picture).tobytes()

    def test_a_path_of_no_picture(self):
        with pytest.raises(ImageError, match=r"none\.png cannot be read"):
            image_of("none.png")

    def test_an_opened_picture_is_itself(self, picture):
        image = open_image(picture)
        assert image_of(image) is image

    def test_an_array(self, colours):
        np.testing.assert_array_equal(np.asarray(image_of(colours)), colours)

    def test_a_grey_array(self, colours):
        assert image_of(colours[..., 0]).mode == "L"
        np.testing.assert_array_equal(np.asarray(image_of(colours[..., 0])), colours[..., 0])

    def test_a_part_of_an_array(self, colours):
        np.testing.assert_array_equal(np.asarray(image_of(colours[::-1, ::2])), colours[::-1, ::2])

    @pytest.mark.parametrize("part", [np.s_[:], np.s_[..., 0], np.s_[::2, 1:]], ids=str)
    def test_a_tensor_of_torch(self, colours, part):
        tensor = torch.from_numpy(colours)[part]
        np.testing.assert_array_equal(np.asarray(image_of(tensor)), colours[part])

    @pytest.mark.parametrize("type_", ["float32", "float64", "int64", "uint16", "bool"])
    def test_other_types(self, colours, type_):
        with pytest.raises(ImageError) as caught:
            image_of(colours.astype(type_))
        assert str(caught.value) == (
            f"Wanted a picture as an array of uint8, values 0 to 255; found {type_}. What is preprocessed already goes "
            "to run(), pictures of floats are times 255 first."
        )

    @pytest.mark.parametrize("type_", [torch.float32, torch.bfloat16, torch.int32], ids=str)
    def test_tensors_of_other_types(self, type_):
        with pytest.raises(ImageError, match=f"found {str(type_).removeprefix('torch.')}\\. What is preprocessed"):
            image_of(torch.zeros(4, 6, 3, dtype=type_, requires_grad=type_.is_floating_point))

    @pytest.mark.parametrize(
        "shape", [(), (4,), (3, 4, 6), (4, 6, 1), (4, 6, 4), (2, 4, 6, 3), (0, 6, 3), (4, 0)], ids=str
    )
    @pytest.mark.parametrize("make", [np.zeros, torch.zeros], ids=["numpy", "torch"])
    def test_other_shapes(self, shape, make):
        with pytest.raises(ImageError) as caught:
            image_of(make(shape, dtype=(np if make is np.zeros else torch).uint8))
        assert str(caught.value) == (
            f"Wanted a picture as an array (H, W, 3) or (H, W), found {shape}; several pictures go in as a list, "
            "channels stand last."
        )

    @pytest.mark.parametrize("thing", [None, 5, b"bytes", [[1, 2]]], ids=repr)
    def test_other_things(self, thing):
        with pytest.raises(ImageError, match=f"Wanted a picture: a path, .*; found {type(thing).__name__}"):
            image_of(thing)
