"""Takes an existing Azure ML workspace to ready: `python -m deployments.azure.setup --dry-run`."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from pydantic import Field, ValidationError

from blocks import azure_sizes
from blocks.azure import AzureCredential, AzureMLWorkspace
from blocks.azure_errors import plain_errors
from blocks.saved import sentences
from deployments.azure.options import Place, credential, has_secret, load, run
from jobs.errors import InvalidInput, NotFound

_ROOT = Path(__file__).resolve().parents[2]
# What the job environment's image is made of, by its own content. It is tried with jobs/, which it does not keep.
_IMAGE = [Path(__file__).with_name(name) for name in ("Dockerfile", "environment.lock", "build_gsplat.py")]
_POOL = "rebel-nerf"
_OTHER_NAME = "or choose another name for the cluster (--gpu-cluster, --cpu-cluster)"


def _own_key() -> Path | None:
    found = (Path.home() / ".ssh" / f"{name}.pub" for name in ("id_ed25519", "id_rsa", "id_ecdsa"))
    return next((key for key in found if key.is_file()), None)


class Setup(Place):
    """Make whatever a workspace lacks: clusters, job environment, blocks, work pool, deployments.

    Run it again at any time: what stands stays. Secrets come from the environment (AZURE_TENANT_ID, AZURE_CLIENT_ID,
    AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH); without them, the saved block's credential stays, and where
    there is none, `az login` counts. What else a block was given stays, too.
    """

    name: str = Field("azure", pattern="^[a-z0-9-]+$", description="of the block that flows will name, if no --block")
    credential_name: str = Field(
        "", pattern="^[a-z0-9-]*$", description="of the credential's block; as it is, else name"
    )
    managed_identity: bool = Field(False, description="sign in as this machine: $AZURE_CLIENT_ID, or its own identity")
    location: str = Field("westeurope", description="of a workspace that is still to be made, for the az lines")
    gpu_size: str = Field("Standard_NC4as_T4_v3", description="VM size that trains and renders")
    cpu_size: str = Field("Standard_D4s_v3", description="VM size for all else")
    gpu_cluster: str = Field("", description="its name; as the saved block has it, else gpu-cluster")
    cpu_cluster: str = Field("", description="its name; as the saved block has it, else cpu-cluster")
    datastore: str = Field("", description="a blob datastore; as the saved block has it, else the workspace's default")
    nodes: int = Field(1, ge=1, le=100, description="most nodes of each cluster: jobs at once; the fewest are always 0")
    idle_minutes: int = Field(5, ge=1, description="after which a node without a job goes")
    dedicated: bool = Field(False, description="nodes that are never taken away, at about five times the price")
    ssh_public_key: Path | None = Field(
        default_factory=_own_key, description="lets you into running jobs, for the viewer of a training job"
    )
    ssh_port: bool = Field(
        True, description="open the clusters' ssh port for the key; without, jobs get an ssh service instead"
    )
    deploy: bool = Field(True, description="make the work pool and deployments too, on the server of PREFECT_API_URL")
    dry_run: bool = Field(False, description="only say what would be done")


class _SetUp:
    def __init__(self, given: Setup) -> None:
        self.given = given
        key = _read_key(given.ssh_public_key.expanduser()) if given.ssh_public_key else None
        self.version = hashlib.sha256(b"\0".join(file.read_bytes() for file in _IMAGE)).hexdigest()[:12]
        self.name = given.block or given.name
        self.saved = load(self.name) if given.block or _is_saved(self.name) else None
        decided = {
            "credential": self._new_credential(),
            "gpu_cluster": given.gpu_cluster,
            "cpu_cluster": given.cpu_cluster,
            "environment": f"rebel-nerf:{self.version}",
            "datastore": given.datastore,
            "ssh_public_key": key,
        }
        # What is not given stays as it was saved, and so does all that is not set-up's to decide.
        self.workspace = given.described(self.saved, **{field: value for field, value in decided.items() if value})
        self.key = self.workspace.ssh_public_key
        self.scope = f"/subscriptions/{self.workspace.subscription_id}/resourceGroups/{self.workspace.resource_group}"

    def _new_credential(self) -> AzureCredential | None:
        """The one that is given now; None where the saved one stays."""
        if self.given.managed_identity:
            try:
                return AzureCredential(method="managed identity", client_id=os.environ.get("AZURE_CLIENT_ID") or None)
            except ValidationError as error:
                raise InvalidInput(f"AZURE_CLIENT_ID: {sentences(error)}") from None
        new = credential() if has_secret() or self.saved is None else None
        return None if new and self.saved and dict(new) == dict(self.saved.credential) else new

    def run(self) -> None:
        """Each step in turn."""
        self.find_workspace()
        self.check_sizes()
        clusters = {self.workspace.cpu_cluster: self.given.cpu_size, self.workspace.gpu_cluster: self.given.gpu_size}
        for name, size in clusters.items():  # one, if both are the same
            self.cluster(name, size)
        self.environment()
        if not self.given.dry_run:
            self.workspace.check()
        same = self.saved is not None and dict(self.saved) == dict(self.workspace)
        self.step("blocks", same, self.save_blocks)
        if self.given.deploy:
            self.deployments()
        done = "Nothing was done. Then" if self.given.dry_run else "Ready"
        print(f"\n{done}: python -m flows.nerf --scene NAME --images FOLDER --workspace {self.reference}")

    @property
    def reference(self) -> str:
        """What a flow's parameter `workspace` takes."""
        return f"{AzureMLWorkspace.get_block_type_slug()}/{self.name}"

    def step(self, what: str, stands: bool, make: Callable[[], None]) -> None:
        """One thing that must be there."""
        if stands:
            print(f"{what}: there")
        elif self.given.dry_run:
            print(f"{what}: would be made")
        else:
            print(f"{what}: …", flush=True)
            make()
            print(f"{what}: made")

    def find_workspace(self) -> None:
        """Raise, with the commands that make it, unless the workspace is there."""
        self.workspace._check_sign_in()
        name = self.workspace.workspace
        try:
            with self.allowed(f"workspace {name}", "AzureML Data Scientist"):
                self.location = self.workspace.client.workspaces.get(name).location
        except (InvalidInput, NotFound) as error:
            if isinstance(error, InvalidInput) and not re.search(
                r"(resource_group|workspace): there is no", str(error)
            ):
                raise
            raise InvalidInput(f"{error}\n\nThese commands make it:\n\n{self.commands()}") from None
        print(f"workspace {name}: there, in {self.location}")

    @contextmanager
    def allowed(self, what: str, role: str) -> Iterator[None]:
        """Have errors said in words, and a refusal with the command that gives the role which is missing."""
        from azure.core.exceptions import HttpResponseError

        with plain_errors(what):
            try:
                yield
            except HttpResponseError as error:
                if error.status_code != 403:
                    raise
                raise InvalidInput(
                    f"{what}: Azure refuses it, for the credential lacks the role «{role}». An owner of the resource "
                    f"group gives it; it counts after some minutes:\n\n{self.assignment(role)}"
                ) from None

    def assignment(self, role: str) -> str:
        """The `az` line that gives a role to whoever signs in."""
        who = self.workspace.credential.client_id
        if not who and self.workspace.credential.method == "managed identity":
            who = "$(az vm identity show --resource-group GROUP --name VM --query principalId --output tsv)"
        who = who or "$(az ad signed-in-user show --query id --output tsv)"
        return f'az role assignment create --assignee "{who}" --role "{role}" --scope {self.scope}'

    def commands(self) -> str:
        """The `az` lines that lead from an empty subscription to a workspace."""
        workspace, location = self.workspace, self.given.location
        place = f"--resource-group {workspace.resource_group} --location {location}"
        return "\n".join(
            [
                "az login",
                f"az account set --subscription {workspace.subscription_id}",
                "az provider register --namespace Microsoft.MachineLearningServices --wait",
                f"az group create --name {workspace.resource_group} --location {location}",
                "az extension add --name ml",
                f"az ml workspace create --name {workspace.workspace} {place}",
                self.assignment("AzureML Data Scientist"),
                self.assignment("AzureML Compute Operator"),
            ]
        )

    def check_sizes(self) -> None:
        """Raise unless the region has both sizes and the GPU is one that trains."""
        from azure.core.exceptions import HttpResponseError

        offered: list[str] | None = None
        with plain_errors("VM sizes"):
            try:
                offered = [str(size.name) for size in self.workspace.client.compute.list_sizes()]
            except HttpResponseError as error:
                if error.status_code != 403:
                    raise
                # They are the subscription's to list, and roles on a resource group do not reach so far.
                print(f"VM sizes of {self.location}: not looked at, for the credential may not list them")
        if reason := azure_sizes.refusal(self.given.gpu_size, offered):
            raise InvalidInput(f"gpu_size: {reason}")
        for field in ("gpu_size", "cpu_size"):
            size = getattr(self.given, field)
            if offered is not None and size.lower() not in {name.lower() for name in offered}:
                hint = f" {azure_sizes.fitting(offered)}" if field == "gpu_size" else ""
                raise InvalidInput(f"{field}: {self.location} has no {size}.{hint}")

    def cluster(self, name: str, size: str) -> None:
        """A cluster of 0 to `nodes` nodes. One of another size or tier is kept and refused, as it cannot be changed;
        of one whose ssh port is not as wanted, that is said."""
        from azure.ai.ml.entities import AmlCompute, AmlComputeSshSettings
        from azure.core.exceptions import ResourceNotFoundError

        given, compute = self.given, self.workspace.client.compute
        tier = "dedicated" if given.dedicated else "low_priority"
        with self.allowed(f"cluster {name}", "AzureML Compute Operator"):
            try:
                found: Any = compute.get(name)
            except ResourceNotFoundError:
                found = None
            if found:
                self._check_fixed(found, size, tier)
            wanted_port = given.ssh_port and self.key is not None
            port = found.ssh_public_access_enabled if found else wanted_port
            key = AmlComputeSshSettings(admin_username="azureuser", ssh_key_value=self.key) if self.key else None
            wanted = AmlCompute(
                name=name,
                size=size,
                tier=tier,
                min_instances=0,
                max_instances=given.nodes,
                idle_time_before_scale_down=given.idle_minutes * 60,
                ssh_public_access_enabled=port,
                ssh_settings=key if port else None,
            )
            scale = ("min_instances", "max_instances", "idle_time_before_scale_down")
            stands = bool(found) and all(getattr(found, part) == getattr(wanted, part) for part in scale)
            ssh = "ssh port open" if port else "ssh port closed" if self.key else "ssh port closed: no --ssh-public-key"
            what = f"cluster {name} ({size}, {tier}, 0 to {given.nodes} nodes, {given.idle_minutes} min idle, {ssh})"
            self.step(what, stands, lambda: _wait(compute.begin_create_or_update(wanted)))
        if port != wanted_port:
            print(
                f"  Its ssh port is {'open' if port else 'closed'}, which cannot be changed. To have it "
                f"{'open' if wanted_port else 'closed'}: {self._delete(name)}, and run this again."
            )

    def _check_fixed(self, found: Any, size: str, tier: str) -> None:
        """Raise if a cluster that stands is of another size or tier."""
        is_tier = (found.tier or "").lower()
        if (found.size or "").lower() != size.lower():
            what, keep = f"size {found.size}", f"give that size (--gpu-size, --cpu-size), {_OTHER_NAME}"
        elif is_tier != tier:
            option = "--dedicated" if is_tier == "dedicated" else "--no-dedicated"
            what, keep = f"tier {is_tier}, and not {tier}", f"keep it with {option} for both clusters, {_OTHER_NAME}"
        else:
            return
        raise InvalidInput(
            f"cluster {found.name} is there with {what}, which cannot be changed. Either {keep}, or delete it: "
            f"{self._delete(found.name)}"
        )

    def _delete(self, cluster: str) -> str:
        return (
            f"az ml compute delete --name {cluster} --resource-group {self.workspace.resource_group} "
            f"--workspace-name {self.workspace.workspace}"
        )

    def environment(self) -> None:
        """Register the job environment, its version a hash of its content. Azure builds it when it is first used."""
        from azure.ai.ml.entities import BuildContext, Environment
        from azure.core.exceptions import ResourceNotFoundError

        environments = self.workspace.client.environments
        with self.allowed("environment rebel-nerf", "AzureML Data Scientist"):
            try:
                stands = environments.get("rebel-nerf", self.version) is not None
            except ResourceNotFoundError:
                stands = False

            def make() -> None:
                with tempfile.TemporaryDirectory() as folder:
                    for file in _IMAGE:
                        shutil.copy(file, folder)
                    shutil.copytree(_ROOT / "jobs", Path(folder, "jobs"), ignore=shutil.ignore_patterns("__pycache__"))
                    context = BuildContext(path=folder, dockerfile_path="Dockerfile")
                    made = Environment(name="rebel-nerf", version=self.version, build=context)
                    environments.create_or_update(made)

            self.step(f"environment rebel-nerf:{self.version}", stands, make)

    def save_blocks(self) -> None:
        """The credential under its own name, where it is new, and the workspace, which refers to it."""
        given, signs_in = self.given, self.workspace.credential
        before = self.saved.credential._block_document_name if self.saved else None
        if self.saved is None or signs_in is not self.saved.credential:
            signs_in.save(given.credential_name or before or self.name, overwrite=True)
        self.workspace.save(self.name, overwrite=True)

    def deployments(self) -> None:
        """Work pool and deployments, by Prefect's own command."""
        if not os.environ.get("PREFECT_API_URL"):
            print("work pool, deployments: left out, for no server is set. Start one, set PREFECT_API_URL, run again.")
            return
        environment = {"REBEL_NERF_PROJECT": str(_ROOT), **os.environ}
        for what, stands, command in (
            ("work pool", _has_pool(), ["deployments.worker", "--pool-only"]),
            ("deployments", _deployed(), ["prefect", "--no-prompt", "deploy", "--all"]),
        ):
            self.step(what, stands, partial(_call, [sys.executable, "-m", *command], environment))


