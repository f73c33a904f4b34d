"""One Prefect task a stage, and the one way in which every task runs a job to its end."""

import tasks.plain_errors  # noqa: F401
from tasks.capture import capture
from tasks.clean_up import clean_up_jobs, list_clean_up
from tasks.compare import check_same_frame, find_then, then_and_now
from tasks.find import find_dataset, find_model, find_registered_dataset, find_registered_model
from tasks.prepare import prepare
from tasks.render import find_camera_path, render_in_shards
from tasks.stage import end_without_cancelling
from tasks.summary import summarize
from tasks.train import train
from tasks.view import running_page, served_page
from tasks.workspace import all_workspaces, open_workspace, resolve_profile

__all__ = [
    "all_workspaces",
    "capture",
    "check_same_frame",
    "clean_up_jobs",
    "end_without_cancelling",
    "find_camera_path",
    "find_dataset",
    "find_model",
    "find_registered_dataset",
    "find_registered_model",
    "find_then",
    "list_clean_up",
    "open_workspace",
    "prepare",
    "render_in_shards",
    "resolve_profile",
    "running_page",
    "served_page",
    "summarize",
    "then_and_now",
    "train",
]
