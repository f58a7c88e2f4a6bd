"""The Kubernetes manifests and the SkyPilot task, against the schemas that packages carry.

Pods: Kubernetes' own schemas (package kubernetes-validate). `serveConfigV2`: Ray Serve's. The task: SkyPilot's.
No package carries the schemas of KubeRay and of PodMonitor: their own fields are checked against lists kept here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.config import load_config
from pipelines.experiments.needs.roles import Role, roles

ROOT = Path(__file__).resolve().parents[2]
KUBERAY = ROOT / "deploy" / "kuberay"
# Of KubeRay 1.5's API (ray.io/v1), the fields that manifests may use here.
CLUSTER = {
    "rayVersion",
    "authOptions",
    "enableInTreeAutoscaling",
    "autoscalerOptions",
    "headGroupSpec",
    "workerGroupSpecs",
}
GROUP = {"labels", "rayStartParams", "resources", "template"}
WORKERS = GROUP | {"groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds"}
JOB = {"clusterSelector", "submissionMode", "entrypoint", "submitterConfig", "submitterPodTemplate"}
JOB |= {"shutdownAfterJobFinishes"}
AUTOSCALER = {"version", "idleTimeoutSeconds", "upscalingMode"}


def manifest(name: str) -> dict[str, Any]:
    return yaml.safe_load((KUBERAY / f"{name}.yaml").read_text())


def clusters() -> dict[str, dict[str, Any]]:
    return {
        "raycluster": manifest("raycluster")["spec"],
        "rayservice": manifest("rayservice")["spec"]["rayClusterConfig"],
    }


def pods() -> dict[str, dict[str, Any]]:
    found = {"rayjob": manifest("rayjob")["spec"]["submitterPodTemplate"]["spec"]}
    for name, cluster in clusters().items():
        found[f"{name} head"] = cluster["headGroupSpec"]["template"]["spec"]
        found |= {f"{name} {group['groupName']}": group["template"]["spec"] for group in cluster["workerGroupSpecs"]}
    return found


@pytest.mark.parametrize("name", sorted(pods()))
def test_every_pod_is_one_that_kubernetes_takes(name: str) -> None:
    package = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pods()[name]}
    package.validate(pod, "1.34", strict=True)
    with pytest.raises(package.ValidationError):
        package.validate({**pod, "spec": {**pods()[name], "nodeSelektor": {}}}, "1.34", strict=True)


@pytest.mark.parametrize("name", sorted(clusters()))
def test_clusters_have_the_fields_of_kuberay_and_its_second_autoscaler(name: str) -> None:
    cluster = clusters()[name]
    assert set(cluster) <= CLUSTER and set(cluster["autoscalerOptions"]) <= AUTOSCALER
    assert cluster["enableInTreeAutoscaling"] is True and cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["authOptions"] == {"mode": "token"}
    assert set(cluster["headGroupSpec"]) <= GROUP
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= WORKERS and group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for pod in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        # As the second autoscaler wants it: what takes a pod away is Ray, and no pod restarts by itself.
        assert pod["template"]["spec"]["restartPolicy"] == "Never"


def as_node_type(group: dict[str, Any]) -> dict[str, Any]:
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    resources = {"CPU": int(limits["cpu"]), "GPU": int(limits.get("nvidia.com/gpu", 0)), "accelerator_type:H100": 1}
    return {"resources": resources, "labels": group["labels"]}


def papers_roles() -> list[Role]:
    config = load_config(ROOT / "ray_jobs" / "configs" / "h100.yaml")
    return roles(config.ray, config.curation, config.train, config.evaluation)


def test_every_role_of_the_papers_run_has_a_group() -> None:
    groups = clusters()["raycluster"]["workerGroupSpecs"]
    for role in papers_roles():
        (group,) = [group for group in groups if role.fits(as_node_type(group))]
        if role.gpus:
            assert as_node_type(group)["resources"]["GPU"] // role.gpus * group["maxReplicas"] >= role.most


def test_the_job_runs_on_that_cluster() -> None:
    job = manifest("rayjob")["spec"]
    assert set(job) <= JOB
    assert job["clusterSelector"] == {"ray.io/cluster": manifest("raycluster")["metadata"]["name"]}
    assert job["entrypoint"].split()[:2] == ["openselene", "run"]


def test_the_service_is_one_that_ray_serve_and_the_judge_take() -> None:
    from ray.serve.schema import ServeDeploySchema

    from pipelines.core.yaml_model import parse_model
    from serve.settings import ServerConfig

    spec = manifest("rayservice")["spec"]
    raw = yaml.safe_load(spec["serveConfigV2"])
    (application,) = ServeDeploySchema.model_validate(raw).applications
    server = parse_model(ServerConfig, application.args, "serveConfigV2")
    engine = server.engine
    role = Role("server", engine.num_cpus, engine.num_gpus, 1, 4, engine.placement)
    (group,) = spec["rayClusterConfig"]["workerGroupSpecs"]
    assert role.fits(as_node_type(group))
    scaling = raw["applications"][0]["deployments"][0]["autoscaling_config"]
    assert (group["minReplicas"], group["maxReplicas"]) == (scaling["min_replicas"], scaling["max_replicas"])


def test_every_pod_has_the_port_that_prometheus_scrapes() -> None:
    monitor = manifest("podmonitor")
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    assert set(monitor["spec"]) <= {"jobLabel", "selector", "podMetricsEndpoints"}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for name, pod in pods().items():
        ports = {port["name"] for port in pod["containers"][0].get("ports", [])}
        assert endpoint["port"] in ports or name == "rayjob", name


def test_no_manifest_holds_a_secret_and_all_name_one_image() -> None:
    secret = {"secretRef": {"name": "openselene-env"}}
    images = set()
    for name, pod in pods().items():
        (container,) = pod["containers"]
        images.add(container["image"])
        assert name == "rayjob" or container["envFrom"] == [secret]
        assert not [one for one in container.get("env", []) if "TOKEN" in one["name"] or "KEY" in one["name"]]
    assert images == {"set-your-registry/openselene:latest"}
    assert "rayproject/ray:2.60.0-py311-gpu" in (ROOT / "deploy" / "Dockerfile").read_text()


def test_the_skypilot_task_has_the_fields_of_skypilot() -> None:
    task = yaml.safe_load((ROOT / "deploy" / "skypilot.yaml").read_text())
    assert set(task) == {"name", "resources", "workdir", "envs", "secrets", "setup", "run"}
    assert task["secrets"] == {"HF_TOKEN": None} and task["envs"]["OPENSELENE_STORE"] is None
    schemas = pytest.importorskip("sky.utils.schemas", reason="pip install skypilot")
    import jsonschema

    jsonschema.validate(task, schemas.get_task_schema())


def test_the_skypilot_tasks_overrides_are_keys_of_the_config() -> None:
    import shlex

    task = yaml.safe_load((ROOT / "deploy" / "skypilot.yaml").read_text())
    words = shlex.split(task["run"].replace("\\\n", " "))
    config = load_config(ROOT / "ray_jobs" / "configs" / "h100.yaml", [word for word in words if "=" in word])
    found = roles(config.ray, config.curation, config.train, config.evaluation)
    assert all(not role.placement.options() for role in found)
    assert max(role.most * role.gpus for role in found) == 8, "as many GPUs as the node has"