def _is_saved(name: str) -> bool:
    with get_client(sync_client=True) as client:
        try:
            client.read_block_document_by_name(name, AzureMLWorkspace.get_block_type_slug())
        except ObjectNotFound:
            return False
    return True


def _has_pool() -> bool:
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(_POOL)
        except ObjectNotFound:
            return False
    return True


def _deployed() -> bool:
    """Whether all deployments are on the server, of this folder, and since their files last changed."""
    files = [_ROOT / "prefect.yaml", _ROOT / "jobs" / "options.py", *(_ROOT / "flows").glob("*.py")]
    changed = max(file.stat().st_mtime for file in files)
    wanted = yaml.safe_load((_ROOT / "prefect.yaml").read_text())["deployments"]
    with get_client(sync_client=True) as client:
        there = client.read_deployments()
    stand = {
        (each.entrypoint, each.name)
        for each in there
        if each.updated and each.updated.timestamp() > changed and str(_ROOT) in str(each.pull_steps)
    }
    return all((each["entrypoint"], each["name"]) in stand for each in wanted)


def _read_key(file: Path) -> str:
    try:
        key = file.read_text().strip()
    except OSError as error:
        raise InvalidInput(f"ssh_public_key: {file} cannot be read ({error.strerror}).") from None
    if not key.startswith(("ssh-", "ecdsa-")):
        raise InvalidInput(f"ssh_public_key: {file} is no public key; it should begin with ssh-… or ecdsa-….")
    return key


def _call(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise InvalidInput(f"{' '.join(command[3:])} failed:\n{done.stdout}{done.stderr}")


def _wait(poller: Any) -> None:
    poller.result()


def main(given: Setup) -> None:
    """Set a workspace up."""
    _SetUp(given).run()


if __name__ == "__main__":
    run(Setup, main, sys.argv[1:])
