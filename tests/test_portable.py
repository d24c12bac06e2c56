"""The image and the workflows run the README's commands: what can be checked without either."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "commands.yml"


def readme_command(name):
    text = (ROOT / "README.md").read_text()
    return re.search(rf"<!-- {name} command -->\n```sh\n(.+)\n```", text)[1]


@pytest.mark.parametrize("name", ["tables", "tests"])
def test_the_image_runs_what_the_readme_says(name):
    install, run = readme_command(name).split(" && ")
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert install in dockerfile
    script = (ROOT / ".docker" / "run").read_text()
    assert run.replace(f"-e {name}", '-e "$name"').replace("PYTHONPATH=.boot ", "") in script
    assert "installed.json" in dockerfile, "hashes of what was installed"


def test_the_image_refuses_another_command(tmp_path):
    script = (ROOT / ".docker" / "run").read_text().replace("cd /lla", f"cd {tmp_path}")
    found = subprocess.run(["sh", "-c", script, "run", "other"], capture_output=True, text=True)
    assert found.returncode == 2
    assert "run tables or tests, not other" in found.stderr


def test_the_workflow_takes_the_commands_from_the_readme():
    text = WORKFLOW.read_text()
    assert "run: .ci/run" in text
    (script,) = re.findall(r"run: \|\n((?: {10}.+\n)+)", text)
    lines = [line.strip() for line in script.splitlines()]
    finding = lines[0].removeprefix("command=$(").removesuffix(")")
    found = subprocess.run(
        ["bash", "-c", finding], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == readme_command("tables")


def test_the_workflow_is_valid_yaml():
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load(WORKFLOW.read_text())
    assert set(content["jobs"]) == {"tests", "tables"}
    for job in content["jobs"].values():
        assert all("uses" in step or "run" in step for step in job["steps"])
