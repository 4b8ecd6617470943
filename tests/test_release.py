"""What is released agrees with pyproject.toml: environment, conda recipe, citation, image, versions."""

import re
import tomllib

import pytest
import yaml

import hfnumba
from tests.house import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CLUSTER = ROOT / "cluster"
DOCKERFILE = (CLUSTER / "Dockerfile").read_text("utf-8")
CONDA_NAMES = {
    "build": "python-build",
    "dask": "dask-core",
    "matplotlib": "matplotlib-base",
    "soundfile": "pysoundfile",
}
# What conda-forge does not have.
ONLY_PIP = {"kaldi-native-fbank", "kaldi-native-io"}


def requirement(text):
    name, version = re.fullmatch(r"([A-Za-z0-9_.-]+)\s*(.*)", text.strip()).groups()
    return name.lower(), version


def conda(texts):
    """Names in conda-forge, and versions, of requirements; without the extras of hfnumba itself."""
    found = {requirement(text) for text in texts if not text.startswith("hfnumba[")}
    return {(CONDA_NAMES.get(name, name), version) for name, version in found}


def extra(name):
    """Requirements of an extra, with those of the extras that it names."""
    found = set()
    for text in PROJECT["optional-dependencies"][name]:
        inner = re.fullmatch(r"hfnumba\[(.*)\]", text)
        found |= set().union(*map(extra, inner[1].split(","))) if inner else {text}
    return found


def loaded(name):
    return yaml.safe_load((ROOT / name).read_text("utf-8"))


def test_environment_is_pyproject():
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    wanted = {one for texts in lists for one in conda(texts)} | {("python", PROJECT["requires-python"])}
    entries = loaded("environment.yml")["dependencies"]
    (by_pip,) = [entry["pip"] for entry in entries if not isinstance(entry, str)]
    listed = [entry for entry in entries if isinstance(entry, str)]
    assert {requirement(text) for text in [*listed, *by_pip]} - {("pip", "")} == wanted
    assert {requirement(text)[0] for text in by_pip} == ONLY_PIP


