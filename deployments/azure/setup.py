"""Make an existing Azure ML workspace ready for jobs: `rebel-nerf azure setup --dry-run`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from blocks.azure import AzureCredential, AzureMLWorkspace, sizes
from blocks.azure.errors import lacks_role, plain_errors, translate
from blocks.azure.jobs import SERVERLESS
from blocks.saved import saved_name
from deployments.azure import clusters, image, on_server, smoke
from deployments.azure.common import credential, has_secret, load, run
from deployments.azure.options import DEFAULT_SIZES, AzureOptions, own_key
from deployments.azure.remedies import Remedies
from jobs.errors import InvalidInput, NotFound
from jobs.program import typed
from jobs.validation import first_complaint

_OTHER_NAME = "choose another name for the cluster (--gpu-cluster, --cpu-cluster)"
_TIERS: tuple[Literal["cpu", "gpu"], ...] = ("cpu", "gpu")


class Setup(AzureOptions):
    """Create what a workspace lacks: clusters, job environment, blocks, work pool and deployments. Then check it.

    You can run it again at any time: it keeps what exists, and what you changed in a saved block. Secrets come from
    the environment (AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH). Without
    them, the saved block keeps its credential, and a new block uses `az login`.
    """

    name: str = Field(
        "azure", pattern="^[a-z0-9-]+$", description="name under which the block is saved; with --block, that name"
    )
    credential_name: str = Field(
        "",
        pattern="^[a-z0-9-]*$",
        description="name of the credential's block; by default the saved one's, else that of the workspace's block",
    )
    managed_identity: bool = Field(
        False,
        description="sign in with this machine's managed identity: the one of $AZURE_CLIENT_ID, else the machine's own",
    )
    location: str = Field(
        "westeurope", description="region of a workspace that does not exist yet, for the az commands"
    )
    gpu_size: str = Field("", description=f"VM size for training and rendering; by default {DEFAULT_SIZES['gpu']}")
    cpu_size: str = Field("", description=f"VM size for everything else; by default {DEFAULT_SIZES['cpu']}")
    gpu_cluster: str = Field(
        "", description="name of the GPU cluster, or serverless; by default the saved block's, else gpu-cluster"
    )
    cpu_cluster: str = Field(
        "", description="name of the CPU cluster, or serverless; by default the saved block's, else cpu-cluster"
    )
    datastore: str = Field(
        "", description="blob datastore to work in; by default the saved block's, else the workspace's default"
    )
    nodes: int = Field(
        1, ge=1, le=100, description="most nodes of each cluster, and so the most jobs that it runs at once"
    )
    idle_minutes: int = Field(5, ge=1, description="minutes after which a node without a job is released")
    dedicated: bool = Field(False, description="use nodes that Azure does not take away, at a higher price")
    ssh_public_key: Path | None = Field(
        default_factory=own_key,
        description="file with your public ssh key, which opens the viewer of a training job to you",
    )
    ssh_port: bool = Field(
        True, description="open the clusters' ssh port to the key; if closed, jobs get an ssh service instead"
    )
    job_identity: str = Field(
        "",
        description="resource ID of the user-assigned managed identity of clusters and jobs; storage without account "
        "keys needs it. By default the saved block's",
    )
    subnet: str = Field(
        "",
        pattern=r"^(|/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.Network/virtualNetworks/[^/]+/"
        r"subnets/[^/]+|[^/]+/[^/]+)$",
        description="subnet of the clusters' nodes: its resource ID, or VNET/SUBNET of the workspace's resource group",
    )
    public_ip: bool = Field(
        True,
        description="give the clusters' nodes public IP addresses; nodes without need a subnet, or a workspace with a "
        "managed network",
    )
    image_build_cluster: str = Field(
        "", description="CPU cluster on which the workspace builds its images; a private registry needs one"
    )
    deploy: bool = Field(
        True, description="also create the work pool and deployments, on the server of PREFECT_API_URL"
    )
    smoke_test: bool = Field(True, description="run a short job on each cluster that checks the job environment")
    dry_run: bool = Field(False, description="only print what would be done")


class _SetUp:
    """One run of set-up."""

    def __init__(self, options: Setup) -> None:
        self.options = options
        key = _read_key(options.ssh_public_key.expanduser()) if options.ssh_public_key else None
        self.version = image.version()
        self.name = options.block or options.name
        self.saved = load(self.name) if options.block or on_server.is_saved(self.name) else None
        decided = {
            "credential": self._new_credential(),
            "gpu_cluster": options.gpu_cluster,
            "cpu_cluster": options.cpu_cluster,
            "job_identity": options.job_identity,
            "environment": f"{image.NAME}:{self.version}",
            "datastore": options.datastore,
            "ssh_public_key": key,
        }
        self.sizes: dict[str, str] = {}
        for tier in _TIERS:
            before, saved_size = (getattr(self.saved, f"{tier}_{field}", None) for field in ("cluster", "size"))
            serverless = (getattr(options, f"{tier}_cluster") or before) == SERVERLESS
            self.sizes[tier] = getattr(options, f"{tier}_size") or (serverless and saved_size) or DEFAULT_SIZES[tier]
            if serverless:
                decided[f"{tier}_size"] = self.sizes[tier]
                decided["serverless_tier"] = "standard" if options.dedicated else "spot"
        # Options that are not given keep their saved values, and so do the fields that set-up has no option for.
        self.workspace = options.described(self.saved, **{field: value for field, value in decided.items() if value})
        self.key = self.workspace.ssh_public_key
        self.remedies = Remedies(self.workspace)

    def _new_credential(self) -> AzureCredential | None:
        """Return the credential that is given now, or None if the saved one stays."""
        if self.options.managed_identity:
            try:
                return AzureCredential(method="managed identity", client_id=os.environ.get("AZURE_CLIENT_ID") or None)
            except ValidationError as error:
                raise InvalidInput(f"AZURE_CLIENT_ID: {first_complaint(error)}.") from None
        new = credential() if has_secret() or self.saved is None else None
        return None if new and self.saved and dict(new) == dict(self.saved.credential) else new

    def run(self) -> None:
        """Take each step in turn."""
        self.find_workspace()
        self.check_sizes()
        for tier in self._tiers():
            name, size = getattr(self.workspace, f"{tier}_cluster"), self.sizes[tier]
            if name == SERVERLESS:
                print(f"{tier.upper()} jobs: serverless, {size}, {self.workspace.serverless_tier}")
            else:
                self.cluster(name, size)
        self.image_builds()
        self.environment()
        if not self.options.dry_run:
            self.workspace.check()
        same = self.saved is not None and dict(self.saved) == dict(self.workspace)
        self.step("blocks", same, self.save_blocks)
        if self.options.deploy:
            self.deployments()
        if self.options.smoke_test:
            self.check()
        done = "Nothing was done. Then" if self.options.dry_run else "Ready"
        print(f"\n{done}: {typed(f'run --scene NAME --images FOLDER --workspace {self.reference}')}")

    def _tiers(self) -> list[Literal["cpu", "gpu"]]:
        """Return the tiers, only one if they share a cluster."""
        shared = self.workspace.cpu_cluster == self.workspace.gpu_cluster != SERVERLESS
        return ["gpu"] if shared else ["cpu", "gpu"]

    @property
    def reference(self) -> str:
        """Return the value of a flow's parameter `workspace`."""
        return f"{AzureMLWorkspace.get_block_type_slug()}/{self.name}"

    def step(self, what: str, exists: bool, make: Callable[[], None]) -> None:
        """Create one thing unless it exists, and print what was done."""
        if exists:
            print(f"{what}: exists")
        elif self.options.dry_run:
            print(f"{what}: would be created")
        else:
            print(f"{what}: …", flush=True)
            make()
            print(f"{what}: created")

    def find_workspace(self) -> None:
        """Find the workspace, or raise with the commands that create it."""
        self.workspace.check_sign_in()
        name = self.workspace.workspace
        try:
            with self.remedies.allowed(f"workspace {name}", "AzureML Data Scientist"):
                self.found = self.workspace.client.workspaces.get(name)
        except (InvalidInput, NotFound) as error:
            if isinstance(error, InvalidInput) and not re.search(
                r"(resource_group|workspace): there is no", str(error)
            ):
                raise
            raise InvalidInput(f"{error}\n\n{self.remedies.creation(self.options.location)}") from None
        self.location = self.found.location
        print(f"workspace {name}: exists, in {self.location}")

    def check_sizes(self) -> None:
        """Raise unless the region has both sizes and the GPU can train."""
        from azure.core.exceptions import HttpResponseError

        listed: list[Any] | None = None
        with plain_errors("VM sizes"):
            try:
                listed = list(self.workspace.client.compute.list_sizes())
            except HttpResponseError as error:
                if not lacks_role(error):
                    raise
                # The list is the subscription's: a role on the resource group is not enough.
                print(f"VM sizes of {self.location}: not checked, because the credential may not list them")
        offered = None if listed is None else [str(size.name) for size in listed]
        self.listed = {str(size.name).lower(): vars(size) for size in listed or []}
        if reason := sizes.refusal(self.sizes["gpu"], offered):
            raise InvalidInput(f"gpu_size: {reason}")
        for tier, size in self.sizes.items():
            if offered is not None and size.lower() not in self.listed:
                hint = f" {sizes.fitting(offered)}" if tier == "gpu" else ""
                raise InvalidInput(f"{tier}_size: {self.location} has no {size}.{hint}")

    def cluster(self, name: str, size: str) -> None:
        """Create a cluster of 0 to `nodes` nodes, or change the scale of one that exists.

        Raises:
            InvalidInput: it differs in something that cannot be changed. A different ssh port is only printed.
        """
        options = self.options
        if options.public_ip is False and not options.subnet and not self._has_managed_network():
            raise InvalidInput(
                "public_ip: nodes without public IP addresses need a subnet (--subnet), or a workspace with a managed "
                "network."
            )
        wanted = clusters.Wanted(
            name,
            size,
            dedicated=options.dedicated,
            nodes=options.nodes,
            idle_seconds=options.idle_minutes * 60,
            key=self.key,
            port=options.ssh_port and options.public_ip and self.key is not None,
            subnet=options.subnet,
            public_ip=options.public_ip,
            identity=self.workspace.job_identity,
        )
        with self.remedies.allowed(f"cluster {name}", "AzureML Compute Operator"):
            found = clusters.find(self.workspace, name)
            if found is None:
                self.step(f"cluster {wanted}", False, lambda: self._make_cluster(wanted))
                return
            if different := clusters.mismatch(found, wanted):
                what, keep = different
                raise InvalidInput(
                    f"cluster {name} {what}, which set-up cannot change. You can {keep}, {_OTHER_NAME}, or delete it: "
                    f"{self.remedies.deletion(name)}"
                )
            port = found.ssh_public_access_enabled
            self.step(
                f"cluster {replace(wanted, port=port)}",
                wanted.is_scaled(found),
                lambda: wanted.scale(self.workspace),
            )
        if port != wanted.port:
            print(
                f"  Its ssh port is {'open' if port else 'closed'}, which cannot be changed. To have it "
                f"{'open' if wanted.port else 'closed'}: {self.remedies.deletion(name)}, and run this again."
            )

    def _make_cluster(self, wanted: clusters.Wanted) -> None:
        from azure.core.exceptions import HttpResponseError

        clusters.check_identity(wanted)
        try:
            wanted.make(self.workspace)
        except HttpResponseError as error:
            if not clusters.lacks_quota(error):
                raise
            size = self.listed.get(wanted.size.lower(), {})
            ask = clusters.quota_help(wanted, size.get("family"), size.get("vCPUs"), self.location)
            raise InvalidInput(
                f"{translate(error, f'cluster {wanted.name}')}\n{ask} Then delete the cluster, and run this again: "
                f"{self.remedies.deletion(wanted.name)}"
            ) from None

    def _has_managed_network(self) -> bool:
        network = getattr(self.found, "managed_network", None)
        return bool(network and (network.isolation_mode or "").lower() not in ("", "disabled"))

    def image_builds(self) -> None:
        """Set the cluster on which the workspace builds images, if one is wanted.

        Send only that property: the SDK's own `begin_update` sends others with it.
        https://learn.microsoft.com/rest/api/azureml/workspaces/update
        """
        wanted, workspace = self.options.image_build_cluster, self.workspace
        if not wanted:
            return
        body = {"properties": {"imageBuildCompute": wanted}}
        with self.remedies.allowed("image builds", "Contributor"):
            operation = workspace.client.workspaces._operation
            self.step(
                f"image builds on cluster {wanted}",
                self.found.image_build_compute == wanted,
                lambda: _wait(operation.begin_update(workspace.resource_group, workspace.workspace, body)),
            )

    def environment(self) -> None:
        """Register the job environment. Azure builds it when it is first used."""
        with self.remedies.allowed(f"environment {image.NAME}", "AzureML Data Scientist"):
            environments = self.workspace.client.environments
            exists = image.is_registered(environments, self.version)
            self.step(
                f"environment {image.NAME}:{self.version}",
                exists,
                lambda: image.register(environments, self.version),
            )

    def save_blocks(self) -> None:
        """Save the workspace, and the credential that it refers to if that is new."""
        options, signs_in = self.options, self.workspace.credential
        before = saved_name(self.saved.credential) if self.saved else None
        if self.saved is None or signs_in is not self.saved.credential:
            signs_in.save(options.credential_name or before or self.name, overwrite=True)
        self.workspace.save(self.name, overwrite=True)

    def check(self) -> None:
        """Run the check on each cluster, and show its report."""
        checks = [smoke.Check(self.workspace, tier, self.sizes[tier]) for tier in self._tiers()]
        for check in checks:
            state = "passed before" if check.find() else "would be run" if self.options.dry_run else "…"
            print(f"check on {check.cluster}: {state}")
        if self.options.dry_run or all(check.passed for check in checks):
            return
        print(
            "  A job of a few minutes on each cluster checks everything that jobs need. The first one also waits 15\n"
            "  to 30 minutes while Azure builds the image. You pay for one node of each cluster while its job runs.\n"
            "  Ctrl-C cancels the jobs; --no-smoke-test skips them.",
            flush=True,
        )
        smoke.follow(checks)
        print("check: passed")

    def deployments(self) -> None:
        """Create the work pool and the deployments, by Prefect's own command."""
        if not os.environ.get("PREFECT_API_URL"):
            print(
                "work pool, deployments: skipped. To create them, start a server, set PREFECT_API_URL, and run this "
                "again."
            )
            return
        for what, exists, command in (
            ("work pool", on_server.has_pool(), ["deployments.worker", "--pool-only"]),
            ("deployments", on_server.deployed(), ["deployments.prefect", "--no-prompt", "deploy", "--all"]),
        ):
            self.step(what, exists, partial(on_server.call, [sys.executable, "-m", *command]))


def _read_key(file: Path) -> str:
    try:
        key = file.read_text().strip()
    except OSError as error:
        raise InvalidInput(
            f"ssh_public_key: {file} cannot be read ({error.strerror}). Name your public key with --ssh-public-key."
        ) from None
    if not key.startswith(("ssh-", "ecdsa-")):
        raise InvalidInput(f"ssh_public_key: {file} is not a public key: it should begin with ssh-… or ecdsa-….")
    return key


def _wait(poller: Any) -> None:
    poller.result()


def main(options: Setup) -> None:
    """Set up a workspace."""
    _SetUp(options).run()


if __name__ == "__main__":
    run(Setup, main, sys.argv[1:])
