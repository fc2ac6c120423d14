"""Specs of exemplar codecs: their canonical form, errors of bad specs, and codecs that lack a package."""

from __future__ import annotations

import av.codec
import imagecodecs
import numpy as np
import pytest
from codec_contract import decoded, lossless_source, textured, where
from hypothesis import given, settings
from hypothesis import strategies as st

from vclimb.pipeline.codecs import codecs
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.codecs.video_codecs import Av1
from vclimb.pipeline.errors import DatasetError, SettingsError


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        *((name, name if codec.scale is None else None) for name, codec in codecs().items()),
        ("copy", "copy"),
        ("jpeg", "jpeg:75"),
        ("jpeg:007", "jpeg:7"),
        ("jpeg@128", "jpeg:75@128"),
        ("jxl:1.50", "jxl:1.5"),
        ("jxl:2.0@0064", "jxl:2@64"),
        ("raw@16", "raw@16"),
        ("h264:1", "h264:1"),
        ("av1:63@8192", "av1:63@8192"),
    ],
)
def test_names_have_one_form(spec: str, canonical: str | None) -> None:
    codec = parse_codec(spec)
    assert canonical is None or str(codec) == canonical
    assert parse_codec(str(codec)) == codec
    assert str(parse_codec(str(codec))) == str(codec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "jpg:75",
            "codec 'jpg:75' is not known; did you mean jpeg? allowed: av1:N (CRF 1 to 63), avif:N",
        ),
        ("hevc", "did you mean h265?"),
        ("H264:20", "did you mean h264?"),
        ("jpeq", "did you mean jpeg?"),
        ("copi", "did you mean copy?"),
        ("", "codec '' is not known; allowed: av1:N"),
        ("png", "codec 'png' is not known; "),
        (":75", "is not known; allowed"),
        ("@128", "is not known; allowed"),
        (" jpeg", "is not known; did you mean jpeg?"),
        ("jpeg:0", "quality '0' is not allowed; jpeg takes a whole number from 1 to 100, such as jpeg:75"),
        ("jpeg:101", "quality '101' is not allowed"),
        ("jpeg:", "quality '' is not allowed"),
        ("jpeg:7.5", "takes a whole number"),
        ("jpeg:75:3", "quality '75:3' is not allowed"),
        ("jpeg:-1", "quality '-1' is not allowed"),
        ("jpeg:\u0667\u0665", "is not allowed"),  # Arabic-Indic digits
        ("jpeg:9999999999999", "is not allowed"),
        ("jxl:nan", "distance 'nan' is not allowed; jxl takes a number from 0.1 to 15, such as jxl:1"),
        ("jxl:0", "distance '0' is not allowed"),
        ("h264:52", "CRF '52' is not allowed; h264 takes a whole number from 1 to 51, such as h264:20"),
        ("av1:64", "from 1 to 63"),
        ("jpeg@", "codec 'jpeg@': short side '' is not allowed; write pixels from 16 to 8192, such as jpeg@128"),
        ("jpeg:75@15", "short side '15' is not allowed"),
        ("jpeg:75@8193", "such as jpeg:75@128"),
        ("jpeg:75@128@64", "short side '128@64' is not allowed"),
        ("jpeg@128:75", "short side '128:75' is not allowed"),
        ("raw:3", "codec 'raw:3': raw takes no number; write raw"),
        ("copy:75", "copy takes no number; write copy"),
        ("copy@128", "copy takes no short side; write copy, or jpeg:75@128"),
    ],
)
def test_a_bad_name_is_explained(spec: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_codec(spec)
    assert message in str(caught.value)
    assert repr(spec) in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=100)
@given(
    st.one_of(
        st.text(max_size=20), st.from_regex(r"(copy|raw|jpeg|jxl|h264|x)(:[0-9.]{0,4})?(@[0-9]{0,5})?", fullmatch=True)
    )
)
def test_any_text_is_a_codec_or_one_error(text: str) -> None:
    try:
        codec = parse_codec(text)
    except SettingsError:
        pass
    else:
        assert parse_codec(str(codec)) == codec


def test_a_codec_that_the_packages_lack_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagecodecs, "AVIF", type("Lacking", (), {"available": False}))
    with pytest.raises(SettingsError, match=r"'avif:50' can't be used here: imagecodecs .* has no AVIF \(.*\); use"):
        parse_codec("avif:50")
    assert str(parse_codec("webp:50")) == "webp:50"

    def without_svt(name: str, mode: str) -> object:
        if name == "libsvtav1":
            raise av.codec.codec.UnknownCodecError(name)
        return object()

    monkeypatch.setattr(av.codec, "Codec", without_svt)
    with pytest.raises(SettingsError, match=r"'av1' can't be used here: PyAV .* has no libsvtav1 \(.*such as jpeg"):
        parse_codec("av1")
    assert str(parse_codec("h264")) == "h264:20"


def test_a_missing_decoder_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    source = lossless_source(textured(2, 48, 32))
    av1, jxl = (parse_codec(spec).encode(source) for spec in ("av1", "jxl"))
    monkeypatch.setattr(Av1, "decoder", "no-such-decoder")
    with pytest.raises(SettingsError, match=r"av1 frames can't be decoded here: PyAV .* has no no-such-decoder"):
        decoded(av1)

    def lacking(*_: object, **__: object) -> None:
        raise ImportError("no _jpegxl")

    monkeypatch.setattr(imagecodecs, "jpegxl_decode", lacking)
    with pytest.raises(SettingsError, match=r"jxl frames can't be decoded here: no _jpegxl"):
        decoded(jxl)


def test_an_unknown_clip_codec_is_refused() -> None:
    clip = EncodedClip("vp9", [b""], np.zeros(1, np.int64), np.zeros(1, np.int64))
    with pytest.raises(DatasetError, match=r"codec 'vp9' can't be decoded; this version knows av1, .*, webp"):
        decode_clip(clip, 16, 16, where)
