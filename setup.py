"""Packages of the wheel; all else about it is in pyproject.toml.

The presets lie beside the package in a checkout, where they are read and copied from, and inside
it in a wheel. What pyproject.toml can say finds packages, or maps one to another folder, not both.
"""

from setuptools import find_packages, setup

PRESETS = "booster_ray.tune_configs"

setup(
    packages=[*find_packages(include=["booster_ray*"]), PRESETS],
    package_dir={PRESETS: "tune_configs"},
)
