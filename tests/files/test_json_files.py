"""JSON of unknown origin is read within limits, and what is not of the expected form is named."""

import json

import pytest

from rad_jax.files.json_files import check_form, parse_json, read_json

FORM = {
    "name": str,
    "sizes": [int],
    "pair": (int, str),
    "of_all": {"*": float},
    "file": str | None,
    "any": object,
}
GOOD = {
    "name": "a",
    "sizes": [1, 2],
    "pair": [3, "b"],
    "of_all": {"x": 1, "y": -0.5},
    "file": None,
    "any": [[]],
}


def test_returns_what_has_the_form(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(GOOD | {"more": 1}))
    assert read_json(path, FORM) == GOOD | {"more": 1}
    check_form(GOOD, FORM)


@pytest.mark.parametrize(
    "change, field",
    [
        ({"name": 1}, "name is 1"),
        ({"sizes": {"0": 1}}, "sizes"),
        ({"sizes": [1, True]}, r"sizes\[1\]"),
        ({"sizes": [-1]}, r"sizes\[0\]"),
        ({"sizes": [2**53 + 1]}, r"sizes\[0\]"),
        ({"pair": [3]}, "pair .* 2 values"),
        ({"pair": [3, 4]}, r"pair\[1\]"),
        ({"of_all": {"x": "1"}}, "of_all.x"),
        ({"of_all": {"x": float("inf")}}, "of_all.x"),
        ({"of_all": {"x": 10**400}}, "of_all.x"),
        ({"file": 3}, "file .* text .* or null"),
        ({"name": "\x1b[2J"}, r"name is '\\x1b\[2J', .* without control"),
        ({"name": "\ud800"}, r"name is '\\ud800'"),
    ],
)
def test_names_the_field_that_does_not_fit(change, field):
    with pytest.raises(ValueError, match=field):
        check_form(GOOD | change, FORM)


def test_names_the_field_that_is_missing():
    for key in FORM:
        with pytest.raises(ValueError, match=f"{key} is missing"):
            check_form({name: value for name, value in GOOD.items() if name != key}, FORM)


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", "[1e999999]", "-Infinity", "[" * 100_000, '"\udc80"', "1" * 5_000]
)
def test_text_that_is_no_json_or_too_deep_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_json(text.encode("utf-8", "surrogatepass"), [int])


def test_a_message_shows_the_beginning_of_what_is_large():
    large = [{f"key {i}": {f"key {j}": "x" * 100 for j in range(9)} for i in range(9)} for _ in range(9)]
    with pytest.raises(ValueError, match="a list") as error:
        check_form({"a": {"b": large}}, {"a": [int]})
    assert len(str(error.value)) < 250
