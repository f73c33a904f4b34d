"""Versions, names, lengths, and archived assets: what the service refuses, the emulator refuses. See README.md."""

from __future__ import annotations

from typing import Any

import pytest
from azure.ai.ml import MLClient
from azure.ai.ml.entities import Data, Model
from azure.core.exceptions import HttpResponseError

from tests.azureml.stack import AzureStack
from tests.azureml.test_emulator import Submit, client, stack, submit

__all__ = ["client", "stack", "submit"]

pytestmark = pytest.mark.slow  # of the emulator, not of the product

_OUT = "azureml://datastores/workspaceblobstore/paths/jobs/{}/out"


@pytest.mark.parametrize("version", ["1-c736eabe", "0", "-1", "1.0"])
def test_a_models_version_is_a_positive_integer(client: MLClient, version: str) -> None:
    with pytest.raises(HttpResponseError, match=r"\(UserError\) Model version must be a positive integer\.") as refused:
        client.models.create_or_update(Model(name="n", version=version, path=_OUT.format("n"), type="custom_model"))
    assert refused.value.error and refused.value.error.details[0].code == "ModelVersionOutOfRange"
    assert refused.value.status_code == 400


def test_versions_are_given_by_the_service_where_none_is(stack: AzureStack, client: MLClient) -> None:
    def register() -> str:
        return str(
            client.models.create_or_update(Model(name="own", path=_OUT.format("a"), type="custom_model")).version
        )

    assert [register(), register()] == ["1", "2"]
    client.models.archive("own", "2")
    assert register() == "3", "an archived number is taken"
    stack.delete_asset("models", "own", "3")
    assert register() == "4", "so is a deleted one"
    again = Model(name="own", version="3", path=_OUT.format("a"), type="custom_model")
    with pytest.raises(HttpResponseError, match="was deleted at .*, it cannot be recreated"):
        client.models.create_or_update(again)


def test_names_and_versions_have_limits(client: MLClient, submit: Submit) -> None:
    def put(name: str, version: str) -> Any:
        return client.data.create_or_update(Data(name=name, version=version, path=_OUT.format("x"), type="uri_folder"))

    assert put("n" * 255, "v" * 30)
    for name in ("n" * 256, "-n", "a.b", "ä"):
        with pytest.raises(HttpResponseError, match="must be 1 to 255"):
            put(name, "1")
    with pytest.raises(HttpResponseError, match="exceeded maximum length of 30"):
        put("n", "v" * 31)
    with pytest.raises(HttpResponseError, match="must be 1 to 255"):
        submit("j" * 256, "true")


@pytest.mark.parametrize("kind", ["data", "models"])
def test_archived_versions_keep_their_number(client: MLClient, kind: str) -> None:
    operations: Any = getattr(client, kind)

    def put(version: str, path: str = "a") -> Any:
        given: dict[str, Any] = {"name": "old", "version": version, "path": _OUT.format(path)}
        made = Data(**given, type="uri_folder") if kind == "data" else Model(**given, type="custom_model")
        return operations.create_or_update(made)

    def listed(view: str) -> set[str]:
        return {asset.version for asset in operations.list("old", list_view_type=view)}

    put("1"), put("2")
    operations.archive("old", "1")
    assert (listed("ActiveOnly"), listed("ArchivedOnly"), listed("All")) == ({"2"}, {"1"}, {"1", "2"})
    assert operations.get("old", "1").version == "1", "and are still there"
    with pytest.raises(Exception, match="paths"):
        put("1", "b")
    operations.restore("old", "1")
    assert listed("ActiveOnly") == {"1", "2"}
    operations.archive("old")
    assert (listed("ActiveOnly"), listed("ArchivedOnly")) == (set(), {"1", "2"})
    put("3")
    assert listed("ArchivedOnly") == {"1", "2", "3"}
    operations.restore("old")
    assert listed("ActiveOnly") == {"1", "2", "3"}
