"""The emulator's clusters: PUT against PATCH."""

from __future__ import annotations

import pytest
from azure.ai.ml import MLClient
from azure.ai.ml.entities import AmlCompute, NetworkSettings
from azure.core.exceptions import HttpResponseError

from tests.azureml.stack import AzureStack
from tests.azureml.test_emulator import client, stack

__all__ = ["client", "stack"]

pytestmark = pytest.mark.slow  # of the emulator, not of the product


def test_a_put_replaces_a_cluster_and_a_patch_changes_its_scale(stack: AzureStack, client: MLClient) -> None:
    place, operation = (stack.resource_group, stack.workspace), client.compute._operation
    scale = {"minNodeCount": 0, "maxNodeCount": 7, "nodeIdleTimeBeforeScaleDown": "PT5M"}
    made = AmlCompute(name="patched", size="Standard_DS2_v2", tags={"cost": "42"})
    client.compute.begin_create_or_update(made).result()
    operation.begin_update(*place, "patched", {"properties": {"properties": {"scaleSettings": scale}}}).result()
    found = client.compute.get("patched")
    assert found.max_instances == 7 and found.tags == {"cost": "42"}
    bodies: list[dict[str, object]] = [
        {"tags": {}},
        {"properties": {"scaleSettings": scale}},
        {"properties": {"properties": {"scaleSettings": scale, "enableNodePublicIp": False}}},
    ]
    for wrong in bodies:
        with pytest.raises(HttpResponseError, match="Could not find member"):
            operation.begin_update(*place, "patched", wrong)
    client.compute.begin_create_or_update(AmlCompute(name="patched", size="Standard_DS2_v2")).result()
    found = client.compute.get("patched")
    assert found.max_instances == 4 and not found.tags, "a new body is all there is"


def test_the_sdk_updates_a_cluster_with_a_put(stack: AzureStack, client: MLClient) -> None:
    """Set-up sends the PATCH by itself as long as this holds (azure-ai-ml 1.35.2)."""
    group = f"/subscriptions/{stack.subscription}/resourceGroups/{stack.resource_group}"
    subnet = f"{group}/providers/Microsoft.Network/virtualNetworks/net/subnets/jobs"
    made = AmlCompute(name="in-subnet", size="Standard_DS2_v2", network_settings=NetworkSettings(subnet=subnet))
    client.compute.begin_create_or_update(made).result()
    found = client.compute.get("in-subnet")
    found.max_instances = 9
    client.compute.begin_update(found).result()
    assert client.compute.get("in-subnet").network_settings.subnet is None, "the subnet is lost on the way"
