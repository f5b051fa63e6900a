import io
import os
import resource
import struct
import warnings
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, features

from vimdeploy.errors import ImageError, VimdeployWarning
from vimdeploy.preprocess import (
    FORMATS,
    Bands,
    Placement,
    _resized_columns,
    _resized_part,
    image_from_tensor,
    image_of,
    normalised,
    open_image,
    placed,
    size_of,
    tensor_from_image,
    tensors_from_image,
    viewable,
)
from vimdeploy.recipe import INTERPOLATIONS, OPENCV, Recipe

PLAIN = Recipe(crop=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
"""Nothing but pixels in [0, 1]."""

GREY = Recipe(crop=1.0, mean=(0.0,), std=(1.0,))
SLIDE, PAD = (Recipe(1.0, "bilinear", fit=fit) for fit in ("slide", "pad"))


def numbered(height, width):
    """A grey picture whose pixels count from 0."""
    return np.arange(height * width, dtype=np.uint8).reshape(height, width)


def pixels(image, size, recipe=GREY):
    """The result as 8-bit pixels (H, W) or (H, W, 3)."""
    tensor = tensor_from_image(image, size, recipe) * 255
    assert np.allclose(tensor, tensor.round(), atol=1e-3)
    return tensor.round().astype(int).transpose(1, 2, 0).squeeze(-1 if len(recipe.mean) == 1 else ())


def whole(image, size, recipe):
    """The picture resized to the size as it is."""
    return next(tensors_from_image(image, size, recipe, Placement(size_of(image), size)))


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
        found = whole(Image.fromarray(values), (4, 6), recipe) * 255
        np.testing.assert_allclose(found[0], numbered(4, 6), atol=1e-3)

    def test_a_whole_picture_of_the_size_itself_is_taken_as_it_is(self):
        values = numbered(4, 6)
        found = whole(Image.fromarray(values), (4, 6), GREY) * 255
        np.testing.assert_allclose(found[0], values, atol=1e-3)

    def test_bicubic_is_pillows(self, picture):
        image = open_image(picture)  # 60 x 40
        wanted = np.asarray(image.resize((48, 32), Image.Resampling.BICUBIC))[:, 8:40]
        np.testing.assert_array_equal(pixels(image, (32, 32), PLAIN), wanted)

    @pytest.mark.parametrize("interpolation", INTERPOLATIONS)
    @pytest.mark.parametrize("mode", ["L", "RGB"])
    @pytest.mark.parametrize("size", [(48, 32), (341, 256), (17, 200), (60, 40), (60, 99), (99, 40)], ids=str)
    def test_columns_are_those_of_the_whole(self, picture, size, mode, interpolation):
        image = open_image(picture).convert(mode)  # 60 x 40
        wanted = _resized_part(image, size, (0, 0, *size), interpolation)
        columns = _resized_columns(image, size, 3, size[0] - 5, interpolation)
        np.testing.assert_array_equal(np.asarray(columns), np.asarray(wanted)[:, 3:-5])


class TestOpenCV:
    """Pictures resized as mmcv does, by OpenCV: bilinear, and nothing is averaged if they get smaller."""

    RECIPE = Recipe(1.0, OPENCV, (0.0,), (1.0,))

    @pytest.mark.parametrize("size", [(32, 48), (13, 20), (7, 11), (80, 60), (5, 200)], ids=str)
    def test_is_torchs_without_antialiasing(self, size):
        values = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
        map_ = torch.from_numpy(values).float()[None, None]
        wanted = torch.nn.functional.interpolate(map_, size, mode="bilinear", align_corners=False)[0, 0].numpy()
        found = whole(Image.fromarray(values), size, self.RECIPE)[0] * 255
        assert abs(found - wanted).max() <= 0.51  # a pixel is a whole number

    def test_a_constant_stays_one(self):
        assert (pixels(Image.new("L", (50, 30), 77), (9, 9), self.RECIPE) == 77).all()

    def test_parts_are_those_of_the_whole(self):
        values = np.random.default_rng(1).integers(0, 256, (90, 70), dtype=np.uint8)
        recipe = replace(self.RECIPE, fit="slide")
        placement = Placement((90, 70), (45, 35), ((0, 0), (21, 3)))
        parts = list(tensors_from_image(Image.fromarray(values), (24, 32), recipe, placement))
        (picture,) = tensors_from_image(Image.fromarray(values), (45, 35), recipe, Placement((90, 70), (45, 35)))
        np.testing.assert_array_equal(parts[0], picture[:, :24, :32])
        np.testing.assert_array_equal(parts[1], picture[:, 21:45, 3:35])


class TestLongPictures:
    """If a picture is much longer than its crop, the crop alone is computed."""

    @pytest.mark.parametrize("interpolation", INTERPOLATIONS)
    @pytest.mark.parametrize("size", [(3, 400), (700, 5), (7, 1000)], ids=str)
    def test_are_what_the_whole_would_be(self, size, interpolation, monkeypatch):
        """But for the last bit of a pixel: Pillow rounds the corners of what it resizes to float32."""
        values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        recipe = Recipe(0.875, interpolation, (0.0,) * 3, (1.0,) * 3)
        found = pixels(Image.fromarray(values), (24, 32), recipe)
        monkeypatch.setattr("vimdeploy.preprocess._LARGEST", 10**9)
        wanted = pixels(Image.fromarray(values), (24, 32), recipe)
        assert abs(found - wanted).max() <= 1
        assert (found != wanted).mean() < 0.01

    @pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA"])
    @pytest.mark.parametrize("size", [(1, 60000), (60000, 1), (3, 100_000)], ids=str)
    def test_take_no_memory(self, size, mode):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        tensor = tensor_from_image(Image.new(mode, size), (224, 224), Recipe())
        assert tensor.shape == (3, 224, 224)
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 100 << 10  # KiB

    def test_a_crop_of_a_hundredth(self):
        assert tensor_from_image(Image.new("L", (50, 40)), (64, 64), Recipe(crop=0.01)).shape == (3, 64, 64)


class TestOrientation:
    """The orientation in EXIF is not applied, as in the evaluation that the accuracy comes from, and that is told."""

    @pytest.fixture(params=["png", "jpg", "webp"])
    def turned(self, request, tmp_path):
        def write(orientation):
            exif = Image.Exif()
            exif[0x0112] = orientation
            path = tmp_path / f"turned.{request.param}"
            Image.fromarray(np.repeat(numbered(4, 4), 2, axis=1)).save(path, exif=exif)
            return path

        return write

    def test_is_told_and_not_applied(self, turned):
        with pytest.warns(VimdeployWarning, match=r"EXIF orientation .* turn them first, .*exif_transpose"):
            assert open_image(turned(6)).size == (8, 4)

    def test_is_told_of_a_picture_that_somebody_opened(self, turned):
        with Image.open(turned(3)) as image, pytest.warns(VimdeployWarning, match="EXIF orientation"):
            assert image_of(image) is image

    @pytest.mark.parametrize("orientation", [1, 0, 9])
    def test_nothing_is_told_of_upright_pictures(self, turned, orientation):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            open_image(turned(orientation))

    def test_exif_that_is_damaged_says_nothing(self, picture):
        image = open_image(picture)
        image.info["exif"] = b"Exif\0\0II*\0\xff\xff\xff\xff"
        assert image_of(image) is image


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

    @pytest.mark.parametrize("mode", ["HSV", "YCbCr", "RGBX", "RGBa", "PA", "La", "CMYK", "P"])
    @pytest.mark.parametrize("recipe", [PLAIN, GREY], ids=["rgb", "grey"])
    def test_other_modes_of_8_bits(self, mode, recipe):
        """White is white in each; Pillow itself has no way from La to others."""
        image = Image.new("LA" if mode == "La" else "RGBA" if mode == "RGBa" else "RGB", (4, 4), "white")
        image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
        assert image.mode == mode
        assert (pixels(image, (4, 4), recipe) == 255).all()

    @pytest.mark.parametrize(("mode", "opaque"), [("RGBa", (50, 100, 200)), ("La", (50,) * 3)])
    def test_colours_are_not_multiplied_by_their_transparency(self, mode, opaque):
        image = Image.new(mode.upper(), (4, 4), (*opaque, 51) if mode == "RGBa" else (50, 51)).convert(mode)
        assert abs(pixels(image, (4, 4), PLAIN)[0, 0] - opaque).max() <= 2

    def test_a_palette_with_transparency_is_silent(self, tmp_path):
        image = Image.new("P", (4, 4), 1)
        image.putpalette([0, 0, 0, 10, 20, 30])
        image.save(tmp_path / "p.png", transparency=b"\0\x80")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert (pixels(open_image(tmp_path / "p.png"), (4, 4), PLAIN) == (10, 20, 30)).all()

    def test_sixteen_bit_grey_of_a_portable_map(self, tmp_path):
        (tmp_path / "deep.pgm").write_bytes(b"P5 2 2 65535\n" + struct.pack(">4H", 0, 0x80FF, 0xFFFF, 0x0AFF))
        assert pixels(open_image(tmp_path / "deep.pgm"), (2, 2)).tolist() == [[0, 0x80], [0xFF, 0x0A]]

    def test_twelve_bit_grey_tiff(self, tmp_path):
        """Two pixels in three bytes: 0xFFF and 0x80F."""
        (tmp_path / "deep.tif").write_bytes(tiff(2, 1, 12, b"\xff\xf8\x0f", photometric=1))
        assert pixels(open_image(tmp_path / "deep.tif"), (1, 2)).tolist() == [[0xFF, 0x80]]

    def test_sixteen_bit_grey_tiff_whose_zero_is_white(self, tmp_path):
        (tmp_path / "deep.tif").write_bytes(tiff(2, 1, 16, struct.pack("<2H", 0, 0x80FF), photometric=0))
        assert pixels(open_image(tmp_path / "deep.tif"), (1, 2)).tolist() == [[0xFF, 0x7F]]

    @pytest.mark.parametrize("recipe", [PLAIN, GREY], ids=["rgb", "grey"])
    @pytest.mark.parametrize("type_", [np.float32, np.int32])
    def test_values_of_which_nobody_knows_the_range(self, tmp_path, type_, recipe):
        Image.fromarray(np.full((4, 4), 100, type_)).save(tmp_path / "values.tif")
        with pytest.raises(ImageError, match=r"values\.tif has values of .*, and nobody knows which .* 8 or 16 bits"):
            tensor_from_image(open_image(tmp_path / "values.tif"), (4, 4), recipe)

    def test_signed_values_of_16_bits(self, tmp_path):
        (tmp_path / "signed.tif").write_bytes(tiff(2, 1, 16, struct.pack("<2h", -5, 500), photometric=1, format_=2))
        with pytest.raises(ImageError, match=r"signed\.tif has values of 32-bit or signed integers"):
            tensor_from_image(open_image(tmp_path / "signed.tif"), (4, 4), GREY)

    @pytest.mark.parametrize("recipe", [PLAIN, GREY], ids=["rgb", "grey"])
    def test_cielab(self, tmp_path, recipe):
        Image.merge("LAB", [Image.new("L", (4, 4), 77)] * 3).save(tmp_path / "lab.tif")
        with pytest.raises(ImageError, match=r"lab\.tif has the colours of CIELAB; save it as RGB"):
            tensor_from_image(open_image(tmp_path / "lab.tif"), (4, 4), recipe)

    def test_a_picture_in_small_is_as_bright(self):
        deep = Image.fromarray(np.full((4, 4), 0x80FF, np.uint16))
        assert viewable(deep).getpixel((0, 0)) == (0x80,) * 3


class TestChannels:
    """A model of other channels than grey and RGB takes pictures of as many, channel by channel."""

    def recipe(self, channels):
        return Recipe(1.0, "bilinear", (0.0,) * channels, (1.0,) * channels)

    @pytest.mark.parametrize("channels", [2, 4, 5, 12])
    def test_an_array_of_as_many(self, channels):
        values = np.random.default_rng(0).integers(0, 256, (8, 6, channels), dtype=np.uint8)
        tensor = tensor_from_image(image_of(values), (8, 6), self.recipe(channels))
        np.testing.assert_array_equal((tensor * 255).round(), values.transpose(2, 0, 1))

    @pytest.mark.parametrize("channels", [2, 4, 12])
    def test_each_is_resized_alone(self, channels):
        """The last channel is one as others: no transparency, by which colours would be multiplied."""
        values = np.random.default_rng(0).integers(0, 256, (8, 6, channels), dtype=np.uint8)
        tensor = tensor_from_image(image_of(values), (16, 12), self.recipe(channels))
        for channel in range(channels):
            alone = tensor_from_image(image_of(values[..., channel]), (16, 12), self.recipe(1))
            np.testing.assert_array_equal(tensor[channel], alone[0])

    @pytest.mark.parametrize(("mode", "channels"), [("LA", 2), ("RGBA", 4), ("CMYK", 4)])
    def test_a_picture_of_as_many(self, mode, channels):
        image = Image.new(mode, (4, 4), tuple(range(10, 10 + channels)))
        tensor = tensor_from_image(image, (4, 4), self.recipe(channels)) * 255
        np.testing.assert_allclose(tensor[:, 0, 0], range(10, 10 + channels), rtol=1e-6)

    @pytest.mark.parametrize(
        ("mode", "channels", "found"), [("RGB", 4, r"3 \(RGB\)"), ("L", 2, r"1 \(L\)"), ("RGBA", 12, r"4 \(RGBA\)")]
    )
    def test_a_picture_of_others(self, mode, channels, found):
        with pytest.raises(
            ImageError, match=rf"Wanted a picture of {channels} channels, found {found}; give one of as"
        ):
            tensor_from_image(Image.new(mode, (4, 4)), (4, 4), self.recipe(channels))

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_many_channels_for_a_model_of_few(self, channels):
        """Channels that stand first look like it."""
        with pytest.raises(ImageError, match=f"of {channels} channels, found 7; .* Channels stand last"):
            tensor_from_image(image_of(np.zeros((3, 6, 7), np.uint8)), (4, 4), self.recipe(channels))

    def test_transparency_in_an_array_is_dropped_as_in_a_file(self):
        values = np.full((4, 4, 4), (10, 20, 30, 0), np.uint8)
        assert (pixels(image_of(values), (4, 4), PLAIN) == (10, 20, 30)).all()

    def test_one_channel_in_an_array_is_grey(self):
        assert (pixels(image_of(numbered(4, 4)[..., None]), (4, 4)) == numbered(4, 4)).all()

    def test_for_people_the_first_channel_is_shown(self):
        shown = viewable(image_of(np.full((4, 4, 7), np.arange(7) + 50, np.uint8)))
        assert (shown.mode, shown.getpixel((0, 0))) == ("RGB", (50, 50, 50))


class TestArrayFiles:
    def test_are_pictures(self, tmp_path):
        values = np.random.default_rng(0).integers(0, 256, (8, 6, 12), dtype=np.uint8)
        np.save(tmp_path / "many.npy", values)
        opened = open_image(tmp_path / "many.npy")
        assert isinstance(opened, Bands)
        np.testing.assert_array_equal(np.stack([np.asarray(band) for band in opened.split()], axis=2), values)

    def test_of_floats(self, tmp_path):
        np.save(tmp_path / "floats.npy", np.zeros((4, 4, 12), np.float32))
        with pytest.raises(ImageError, match=r"floats\.npy: Wanted a picture as an array of uint8.*; found float32"):
            open_image(tmp_path / "floats.npy")

    @pytest.mark.parametrize("kind", ["code", "cut", "large", "text", "empty"])
    def test_that_are_damaged_or_dangerous(self, tmp_path, kind):
        path = tmp_path / "bad.npy"
        np.save(path, np.array([print], object) if kind == "code" else np.zeros((4, 4, 12), np.uint8))
        data = path.read_bytes()
        large = data.replace(b"(4, 4, 12), }        ", b"(400000, 400000, 12),}")
        path.write_bytes({"cut": data[:-1], "large": large, "text": b"hello", "empty": b""}.get(kind, data))
        with pytest.raises(ImageError, match=r"The picture .*bad\.npy cannot be read: "):
            open_image(path)


def tiff(width, height, bits, data, photometric, format_=1):
    """A grey TIFF of one strip; Pillow reads kinds that it cannot write."""
    entries = [
        (256, width),
        (257, height),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 8 + 2 + 9 * 12 + 4),
        (277, 1),
        (279, len(data)),
        (339, format_),
    ]
    directory = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + data


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
        with pytest.raises(ImageError, match=r"picture\.png is not a picture that Pillow can read as PNG, JPEG, "):
            open_image(path)

    @pytest.mark.parametrize("suffix", [suffix for suffixes in FORMATS.values() for suffix in suffixes])
    @pytest.mark.parametrize("part", [0.2, 0.6, 0.9])
    def test_a_truncated_picture(self, tmp_path, picture, suffix, part):
        if suffix == ".avif" and not features.check("avif"):
            pytest.skip("this Pillow reads no AVIF")
        path = tmp_path / f"cut{suffix}"
        open_image(picture).save(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(ImageError, match="cut"):
            open_image(path)

    @pytest.mark.parametrize("suffix", ["ico", "tga", "pcx", "dds", "sgi"])
    def test_formats_that_nobody_sends(self, tmp_path, picture, suffix):
        """Whatever the file is called."""
        open_image(picture).save(tmp_path / f"rare.{suffix}")
        path = (tmp_path / f"rare.{suffix}").rename(tmp_path / "rare.png")
        with pytest.raises(ImageError, match=r"rare\.png is not a picture that Pillow can read as PNG, JPEG, BMP"):
            open_image(path)

    @pytest.mark.parametrize("error", [KeyError("tile"), IndexError, OverflowError, struct.error("x"), MemoryError])
    def test_whatever_a_decoder_raises(self, picture, monkeypatch, error):
        def stumble(image):
            raise error

        monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", stumble)
        with pytest.raises(ImageError, match=r"picture\.png cannot be read: [^.]+\.$"):
            open_image(picture)

    def test_a_picture_that_is_not_decoded_yet(self, tmp_path, picture):
        path = tmp_path / "cut.png"
        path.write_bytes(picture.read_bytes()[:2000])
        with Image.open(path) as image, pytest.raises(ImageError, match=r"cut\.png cannot be read: .*truncated"):
            image_of(image)

    @pytest.mark.parametrize("kind", ["pipe", "device", "link to a device"])
    def test_what_is_no_regular_file(self, tmp_path, kind):
        path = tmp_path / "special.png"
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "link to a device":
            path.symlink_to("/dev/zero")
        else:
            path = "/dev/zero"
        with pytest.raises(ImageError, match="cannot be read: it is a device, a pipe or a socket"):
            open_image(path)

    @pytest.mark.parametrize(
        ("name", "reason"), [("x" * 300 + ".png", "File name too long"), ("x\0.png", "null")], ids=["long", "null"]
    )
    def test_names_that_no_file_can_have(self, name, reason):
        with pytest.raises(ImageError, match=f"cannot be read: .*{reason}"):
            open_image(name)

    def test_text_that_is_no_name_is_not_repeated(self):
        """A picture in base64 for example."""
        with pytest.raises(ImageError) as caught:
            open_image("iVBORw0KGgo" * 40_000)
        assert len(str(caught.value)) < 500

    def test_a_file_that_is_not_to_be_read(self, picture, monkeypatch):
        def denied(*arguments, **options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", denied)
        with pytest.raises(ImageError, match=r"picture\.png cannot be read: Permission denied\.$"):
            open_image(picture)

    def test_an_absurdly_long_picture(self, tmp_path):
        """The file need not even hold its pixels."""
        (tmp_path / "long.pgm").write_bytes(b"P5 1 80000000 255\n")
        with pytest.raises(
            ImageError, match=r"long\.pgm was not opened: its sides are \(1, 80000000\), at most 1000000"
        ):
            open_image(tmp_path / "long.pgm")

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

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_the_bytes_of_a_file(self, picture, kind):
        """An upload for example; what follows the picture does not matter."""
        data = kind(picture.read_bytes() + bytes(1000))
        assert image_of(data).tobytes() == open_image(picture).tobytes()

    def test_a_file(self, picture):
        with picture.open("rb") as file:
            assert image_of(file).tobytes() == image_of(file).tobytes() == open_image(picture).tobytes()

    def test_a_file_of_text(self):
        with pytest.raises(ImageError, match=r"^The picture "):
            image_of(io.StringIO("text"))

    @pytest.mark.parametrize("make", [lambda x: x.to_sparse(), lambda x: x.to("meta")], ids=["sparse", "meta"])
    def test_tensors_without_pixels(self, make):
        with pytest.raises(ImageError, match=r"^The tensor cannot be read as a picture: "):
            image_of(make(torch.zeros(4, 6, 3, dtype=torch.uint8)))

    def test_bytes_of_no_picture(self):
        with pytest.raises(ImageError) as caught:
            image_of(b"bytes" * 100_000)
        assert str(caught.value).startswith("The picture of 500000 bytes is not a picture that Pillow can read as PNG")
        assert len(str(caught.value)) < 300

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

    @pytest.mark.parametrize("shape", [(), (4,), (2, 4, 6, 3), (0, 6, 3), (4, 0), (4, 6, 0)], ids=str)
    @pytest.mark.parametrize("make", [np.zeros, torch.zeros], ids=["numpy", "torch"])
    def test_other_shapes(self, shape, make):
        with pytest.raises(ImageError) as caught:
            image_of(make(shape, dtype=(np if make is np.zeros else torch).uint8))
        assert str(caught.value) == (
            f"Wanted a picture as an array (H, W, C) or (H, W), found {shape}; several pictures go in as a list, "
            "channels stand last."
        )

    @pytest.mark.parametrize("thing", [None, 5, [[1, 2]]], ids=repr)
    def test_other_things(self, thing):
        with pytest.raises(ImageError, match=f"Wanted a picture: a path, .*; found {type(thing).__name__}"):
            image_of(thing)


class TestPlaced:
    """Sizes and windows by the formulas of mmcv, mmsegmentation and detectron2."""

    @pytest.mark.parametrize(
        ("original", "resized"),
        [
            ((2000, 3000), (512, 768)),
            ((600, 800), (512, 683)),
            ((500, 3000), (341, 2048)),
            ((100, 20000), (10, 2048)),
            ((1, 20000), (1, 2048)),
            ((3, 2), (768, 512)),
        ],
        ids=str,
    )
    def test_slides_over_a_picture_of_the_configs_size(self, original, resized):
        assert placed(original, (512, 512), SLIDE).resized == resized
        assert placed(original[::-1], (512, 512), SLIDE).resized == resized[::-1]

    @pytest.mark.parametrize(
        ("original", "resized"), [((480, 640), (768, 1024)), ((427, 640), (683, 1024)), ((5, 9999), (1, 1024))], ids=str
    )
    def test_pads_a_picture_whose_long_side_is_the_inputs(self, original, resized):
        assert placed(original, (1024, 1024), PAD) == Placement(original, resized, ((0, 0),))
        assert placed(original[::-1], (1024, 1024), PAD).resized == resized[::-1]

    def test_windows_of_two_thirds_stride_are_shifted_back_inside(self):
        windows = placed((2000, 3000), (512, 512), SLIDE, (2000, 3000), every=True).windows
        tops, lefts = ([start[axis] for start in windows] for axis in range(2))
        assert len(windows) == len(set(windows)) == 54
        assert sorted(set(tops)) == [0, 341, 682, 1023, 1364, 1488]
        assert sorted(set(lefts)) == [0, 341, 682, 1023, 1364, 1705, 2046, 2387, 2488]

    @pytest.mark.parametrize(("resized", "windows"), [((48, 32), 2), ((32, 32), 1), ((53, 53), 4), ((54, 53), 6)])
    def test_as_many_as_cover_the_picture(self, resized, windows):
        assert len(placed(resized, (32, 32), SLIDE, resized, every=True).windows) == windows

    def test_come_lane_by_lane_along_the_shorter_side(self):
        assert placed((32, 48), (16, 16), SLIDE, (32, 48), every=True).windows[:3] == ((0, 0), (10, 0), (16, 0))
        assert placed((48, 32), (16, 16), SLIDE, (48, 32), every=True).windows[:3] == ((0, 0), (0, 10), (0, 16))

    def test_the_window_in_the_middle_is_what_a_crop_takes(self):
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 90, 3), dtype=np.uint8))
        crop = tensor_from_image(image, (32, 32), replace(SLIDE, fit="crop", crop=1.0))
        slide = tensor_from_image(image, (32, 32), SLIDE)
        np.testing.assert_array_equal(slide, crop)

    def test_an_absurdly_large_one(self):
        with pytest.raises(ImageError, match="Wanted a picture of 999999x999999 pixels, at most 268435456"):
            placed((4, 4), (32, 32), SLIDE, (999999, 999999), every=True)


