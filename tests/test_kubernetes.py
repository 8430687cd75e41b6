"""etc/kubernetes: what it says of Junebug is so. Kubernetes' schemas judge the rest, where kubernetes-validate is there."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from junebug.api.openapi.operations import OPERATIONS
from junebug.config.load import load
from junebug.supervisor.daemon import API_STOP_TIMEOUT, STOP_MARGIN
from tests.harness import ROOT
from tests.test_containers import VARIABLES, values
from tests.test_packaging import entry_points

FOLDER = ROOT / "etc" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
RESOURCES = [each for name in KUSTOMIZATION["resources"] for each in yaml.safe_load_all((FOLDER / name).read_text())]
WORKLOADS = [each for each in RESOURCES if "template" in each.get("spec", {})]
OF_THE_IMAGE = dict(re.findall(r"(JUNEBUG_\w+)=(\S+)", " ".join(values("ENV"))))
OLDEST, NEWEST = "1.27", "1.34"
"""Kubernetes."""


def called(kind: str, name: str) -> dict[str, Any]:
    (found,) = (each for each in RESOURCES if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return dict(found)


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    return dict(workload["spec"]["template"]["spec"])


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod(workload)["containers"]
    return dict(only)


def of_secrets() -> set[str]:
    """What the kustomization's first lines put into the Secret."""
    return set(re.findall(r"--from-literal=(\w+)=", (FOLDER / "kustomization.yaml").read_text()))


def variables(workload: dict[str, Any]) -> dict[str, str]:
    """Of its container, as strings."""
    found = {**OF_THE_IMAGE, **{each["name"]: each.get("value", "a-0") for each in container(workload).get("env", [])}}
    for source in container(workload)["envFrom"]:
        if name := source.get("configMapRef", {}).get("name"):
            found |= called("ConfigMap", name)["data"]
        else:
            assert source["secretRef"]["name"] == "junebug"
            found |= dict.fromkeys(of_secrets(), "a-secret-of-thirty-characters")
    return found


def probes(workload: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (value for name, value in container(workload).items() if name.endswith("Probe"))


def test_the_kustomization_holds_every_file() -> None:
    assert {*KUSTOMIZATION["resources"], "kustomization.yaml"} == {path.name for path in FOLDER.iterdir()}
    assert [each["kind"] for each in WORKLOADS] == ["StatefulSet", "Deployment"]
    assert KUSTOMIZATION["images"][0]["name"] == container(WORKLOADS[0])["image"] == container(WORKLOADS[1])["image"]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda each: each["metadata"]["name"])
def test_a_pod_is_what_the_code_and_the_image_are(workload: dict[str, Any]) -> None:
    given = variables(workload)
    assert given.keys() <= VARIABLES.keys()
    settings = load({}, given)
    (command,) = container(workload)["args"]  # after tini, the image's entry point
    assert command in entry_points("console_scripts")
    for probe in probes(workload):
        if asked := probe.get("httpGet"):
            (port,) = (each for each in container(workload)["ports"] if each["name"] == asked["port"])
            assert port["containerPort"] == settings.port
            (operation,) = (each for each in OPERATIONS if (each.method, each.path) == ("GET", asked["path"]))
            assert operation.is_open  # a probe bears no token
        else:
            assert probe["exec"]["command"] == ["supervisorctl", "-c", f"{settings.run_dir}/supervisor.conf", "pid"]
    assert pod(workload)["terminationGracePeriodSeconds"] > settings.stop_timeout + API_STOP_TIMEOUT + STOP_MARGIN
    assert pod(workload)["enableServiceLinks"] is False  # a Service `junebug` would set JUNEBUG_PORT to a URL
    mounts = {each["mountPath"]: each["name"] for each in container(workload)["volumeMounts"]}
    assert mounts.keys() == {settings.data_dir, settings.logging_path, "/tmp"}
    claimed = [each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", [])]
    assert sorted(mounts.values()) == sorted([*claimed, *(each["name"] for each in pod(workload)["volumes"])])


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda each: each["metadata"]["name"])
def test_a_pod_may_do_little(workload: dict[str, Any]) -> None:
    (uid,) = re.findall(r"--uid (\d+)", values("RUN")[-1])
    whole, own = pod(workload)["securityContext"], container(workload)["securityContext"]
    assert {whole[name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {int(uid)}
    assert whole["runAsNonRoot"] is own["readOnlyRootFilesystem"] is True
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert pod(workload)["automountServiceAccountToken"] is False


def test_hosts_have_lasting_names_and_data() -> None:
    supervisors = called("StatefulSet", "junebug")
    names = [each for each in container(supervisors)["env"] if each["name"] == "JUNEBUG_HOST"]
    assert [each["valueFrom"] for each in names] == [{"fieldRef": {"fieldPath": "metadata.name"}}]
    assert called("Service", supervisors["spec"]["serviceName"])["spec"]["clusterIP"] == "None"
    assert [each["metadata"]["name"] for each in supervisors["spec"]["volumeClaimTemplates"]] == ["data", "logs"]


def test_every_selector_finds_the_pods_of_its_name() -> None:
    labels = {each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"] for each in WORKLOADS}
    for each in RESOURCES:
        if selector := each.get("spec", {}).get("selector"):
            assert selector.get("matchLabels", selector) == labels[each["metadata"]["name"]], each["kind"]
    kinds = {(each["kind"], each["metadata"]["name"]) for each in RESOURCES}
    assert {*itertools.product(("Service", "PodDisruptionBudget"), labels)} <= kinds
    (port,) = called("Service", "junebug-api")["spec"]["ports"]
    assert port["targetPort"] in [each["name"] for each in container(called("Deployment", "junebug-api"))["ports"]]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_schemas_accept_it(version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="100 MB of schemas: pip install kubernetes-validate")
    for each in RESOURCES:
        validate.validate(each, version, strict=True)
