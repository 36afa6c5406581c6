"""The recipes in configs/ are installed as the package `imgcls.recipes`; see pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["imgcls*"]), "imgcls.recipes"],
    package_dir={"imgcls.recipes": "configs"},
)
