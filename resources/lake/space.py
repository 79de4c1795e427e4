"""Spaces: what production, a branch or a person has of its own in a lake and an MLflow server that all of them share.

Sources, snapshots and checkpoints are everybody's, for a version says what it holds. A space has its own handles,
ledgers, locks and claims of runs, which lie below `spaces/<space>/` in the lake, and its own models in MLflow and at
endpoints, which are called `<space>--<model>`. The space of production has no name: its keys and names are plain ones.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from mlops_assets.ml.errors import SpecError
from mlops_assets.ml.values import SPACE_SEPARATOR

FOLDER = "spaces"
PRODUCTION = "production"  # how a variable names the space that has no name
LONGEST = 20  # Kubernetes' names have 63 characters, and those of a model have more in them than this
DIGEST = 6


def in_space(space: str, key: str) -> str:
    """Where a space keeps what production keeps at `key`.

    >>> in_space("ann", "iris/ledger"), in_space("", "iris/ledger")
    ('spaces/ann/iris/ledger', 'iris/ledger')
    """
    return f"{FOLDER}/{space}/{key}" if space else key


def name_in(space: str, model: str) -> str:
    """What a model of a space is called where names of all spaces stand side by side.

    >>> name_in("ann", "iris"), name_in("", "iris")
    ('ann--iris', 'iris')
    """
    return f"{space}{SPACE_SEPARATOR}{model}" if space else model


def split_name(name: str) -> tuple[str, str]:
    """The space and the model that `name_in` has made a name of.

    >>> split_name("ann--iris"), split_name("iris")
    (('ann', 'iris'), ('', 'iris'))
    """
    space, _, model = name.rpartition(SPACE_SEPARATOR)
    return space, model


def space_of(text: str) -> str:
    """The space that a variable names.

    Raises:
        SpecError: names in Kubernetes and MLflow cannot begin like that.
    """
    if text == PRODUCTION:
        return ""
    if len(text) > LONGEST or not re.fullmatch("[a-z](-?[a-z0-9])*", text):
        allowed = f"a letter, then letters, digits and single hyphens, all small and at most {LONGEST}"
        raise SpecError(f"MLOPS_SPACE is {text!r}", remedy=f"give {allowed}, such as {space_of_user(text)}")
    return text


def space_of_user(user: str) -> str:
    """A user's own space. What more than the case was changed of a name is told apart by a digest.

    >>> space_of_user("ann"), space_of_user("ANN"), space_of_user("Ann.Müller"), space_of_user("ann_muller")
    ('ann', 'ann', 'ann-muller-2edc2f', 'ann-muller-49c8d3')
    """
    plain = unicodedata.normalize("NFKD", user).encode("ascii", "ignore").decode().lower()
    safe = re.sub("[^a-z0-9]+", "-", plain).strip("-")
    if not safe or not safe[0].isalpha():
        safe = f"user-{safe}".rstrip("-")
    if safe == user.lower() and safe != PRODUCTION and len(safe) <= LONGEST:
        return safe
    digest = hashlib.sha256(user.encode(errors="surrogateescape")).hexdigest()[:DIGEST]
    return f"{safe[: LONGEST - DIGEST - 1].rstrip('-')}-{digest}"
