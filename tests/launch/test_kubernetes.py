"""The documents for Kubernetes, checked by its own schemas, and the launcher that fills them in."""

import copy
import json

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.conftest import REPO

# The oldest and the newest Kubernetes that they are for.
VERSIONS = ("1.31", kubernetes_validate.latest_version())
COMMON = (
    "--name=r50",
    "--image=reg.org/imgcls:1",
    "--claim=data",
    "--nodes=2",
    "--chips=8",
)
TPU = ("--accelerator=tpu-v5-lite-podslice", "--topology=4x4")
DEVICES = {"gpu": COMMON, "tpu": (*COMMON, *TPU)}
RUN = (
    "--config=configs/digits.py",
    "--workdir=/data/runs/r50",
    "--config.total=20 steps",
    '--config.data.train_transform=pad_crop(8, padding=1)|"a\\b" $(HOME) $HOME & #: é',
)


def check(document: dict) -> None:
    """Checks the JobSet, and what its controller makes of it."""
    schema = json.loads((REPO / "tests" / "launch" / "jobset.schema.json").read_text())
    jsonschema.validate(document, schema)
    for version in VERSIONS:
        for job in document["spec"]["replicatedJobs"]:
            template = job["template"]
            whole = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, **template}
            kubernetes_validate.validate(whole, version, strict=True)
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}
            spec = template["spec"]["template"]["spec"]
            kubernetes_validate.validate({**pod, "spec": spec}, version, strict=True)


@pytest.fixture(params=list(DEVICES))
def device(request):
    return request.param


@pytest.fixture
def filled(device, launch):
    done = launch("kubernetes.sh", device, "--dry_run", *DEVICES[device], *RUN)
    assert done.returncode == 0, done.stderr
    assert "__" not in done.stdout
    return yaml.safe_load(done.stdout)


def parts(document: dict) -> tuple[dict, dict, dict]:
    """The Job's, the pod's and the container's specification."""
    (replicated,) = document["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    return job, job["template"]["spec"], container


def test_documents_are_valid(filled):
    check(filled)


@pytest.mark.parametrize(
    "path, value",
    [
        ("spec.failurepolicy", {}),
        ("spec.failurePolicy.rules.0.action", "Fail"),
        ("spec.replicatedJobs.0.template.spec.podFailurePolicy.rules.0.onExitCode", {}),
        ("spec.replicatedJobs.0.template.spec.completions", "two"),
        ("spec.replicatedJobs.0.template.spec.template.spec.containers.0.arg", []),
    ],
)
def test_mistakes_in_documents_are_found(path, value, filled):
    broken = copy.deepcopy(filled)
    *folders, last = [int(x) if x.isdigit() else x for x in path.split(".")]
    place = broken
    for folder in folders:
        place = place[folder]
    place[last] = value
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check(broken)


def test_the_container_gets_the_arguments(filled):
    # Kubernetes makes `$(NAME)` a variable's value, and `$$` a `$`.
    args = [x.replace("$$", "$") for x in parts(filled)[2]["args"]]
    assert args == list(RUN) and "$$(HOME)" in parts(filled)[2]["args"][-1]


def test_processes_find_each_other(filled):
    job, pod, container = parts(filled)
    env = {item["name"]: item for item in container["env"]}
    port = container["ports"][0]["containerPort"]
    assert env["JAX_COORDINATOR_ADDRESS"]["value"] == f"r50-train-0-0.r50:{port}"
    assert env["JAX_NUM_PROCESSES"]["value"] == "2"
    assert (job["completions"], job["parallelism"], job["completionMode"]) == (2, 2, "Indexed")
    index = env["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert index == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert filled["spec"]["network"]["enableDNSHostnames"] is True


def test_what_happens_on_each_exit_code(filled):
    """The first rule that fits counts."""
    job, pod, container = parts(filled)
    assert pod["restartPolicy"] == "Never"  # podFailurePolicy needs it

    def action(code: int, disrupted: bool = False) -> str:
        for rule in job["podFailurePolicy"]["rules"]:
            on = rule.get("onExitCodes")
            if on and on["containerName"] == container["name"] and code in on["values"]:
                return rule["action"]
            if disrupted and any(
                c == {"type": "DisruptionTarget", "status": "True"}
                for c in rule.get("onPodConditions", ())
            ):
                return rule["action"]
        return "Count"

    assert [action(code) for code in (1, 2)] == ["FailJob"] * 2
    assert [action(code) for code in (75, 143)] == ["Ignore"] * 2
    assert action(137, disrupted=True) == "Ignore"
    assert action(2, disrupted=True) == "FailJob"
    assert [action(code) for code in (137, 139)] == ["Count"] * 2
    (rule,) = filled["spec"]["failurePolicy"]["rules"]
    assert rule["action"] == "FailJobSet" and rule["onJobFailureReasons"] == ["PodFailurePolicy"]


def test_the_container_may_do_little_and_has_time_to_save(filled, device):
    _, pod, container = parts(filled)
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    assert pod["terminationGracePeriodSeconds"] >= 60
    chip = {"gpu": "nvidia.com/gpu", "tpu": "google.com/tpu"}[device]
    assert container["resources"]["limits"] == {chip: 8}
    mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    assert mounts == {"data": "/data", "shm": "/dev/shm"}
    assert mounts.keys() == {v["name"] for v in pod["volumes"]}


def test_apply(launch, programs):
    programs.add("kubectl")
    (programs.folder / "stdin").touch()
    args = ("kubernetes.sh", "gpu", *DEVICES["gpu"], *RUN)
    assert launch(*args, **programs.env).returncode == 0
    assert programs.calls == [["kubectl", "apply", "-f", "-"]]
    check(yaml.safe_load((programs.folder / "stdin").read_text()))


@pytest.mark.parametrize(
    "args, told",
    [
        ((), "device missing"),
        (("cpu", *COMMON, *RUN), "device cpu"),
        (("gpu", *COMMON[1:], *RUN), "--name="),
        (("gpu", *COMMON, "--name=R_50", *RUN), "--name=R_50"),
        (("gpu", *COMMON, "--nodes=two", *RUN), "--nodes=two"),
        (("gpu", *COMMON, "--image=a b", *RUN), "--image=a b"),
        (("tpu", *COMMON, *RUN), "is missing"),
        (("gpu", *COMMON, *RUN[1:]), "--config is missing"),
        (("gpu", *COMMON, RUN[0], "--workdir=/runs"), "--workdir is missing, or not below /data"),
        (("gpu", *COMMON, *RUN, "--config.a=b\nc"), "control character"),
    ],
)
def test_mistakes(args, told, launch, programs):
    programs.add("kubectl")
    done = launch("kubernetes.sh", *args, **programs.env)
    assert done.returncode == 2 and told in done.stderr
    assert len(done.stderr.splitlines()) == 1 and programs.calls == []
