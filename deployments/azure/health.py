"""Checks of an Azure ML workspace for `rebel-nerf doctor`: sign-in, roles, storage, clusters, quota, image and ssh."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from blocks.azure import AzureMLWorkspace, sizes
from blocks.azure.errors import plain_errors
from blocks.azure.jobs import SERVERLESS, port_open
from deployments.azure import clusters
from deployments.azure.quota import Quota
from deployments.azure.remedies import Remedies
from deployments.health.finding import Check, Finding
from jobs.errors import InvalidInput, NotFound
from jobs.names import SUFFIXES, asset_name
from jobs.program import typed

__all__ = ["check_assets", "checks"]

_AT_ONCE = 8  # assets that are looked at at the same time
_QUOTA = "https://ml.azure.com, Quota, your subscription and region, Request quota"


def checks(workspace: AzureMLWorkspace) -> list[Check]:
    """Return the checks of a workspace, in order: each one relies on those before it."""
    shared = workspace.cpu_cluster == workspace.gpu_cluster != SERVERLESS
    tiers: list[Literal["cpu", "gpu"]] = ["gpu"] if shared else ["cpu", "gpu"]
    return [
        ("Azure sign-in", partial(_sign_in, workspace)),
        ("Azure ML", partial(_workspace, workspace)),
        ("roles", partial(_roles, workspace)),
        ("storage", partial(_storage, workspace)),
        *((f"{tier.upper()} cluster", partial(_cluster, workspace, tier)) for tier in tiers),
        ("quota", partial(_quota, workspace)),
        ("image", partial(_image, workspace)),
        ("ssh", partial(_ssh, workspace)),
        ("cost limits", partial(_limits, workspace)),
    ]


def check_assets(workspace: AzureMLWorkspace, *, whole: bool, repair: bool) -> Finding:
    """Look for assets whose files are gone, and for damaged copies on this machine.

    Args:
        workspace: where they are registered.
        whole: compare the checksums of copies as well.
        repair: archive assets without files, so that the next run makes them again, and delete damaged copies.
    """
    names = [
        name for scene in workspace.scenes() for name in (scene, *(asset_name(scene, product) for product in SUFFIXES))
    ]
    assets = [asset for name in names for asset in workspace.assets(name)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        faults = list(pool.map(lambda asset: workspace.damage(asset, whole), assets))
    damaged = [(asset, fault) for asset, fault in zip(assets, faults, strict=True) if fault]
    if not damaged:
        return Finding.ok(f"{len(assets)} assets have all their files")
    if not repair:
        lines = "\n".join(f"{asset}: {fault}" for asset, fault in damaged)
        return Finding.wrong(lines, "Run the same command with --repair.")
    done, left = [], False
    for asset, fault in damaged:
        try:
            done.append(f"{asset}: {fault}; {workspace.repair(asset)}")
        except InvalidInput as error:
            done.append(str(error))
            left = True
    text = "\n".join(done)
    remedy = "Run the scenes' flows again to make what is missing."
    return Finding.wrong(text, remedy) if left else Finding.warning(text, remedy)


def _sign_in(workspace: AzureMLWorkspace) -> Finding:
    workspace.check_sign_in()
    return Finding.ok(f"by {workspace.credential.method}")


def _workspace(workspace: AzureMLWorkspace) -> Finding:
    with Remedies(workspace).allowed(f"workspace {workspace.workspace}", "AzureML Data Scientist"):
        found = workspace.client.workspaces.get(workspace.workspace)
    return Finding.ok(f"{workspace.workspace}, in {found.location}")


def _roles(workspace: AzureMLWorkspace) -> Finding:
    remedies = Remedies(workspace)
    with remedies.allowed("jobs", "AzureML Data Scientist"):
        list(islice(workspace.client.jobs.list(max_results=1), 1))
    with remedies.allowed("clusters", "AzureML Compute Operator"):
        list(islice(workspace.client.compute.list(), 1))
    return Finding.ok("jobs and clusters can be read")


def _storage(workspace: AzureMLWorkspace) -> Finding:
    try:
        name = workspace.check_storage()
    except InvalidInput as error:
        return Finding.wrong(str(error), Remedies(workspace).keyless if "KeyBased" in str(error) else "")
    return Finding.ok(f"datastore {name} can be written")


def _clusters(workspace: AzureMLWorkspace) -> dict[str, Any]:
    """Return the workspace's clusters by name, as the SDK has them; None for those that are missing."""
    names = {workspace.cpu_cluster, workspace.gpu_cluster} - {SERVERLESS}
    with plain_errors("clusters"):
        return {name: clusters.find(workspace, name) for name in sorted(names)}


