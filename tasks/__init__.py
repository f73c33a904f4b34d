"""One Prefect task a stage, and the one way in which every task runs a job to its end."""

import tasks.plain_errors  # noqa: F401
from tasks.capture import capture
from tasks.clean_up import clean_up_jobs, list_clean_up
from tasks.export import export, find_forms
from tasks.find import find_dataset, find_model, find_registered_dataset, find_registered_model
from tasks.prepare import prepare
from tasks.render import find_camera_path, render
from tasks.stage import end_without_cancelling
from tasks.summary import summarize
from tasks.train import train
from tasks.view import running_page, served_page
from tasks.workspace import all_workspaces, open_workspace, resolve_profile

__all__ = [
    "all_workspaces",
    "capture",
    "clean_up_jobs",
    "end_without_cancelling",
    "export",
    "find_camera_path",
    "find_dataset",
    "find_forms",
    "find_model",
    "find_registered_dataset",
    "find_registered_model",
    "list_clean_up",
    "open_workspace",
    "prepare",
    "render",
    "resolve_profile",
    "running_page",
    "served_page",
    "summarize",
    "train",
]
