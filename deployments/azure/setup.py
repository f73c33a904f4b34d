"""Takes an existing Azure ML workspace to ready: `python -m deployments.azure.setup --dry-run`."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from blocks import azure_sizes
from blocks.azure import AzureMLWorkspace
from blocks.azure_errors import plain_errors
from deployments.azure.options import Place, run
from jobs.errors import InvalidInput, NotFound

_ROOT = Path(__file__).resolve().parents[2]
_DOCKERFILE = Path(__file__).with_name("Dockerfile")


def _own_key() -> Path | None:
    found = (Path.home() / ".ssh" / f"{name}.pub" for name in ("id_ed25519", "id_rsa", "id_ecdsa"))
    return next((key for key in found if key.is_file()), None)


class Setup(Place):
    """Make whatever a workspace lacks: clusters, job environment, blocks, work pool, deployments.

    Run it again at any time: what stands stays. Secrets come from the environment (AZURE_TENANT_ID, AZURE_CLIENT_ID,
    AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH); without them, `az login` counts.
    """

    name: str = Field("azure", pattern="^[a-z0-9-]+$", description="of the block that flows will name")
    gpu_size: str = Field("Standard_NC4as_T4_v3", description="VM size that trains and renders")
    cpu_size: str = Field("Standard_D4s_v3", description="VM size for all else")
    gpu_cluster: str = "gpu-cluster"
    cpu_cluster: str = "cpu-cluster"
    nodes: int = Field(1, ge=1, le=100, description="most nodes of each cluster: jobs at once; the fewest are always 0")
    idle_minutes: int = Field(5, ge=1, description="after which a node without a job goes")
    dedicated: bool = Field(False, description="nodes that are never taken away, at about five times the price")
    ssh_public_key: Path | None = Field(
        default_factory=_own_key, description="opens the clusters' ssh port, for the viewer of a training job"
    )
    deploy: bool = Field(True, description="make the work pool and deployments too, on the server of PREFECT_API_URL")
    dry_run: bool = Field(False, description="only say what would be done")


class _SetUp:
    def __init__(self, given: Setup) -> None:
        self.given = given
        self.key = _read_key(given.ssh_public_key.expanduser()) if given.ssh_public_key else None
        self.version = hashlib.sha256(_DOCKERFILE.read_bytes()).hexdigest()[:12]
        self.workspace: AzureMLWorkspace = given.open(
            gpu_cluster=given.gpu_cluster,
            cpu_cluster=given.cpu_cluster,
            environment=f"rebel-nerf:{self.version}",
            ssh_public_key=self.key,
        )

    def run(self) -> None:
        """Each step in turn."""
        self.find_workspace()
        self.check_sizes()
        self.cluster(self.given.gpu_cluster, self.given.gpu_size)
        self.cluster(self.given.cpu_cluster, self.given.cpu_size)
        self.environment()
        if not self.given.dry_run:
            self.workspace.check()
        self.step("blocks", False, self.save_blocks)
        if self.given.deploy:
            self.deployments()
        done = "Nothing was done. Then" if self.given.dry_run else "Ready"
        print(f"\n{done}: python -m flows.nerf --scene NAME --images FOLDER --workspace {self.reference}")

    @property
    def reference(self) -> str:
        """What a flow's parameter `workspace` takes."""
        return f"{AzureMLWorkspace.get_block_type_slug()}/{self.given.name}"

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
        try:
            with plain_errors(f"workspace {self.given.workspace}"):
                self.location = self.workspace.client.workspaces.get(self.given.workspace).location
        except (InvalidInput, NotFound) as error:
            raise InvalidInput(f"{error}\n\nThese commands make it:\n\n{self.commands()}") from None
        print(f"workspace {self.given.workspace}: there, in {self.location}")

    def commands(self) -> str:
        """The `az` lines that lead from an empty subscription to a workspace."""
        given, place = self.given, f"--resource-group {self.given.resource_group} --location westeurope"
        scope = f"/subscriptions/{given.subscription}/resourceGroups/{given.resource_group}"
        who = self.workspace.credential.client_id or "$(az ad signed-in-user show --query id --output tsv)"
        return "\n".join(
            [
                "az login",
                f"az account set --subscription {given.subscription}",
                "az provider register --namespace Microsoft.MachineLearningServices --wait",
                f"az group create --name {given.resource_group} --location westeurope",
                "az extension add --name ml",
                f"az ml workspace create --name {given.workspace} {place}",
                f'az role assignment create --assignee "{who}" --role "AzureML Data Scientist" --scope {scope}',
                f'az role assignment create --assignee "{who}" --role "AzureML Compute Operator" --scope {scope}',
            ]
        )

    def check_sizes(self) -> None:
        """Raise unless the region has both sizes and the GPU is one that trains."""
        with plain_errors("VM sizes"):
            offered = [str(size.name) for size in self.workspace.client.compute.list_sizes()]
        if reason := azure_sizes.refusal(self.given.gpu_size, offered):
            raise InvalidInput(f"gpu_size: {reason}")
        for field in ("gpu_size", "cpu_size"):
            if getattr(self.given, field).lower() not in {name.lower() for name in offered}:
                fitting = [str(s) for s in azure_sizes.GPU_SIZES if s.fits and s.name in offered]
                hint = f" These fit there: {', '.join(fitting) or 'none'}." if field == "gpu_size" else ""
                raise InvalidInput(f"{field}: {self.location} has no {getattr(self.given, field)}.{hint}")

    def cluster(self, name: str, size: str) -> None:
        """A cluster of 0 to `nodes` nodes; one of another size is kept and refused, as it cannot be changed."""
        from azure.ai.ml.entities import AmlCompute, AmlComputeSshSettings
        from azure.core.exceptions import ResourceNotFoundError

        given, compute = self.given, self.workspace.client.compute
        tier = "dedicated" if given.dedicated else "low_priority"
        wanted = AmlCompute(
            name=name,
            size=size,
            tier=tier,
            min_instances=0,
            max_instances=given.nodes,
            idle_time_before_scale_down=given.idle_minutes * 60,
            ssh_public_access_enabled=self.key is not None,
            ssh_settings=AmlComputeSshSettings(admin_username="azureuser", ssh_key_value=self.key)
            if self.key
            else None,
        )
        with plain_errors(f"cluster {name}"):
            try:
                found: Any = compute.get(name)
            except ResourceNotFoundError:
                found = None
            if found and (found.size or "").lower() != size.lower():
                raise InvalidInput(
                    f"cluster {name} is there with size {found.size}, which cannot be changed. "
                    f"Choose another name for the cluster, or delete it: az ml compute delete --name {name}"
                )
            scale = ("min_instances", "max_instances", "idle_time_before_scale_down")
            stands = bool(found) and all(getattr(found, part) == getattr(wanted, part) for part in scale)
            ssh = "ssh port open" if self.key else "no ssh port: no --ssh-public-key"
            what = f"cluster {name} ({size}, {tier}, 0 to {given.nodes} nodes, {given.idle_minutes} min idle, {ssh})"
            self.step(what, stands, lambda: _wait(compute.begin_create_or_update(wanted)))

    def environment(self) -> None:
        """The job environment, whose version tells the Dockerfile's content. Azure builds it when it is first used."""
        from azure.ai.ml.entities import BuildContext, Environment
        from azure.core.exceptions import ResourceNotFoundError

        environments = self.workspace.client.environments
        with plain_errors("environment rebel-nerf"):
            try:
                stands = environments.get("rebel-nerf", self.version) is not None
            except ResourceNotFoundError:
                stands = False

            def make() -> None:
                with tempfile.TemporaryDirectory() as folder:
                    Path(folder, "Dockerfile").write_bytes(_DOCKERFILE.read_bytes())
                    context = BuildContext(path=folder, dockerfile_path="Dockerfile")
                    made = Environment(name="rebel-nerf", version=self.version, build=context)
                    environments.create_or_update(made)

            self.step(f"environment rebel-nerf:{self.version}", stands, make)

    def save_blocks(self) -> None:
        """The credential under its own name, and the workspace, which refers to it."""
        self.workspace.credential.save(self.given.name, overwrite=True)
        self.workspace.save(self.given.name, overwrite=True)

    def deployments(self) -> None:
        """Work pool and deployments, by Prefect's own command."""
        if not os.environ.get("PREFECT_API_URL"):
            print("work pool, deployments: left out, for no server is set. Start one, set PREFECT_API_URL, run again.")
            return
        environment = {"REBEL_NERF_PROJECT": str(_ROOT), **os.environ}
        for what, command in (
            ("work pool", ["deployments.worker", "--pool-only"]),
            ("deployments", ["prefect", "--no-prompt", "deploy", "--all"]),
        ):
            self.step(what, False, partial(_call, [sys.executable, "-m", *command], environment))


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
