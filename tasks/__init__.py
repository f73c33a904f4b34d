"""One Prefect task a stage, and the one way in which every task runs a job to its end."""

import tasks.plain_errors  # noqa: F401
from tasks.camera_path import check_taken_path, find_camera_path, keep_camera_path, read_camera_path
from tasks.captures import capture
from tasks.choice import ModelVersion, choose, model_versions, note_model, pin_model
from tasks.clean_up import clean_up_jobs, list_clean_up
from tasks.find import (
    find_dataset,
    find_model,
    find_registered,
    find_registered_dataset,
    find_registered_model,
    find_shown_model,
)
from tasks.frames import check_camera_path, find_frames, tell_new_frame
from tasks.gallery import card_of
from tasks.quality import psnr_gate, show_quality
from tasks.reprocess import LookedAt, list_looked_at, start_new_captures
from tasks.server import check_server
from tasks.stage import end_without_cancelling
from tasks.stages.compare import check_other_model, check_same_frame, find_then, leave_out_then, then_and_now
from tasks.stages.export import export, find_forms
from tasks.stages.page import publish_page
from tasks.stages.prepare import prepare
from tasks.stages.render import render_in_shards
from tasks.stages.train import train
from tasks.summary import summarize
from tasks.view import opened_page, served_page, until_ended, wait_for_page
from tasks.workspace import LOCAL, all_workspaces, load_workspace, open_workspace, resolve_profile

__all__ = [
    "LOCAL",
    "LookedAt",
    "ModelVersion",
    "all_workspaces",
    "capture",
    "card_of",
    "check_camera_path",
    "check_other_model",
    "check_same_frame",
    "check_server",
    "check_taken_path",
    "choose",
    "clean_up_jobs",
    "end_without_cancelling",
    "export",
    "find_camera_path",
    "find_dataset",
    "find_forms",
    "find_frames",
    "find_model",
    "find_registered",
    "find_registered_dataset",
    "find_registered_model",
    "find_shown_model",
    "find_then",
    "keep_camera_path",
    "leave_out_then",
    "list_clean_up",
    "list_looked_at",
    "load_workspace",
    "model_versions",
    "note_model",
    "open_workspace",
    "opened_page",
    "pin_model",
    "prepare",
    "psnr_gate",
    "publish_page",
    "read_camera_path",
    "render_in_shards",
    "resolve_profile",
    "served_page",
    "show_quality",
    "start_new_captures",
    "summarize",
    "tell_new_frame",
    "then_and_now",
    "train",
    "until_ended",
    "wait_for_page",
]
