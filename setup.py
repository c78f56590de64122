"""Where the packages lie, which pyproject.toml can't say: `prunepolicy.policy` is the folder `policy`.

The links below `prunepolicy/` are for tools that read a checkout. Nothing is installed through them, since
archives and some clones have none.
"""

import re
import tomllib
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
FOLDERS = ("agents", "configs", "envs", "metanet", "policy", "pruning")
RELATIVE_LINK = re.compile(r"(?<=\]\()(?!https?://|#)")

repository = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]
readme = (ROOT / "README.md").read_text("utf-8")

setup(
    packages=["prunepolicy", "prunepolicy.commands"]
    + [f"prunepolicy.commands.{inner}" for inner in find_packages(str(ROOT / "prunepolicy/commands"))]
    + [
        f"prunepolicy.{package}"
        for folder in FOLDERS
        for package in (folder, *(f"{folder}.{inner}" for inner in find_packages(str(ROOT / folder))))
    ],
    package_dir={"prunepolicy": "prunepolicy"} | {f"prunepolicy.{folder}": folder for folder in FOLDERS},
    long_description=RELATIVE_LINK.sub(f"{repository}/blob/main/", readme),
    long_description_content_type="text/markdown",
)