def _cluster(workspace: AzureMLWorkspace, tier: Literal["cpu", "gpu"]) -> Finding:
    name = str(getattr(workspace, f"{tier}_cluster"))
    if name == SERVERLESS:
        size, text = str(getattr(workspace, f"{tier}_size")), f"serverless, {workspace.serverless_tier}"
    else:
        found = _clusters(workspace)[name]
        if found is None:
            return Finding.wrong(f"{name} does not exist", typed("azure setup"))
        if found.provisioning_state == "Failed":
            delete = Remedies(workspace).deletion(name)
            return Finding.wrong(
                f"{name} could not be created: {found.provisioning_errors}", f"{delete}\n{typed('azure setup')}"
            )
        size, text = str(found.size), f"{name}, {found.min_instances} to {found.max_instances} nodes, {found.tier}"
    if tier == "gpu" and (refused := sizes.refusal(size, None)):
        return Finding.wrong(f"{text}: {refused}", f"{typed('azure setup')} --gpu-cluster NEW-NAME --gpu-size SIZE")
    return Finding.ok(f"{text}, {size}")


def _quota(workspace: AzureMLWorkspace) -> Finding:
    quota = Quota(workspace)
    enough: list[str] = []
    lacking: list[str] = []
    for name, found in _clusters(workspace).items():
        if found is None:
            continue
        refused = str(found.provisioning_errors or "")
        if "quota" in refused.lower():
            lacking.append(f"{name}: {refused}")
        elif left := quota.left(str(found.size), str(found.tier).lower().startswith("low")):
            # Without room for one node, jobs wait for ever, unless the cluster has a node already.
            short = left.left < left.needed and not list(workspace.client.compute.list_nodes(name))
            (lacking if short else enough).append(f"{name}: {left}")
    if lacking:
        return Finding.wrong("\n".join(lacking), _QUOTA)
    return Finding.ok("\n".join(enough) or "no cluster lacks quota; how much is left could not be read")


def _image(workspace: AzureMLWorkspace) -> Finding:
    try:
        workspace.check_environment()
    except (InvalidInput, NotFound) as error:
        return Finding.wrong(str(error), typed("azure setup"))
    return Finding.ok(workspace.environment)


def _ssh(workspace: AzureMLWorkspace) -> Finding:
    if not workspace.ssh_public_key:
        return Finding.warning(
            "the block has no ssh_public_key, so the viewer of a running training cannot be reached",
            f"ssh-keygen -t ed25519, then {typed('azure setup')} --ssh-public-key ~/.ssh/id_ed25519.pub",
        )
    kind = workspace.ssh_public_key.split()[:2]
    own = [file for file in Path("~/.ssh").expanduser().glob("*.pub") if file.read_text().split()[:2] == kind]
    found = _clusters(workspace).get(workspace.gpu_cluster)
    route = "through the cluster's open port" if found and port_open(found) else "through the jobs' ssh service"
    if not any(file.with_suffix("").is_file() for file in own):
        return Finding.warning(
            f"{route}, but the block's key is none of those in ~/.ssh",
            f"Use the machine that has the private key, or {typed('azure setup')} --ssh-public-key with a key of "
            "this one.",
        )
    return Finding.ok(route)


def _limits(workspace: AzureMLWorkspace) -> Finding:
    workspace.check_cost_limits()
    if not workspace.has_cost_limit:
        return Finding.warning("none is set", "Set max_cost_per_run or max_cost_per_month in the workspace's block.")
    limits = {"run": workspace.max_cost_per_run, "month": workspace.max_cost_per_month}
    return Finding.ok(", ".join(f"{most:g} {workspace.currency} a {of}" for of, most in limits.items() if most))
