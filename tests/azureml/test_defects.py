"""Defects of azure-ai-ml 1.35.2 that the product works around: once one of these fails, its workaround can go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from azure.ai.ml import MLClient, Output
from azure.ai.ml.entities import (
    Data,
    Model,
)
from azure.core.exceptions import HttpResponseError

from tests.azureml.stack import AzureStack
from tests.azureml.test_emulator import Submit, blobs, client, stack, submit
from tests.waiting import until

__all__ = ["client", "stack", "submit"]

_OUT = "azureml://datastores/workspaceblobstore/paths/jobs/{}/out"

pytestmark = pytest.mark.slow  # of the SDK, not of the product


def test_defects_1_and_2_downloads_of_outputs(
    client: MLClient, stack: AzureStack, submit: Submit, tmp_path: Path
) -> None:
    model = Output(type="custom_model", path="azureml://datastores/workspaceblobstore/paths/jobs/defect/model")
    submit(
        "defect",
        "echo 1 > $1/a",
        outputs={"out": Output(type="uri_folder", path=_OUT.format("defect")), "model": model},
    )
    assert stack.wait("defect").status == "Completed"
    client.jobs.download("defect", output_name="out", download_path=tmp_path / "down")
    assert not [path for path in (tmp_path / "down").rglob("*") if path.is_file()]
    with pytest.raises(TypeError, match="values"):
        client.jobs.download("defect", output_name="model", download_path=tmp_path / "model")


def test_defect_3_streams_are_not_logs(
    client: MLClient, stack: AzureStack, submit: Submit, capsys: pytest.CaptureFixture[str]
) -> None:
    submit("stream", "echo said; sleep 4")
    client.jobs.stream("stream")
    said = capsys.readouterr().out
    assert "AuthorizationFailure" in said or "AuthenticationFailed" in said
    assert "said" not in said


def test_defect_4_a_failed_upload_without_progress_hangs(stack: AzureStack, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.txt").write_text("a")
    program = f"""
from azure.ai.ml import MLClient
from azure.ai.ml.entities import Data
from azure.identity import EnvironmentCredential
where = ({stack.subscription!r}, {stack.resource_group!r}, {stack.workspace!r})
client = MLClient(EnvironmentCredential(), *where, show_progress=False)
client.data.create_or_update(Data(name="hang", path={str(tmp_path / "photos")!r}, type="uri_folder"))
"""
    stack.faults.add("read_only_sas")
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    try:
        until(lambda: stack.requests["POST {ws}/datastores/*/listSecrets"] > 0, 60)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(6)
    finally:
        process.kill()
        process.communicate()


def test_defect_5_an_interrupted_upload_is_never_resumed(client: MLClient, stack: AzureStack, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in "ab":
        (tmp_path / f"photos/{name}.txt").write_text(name)
    data = Data(name="interrupted", version="1", path=str(tmp_path / "photos"), type="uri_folder")
    path = client.data.create_or_update(data).path.partition("/paths/")[2]
    store = blobs(client, stack)
    # As a parallel upload leaves it that ends before the first blob, which gets the mark of completion.
    store.delete_blob(f"{path}a.txt")
    again = Data(name="interrupted", version="2", path=str(tmp_path / "photos"), type="uri_folder")
    with pytest.raises(Exception, match="BlobAlreadyExists"):
        client.data.create_or_update(again)


def test_defect_6_named_outputs_are_refused(submit: Submit) -> None:
    with pytest.raises(HttpResponseError, match="assetVersion"):
        submit("named", "true", outputs={"out": Output(type="uri_folder", name="dataset", version="2")})


def test_defect_7_a_model_without_flavors_cannot_be_read(client: MLClient, stack: AzureStack) -> None:
    model = Model(name="plain", version="1", path=_OUT.format("plain"), type="custom_model")
    client.models.create_or_update(model)
    stored = stack.assets("models")["plain"]["1"]
    del stored["properties"]["flavors"]
    with pytest.raises(AttributeError):
        client.models.get("plain", version="1")
