"""Pages of the documentation as something that runs: their fenced blocks, in order, in a folder of their own.

What a block is, its language says: `sh` and `python` are run, `yaml` is checked, and what has another language or none
is the output of the command before it. HTML comments above a block say what a reader does by hand:

- `<!-- file: PATH -->`: the block is saved there
- `<!-- in: PATH -->`: the fields of this YAML replace those of the model at PATH
- `<!-- shows: PATH -->`: the block is that file, its comments aside
- `<!-- run: COMMAND -->`: the command is run, as the text around it tells to do in words
- `<!-- not run: REASON -->`: the block needs what is not here

Output is compared word by word and line by line. `...` stands for anything, numbers may differ a little, since they
are those of another machine, and an `id` is new each time.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import yaml

from mlops_assets.spec.load_spec import load_spec
from tests.support import free_port

PROJECT = Path(__file__).parents[1]
TOKEN = re.compile(
    r"^<!-- (?P<note>file|in|shows|run|not run): (?P<says>(?:(?!-->).)+) -->$"
    r"|^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
TOLERANCE = 0.05
LIMIT_S = 600
IRIS = PROJECT / "mlops_assets" / "defs" / "iris" / "defs.yaml"
SCHEMA = json.loads((PROJECT / "docs" / "model.schema.json").read_text())


class Block(NamedTuple):
    """A fenced block of a page, and what the comments above it say; a comment `run` is a block of its own."""

    line: int
    language: str
    text: str
    notes: dict[str, str]


def blocks(page: str) -> list[Block]:
    """The blocks of a page's text.

    Raises:
        ValueError: a comment that belongs to no block.
    """
    found: list[Block] = []
    notes: dict[str, str] = {}
    end = 0
    for token in TOKEN.finditer(page):
        line = page.count("\n", 0, token.start()) + 1
        if notes and page[end : token.start()].strip():
            raise ValueError(f"line {line}: the comment {notes} above has no block")
        end = token.end()
        if token["note"] == "run":
            found.append(Block(line, "sh", token["says"], {}))
        elif token["note"]:
            notes[token["note"]] = token["says"]
        else:
            found.append(Block(line, token["language"], textwrap.dedent(token["text"]), notes))
            notes = {}
    if notes:
        raise ValueError(f"the comment {notes} has no block")
    return found


def model_of(block: Block, before: dict[str, Any]) -> dict[str, Any]:
    """The model that a YAML block is, or the one of `before` with the block's fields.

    Raises:
        AssertionError: what docs/model.schema.json does not allow.
    """
    given = yaml.safe_load(block.text)
    whole = given if "attributes" in given else before | {"attributes": before["attributes"] | given}
    problems = [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(whole)]
    assert not problems, f"line {block.line}: {problems}"
    return whole


class Reader:
    """Somebody who does what a page says, in a clone of the project with nothing else in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True)
        for name in filter(None, tracked.stdout.split("\0")):
            if (PROJECT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / name, folder / name)
        (folder / ".venv").symlink_to(sys.prefix)
        self.ports = {port: str(free_port()) for port in ("8085", "5005", "8087")}
        self.variables = folder / ".variables"
        named = {"SERVING_PORT": "8085", "MLFLOW_PORT": "5005", "MLOPS_FEATURES_PORT": "8087"}
        mine = {"PYTHONPATH": str(folder)} | {name: self.ports[port] for name, port in named.items()}
        foreign = re.compile("(OLD)?PWD|VIRTUAL_ENV|(MLOPS|MLFLOW|DAGSTER|LAKE|AWS|PYTEST)_")
        given = {name: value for name, value in os.environ.items() if not foreign.match(name)} | mine
        given["PATH"] = os.pathsep.join(
            place for place in given["PATH"].split(os.pathsep) if Path(place) != Path(sys.executable).parent
        )
        lines = [f"export {name}={shlex.quote(value)}" for name, value in given.items() if name.isidentifier()]
        self.variables.write_text("\n".join(lines))
        self.output = ""
        self.model = yaml.safe_load(IRIS.read_text())

    def follow(self, page: str) -> list[str]:
        """Do what a page says; `LINE: what is wrong` for each thing that is not as it says."""
        problems: list[str] = []
        for block in blocks(page):
            try:
                self._do(block)
            except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
                problems.append(f"line {block.line}: {error}")
        return problems

    def shell(self, code: str) -> str:
        """What a command prints; folder and variables are those that the commands before have left behind."""
        # The environment is there: nothing is set up anew because a copied file is younger than it
        head = f'source {self.variables}\nmake() {{ command make -o .venv/.ready "$@"; }}\nset -e -o pipefail\n'
        script = f"{head}{self._here(code)}\nexport -p > {self.variables}\n"
        with subprocess.Popen(
            ["env", "-i", "bash", "-c", script],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=(self.folder / ".errors").open("w"),
            text=True,
        ) as process:
            self.output, _ = process.communicate(timeout=LIMIT_S)
        errors = (self.folder / ".errors").read_text()
        assert process.returncode == 0, f"{code}\n{self.output[-2000:]}\n{errors[-4000:]}"
        return self.output

    def _do(self, block: Block) -> None:
        file, shown = block.notes.get("file"), block.notes.get("shows")
        if "not run" in block.notes:
            return
        if block.language == "yaml":
            self._check_yaml(block)
        if file:
            (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / file).write_text(block.text)
        elif shown:
            text = "".join(re.findall(r"^[^#].*\n", (self.folder / shown).read_text(), re.MULTILINE))
            assert block.text == text, f"{shown} is\n{text}"
        elif block.language == "sh":
            self.shell(block.text)
        elif block.language == "python":
            self.shell(f"python - <<'END'\n{block.text}END")
        elif block.language != "yaml":
            problem = difference(block.text, self.output, is_json=block.language == "json")
            assert not problem, problem

    def _check_yaml(self, block: Block) -> None:
        """Check a model, or a part of one in the model that the page has shown last."""
        path = block.notes.get("in")
        if path:
            whole = model_of(block, yaml.safe_load((self.folder / path).read_text()))
            (self.folder / path).write_text(yaml.safe_dump(whole, sort_keys=False))
            self.shell(f"mlops-assets check {path}")
        else:
            whole = model_of(block, self.model)
            load_spec(whole["attributes"], None, f"line {block.line}")
            self.model = whole if "attributes" in yaml.safe_load(block.text) else self.model

    def _here(self, code: str) -> str:
        for port, own in self.ports.items():
            code = code.replace(f"127.0.0.1:{port}", f"127.0.0.1:{own}")
        return code


