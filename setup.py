"""A wheel carries data/ and notebooks/, which lie beside the package in the repository, as
r1lab/_project; pyproject.toml cannot say so. An editable install finds them where they are."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithProject(build_py):
    def run(self):
        super().run()
        if self.editable_mode:
            return
        skip = shutil.ignore_patterns("*.work", ".ipynb_checkpoints", ".*")
        for name in ("data", "notebooks"):
            target = Path(self.build_lib, "r1lab", "_project", name)
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(name, target, ignore=skip)


setup(cmdclass={"build_py": WithProject})
