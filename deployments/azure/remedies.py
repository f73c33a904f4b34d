"""What to do when Azure refuses something: `az` lines, with the names of the workspace at hand filled in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from blocks.azure import AzureMLWorkspace
from blocks.azure.errors import plain_errors, refusal_kind, words
from jobs.errors import InvalidInput

__all__ = ["Remedies"]


@dataclass(frozen=True)
class Remedies:
    """Commands and advice for one workspace, whether or not it exists yet."""

    workspace: AzureMLWorkspace

    @property
    def scope(self) -> str:
        """The resource group, as roles name it."""
        return f"/subscriptions/{self.workspace.subscription_id}/resourceGroups/{self.workspace.resource_group}"

    @contextmanager
    def allowed(self, what: str, role: str) -> Iterator[None]:
        """Put errors into words, and add to a refusal what can be done about it.

        Args:
            what: what is done inside.
            role: the Azure role that it needs.

        Raises:
            InvalidInput: Azure refuses it; has Azure's own words.
        """
        with plain_errors(what):
            try:
                yield
            except Exception as error:
                if remedy := self._remedy(error, role):
                    why, advice = remedy
                    raise InvalidInput(f"{what}: {why} Azure says: {words(error)}\n\n{advice}") from None
                raise

    def _remedy(self, error: Exception, role: str) -> tuple[str, str] | None:
        """Why Azure refuses something, and what to do about it; None if the error is no refusal."""
        kind = refusal_kind(error)
        if kind == "policy":
            return (
                "a policy of your company denies it.",
                "These options of set-up do what such policies usually ask for: --no-ssh-port, --subnet, "
                "--no-public-ip, --job-identity, --gpu-size, --cpu-size. Whoever assigned the policy can say what it "
                f"demands, or exempt the resource group {self.workspace.resource_group}.",
            )
        if kind == "keys":
            place = f"--name {self.workspace.workspace} --resource-group {self.workspace.resource_group}"
            return (
                "the storage account takes no account keys, and the workspace uses one.",
                "Let the workspace sign in to its storage by identity, and give the role to whoever signs in here and "
                "to the managed identity of the jobs. Then run this again with --job-identity.\n\n"
                f"az ml workspace update {place} --system-datastores-auth-mode identity\n"
                f"{self.assignment('Storage Blob Data Contributor')}",
            )
        if kind == "role":
            return (
                f"the credential lacks the role «{role}».",
                "An owner of the resource group gives it with this command. It takes effect after some minutes.\n\n"
                f"{self.assignment(role)}",
            )
        return None

    def assignment(self, role: str) -> str:
        """The `az` line that gives a role to whoever signs in."""
        who = self.workspace.credential.client_id
        if not who and self.workspace.credential.method == "managed identity":
            who = "$(az vm identity show --resource-group GROUP --name VM --query principalId --output tsv)"
        who = who or "$(az ad signed-in-user show --query id --output tsv)"
        return f'az role assignment create --assignee "{who}" --role "{role}" --scope {self.scope}'

    def creation(self, location: str) -> str:
        """The `az` lines that lead from an empty subscription to the workspace, and what may stand in the way."""
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
                "These commands make it:\n",
                *lines,
                "\nA deleted workspace keeps its name for 14 days. If Azure says «Soft-deleted workspace exists»,",
                "choose another name, recover it in the portal (Azure Machine Learning, Recently deleted),",
                "or purge it:\n",
                self.purge(),
            ]
        )

    def purge(self) -> str:
        """The `az` line that deletes the workspace for good."""
        return (
            f"az ml workspace delete --name {self.workspace.workspace} "
            f"--resource-group {self.workspace.resource_group} --permanently-delete"
        )

    def deletion(self, cluster: str) -> str:
        """The `az` line that deletes a cluster."""
        return (
            f"az ml compute delete --name {cluster} --resource-group {self.workspace.resource_group} "
            f"--workspace-name {self.workspace.workspace}"
        )