def difference(shown: str, printed: str, *, is_json: bool) -> str:
    """What a command has printed otherwise than a page shows it; nothing where they agree."""
    if is_json:
        return "" if _alike(json.loads(shown), json.loads(printed)) else f"the answer is {printed}"
    lines = iter(printed.splitlines())
    for line in shown.splitlines():
        if line.strip() and line.strip() != "..." and not any(_same_words(line, other) for other in lines):
            return f"there is no line (any more) {line!r} in\n{printed}"
    return ""


def _same_words(shown: str, printed: str) -> bool:
    words = shown.split()
    others = printed.split()[-len(words) :]  # a log has its time, and Python the type of an error, before the message
    return len(words) == len(others) and all(map(_same_word, words, others))


def _same_word(shown: str, printed: str) -> bool:
    try:
        return math.isclose(float(shown), float(printed), abs_tol=TOLERANCE)
    except ValueError:
        return bool(re.fullmatch(r".*".join(map(re.escape, re.split(r"[0-9a-f]*\.\.\.", shown))), printed))


def _alike(shown: Any, got: Any) -> bool:
    if isinstance(shown, dict) and isinstance(got, dict):
        return shown.keys() == got.keys() and all(name == "id" or _alike(shown[name], got[name]) for name in shown)
    if isinstance(shown, list) and isinstance(got, list):
        return len(shown) == len(got) and all(map(_alike, shown, got))
    if isinstance(shown, float) and isinstance(got, float):
        return math.isclose(shown, got, abs_tol=TOLERANCE)
    return shown == got
