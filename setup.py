"""What setup.cfg cannot say: the Python client, which lies in a folder of its own, is installed with Junebug."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["junebug*"]), "junebug_client"],
    package_dir={"junebug_client": "clients/python/junebug_client"},
)
