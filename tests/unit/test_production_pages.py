"""docs/production: its commands are commands, what they name is there, and its words alone make staging staging."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.install import PLACEHOLDERS, charts, render
from tests.documentation import blocks

PROJECT = Path(__file__).parents[2]
TERRAFORM = PROJECT / "k8s" / "terraform"
PAGES = [PROJECT / "docs" / "production.md", *sorted((PROJECT / "docs" / "production").glob("*.md"))]
PROGRAMS = {
    *("aws", "base64", "cat", "cd", "curl", "date", "docker", "echo", "export", "git", "grep", "helm", "jq", "kubectl")
}
PROGRAMS |= {"make", "mlops-assets", "openssl", "sed", "source", "terraform"}
FUNCTIONS = set(re.findall(r"^(\w+)\(\) [{(]", (PROJECT / "k8s" / "environment.sh").read_text(), re.MULTILINE))
# Commands of the AWS CLI that are no operation of a service
OWN = {("eks", "update-kubeconfig"), ("ecr", "get-login-password"), ("s3", "ls")}
OPTIONS = {"output", "query", "region", "cli-input-json"}

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def scripts(page: Path) -> list[str]:
    return [block.text for block in blocks(page.read_text()) if block.language == "sh"]


def commands(script: str) -> list[str]:
    """Its commands: no comments, no here-documents, continued lines joined, pipes and loops taken apart."""
    text = re.sub(r"<<'?END'?\n.*?^END$", "", script, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"'[^']*'", "QUOTED", text)
    text = re.sub(r'"[^"]*"', lambda quoted: quoted[0].replace("\n", " "), text)
    text = re.sub(r"(^|\s)#.*", "", re.sub(r"\\\n\s*", " ", text))
    parts = re.split(r"\n|\||;|&&|\bdo\b|\$\(", text)
    return [part.strip() for part in parts if part.strip() and part.strip() not in ("done", ")")]


ALL = [(page, command) for page in PAGES for script in scripts(page) for command in commands(script)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_commands_are_shell(page: Path):
    for script in scripts(page):
        parsed = subprocess.run(["bash", "-n"], input=script, check=False, capture_output=True, text=True)
        assert parsed.returncode == 0, f"{script}\n{parsed.stderr}"


def test_every_command_is_a_program_or_one_of_our_functions():
    words = {re.split(r"\s", re.sub(r"^([A-Z_]+=\S*\s?)+", "", command))[0] for _, command in ALL} - {"", "for"}

    assert {"kubectl", "aws", "database"} <= words
    assert words <= PROGRAMS | FUNCTIONS


def test_every_output_of_terraform_exists():
    text = "\n".join(page.read_text() for page in PAGES) + (PROJECT / "k8s" / "environment.sh").read_text()
    asked = set(re.findall(r"\(out (?:-json )?(\w+)", text)) | set(re.findall(r"[Oo]utput `?(\w+)`", text))
    made = set(re.findall(r'^output "(\w+)"', (TERRAFORM / "outputs.tf").read_text(), re.MULTILINE))

    assert {"cluster_name", "private_subnet_ids", "aurora_arn"} <= asked
    assert asked <= made


def test_every_variable_of_terraform_exists():
    page = (PROJECT / "docs" / "production" / "aws.md").read_text()
    [tfvars] = re.findall(r"tfvars\" <<END\n(.*?)^END$", page, re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"^(\w+) +=", tfvars, re.MULTILINE)) | set(re.findall(r"^\| `(\w+)", page, re.MULTILINE))
    named |= {name for command in ALL for name in re.findall(r"-var (\w+)=", command[1])}
    known = set(re.findall(r'^variable "(\w+)"', (TERRAFORM / "variables.tf").read_text(), re.MULTILINE))

    assert {"vpc_id", "aurora", "kubernetes_version"} <= named
    assert named <= known


def test_every_target_of_make_exists():
    asked = {name for page in PAGES for name in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)}
    made = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))

    assert "platform" in asked
    assert asked <= made


def test_every_operation_of_aws_exists_and_takes_what_it_is_given():
    from botocore import xform_name
    from botocore.exceptions import UnknownServiceError
    from botocore.session import get_session

    session, wrong = get_session(), list[str]()
    given = [re.match(r"aws ([\w-]+) ([\w-]+)(.*)", command) for _, command in ALL]
    found = {(match[1], match[2], match[3]) for match in given if match and (match[1], match[2]) not in OWN}
    for service, operation, options in found:
        try:
            model = session.get_service_model(service)
        except UnknownServiceError:
            wrong.append(service)
            continue
        operations = {xform_name(name, "-"): name for name in model.operation_names}
        if operation not in operations:
            wrong.append(f"{service} {operation}")
            continue
        shape = model.operation_model(operations[operation]).input_shape
        known = {xform_name(name, "-") for name in (shape.members if shape else {})} | OPTIONS
        asked = {name.removeprefix("no-") for name in re.findall(r" --([a-z0-9-]+)", options)}
        wrong += [
            f"{service} {operation} --{name}" for name in asked if name not in known | {f"{k}-enabled" for k in known}
        ]

    assert len(found) > 8
    assert wrong == []


@pytest.mark.parametrize(
    "page", [*PAGES, PROJECT / "README.md", PROJECT / "CONTRIBUTING.md"], ids=lambda page: page.stem
)
def test_every_link_leads_somewhere(page: Path):
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}, (
            link
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_that_it_names_is_there(page: Path):
    named = re.findall(r"`((?:k8s|helm-values|docs|resources|tests|images)/[\w./-]*)`", page.read_text())

    assert [name for name in named if not (PROJECT / name).exists()] == []


def test_every_page_is_in_the_index():
    index = PAGES[0].read_text()

    assert [page.name for page in PAGES[1:] if f"(production/{page.name})" not in index] == []


def test_a_version_of_a_chart_is_that_of_the_table():
    versions = {chart.chart.rpartition("/")[2]: chart.version for phase in charts().values() for chart in phase}
    named = [
        (match[1].rpartition("/")[2], match[2])
        for _, command in ALL
        if (match := re.search(r"helm upgrade --install \S+ (\S+) .*--version (\S+)", command))
    ]

    assert named
    assert [(chart, version) for chart, version in named if versions[chart] != version] == []


def test_charts_that_can_be_added_are_described():
    page = (PROJECT / "docs" / "production" / "install.md").read_text()
    optional = {chart.release for phase in charts().values() for chart in phase if chart.optional}

    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE)) - {"add"} == optional


ACCOUNTS = {"staging": ("999900001111", "cn-north-1"), "production": ("888800002222", "us-gov-west-1")}
PARTITIONS = {"cn-north-1": ("aws-cn", "amazonaws.com.cn"), "us-gov-west-1": ("aws-us-gov", "amazonaws.com")}
SUBNETS = ["subnet-1aaaaaaaaaaaaaaaa", "subnet-2bbbbbbbbbbbbbbbb"]


def terraform(environment: str) -> dict[str, Any]:
    """Terraform's outputs of an environment; each has an account and a partition of AWS of its own."""
    account, region = ACCOUNTS[environment]
    partition, domain = PARTITIONS[region]
    return {
        "bucket": f"mlops-{environment}-{account}",
        "database_host": "postgres" if environment == "staging" else f"db.{region}.rds.{domain}",
        "karpenter_role_arn": f"arn:{partition}:iam::{account}:role/mlops-{environment}-karpenter",
        "private_subnet_ids": SUBNETS,
        "region": region,
        "registry": f"{account}.dkr.ecr.{region}.{domain}",
        "vpc_id": "vpc-1aaaaaaaaaaaaaaaa",
    }