class TestWindows:
    def test_are_parts_of_the_resized_picture(self):
        values = numbered(10, 20)
        placement = placed((10, 20), (6, 6), SLIDE, (10, 20), every=True)
        grey = replace(GREY, fit="slide")
        windows = list(tensors_from_image(Image.fromarray(values), (6, 6), grey, placement))
        assert len(windows) == len(placement.windows) == 10
        for window, (top, left) in zip(windows, placement.windows, strict=True):
            np.testing.assert_allclose(window[0] * 255, values[top : top + 6, left : left + 6], atol=1e-4)

    @pytest.mark.parametrize("fit", ["slide", "pad"])
    def test_what_is_not_picture_is_zero_after_normalisation(self, fit):
        recipe = Recipe(1.0, "nearest", (0.5,), (0.25,), fit)
        tensor = tensor_from_image(Image.new("L", (80, 8), 255), (16, 16), recipe)[0]
        height = {"slide": 6, "pad": 2}[fit]
        assert (tensor[:height] == 2).all()
        assert (tensor[height:] == 0).all()


class TestBytes:
    def made(self, image, size, recipe):
        return tensor_from_image(image, size, recipe, as_bytes=True)

    def test_channels_come_last_and_are_bytes(self):
        tensor = self.made(Image.new("RGB", (30, 50)), (8, 16), Recipe())
        assert (tensor.shape, tensor.dtype, tensor.flags.c_contiguous) == ((8, 16, 3), np.uint8, True)

    def test_are_the_pixels_themselves(self):
        values = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        np.testing.assert_array_equal(self.made(Image.fromarray(values), (4, 6), replace(Recipe(), crop=1.0)), values)

    @pytest.mark.parametrize("channels", [1, 3, 5])
    @pytest.mark.parametrize("fit", ["crop", "slide", "pad"])
    @pytest.mark.parametrize("size", [(30, 50), (90, 20)])
    def test_once_normalised_are_what_other_models_take(self, channels, fit, size):
        recipe = Recipe(0.9, "bilinear", (0.5,) * channels, (0.25,) * channels, fit)
        values = np.random.default_rng(0).integers(0, 127, (*size, channels), dtype=np.uint8)  # 128 is the margin
        image = image_of(values)
        wanted = tensor_from_image(image, (16, 24), recipe)
        np.testing.assert_array_equal(normalised(self.made(image, (16, 24), recipe), recipe), wanted)

    def test_every_window(self):
        values = np.random.default_rng(0).integers(0, 256, (10, 20, 3), dtype=np.uint8)
        placement = placed((10, 20), (6, 6), SLIDE, (10, 20), every=True)
        windows = list(tensors_from_image(Image.fromarray(values), (6, 6), SLIDE, placement, as_bytes=True))
        for window, (top, left) in zip(windows, placement.windows, strict=True):
            np.testing.assert_array_equal(window, values[top : top + 6, left : left + 6])

    def test_behind_a_picture_comes_the_colour_of_the_margin(self):
        tensor = self.made(Image.new("RGB", (80, 8), (1, 2, 3)), (16, 16), PAD)
        assert (tensor[:2] == (1, 2, 3)).all()
        assert (tensor[2:] == PAD.margin).all()

    @pytest.mark.parametrize("channels", [1, 3])
    def test_for_people_are_the_picture(self, channels):
        values = np.random.default_rng(0).integers(0, 256, (4, 6, channels), dtype=np.uint8)
        seen = np.asarray(image_from_tensor(values, Recipe()))
        np.testing.assert_array_equal(seen, np.broadcast_to(values, (4, 6, 3)))
