"""Company policies that deny a cluster; the fault `policy` puts one in force by its name.

The policies are two of https://github.com/Azure/Enterprise-Scale/pull/552.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.azureml.bodies import Json
from tests.azureml.faults import Faults
from tests.azureml.service import Answer, Refusal

# What each denies of a cluster's properties.
_POLICIES: dict[str, Callable[[Json], bool]] = {
    "Deny-MachineLearning-ComputeCluster-RemoteLoginPortPublicAccess": lambda cluster: (
        cluster.get("remoteLoginPortPublicAccess") != "Disabled"
    ),
    "Deny-MachineLearning-Compute-SubnetId": lambda cluster: not (cluster.get("subnet") or {}).get("id"),
}


def check(cluster: str, properties: Json, faults: Faults) -> None:
    """Raise if a policy that is in force denies a cluster with these properties."""
    for policy, denies in _POLICIES.items():
        if denies(properties) and faults.take("policy", policy):
            raise _refusal(cluster, policy)


def _refusal(cluster: str, policy: str) -> Refusal:
    """Return what Azure Resource Manager answers, most of its details left out.

    https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-policy-requestdisallowedbypolicy,
    https://github.com/dotnet/machinelearning-modelbuilder/issues/3044.
    """
    provider = "/providers/Microsoft.Management/managementGroups/company/providers/Microsoft.Authorization"
    definition = {"name": policy, "id": f"{provider}/policyDefinitions/{policy}"}
    assignment = {"name": "Company guardrails", "id": f"{provider}/policyAssignments/guardrails"}
    identifiers = json.dumps([{"policyAssignment": assignment, "policyDefinition": definition}])
    info = {
        "evaluationDetails": {"evaluatedExpressions": []},
        "policyDefinitionId": definition["id"],
        "policyDefinitionName": policy,
        "policyDefinitionDisplayName": policy,
        "policyDefinitionEffect": "Deny",
        "policyAssignmentId": assignment["id"],
        "policyAssignmentName": "guardrails",
        "policyAssignmentDisplayName": assignment["name"],
        "policyAssignmentScope": provider.partition("/providers/Microsoft.Authorization")[0],
        "policyAssignmentParameters": {},
    }
    code = "RequestDisallowedByPolicy"
    message = f"Resource '{cluster}' was disallowed by policy. Policy identifiers: '{identifiers}'."
    violation = {"type": "PolicyViolation", "info": info}
    refusal = Refusal(403, code, message)
    error = {"code": code, "target": cluster, "message": message, "additionalInfo": [violation]}
    refusal.answer = Answer({"error": error}, 403)
    return refusal
