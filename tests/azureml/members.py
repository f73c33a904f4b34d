"""What the service accepts: members of request bodies, values of enumerations, and VM sizes.

Members are those of the recordings (`recorded/`), and for the few bodies that are not recorded those of the REST
reference, https://learn.microsoft.com/rest/api/azureml.
"""

from __future__ import annotations

from typing import Any

_ASSET = "description properties tags isAnonymous isArchived autoDeleteSetting stage intellectualProperty"

MEMBERS: dict[str, set[str]] = {
    kind: set(members.split())
    for kind, members in {
        "Resource": "properties",
        "DatastoreSecretsRequest": "expirableSecret expireAfterHours",
        "DataVersion": f"{_ASSET} dataType dataUri",
        "ModelVersion": f"{_ASSET} flavors modelType modelUri jobName",
        "ContainerResource": "id name type properties systemData",
        "Container": "description properties tags isArchived dataType latestVersion nextVersion",
        "CodeVersion": "description properties tags isAnonymous isArchived codeUri",
        "EnvironmentVersion": f"{_ASSET} image build condaFile osType inferenceConfig autoRebuild",
        "CommandJob": """description tags properties displayName experimentName services computeId isArchived identity
            componentId notificationSetting jobType codeId command environmentId distribution limits
            environmentVariables resources inputs outputs queueSettings""",
        "UriFolderJobInput": "description mode uri jobInputType pathOnCompute",
        "LiteralJobInput": "description value jobInputType",
        "UriFolderJobOutput": "description uri assetName mode jobOutputType",
        "CommandJobLimits": "jobLimitsType timeout",
        "JobResourceConfiguration": "instanceCount instanceType properties shmSize dockerArgs dockerArgsList",
        "JobService": "jobServiceType port endpoint properties nodes",
        "ComputeResource": "properties location identity tags",
        "QueueSettings": "jobTier priority",
        "ManagedIdentity": "identityType clientId objectId resourceId",
        "AmlCompute": "properties computeType description disableLocalAuth",
        "AmlComputeProperties": """osType vmSize vmPriority scaleSettings userAccountCredentials subnet
            remoteLoginPortPublicAccess enableNodePublicIp isolatedNetwork""",
        # https://learn.microsoft.com/rest/api/azureml/compute/update
        "ClusterUpdateParameters": "properties",
        "ClusterUpdateProperties": "properties",
        "ScaleSettingsInformation": "scaleSettings",
        "ScaleSettings": "maxNodeCount minNodeCount nodeIdleTimeBeforeScaleDown",
        # https://learn.microsoft.com/rest/api/azureml/workspaces/update
        "WorkspaceUpdateParameters": "identity properties sku tags",
        "WorkspacePropertiesUpdateParameters": """applicationInsights containerRegistry description friendlyName
            imageBuildCompute primaryUserAssignedIdentity publicNetworkAccess systemDatastoresAuthMode v1LegacyMode""",
    }.items()
}

ENUMS: dict[str, set[str]] = {
    member: set(values.split())
    for member, values in {
        "jobType": "Command",
        "jobInputType": "uri_folder uri_file literal custom_model",
        "jobOutputType": "uri_folder uri_file custom_model",
        "mode": "ReadOnlyMount ReadWriteMount Download Direct Upload",
        "dataType": "uri_folder uri_file",
        "modelType": "custom_model mlflow_model",
        "jobServiceType": "SSH JupyterLab TensorBoard VSCode",
        "vmPriority": "Dedicated LowPriority",
        "remoteLoginPortPublicAccess": "Enabled Disabled NotSpecified",
        "osType": "Linux Windows",
        "identityType": "AMLToken Managed UserIdentity",
        "jobTier": "Null Spot Basic Standard Premium",
        "computeType": "AmlCompute",
    }.items()
}


def _size(name: str, family: str, cores: int, gpus: int, memory: int, disk: int) -> dict[str, Any]:
    return {
        "name": name,
        "family": family,
        "vCPUs": cores,
        "gpus": gpus,
        "osVhdSizeMB": 1047552,
        "maxResourceVolumeMB": disk * 1024,
        "memoryGB": float(memory),
        "lowPriorityCapable": True,
        "premiumIO": True,
        "estimatedVMPrices": None,
        "supportedComputeTypes": ["AmlCompute", "ComputeInstance"],
    }


# https://learn.microsoft.com/azure/virtual-machines/sizes/overview
VM_SIZES = [
    _size("Standard_DS2_v2", "standardDSv2Family", 2, 0, 7, 14),
    _size("Standard_DS3_v2", "standardDSv2Family", 4, 0, 14, 28),
    _size("Standard_D4s_v3", "standardDSv3Family", 4, 0, 16, 32),
    _size("Standard_F8s_v2", "standardFSv2Family", 8, 0, 16, 64),
    _size("Standard_NC6s_v3", "standardNCSv3Family", 6, 1, 112, 736),
    _size("Standard_NC4as_T4_v3", "Standard NCASv3_T4 Family", 4, 1, 28, 176),
    _size("Standard_NC8as_T4_v3", "Standard NCASv3_T4 Family", 8, 1, 56, 352),
    _size("Standard_NC24ads_A100_v4", "StandardNCADSA100v4Family", 24, 1, 220, 64),
    _size("Standard_NC40ads_H100_v5", "StandardNCadsH100v5Family", 40, 1, 320, 128),
    _size("Standard_NV36ads_A10_v5", "StandardNVADSA10v5Family", 36, 1, 440, 720),
    _size("Standard_NV8as_v4", "standardNVSv4Family", 8, 1, 28, 176),
]
