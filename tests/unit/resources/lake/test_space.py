"""Names of spaces: those that are refused, and the safe one of every user."""

from __future__ import annotations

import re

import pytest

from mlops_assets.ml.errors import SpecError
from mlops_assets.ml.values import SERVED_NAME
from resources.lake.space import LONGEST, in_space, name_in, space_of, space_of_user, split_name

USERS = ["ann", "Ann.Lee", "ann_lee", "ann-lee-", "анна", "Zoë", "", " ", "-", "7zip", "production", "CORP\\ann"]
USERS += ["a" * 64, "a" * 65, "a--b", "ann@example.com", "$(id)", "../ledger", "\udcff", "uid1000"]


@pytest.mark.parametrize("user", USERS, ids=ascii)
def test_the_space_of_any_user_is_one_that_may_be_named(user: str) -> None:
    assert space_of(space_of_user(user)) == space_of_user(user) != ""


def test_users_do_not_share_a_space_unless_their_names_differ_by_case_alone() -> None:
    assert len({space_of_user(user) for user in USERS}) == len(USERS)
    assert space_of_user("ANN") == space_of_user("ann") == "ann"


@pytest.mark.parametrize(
    "odd", ["Ann", "ann_lee", "ann.lee", "-ann", "ann-", "ann--lee", "7zip", "a" * (LONGEST + 1), "a/b", "a b", "ä"]
)
def test_a_space_of_an_odd_name_is_refused_with_one_that_is_allowed(odd: str) -> None:
    with pytest.raises(
        SpecError, match=f"MLOPS_SPACE is '{re.escape(odd)}'; give a letter, .*such as {space_of_user(odd)}"
    ):
        space_of(odd)


def test_production_has_the_space_without_a_name() -> None:
    assert (space_of("production"), in_space("", "m/ledger"), name_in("", "m")) == ("", "m/ledger", "m")


def test_a_name_leads_back_to_its_space_and_model_and_a_server_takes_it() -> None:
    for space, model in (("", "iris"), ("ann", "iris"), ("ann-lee", "two_words"), ("a", "_".join("abc"))):
        assert split_name(name_in(space, model)) == (space, model)
        assert re.fullmatch(SERVED_NAME, name_in(space, model))
    for odd in ("--iris", "Ann--iris", "ann--iris--", "../iris", "ann/iris"):
        assert not re.fullmatch(SERVED_NAME, odd)
