"""The emulator's essentials: the life of a job, and answers with the members of those that were recorded."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from azure.ai.ml import AmlTokenConfiguration, Input, MLClient, Output
from azure.ai.ml.entities import AmlCompute, Data, Model
from azure.core.exceptions import HttpResponseError

from tests.azureml import recordings
from tests.azureml.stack import AzureStack
from tests.azureml.test_emulator import Submit, blobs, client, log, stack, submit
from tests.waiting import until

__all__ = ["client", "stack", "submit"]

_OUT = "azureml://datastores/workspaceblobstore/paths/jobs/{}/out"


def test_a_job_runs_and_its_files_and_model_are_there(stack: AzureStack, client: MLClient, submit: Submit) -> None:
    blobs(client, stack).upload_blob("captures/run/photo.txt", b"pixels", overwrite=True)
    client.data.create_or_update(
        Data(
            name="run",
            version="1",
            path="azureml://datastores/workspaceblobstore/paths/captures/run",
            type="uri_folder",
        )
    )
    model = Output(
        type="custom_model", mode="upload", path="azureml://datastores/workspaceblobstore/paths/jobs/whole/model"
    )
    script = 'echo "$1 $2 $AZUREML_RUN_ID $GREETING"; cat $1/photo.txt > $3/copy.txt; mkdir outputs; date > outputs/d'
    submitted = submit(
        "whole",
        script,
        command="bash run.sh ${{inputs.photos}} ${{inputs.steps}} ${{outputs.model}} $[[--x ${{inputs.absent}}]]",
        inputs={"photos": Input(type="uri_folder", path="azureml:run:1"), "steps": 30},
        outputs={"model": model},
        environment_variables={"GREETING": "hello"},
        tags={"scene": "run"},
    )
    assert submitted.status == "Starting"
    assert stack.wait("whole").statuses == ["Starting", "Preparing", "Queued", "Running", "Finalizing", "Completed"]
    assert log(client, stack, "whole").endswith("30 whole hello\n")
    assert blobs(client, stack).download_blob("jobs/whole/model/copy.txt").readall() == b"pixels"
    names = list(
        blobs(client, stack, "workspaceartifactstore").list_blob_names(name_starts_with="ExperimentRun/dcid.whole/")
    )
    assert names == [f"ExperimentRun/dcid.whole/{name}" for name in ("outputs/d", "user_logs/std_log.txt")]
    made = client.models.create_or_update(
        Model(name="run-nerf", version="1", path="azureml://jobs/whole/outputs/model", type="custom_model")
    )
    assert made.path.endswith("/datastores/workspaceblobstore/paths/jobs/whole/model/") and made.job_name == "whole"
    got = client.jobs.get("whole")
    assert got.tags == {"scene": "run"} and got.services["Studio"].endpoint.startswith(
        "https://ml.azure.com/runs/whole"
    )


def test_answers_have_the_recorded_keys(stack: AzureStack, client: MLClient, submit: Submit, tmp_path: Path) -> None:
    """Every operation that is recorded, as the SDK asks for it."""
    client.workspaces.get(stack.workspace)
    client.datastores.get_default()
    blobs(client, stack).upload_blob("jobs/keys/out/a", b"a", overwrite=True)
    client.data.create_or_update(Data(name="keys", version="1", path=_OUT.format("keys"), type="uri_folder"))
    client.data.get("keys", version="1")
    client.models.create_or_update(Model(name="keys", version="1", path=_OUT.format("keys"), type="custom_model"))
    client.compute.begin_create_or_update(AmlCompute(name="keys", size="Standard_DS2_v2")).result()
    for wrong in ({"compute": "nowhere"}, {"outputs": {"out": Output(type="uri_folder", name="x", version="2")}}):
        with pytest.raises(HttpResponseError):
            submit("wrong", "true", **wrong)
    given = {"inputs": {"it": Input(type="uri_folder", path=_OUT.format("keys"))}, "identity": AmlTokenConfiguration()}
    code = submit("keys", "trap '' TERM; sleep 600", outputs={}, command="bash run.sh", **given).code
    client._code.get(*code.split("/")[-3::2])
    client.jobs.get("keys")
    until(lambda: stack.jobs["keys"] in stack.running)
    time.sleep(0.5)  # until it no longer listens to SIGTERM
    client.jobs.begin_cancel("keys").result()
    submit("keys-2", "true", **given)
    stack.wait("keys-2")
    client.jobs.download("keys-2", output_name="out", download_path=tmp_path)
    [data] = [
        exchange.response for exchange in stack.log if "rundata" in exchange.operation and "keys-2" in str(exchange)
    ]
    asset = data["runMetadata"]["outputs"]["out"]["assetId"]
    client.jobs._dataset_dataplane_operations.get_batch_dataset_uris([asset])
    assert recordings.differences(stack.log) == []
