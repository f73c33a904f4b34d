"""Advise what to do when Azure refuses something, with `az` commands for the workspace in question."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from blocks.azure import AzureMLWorkspace
from blocks.azure.errors import plain_errors, refusal
from jobs.errors import InvalidInput

__all__ = ["Remedies"]

# What helps against a refusal, by its code.
_ADVICE = {
    "RequestDisallowedByPolicy": "These options of set-up do what such policies usually ask for: --no-ssh-port, "
    "--subnet, --no-public-ip, --job-identity, --gpu-size, --cpu-size.",
    "KeyBasedAuthenticationNotPermitted": "These commands help. Give the role to the managed identity of the jobs, "
    "too, and run this again with --job-identity.\n\n{self.keyless}",
}


@dataclass(frozen=True)
class Remedies:
    """Commands and advice for one workspace, whether or not it exists yet."""

    workspace: AzureMLWorkspace

    @property
    def scope(self) -> str:
        """Return the resource ID of the resource group."""
        return f"/subscriptions/{self.workspace.subscription_id}/resourceGroups/{self.workspace.resource_group}"

    @contextmanager
    def allowed(self, what: str, role: str) -> Iterator[None]:
        """Translate errors, and add to a refusal the commands or options that help.

        Args:
            what: what is being done, with which the text begins.
            role: the Azure role that it needs.

        Raises:
            InvalidInput: Azure refused it. The text contains Azure's own words.
        """
        refused: tuple[str, str] | None = None
        try:
            with plain_errors(what):
                try:
                    yield
                except Exception as raised:
                    refused = refusal(raised)
                    raise
        except InvalidInput as error:
            code, words = refused or ("", "")
            if code == "AuthorizationFailed":
                raise InvalidInput(
                    f"{what}: the credential lacks the role «{role}». Azure says: {words}\n\nAn owner of the resource "
                    f"group gives it with this command. It takes effect after some minutes.\n\n{self.assignment(role)}"
                ) from None
            if code in _ADVICE:
                raise InvalidInput(f"{error}\n\n{_ADVICE[code].format(self=self)}") from None
            raise

    def assignment(self, role: str) -> str:
        """Return the `az` command that gives a role to whoever signs in."""
        who = self.workspace.credential.client_id
        if not who and self.workspace.credential.method == "managed identity":
            who = "$(az vm identity show --resource-group GROUP --name VM --query principalId --output tsv)"
        who = who or "$(az ad signed-in-user show --query id --output tsv)"
        return f'az role assignment create --assignee "{who}" --role "{role}" --scope {self.scope}'

    def creation(self, location: str) -> str:
        """Return the `az` commands that create the workspace, and what to do if its name is taken."""
        workspace = self.workspace
        place = f"--resource-group {workspace.resource_group} --location {location}"
        lines = [
            "az login",
            f"az account set --subscription {workspace.subscription_id}",
            "az provider register --namespace Microsoft.MachineLearningServices --wait",
            f"az group create --name {workspace.resource_group} --location {location}",
            "az extension add --name ml",
            f"az ml workspace create --name {workspace.workspace} {place}",
            self.assignment("AzureML Data Scientist"),
            self.assignment("AzureML Compute Operator"),
        ]
        return "\n".join(
            [
                "These commands create it:\n",
                *lines,
                "\nA deleted workspace keeps its name for 14 days. If Azure says «Soft-deleted workspace exists»,",
                "choose another name, recover it in the portal (Azure Machine Learning, Recently deleted),",
                "or purge it:\n",
                self.purge(),
            ]
        )

    @property
    def keyless(self) -> str:
        """Return the `az` commands that let the workspace, and whoever signs in here, use the storage by identity."""
        place = f"--name {self.workspace.workspace} --resource-group {self.workspace.resource_group}"
        return (
            f"az ml workspace update {place} --system-datastores-auth-mode identity\n"
            f"{self.assignment('Storage Blob Data Contributor')}"
        )

    def purge(self) -> str:
        """Return the `az` command that deletes the workspace permanently."""
        return (
            f"az ml workspace delete --name {self.workspace.workspace} "
            f"--resource-group {self.workspace.resource_group} --permanently-delete"
        )

    def deletion(self, cluster: str) -> str:
        """Return the `az` command that deletes a cluster."""
        return (
            f"az ml compute delete --name {cluster} --resource-group {self.workspace.resource_group} "
            f"--workspace-name {self.workspace.workspace}"
        )