AWS = """case "$*" in
  "ec2 describe-vpcs --vpc-ids vpc-1aaaaaaaaaaaaaaaa"*) echo '["10.7.0.0/16"]' ;;
esac"""


@needs_kubectl
@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_words_of_the_page_put_the_account_of_each_environment_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("k8s", "helm-values"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns(".terraform", "__pycache__"))
    stand_ins = tmp_path / "stand-ins"
    stand_ins.mkdir()
    page = (PROJECT / "docs" / "production" / "install.md").read_text()
    [script] = [block.text for block in blocks(page) if "sed -i" in block.text]
    monkeypatch.setenv("PATH", str(stand_ins), prepend=":")
    for environment in ACCOUNTS:
        outputs = "\n".join(
            f"  *'-{'json' if isinstance(value, list) else 'raw'} {name}') echo '{json.dumps(value).strip(chr(34))}' ;;"
            for name, value in terraform(environment).items()
        )
        for name, body in (("terraform", f'case "$*" in\n{outputs}\nesac'), ("aws", AWS), ("git", "")):
            (stand_ins / name).write_text(f"#!/bin/sh\n{body}\n")
            (stand_ins / name).chmod(0o755)
        words = script.replace("environment.sh production", f"environment.sh {environment}")
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", words], cwd=tmp_path, check=False, capture_output=True)
        assert done.returncode == 0, done.stderr

    monkeypatch.setattr("k8s.install.PROJECT", tmp_path)
    monkeypatch.setattr("k8s.install.VALUES", tmp_path / "helm-values")
    for environment, (account, region) in ACCOUNTS.items():
        wanted = [chart.release for phase in charts().values() for chart in phase if chart.optional]
        file = tmp_path / "helm-values" / "environments" / f"{environment}.yaml"
        file.write_text(file.read_text().replace("add: []", f"add: [{', '.join(wanted)}]"))
        folder = tmp_path / environment
        render(environment, folder)
        made = "\n".join(path.read_text() for path in folder.rglob("*") if path.is_file())
        classes = [item for item in yaml.safe_load_all((folder / "nodes.yaml").read_text()) if "role" in item["spec"]]
        partition, domain = PARTITIONS[region]

        assert set(re.findall(r"arn:([\w-]+):iam::(\d+)", made)) == {(partition, account)}
        assert set(re.findall(r"[\w.]+\.dkr\.ecr\.[\w.-]+", made)) >= {f"{account}.dkr.ecr.{region}.{domain}"}
        assert set(re.findall(r"\b\d{12}\b", made.replace("s~111122223333\\", ""))) == {account}
        assert PLACEHOLDERS.findall(made.replace("s~111122223333\\", "")) == []
        assert "10.1.0.0" not in made
        assert classes
        for item in classes:
            assert item["spec"]["subnetSelectorTerms"] == [{"id": name} for name in SUBNETS]


def test_an_environment_must_be_named(tmp_path: Path):
    script = f"source {PROJECT}/k8s/environment.sh"

    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, check=False, capture_output=True, text=True)

    assert done.returncode == 2
    assert "say which environment" in done.stderr


def test_the_region_is_that_of_the_environments_file(tmp_path: Path):
    shutil.copytree(PROJECT / "k8s", tmp_path / "k8s", ignore=shutil.ignore_patterns(".terraform", "__pycache__"))
    (tmp_path / "k8s" / "terraform" / "staging.tfvars").write_text(
        'environment = "staging"\nregion      = "eu-west-3"\n'
    )
    shown = "source k8s/environment.sh {}; echo ${{AWS_REGION:-none}}"

    def region(environment: str) -> str:
        variables = {"PATH": os.environ["PATH"]}
        command = ["bash", "-euc", shown.format(environment)]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, env=variables).stdout

    assert (region("staging"), region("production")) == ("eu-west-3\n", "none\n")