def test_the_conda_recipe_is_pyproject():
    recipe = loaded("conda/recipe.yaml")
    assert (recipe["package"]["name"], recipe["context"]["version"]) == (PROJECT["name"], PROJECT["version"])
    assert f">={recipe['context']['python_min']}" == PROJECT["requires-python"]
    needs = recipe["requirements"]
    system = {("__unix", ""), ("python", ">=${{ python_min }}")}
    assert {requirement(text) for text in needs["run"]} == conda(PROJECT["dependencies"]) | system
    optional = {(name, version) for name, version in conda(extra("all")) if name not in ONLY_PIP}
    assert {requirement(text) for text in needs["run_constraints"]} == optional
    (backend,) = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    assert requirement(backend) in {requirement(text) for text in needs["host"]}
    scripts = [f"{name} = {target}" for name, target in PROJECT["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts
    about = recipe["about"]
    assert (about["summary"], about["license"]) == (PROJECT["description"], PROJECT["license"])
    assert [about["license_file"]] == PROJECT["license-files"]


def test_the_citation_is_pyproject():
    citation = loaded("CITATION.cff")
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert (citation["authors"], citation["keywords"]) == (PROJECT["authors"], PROJECT["keywords"])
    (paper,) = citation["references"]
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert paper["title"] in readme and paper["url"] in readme
    assert paper["url"].removeprefix("https://arxiv.org/abs/") == paper["doi"].removeprefix("10.48550/arXiv.")


def test_the_newest_release_of_the_changelog_is_this_version():
    """Above it are the changes since; the citation has its day."""
    sections = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert sections[:2] == ["Unreleased", f"{PROJECT['version']} - {loaded('CITATION.cff')['date-released']}"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", section) for section in sections[1:])


def test_the_package_takes_its_version_from_its_metadata(monkeypatch):
    """So it stands in pyproject.toml alone, from which a build writes the metadata."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"that of {name}")
    assert hfnumba.__getattr__("__version__") == "that of hfnumba"
    monkeypatch.undo()
    hfnumba.__getattr__("__version__")


INSTALLATION = re.compile(r"pip install (?:-e )?(\S*?)\[([\w,{}]+)\](\S?)")


def test_every_installation_names_extras_in_quotes():
    """A checkout is installed by '.[extra]', an extra of what is installed by 'hfnumba[extra]', as pip takes it."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*")]
    pages += [ROOT / "cluster" / "README.md", *(ROOT / "hfnumba").rglob("*.py")]
    found = [match for page in pages for match in INSTALLATION.findall(page.read_text("utf-8").replace("\n", " "))]
    assert len(found) > 10
    for name, extras, after in found:
        assert (name, after) in {("'.", "'"), ("'hfnumba", "'")}, f"{name}[{extras}]{after}"
        assert set(extras.split(",")) <= {*PROJECT["optional-dependencies"], "{extra}", "{kind}"}


@pytest.mark.parametrize("name", ["Dockerfile", "README.md", "install-worker.sh", "kubernetes.yaml"])
def test_files_for_clusters_name_this_version(name):
    versions = re.findall(r"hfnumba(?:[:-]|==)(\d[\d.]*\d)", (CLUSTER / name).read_text("utf-8"))
    assert versions and set(versions) == {PROJECT["version"]}


def test_python_versions_are_the_same_everywhere():
    python = "Programming Language :: Python :: "
    versions = [text.removeprefix(python) for text in PROJECT["classifiers"] if text.startswith(python)]
    assert PROJECT["requires-python"] == f">={versions[0]}"
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    assert (tools["mypy"]["python_version"], tools["ruff"]["target-version"]) == (versions[0], "py312")
    assert f"\nPYTHONS := {' '.join(versions)}\n" in (ROOT / "Makefile").read_text("utf-8")
    assert set(re.findall(r"FROM python:([\d.]+)-", DOCKERFILE)) <= set(versions)


def steps():
    """Instructions of the Dockerfile and their words, without comments."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)
    return [line.split(maxsplit=1) for line in text.replace("\\\n", " ").splitlines() if line]


def test_kubernetes_names_the_image_that_the_dockerfile_makes():
    (made,) = re.findall(r"^# +docker build -f cluster/Dockerfile -t (\S+) \.$", DOCKERFILE, re.MULTILINE)
    (pushed,) = re.findall(r"^# +docker push (\S+)$", DOCKERFILE, re.MULTILINE)
    parts = list(yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text("utf-8")))
    specs = [parts[0]["spec"]["worker"]["spec"], parts[0]["spec"]["scheduler"]["spec"], parts[1]["spec"]]
    images = {container["image"] for spec in specs for container in spec["containers"]}
    assert images == {made} == {pushed}


def test_the_image_is_made_by_the_script():
    """What the script does is tried with the wheel, by test_dist.py."""
    (ran,) = [words for step, words in steps() if step == "RUN"]
    copied = next(words for step, words in steps() if step == "COPY").split()
    assert copied == ["cluster/install-worker.sh", "dist/hfnumba-*.whl", "./"]
    assert ran.split() == ["./install-worker.sh", "/opt/hfnumba", "./hfnumba-*.whl"]
    assert ["COPY", "--from=build /opt/hfnumba /opt/hfnumba"] in steps()
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text("utf-8").split()
    assert ignored == ["*", *(f"!{name}" for name in copied[:-1])]


def test_the_image_has_the_variables_of_env_sh():
    (variables,) = [dict(word.split("=") for word in words.split()) for step, words in steps() if step == "ENV"]
    exports = re.findall(r"^export (\w+)=(\w+)$", (CLUSTER / "env.sh").read_text("utf-8"), re.MULTILINE)
    assert variables.pop("PATH") == "/opt/hfnumba/bin:$PATH"
    assert variables == dict(exports) | {"HOME": "/tmp"}
